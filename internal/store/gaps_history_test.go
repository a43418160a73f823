package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// gapsHistory is a follower of a compacted log, and what must be in it.
type gapsHistory struct {
	t          *testing.T
	rng        *rand.Rand
	fs         *vfs.Mem
	s          *Store
	p          *Partition
	start, end kafka.Offset
	batches    map[kafka.Offset]int // records of each batch
	trace      []string
}

// TestGapsHistory does to a follower what a leader with a compacted log makes of it, in any order (batches with gaps before
// and between them, stretches of which nothing is left, cuts, deletions, beginning anew), with checkpoints, clean stops, kills
// and losses of power in between: it has the offsets and the batches that it was given and no others. CHRONIK_SEEDS=n runs n.
func TestGapsHistory(t *testing.T) {
	for _, seed := range seedsOf(t, 300) {
		h := gapsHistory{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewMem(0), batches: map[kafka.Offset]int{}}
		h.s = openStore(t, h.fs, h.options)
		h.p = create(t, h.s, 1)
		h.append() // what is done first makes the creation durable
		for range 40 {
			h.step()
			if t.Failed() {
				t.Fatalf("seed %d:\n%s", seed, strings.Join(h.trace, "\n"))
			}
		}
		h.crash()
		_ = h.s.Close()
		verifyStore(t, h.fs)
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, strings.Join(h.trace, "\n"))
		}
	}
}

func seedsOf(t *testing.T, n int) (seeds []uint64) {
	if v, err := strconv.Atoi(os.Getenv("CHRONIK_SEEDS")); err == nil {
		n = v
	} else if testing.Short() {
		n /= 10
	}
	for i := range n {
		seeds = append(seeds, uint64(i))
	}
	return append(seeds, 2670) // a cut that a clean stop did not sync
}

func (h *gapsHistory) options(o *Options) {
	o.NoBackground = true
	o.Config.Topic.SegmentBytes = 300
	o.Config.Topic.IndexIntervalBytes = 100
}

func (h *gapsHistory) opens() Options {
	o := Options{FS: h.fs, Dir: "data", NodeID: 1, Config: testConfig(), Fatal: func(error) {}}
	h.options(&o)
	return o
}

func (h *gapsHistory) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *gapsHistory) check(err error) {
	if err != nil {
		h.t.Fatalf("%v\n%s", err, strings.Join(h.trace, "\n"))
	}
}

func (h *gapsHistory) step() {
	switch n := h.rng.IntN(20); {
	case n < 9:
		h.append()
	case n < 11:
		h.truncate()
	case n < 13:
		h.deleteRecords()
	case n < 14:
		h.reset()
	case n < 15:
		h.note("checkpoint")
		h.check(h.s.Checkpoint())
	case n < 16:
		l, err := h.p.opened()
		h.check(err)
		h.note("roll")
		h.check(h.p.roll(l))
	default:
		h.crash()
	}
}

// append appends up to three batches with gaps.
func (h *gapsHistory) append() {
	s := log.Stretch{From: h.end, Next: h.end}
	for range h.rng.IntN(4) {
		s.Next += kafka.Offset(h.rng.IntN(3) * h.rng.IntN(4))
		b := record.NewBuilder()
		n := 1 + h.rng.IntN(3)
		for i := range n {
			b.Add(1, []byte(fmt.Sprint(i)), make([]byte, h.rng.IntN(80)))
		}
		batch := record.Batch(b.Build())
		batch.SetBaseOffset(s.Next)
		batch.SetLeaderEpoch(0)
		h.batches[s.Next] = n
		s.Batches = append(s.Batches, batch...)
		s.Next += kafka.Offset(n)
	}
	if len(s.Batches) == 0 {
		s.Next += kafka.Offset(1 + h.rng.IntN(30))
	}
	h.note("append %d to %d, %d bytes", s.From, s.Next, len(s.Batches))
	_, err := h.p.AppendStretch(&s)
	h.check(err)
	h.end = s.Next
	waitDurable(h.t, h.p)
}

func (h *gapsHistory) truncate() {
	if h.start == h.end {
		return
	}
	to := h.start + kafka.Offset(h.rng.Int64N(int64(h.end-h.start)))
	h.note("truncate to %d", to)
	h.check(h.p.Truncate(background, to))
	h.end = to
	for at, n := range h.batches {
		if at+kafka.Offset(n) > to {
			h.end = min(h.end, at)
			delete(h.batches, at)
		}
	}
	if h.end < h.start { // the batch that held the start is gone
		h.end = h.start
		clear(h.batches)
	}
}

func (h *gapsHistory) deleteRecords() {
	h.p.SetHighWatermark(h.end)
	to := h.end
	if h.rng.IntN(2) == 0 {
		to = h.start + kafka.Offset(h.rng.Int64N(int64(h.end-h.start)+1))
	}
	h.note("delete up to %d", to)
	h.check(h.p.SetLogStart(background, to))
	h.start = to
}

func (h *gapsHistory) reset() {
	to := h.end + kafka.Offset(h.rng.IntN(50)) - 20
	h.note("reset to %d", max(to, 0))
	h.check(h.p.Reset(background, max(to, 0)))
	h.start, h.end = max(to, 0), max(to, 0)
	clear(h.batches)
}

// crash ends the process, one way or another, and compares what the next one finds.
func (h *gapsHistory) crash() {
	switch h.rng.IntN(4) {
	case 0:
		h.note("stop")
		h.check(h.s.Close())
		h.fs = h.fs.Kill()
	case 1:
		h.note("kill")
		h.fs = h.fs.Kill()
	case 2:
		h.note("power")
		h.fs = h.fs.PowerLoss(h.rng)
	default:
		h.note("kill, start that dies, power")
		h.fs = h.fs.Kill()
		h.fs.KillAfter(int64(1+h.rng.IntN(60)), h.rng)
		if s, err := Open(background, h.opens()); err == nil {
			_ = s.Close()
		}
		h.fs = h.fs.PowerLoss(h.rng)
	}
	_ = h.s.Close()
	s, err := Open(background, h.opens())
	h.check(err)
	h.s, h.p = s, s.Partition(id(1))
	if h.p == nil || h.p.LogStart() != h.start || h.p.LogEnd() != h.end {
		h.t.Errorf("offsets %d to %d, want %d to %d", h.p.LogStart(), h.p.LogEnd(), h.start, h.end)
		return
	}
	want, got := map[kafka.Offset]int{}, map[kafka.Offset]int{}
	for at, n := range h.batches {
		if at+kafka.Offset(n) > h.start {
			want[at] = n
		}
	}
	for from := h.start; from < h.end; {
		buf, next, err := h.p.ReadStretch(nil, from, 1000, h.end, true)
		h.check(err)
		for len(buf) > 0 {
			b, rest, err := record.Next(buf)
			h.check(err)
			got[b.BaseOffset()], buf = int(b.Count()), rest
		}
		if next <= from {
			h.t.Errorf("a read from %d comes to %d", from, next)
			return
		}
		from = next
	}
	if !maps.Equal(got, want) {
		h.t.Errorf("batches %v, want %v", got, want)
	}
}
