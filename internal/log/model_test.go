package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// walOp is an operation as the store's WAL would hold it.
type walOp struct {
	kind   string // append, reference, stretch, stretch reference, epoch, truncate, reset, start
	batch  []byte
	gap    Stretch // of a stretch; without its batches where they are referred to
	at     Placement
	epoch  EpochOffset
	offset kafka.Offset
	base   Checkpoint // synced state, of truncate
	gen    uint64
}

// sent is a batch of an idempotent producer that the log took.
type sent struct {
	id    kafka.ProducerID
	epoch kafka.ProducerEpoch
	first int32
	n     int32
	at    kafka.Offset
	txn   bool
	ends  bool // a marker
	abort bool
}

// machine compares a log with a model of it, through crashes. It plays the store: it keeps a WAL that survives them.
type machine struct {
	rt  *rapid.T
	fs  *vfs.Mem
	l   *Log
	cfg Config

	wal        []walOp
	checkpoint Checkpoint
	lastEpoch  EpochOffset // carried by the checkpoint

	batches [][]byte // whole content, from the first segment that was ever dropped on
	start   kafka.Offset
	end     kafka.Offset
	epochs  epochHistory
	sent    []sent
	gen     uint64
	stamp   int64
	// Producers below it wrote to segments that are gone: what a rebuild knows of them is no matter.
	producer  kafka.ProducerID
	uncertain bool
	logged    strings.Builder
}

func newMachine(rt *rapid.T) *machine {
	m := &machine{rt: rt, fs: vfs.NewMem(0), lastEpoch: EpochOffset{Epoch: -1}}
	m.cfg = Config{
		SegmentBytes:       int64(rapid.SampledFrom([]int{700, 3000, 50000}).Draw(rt, "segment bytes")),
		IndexIntervalBytes: int64(rapid.SampledFrom([]int{1, 150, 4096}).Draw(rt, "interval")),
	}
	m.check(m.fs.MkdirAll("data/partitions"))
	for _, dir := range []string{"data", "."} {
		m.check(m.fs.SyncDir(dir))
	}
	m.open(false)
	return m
}

// killed is the panic of an action in which the process died.
type killed struct{}

func (m *machine) check(err error) {
	m.rt.Helper()
	if errors.Is(err, vfs.ErrKilled) {
		panic(killed{})
	}
	if err != nil {
		m.rt.Fatal(err)
	}
}

// open opens the log as the store does: at the checkpoint, or at the base of the last truncation, and replays.
func (m *machine) open(unclean bool) {
	from, ops := m.checkpoint, m.wal
	for i := range m.wal {
		switch op := &m.wal[i]; op.kind {
		case "truncate":
			from, ops = op.base, m.wal[i:]
		case "reset":
			from, ops = Checkpoint{Segment: op.offset, EndOffset: op.offset, LogStart: op.offset, Generation: op.gen}, m.wal[i+1:]
		}
	}
	o := options(m.fs, m.cfg)
	o.Checkpoint, o.Unclean, o.Logger = &from, unclean, testLogger(&m.logged)
	l, err := Open(o)
	m.check(err)
	m.l = l
	defer func() {
		if p := recover(); p != nil {
			_ = l.Close()
			panic(p)
		}
	}()
	if m.lastEpoch.Epoch > l.Epoch().Epoch && m.lastEpoch.Offset <= l.LogEnd() { // else its operation is replayed
		m.check(l.StartEpoch(m.lastEpoch.Epoch, m.lastEpoch.Offset))
	}
	for _, op := range ops {
		switch op.kind {
		case "append":
			_, err = l.Replay(bytes.Clone(op.batch), op.at.Base, op.at.Position)
		case "reference":
			_, err = l.ReplayReference(op.at.Base, op.at.Position, op.at.Length, op.at.CRC)
		case "stretch", "stretch reference":
			if op.at.EndOffset <= l.LogEnd() {
				continue
			}
			if op.kind == "stretch" {
				op.gap.Batches = bytes.Clone(op.gap.Batches)
				_, err = l.ReplayStretch(&op.gap, op.at.Base, op.at.Position)
			} else {
				_, err = l.ReplayStretchReference(&op.gap, op.at.Base, op.at.Position, op.at.Length, op.at.CRC)
			}
		case "epoch":
			if op.epoch.Epoch > l.Epoch().Epoch {
				err = l.StartEpoch(op.epoch.Epoch, op.epoch.Offset)
			}
		case "truncate":
			_, err = l.TruncateTo(op.offset)
		case "start":
			err = l.SetLogStart(op.offset)
		}
		if err != nil && !errors.Is(err, vfs.ErrKilled) {
			m.rt.Fatalf("replay %s %+v: %v", op.kind, op.at, err)
		}
		m.check(err)
	}
	m.check(l.FinishRecovery())
	if unclean {
		_, err := l.Sync()
		m.check(err)
		m.takeCheckpoint()
	}
	m.fs.KillAfter(1<<40, nil)
	m.compare()
}

