package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestCrashes runs random changes of a few partitions, lets the process die at a random call, loses power or not, opens
// again, and compares with a model: nothing durable is missing, nothing is there that was not written, in order.
func TestCrashes(t *testing.T) {
	n := uint64(300)
	if testing.Short() {
		n = 50
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newCrashHistory(t, seed)
			for range 5 {
				h.live()
				h.crash()
			}
			h.s.Close()
		})
	}
}

type model struct {
	start   kafka.Offset
	values  []string // written, by offset from base on
	base    kafka.Offset
	durable kafka.Offset // known to be
	epoch   kafka.LeaderEpoch
	exists  bool
	unsure  bool // a change was under way when the process died
}

func (m *model) end() kafka.Offset { return m.base + kafka.Offset(len(m.values)) }

type crashHistory struct {
	t      *testing.T
	rng    *rand.Rand
	fs     *vfs.Mem
	s      *Store
	models map[int]*model
	serial int
}

func newCrashHistory(t *testing.T, seed uint64) *crashHistory {
	h := &crashHistory{t: t, rng: rand.New(rand.NewPCG(seed, 7)), fs: vfs.NewMem(0), models: map[int]*model{}}
	for n := range 3 {
		h.models[n] = &model{}
	}
	h.open()
	return h
}

func (h *crashHistory) open() {
	h.s = openStore(h.t, h.fs, func(o *Options) {
		o.Config.WALFileBytes, o.Config.CheckpointBytes = 32<<10, 64<<10
		o.Config.Topic.SegmentBytes = 40 << 10
		o.Config.Topic.IndexIntervalBytes = 1000
	})
}

// live makes changes until the process dies or has had enough.
func (h *crashHistory) live() {
	if h.rng.IntN(4) > 0 {
		h.fs.KillAfter(1+h.rng.Int64N(400), rand.New(rand.NewPCG(h.rng.Uint64(), 1)))
	}
	for range 10 + h.rng.IntN(80) {
		n := h.rng.IntN(len(h.models))
		m := h.models[n]
		p := h.s.Partition(id(n))
		if p == nil {
			var err error
			if p, err = h.s.CreatePartition(id(n), h.s.o.Config.Topic); err != nil {
				return
			}
			*m = model{exists: true, epoch: kafka.NoLeaderEpoch, unsure: true}
		}
		if !h.step(n, m, p) {
			return
		}
	}
}

func (h *crashHistory) step(n int, m *model, p *Partition) bool {
	switch h.rng.IntN(20) {
	case 0:
		epoch := m.epoch + 1
		if p.StartEpoch(background, epoch) != nil {
			m.unsure = true
			return false
		}
		m.epoch, m.unsure = epoch, false
	case 1:
		if m.end() == m.start {
			return true
		}
		to := m.start + kafka.Offset(h.rng.IntN(int(m.end()-m.start)))
		before := *m
		m.unsure = true
		if p.Truncate(background, to) != nil {
			return false
		}
		*m = before
		m.values = m.values[:to-m.base]
		m.durable, m.epoch = to, p.Epoch().Epoch
	case 2:
		to := m.start + kafka.Offset(h.rng.IntN(int(m.end()-m.start)+1))
		p.SetHighWatermark(to)
		before := *m
		m.unsure = true
		if p.SetLogStart(background, to) != nil {
			return false
		}
		*m = before
		m.start, m.durable = to, max(m.durable, to)
	case 3:
		if h.rng.IntN(3) > 0 {
			return true
		}
		at := m.end() + kafka.Offset(h.rng.IntN(10))
		m.unsure = true
		if p.Reset(background, at) != nil {
			return false
		}
		*m = model{exists: true, start: at, base: at, durable: at, epoch: p.Epoch().Epoch}
	case 4:
		if h.rng.IntN(3) > 0 {
			return true
		}
		m.unsure = true
		if h.s.DeletePartition(background, id(n)) != nil {
			return false
		}
		*m = model{}
	case 5:
		return h.s.Checkpoint() == nil
	case 6, 7:
		return h.waitFor(p, m)
	default:
		for range 1 + h.rng.IntN(6) {
			if !h.append(m, p) {
				return false
			}
		}
	}
	return h.s.failed() == nil
}

func (h *crashHistory) append(m *model, p *Partition) bool {
	h.serial++
	v := fmt.Sprint(h.serial)
	size := h.rng.IntN(500)
	if h.rng.IntN(6) == 0 {
		size = 9<<10 + h.rng.IntN(9<<10) // by reference
	}
	epoch := max(m.epoch, 0)
	r, err := p.Append(batch(size, v), epoch, record.FromClient)
	if err != nil {
		m.values = append(m.values, v) // perhaps
		return false
	}
	if r.BaseOffset != m.end() {
		h.t.Fatalf("partition %s: append got offset %d, the log ended at %d", p.ID(), r.BaseOffset, m.end())
	}
	m.epoch = epoch
	m.values = append(m.values, v)
	return true
}