func (m *machine) takeCheckpoint() {
	m.checkpoint = m.l.Synced()
	m.lastEpoch = EpochOffset{Epoch: -1}
	for _, e := range m.l.Epochs() { // what begins behind the synced end is in the WAL
		if e.Offset <= m.checkpoint.EndOffset {
			m.lastEpoch = e
		}
	}
	for i := len(m.wal) - 1; i >= 0; i-- {
		if m.wal[i].kind == "truncate" || m.wal[i].kind == "reset" {
			m.wal = m.wal[i+1:]
			break
		}
	}
	// What lies behind the synced end must be replayed.
	m.wal = slices.DeleteFunc(m.wal, func(op walOp) bool {
		switch op.kind {
		case "append", "reference", "stretch", "stretch reference":
			return op.at.EndOffset <= m.checkpoint.EndOffset || op.at.Generation < m.checkpoint.Generation
		case "epoch":
			return op.epoch.Offset <= m.checkpoint.EndOffset // the checkpoint carries it
		}
		return true
	})
}

// compare checks everything that the log says against the model.
func (m *machine) compare() {
	m.rt.Helper()
	l := m.l
	if l.LogEnd() != m.end || l.LogStart() != m.start || l.Generation() != m.gen {
		m.rt.Fatalf("log [%d, %d) generation %d, want [%d, %d) generation %d", l.LogStart(), l.LogEnd(), l.Generation(), m.start, m.end, m.gen)
	}
	// Epochs that end at the log's start may be known still.
	got, wanted := epochHistory(l.Epochs()), slices.Clone(m.epochs)
	got.truncateStart(m.start)
	wanted.truncateStart(m.start)
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		m.rt.Fatalf("epochs %v, want %v", got, wanted)
	}
	var want []byte
	for _, b := range m.batches {
		if record.Batch(b).NextOffset() > m.start {
			want = append(want, b...)
		}
	}
	if m.start < m.end {
		if got := readAll(m.rt, l, m.start, 700); !bytes.Equal(got, want) {
			m.rt.Fatalf("%d bytes, want %d", len(got), len(want))
		}
	}
	if err := l.Verify(context.Background(), func(c *Corruption) { m.rt.Errorf("verify: %v", c) }); err != nil {
		m.rt.Error(err)
	}
	if s := m.logged.String(); strings.Contains(s, "level=WARN") && !strings.Contains(s, "killed") {
		m.rt.Fatalf("a crash alone must break nothing: %s", s)
	}
	m.l.mu.Lock()
	first := m.end
	if len(m.l.mu.segments) > 0 {
		first = m.l.mu.segments[0].base
	}
	m.l.mu.Unlock()
	for _, s := range m.sent {
		if s.at < first && s.id >= m.producer {
			m.producer = s.id + 1
		}
	}
	m.compareTransactions()
}

// compareTransactions derives open and aborted transactions from the list of what was sent.
func (m *machine) compareTransactions() {
	m.rt.Helper()
	open := map[kafka.ProducerID]kafka.Offset{}
	var aborted []string
	if m.uncertain || slices.ContainsFunc(m.sent, func(s sent) bool { return s.id < m.producer }) {
		return
	}
	for _, s := range m.sent {
		first, isOpen := open[s.id]
		switch {
		case s.ends && isOpen:
			if s.abort {
				aborted = append(aborted, fmt.Sprint(s.id, first, s.at))
			}
			delete(open, s.id)
		case s.txn && !isOpen:
			open[s.id] = s.at
		}
	}
	unstable := kafka.NoOffset
	for _, first := range open {
		if unstable == kafka.NoOffset || first < unstable {
			unstable = first
		}
	}
	m.l.OnHighWatermark(m.end)
	if unstable != kafka.NoOffset {
		unstable = max(unstable, m.start)
	}
	if got := m.l.FirstUnstable(); got != unstable {
		m.rt.Fatalf("first unstable offset %d, want %d", got, unstable)
	}
	// Those whose segments are gone may be listed or not.
	list, err := m.l.AbortedTransactions(m.start, m.end)
	m.check(err)
	var got []string
	for _, a := range list {
		got = append(got, fmt.Sprint(a.ProducerID, a.FirstOffset, a.LastOffset))
	}
	want := slices.DeleteFunc(aborted, func(s string) bool {
		var id, first, last kafka.Offset
		_, _ = fmt.Sscan(s, &id, &first, &last)
		return last < m.start
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		m.rt.Fatalf("aborted %v, want %v", got, want)
	}
}

func (m *machine) epoch() kafka.LeaderEpoch { return max(m.epochs.last().Epoch, 0) }

// took enters an append into model and WAL.
func (m *machine) took(batch []byte, p Placement) {
	b := record.Batch(batch)
	if b.BaseOffset() != m.end || p.BaseOffset != m.end || p.EndOffset != b.NextOffset() {
		m.rt.Fatalf("appended at %d: %+v", m.end, p)
	}
	op := walOp{kind: "append", batch: bytes.Clone(batch), at: p}
	if rapid.Bool().Draw(m.rt, "by reference") {
		m.check(p.Segment.Sync())
		op.kind, op.batch = "reference", nil
	}
	m.batches = append(m.batches, bytes.Clone(batch))
	if b.LeaderEpoch() != m.epochs.last().Epoch {
		m.epochs.assign(EpochOffset{b.LeaderEpoch(), m.end})
	}
	m.end = p.EndOffset
	m.wal = append(m.wal, op)
}

func (m *machine) appendPlain(rt *rapid.T) {
	m.stamp += int64(rapid.IntRange(0, 10).Draw(rt, "ms"))
	batch := plain(rapid.IntRange(1, 5).Draw(rt, "records"), rapid.IntRange(0, 100).Draw(rt, "size"), m.stamp)
	if rapid.Bool().Draw(rt, "replicated") {
		b := record.Batch(batch)
		b.SetBaseOffset(m.end)
		b.SetLeaderEpoch(m.epoch())
		p, err := m.l.AppendAt(batch)
		m.check(err)
		m.took(batch, p)
		return
	}
	p, err := m.l.Append(batch, m.epoch(), record.FromClient)
	m.check(err)
	m.took(batch, p)
}

// appendIdempotent sends the right sequence, a repetition, a gap, or from an old or new epoch, and knows from the list of
// what was sent what must become of it.
func (m *machine) appendIdempotent(rt *rapid.T) {
	m.compare()
	id := m.producer + kafka.ProducerID(rapid.IntRange(1, 3).Draw(rt, "producer"))
	n := int32(rapid.IntRange(1, 3).Draw(rt, "records"))
	txn := rapid.Bool().Draw(rt, "transactional")
	epoch, next, open := kafka.ProducerEpoch(-1), int32(0), false
	var history []sent
	for _, s := range m.sent {
		if s.id != id {
			continue
		}
		if s.epoch != epoch {
			epoch, history, next = s.epoch, nil, 0
		}
		if s.ends {
			open = false
			continue
		}
		history, next, open = append(history, s), s.first+s.n, open || s.txn
	}
	known := epoch >= 0
	epoch = max(epoch, 0)
	first := next
	var want error
	var original *sent
	switch rapid.SampledFrom([]string{"next", "next", "repeat", "gap", "old epoch", "new epoch"}).Draw(rt, "what") {
	case "repeat":
		if len(history) == 0 {
			return
		}
		back := rapid.IntRange(1, min(7, len(history))).Draw(rt, "back")
		s := history[len(history)-back]
		first, n, txn = s.first, s.n, s.txn
		want = kafka.ErrOutOfOrderSequenceNumber
		if back <= duplicateWindow {
			want, original = nil, &s
		}
	case "gap":
		first++
		if known {
			want = kafka.ErrOutOfOrderSequenceNumber
		}
	case "old epoch":
		if epoch == 0 {
			return
		}
		epoch--
		want = kafka.ErrInvalidProducerEpoch
	case "new epoch":
		epoch++
		first = 0
	}
	if want == nil && original == nil && open && !txn {
		want = kafka.ErrInvalidTxnState
	}
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = id, epoch, first, txn
	for range n {
		b.Add(m.stamp, nil, []byte("idempotent"))
	}
	batch := b.Build()
	p, err := m.l.Append(batch, m.epoch(), record.FromClient)
	switch {
	case errors.Is(err, vfs.ErrKilled):
		m.check(err)
	case want != nil:
		if !errors.Is(err, want) {
			rt.Fatalf("producer %d epoch %d sequence %d: %v, want %v", id, epoch, first, err, want)
		}
	case err != nil:
		rt.Fatalf("producer %d epoch %d sequence %d (next %d): %v", id, epoch, first, next, err)
	case original != nil:
		if !p.Duplicate || p.BaseOffset != original.at || p.EndOffset != original.at+kafka.Offset(n) {
			rt.Fatalf("duplicate: %+v, original at %d", p, original.at)
		}
	default:
		at := m.end
		m.took(batch, p)
		m.sent = append(m.sent, sent{id: id, epoch: epoch, first: first, n: n, at: at, txn: txn})
	}
}

func (m *machine) endTransaction(rt *rapid.T) {
	if len(m.sent) == 0 {
		return
	}
	s := m.sent[len(m.sent)-1]
	if s.id < m.producer {
		return
	}
	for _, later := range m.sent {
		if later.id == s.id {
			s.epoch = later.epoch
		}
	}
	abort := rapid.Bool().Draw(rt, "abort")
	marker := record.EndTransaction{Type: record.ControlCommit, CoordinatorEpoch: 1}
	if abort {
		marker.Type = record.ControlAbort
	}
	batch := record.AppendEndTransaction(nil, s.id, s.epoch, marker, m.stamp)
	p, err := m.l.Append(batch, m.epoch(), record.FromCoordinator)
	m.check(err)
	at := m.end
	m.took(batch, p)
	m.sent = append(m.sent, sent{id: s.id, epoch: s.epoch, at: at, ends: true, abort: abort})
}

func (m *machine) startEpoch(rt *rapid.T) {
	e := EpochOffset{m.epoch() + kafka.LeaderEpoch(rapid.IntRange(1, 3).Draw(rt, "by")), m.end}
	m.check(m.l.StartEpoch(e.Epoch, e.Offset))
	m.epochs.assign(e)
	m.wal = append(m.wal, walOp{kind: "epoch", epoch: e})
}

func (m *machine) truncate(rt *rapid.T) {
	if m.start == m.end {
		return
	}
	to := kafka.Offset(rapid.Int64Range(int64(m.start), int64(m.end)-1).Draw(rt, "to"))
	_, err := m.l.Sync()
	m.check(err)
	base, err := m.l.StateAt(to)
	m.check(err)
	m.wal = append(m.wal, walOp{kind: "truncate", offset: to, base: base})
	m.lastEpoch = EpochOffset{Epoch: -1}
	for len(m.batches) > 0 && record.Batch(m.batches[len(m.batches)-1]).NextOffset() > to {
		b := record.Batch(m.batches[len(m.batches)-1])
		m.batches, m.end = m.batches[:len(m.batches)-1], b.BaseOffset()
	}
	m.end = min(m.end, to) // in a gap the end is exactly there
	if m.end < m.start {   // the batch that held the start is gone
		m.end, m.sent, m.batches, m.epochs = m.start, nil, nil, nil
		m.producer += 4 // recovery may remember them, and rightly
		m.uncertain = true
	}
	m.sent = slices.DeleteFunc(m.sent, func(s sent) bool { return s.at >= m.end })
	if m.end == m.start {
		m.epochs = nil
	}
	m.epochs.truncateEnd(m.end)
	m.gen++
	end, err := m.l.TruncateTo(to)
	m.check(err)
	if end != m.end {
		rt.Fatalf("truncated to %d, want %d", end, m.end)
	}
}

func (m *machine) reset(rt *rapid.T) {
	to := m.end + kafka.Offset(rapid.IntRange(0, 100).Draw(rt, "by"))
	m.gen++
	m.wal = append(m.wal, walOp{kind: "reset", offset: to, gen: m.gen})
	m.lastEpoch = EpochOffset{Epoch: -1}
	m.batches, m.sent, m.epochs, m.start, m.end, m.uncertain = nil, nil, nil, to, to, false
	m.check(m.l.Reset(to))
}

func (m *machine) setLogStart(rt *rapid.T) {
	to := kafka.Offset(rapid.Int64Range(int64(m.start), int64(m.end)).Draw(rt, "to"))
	c, err := m.l.Sync()
	m.check(err)
	m.check(m.l.SetLogStart(to))
	if to > m.start {
		m.start = to
		m.epochs.truncateStart(to)
	}
	_ = c
	m.takeCheckpoint()
	m.wal = append(m.wal, walOp{kind: "start", offset: to})
	_, err = m.l.DropBelowLogStart()
	m.check(err)
	m.takeCheckpoint()
}

// try runs an action and tells whether the process died in it.
func (m *machine) try(do func()) (died bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, died = p.(killed); !died {
				panic(p)
			}
		}
	}()
	do()
	return false
}