func (h *crashHistory) waitFor(p *Partition, m *model) bool {
	if h.s.wal.WaitDurable(background, h.s.wal.Next()-1) != nil {
		return false
	}
	m.durable, m.unsure = p.DurableEnd(), false
	if m.durable != p.LogEnd() {
		h.t.Fatalf("partition %s: durable up to %d of %d after the WAL was", p.ID(), m.durable, p.LogEnd())
	}
	return true
}

func (h *crashHistory) crash() {
	for n, m := range h.models {
		if p := h.s.Partition(id(n)); p != nil && m.exists && !m.unsure {
			m.durable = max(m.durable, p.DurableEnd())
		}
	}
	loss := rand.New(rand.NewPCG(h.rng.Uint64(), 2))
	how := h.rng.IntN(4)
	switch how {
	case 0:
		h.fs = h.fs.Kill()
	case 1:
		h.fs = h.fs.PowerLoss(loss)
	case 2:
		h.fs = h.fs.Kill().PowerLoss(loss)
	case 3: // a process that dies while it recovers
		h.fs = h.fs.Kill()
		h.s.Close()
		h.fs.KillAfter(1+h.rng.Int64N(100), loss)
		if s, err := Open(background, h.s.o); err == nil {
			s.Close()
		}
		o := h.s.o
		o.FS = h.fs
		if s, err := Open(background, o); err == nil {
			s.Close()
		}
		h.fs = h.fs.PowerLoss(rand.New(rand.NewPCG(h.rng.Uint64(), 3)))
	}
	h.s.Close()
	problems := 0
	if _, err := Verify(background, h.fs, "data", func(p Problem) { problems++; h.t.Error("verify:", p) }); err != nil {
		if _, e := h.fs.Stat("data/node"); e == nil {
			h.t.Fatal(err)
		}
	}
	h.open()
	for n, m := range h.models {
		h.compare(n, m, h.s.Partition(id(n)))
	}
	if h.t.Failed() {
		h.t.FailNow()
	}
}

func (h *crashHistory) compare(n int, m *model, p *Partition) {
	if p == nil {
		if m.exists && !m.unsure {
			h.t.Fatalf("partition %d is gone, %d offsets were durable", n, m.durable)
		}
		*m = model{}
		return
	}
	got := content(h.t, p)
	if !m.unsure {
		if !m.exists {
			h.t.Fatalf("partition %d is back", n)
		}
		if p.LogStart() != m.start || p.LogEnd() < m.durable || p.LogEnd() > m.end() {
			h.t.Fatalf("partition %d goes from %d to %d, want from %d to %d-%d", n, p.LogStart(), p.LogEnd(), m.start, m.durable, m.end())
		}
		if want := m.values[m.start-m.base : p.LogEnd()-m.base]; !slices.Equal(got, want) {
			h.t.Fatalf("partition %d holds %v, want %v", n, got, want)
		}
		if e := p.Epoch(); m.epoch != kafka.NoLeaderEpoch && e.Epoch != m.epoch && p.LogEnd() > m.start {
			h.t.Fatalf("partition %d is in epoch %d, want %d", n, e.Epoch, m.epoch)
		}
	}
	if p.DurableEnd() != p.LogEnd() {
		h.t.Fatalf("partition %d: durable end %d, log end %d after recovery", n, p.DurableEnd(), p.LogEnd())
	}
	*m = model{exists: true, start: p.LogStart(), base: p.LogStart(), values: got, durable: p.LogEnd(), epoch: p.Epoch().Epoch}
}

// A segment is begun, and the power goes before its name is on the disk or anything durable in it. The segment before it was
// synced to its end, and nothing keeps account of its bytes any more: what comes then goes into a new segment all the same.
func TestSegmentThatNeverReachedTheDisk(t *testing.T) {
	mem := vfs.NewMem(0)
	fault := vfs.NewFault(mem, clock.System{})
	s := openStore(t, fault, nil)
	p := create(t, s, 1)
	var want []string
	for i := range 5 {
		produce(t, p, 0, 10<<10, fmt.Sprint(i))
		want = append(want, fmt.Sprint(i))
	}
	waitDurable(t, p)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	fault.Add(vfs.Rule{Path: "00000000000000000005.log", Op: vfs.OpWrite, Times: 1, Err: syscall.ENOSPC})
	if _, err := p.Append(batch(20<<10, "refused"), 0, record.FromClient); !errors.Is(err, kafka.ErrKafkaStorageError) {
		t.Fatalf("append: %v", err)
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		mem = mem.PowerLoss(nil)
		s.Close()
		s = openStore(t, mem, nil)
		p = s.Partition(id(1))
		if got := content(t, p); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("after power loss %d: %v, not %v", i+1, got, want)
		}
		v := fmt.Sprint("after ", i)
		produce(t, p, 0, 10, v)
		want = append(want, v)
		waitDurable(t, p)
		if err := s.Checkpoint(); err != nil { // the WAL does not hold it any more
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(background, mem, "data", func(p Problem) { t.Errorf("verify: %v", p) }); err != nil {
		t.Fatal(err)
	}
}