func (m *machine) rng() *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(m.rt, "seed"), 1))
}

// crash ends the process and starts the next one, which may die while it recovers.
func (m *machine) crash(power bool) {
	doomed := rapid.IntRange(0, 12).Draw(m.rt, "recovery dies at")
	for again := true; again; {
		m.logged.Reset()
		if power {
			m.fs = m.fs.PowerLoss(m.rng())
		} else {
			m.fs = m.fs.Kill()
		}
		_ = m.l.Close()
		if doomed > 0 {
			m.fs.KillAfter(int64(doomed), m.rng())
			doomed = 0
		}
		again = m.try(func() { m.open(true) })
		m.fs.KillAfter(1<<40, nil)
	}
}

func (m *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"append":      m.appendPlain,
		"append more": m.appendPlain,
		"idempotent":  m.appendIdempotent,
		"end":         m.endTransaction,
		"epoch":       m.startEpoch,
		"truncate":    m.truncate,
		"reset":       m.reset,
		"log start":   m.setLogStart,
		"stretch":     m.appendStretch,
		"skip":        m.appendStretch,
		"roll":        func(*rapid.T) { m.check(m.l.Roll()) },
		"sync oldest": func(rt *rapid.T) {
			_, _, err := m.l.SyncOldest()
			m.check(err)
			if rapid.Bool().Draw(rt, "checkpoint") {
				m.takeCheckpoint()
			}
		},
		"snapshot": func(*rapid.T) { m.check(m.l.Snapshot()) },
		"reopen": func(*rapid.T) {
			_, err := m.l.Sync()
			m.check(err)
			m.check(m.l.Snapshot())
			m.takeCheckpoint()
			m.check(m.l.Close())
			m.open(false)
		},
	}
}

// lose appends what never gets into the WAL, perhaps syncs it all the same, and crashes.
func (m *machine) lose(rt *rapid.T) {
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = m.producer+kafka.ProducerID(rapid.IntRange(1, 3).Draw(rt, "producer")), 9, 0
	b.Transactional = true
	for range rapid.IntRange(1, 3).Draw(rt, "records") {
		b.Add(m.stamp+1000, nil, []byte("lost"))
	}
	if rapid.Bool().Draw(rt, "new epoch") {
		m.check(m.l.StartEpoch(m.epoch()+7, m.end))
	}
	if _, err := m.l.Append(b.Build(), max(m.l.Epoch().Epoch, 0), record.FromClient); err != nil && !errors.Is(err, kafka.ErrInvalidTxnState) {
		rt.Fatal(err)
	}
	for _, do := range []func() error{m.l.Roll, func() error { _, err := m.l.Sync(); return err }, m.l.Snapshot} {
		if rapid.Bool().Draw(rt, "then") {
			m.check(do())
		}
	}
	m.crash(rapid.Bool().Draw(rt, "power"))
}

// TestModel runs random histories, with crashes between and in the middle of operations.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newMachine(rt)
		actions := m.actions()
		names := slices.Sorted(maps.Keys(actions))
		actions["compare"] = func(*rapid.T) { m.compare() }
		actions["kill"] = func(*rapid.T) { m.crash(false) }
		actions["power"] = func(*rapid.T) { m.crash(true) }
		actions["kill, then power"] = func(*rapid.T) { m.fs = m.fs.Kill(); m.crash(true) }
		actions["lose"] = m.lose
		actions["die in"] = func(rt *rapid.T) {
			do := actions[rapid.SampledFrom(names).Draw(rt, "action")]
			m.fs.KillAfter(int64(rapid.IntRange(1, 12).Draw(rt, "operations")), m.rng())
			died := m.try(func() { do(rt) })
			m.fs.KillAfter(1<<40, nil)
			if died {
				m.crash(rapid.Bool().Draw(rt, "power"))
			}
		}
		rt.Repeat(actions)
		m.compare()
		_ = m.l.Close()
	})
}
