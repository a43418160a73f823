package log

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// written is a record as it was appended.
type written struct {
	key, value string
	tombstone  bool
	millis     int64
	txn        *modelTxn    // nil outside of transactions
	last       kafka.Offset // of its batch
	horizon    int64        // of a tombstone: from when on it may go; 0 until it was compacted
}

type modelTxn struct {
	aborted, decided bool
	marker           kafka.Offset
	horizon          int64 // of its marker, once nothing is left of it; 0 before
}

type modelProducer struct {
	epoch    kafka.ProducerEpoch
	sequence int32
	open     *modelTxn
}

// compactor compares a log that is compacted again and again with what was ever written to it.
type compactor struct {
	rt        *rapid.T
	fs        *vfs.Mem
	o         Options
	l         *Log
	records   map[kafka.Offset]*written
	headers   map[kafka.Offset]record.Batch // by base offset
	markers   map[kafka.Offset]*modelTxn
	producers [3]modelProducer
	clean     kafka.Offset
	now       int64
	hw        kafka.Offset
	forgot    bool // snapshots were lost
}

func newCompactor(rt *rapid.T) *compactor {
	c := &compactor{rt: rt, fs: vfs.NewMem(0), records: map[kafka.Offset]*written{}, headers: map[kafka.Offset]record.Batch{},
		markers: map[kafka.Offset]*modelTxn{}, now: 10_000}
	durableDirs(rt, c.fs)
	c.o = options(c.fs, Config{
		SegmentBytes:       int64(rapid.SampledFrom([]int{400, 1500, 6000}).Draw(rt, "segment bytes")),
		IndexIntervalBytes: int64(rapid.SampledFrom([]int{1, 200, 4096}).Draw(rt, "interval")),
	})
	c.open()
	return c
}

func (c *compactor) open() {
	l, err := Open(c.o)
	if err == nil {
		err = l.FinishRecovery()
	}
	if err != nil {
		c.rt.Fatal(err)
	}
	c.l = l
}

// batch draws the records of a batch for a producer (nil: none).
func (c *compactor) batch(p *modelProducer, id kafka.ProducerID, txn *modelTxn) {
	rt := c.rt
	b := record.NewBuilder()
	b.Codec = rapid.SampledFrom([]record.Codec{record.None, record.None, record.Zstd, record.Gzip}).Draw(rt, "codec")
	n := rapid.IntRange(1, 4).Draw(rt, "records")
	if p != nil {
		b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = id, p.epoch, p.sequence, txn != nil
		p.sequence += int32(n)
	}
	end := c.l.LogEnd()
	for i := range n {
		w := &written{key: rapid.SampledFrom([]string{"a", "b", "c", "d", "e", ""}).Draw(rt, "key"),
			tombstone: rapid.IntRange(0, 3).Draw(rt, "tombstone") == 0, millis: c.now + rapid.Int64Range(-5000, 5000).Draw(rt, "timestamp"), txn: txn, last: end + kafka.Offset(n) - 1}
		var value []byte
		if !w.tombstone {
			w.value = fmt.Sprint("value ", int(end)+i)
			value = []byte(w.value)
		}
		b.Add(w.millis, []byte(w.key), value)
		c.records[end+kafka.Offset(i)] = w
	}
	out, err := b.AppendTo(nil, c.l.codecs)
	if err == nil {
		_, err = c.l.Append(out, kafka.LeaderEpoch(end/30), record.FromClient)
	}
	if err != nil {
		rt.Fatal(err)
	}
	c.headers[end] = bytes.Clone(out[:record.HeaderSize])
}

func (c *compactor) append(rt *rapid.T) {
	for range rapid.IntRange(1, 5).Draw(rt, "batches") {
		c.batch(nil, 0, nil)
	}
}

func (c *compactor) produce(rt *rapid.T) {
	id := rapid.IntRange(0, 2).Draw(rt, "producer")
	p := &c.producers[id]
	if p.open == nil && rapid.IntRange(0, 2).Draw(rt, "transactional") > 0 {
		p.open = &modelTxn{}
	}
	c.batch(p, kafka.ProducerID(id), p.open)
}

func (c *compactor) decide(rt *rapid.T) {
	id := rapid.IntRange(0, 2).Draw(rt, "producer")
	p := &c.producers[id]
	txn := p.open
	if txn == nil {
		txn = &modelTxn{}
	}
	abort := rapid.Bool().Draw(rt, "abort")
	m := record.EndTransaction{Type: record.ControlCommit, CoordinatorEpoch: 1}
	if abort {
		m.Type = record.ControlAbort
	}
	if rapid.Bool().Draw(rt, "new epoch") {
		p.epoch++
		p.sequence = 0
	}
	end := c.l.LogEnd()
	out := record.AppendEndTransaction(nil, kafka.ProducerID(id), p.epoch, m, c.now)
	if _, err := c.l.Append(out, kafka.LeaderEpoch(end/30), record.FromCoordinator); err != nil {
		rt.Fatal(err)
	}
	txn.decided, txn.aborted, txn.marker = true, abort, end
	c.markers[end] = txn
	c.headers[end] = bytes.Clone(out[:record.HeaderSize])
	p.open = nil
}

func (c *compactor) wait(rt *rapid.T) { c.now += rapid.Int64Range(1, 1500).Draw(rt, "wait") }

func (c *compactor) reopen(rt *rapid.T) {
	at, err := c.l.Sync()
	if err != nil {
		rt.Fatal(err)
	}
	before := c.l.mu.producers
	_ = c.l.Close()
	forget := c.l.LogStart() == 0 && rapid.Bool().Draw(rt, "forget the snapshots") // they know of what lay below
	c.forgot = c.forgot || forget
	if forget {
		for _, o := range c.l.mu.snapshots {
			if err := c.fs.Remove(c.l.snapshotPath(o)); err != nil {
				rt.Fatal(err)
			}
		}
	}
	c.o.Checkpoint = &at
	c.open()
	c.l.OnHighWatermark(c.hw)
	for id, p := range before.byID {
		q := c.l.mu.producers.byID[id]
		if q == nil || q.epoch != p.epoch || q.lastSequence() != p.lastSequence() || (q.txnFirst == kafka.NoOffset) != (p.txnFirst == kafka.NoOffset) {
			rt.Fatalf("producer %d was %+v and is %+v", id, p, q)
		}
	}
	if u := c.l.mu.producers.firstUnstable(); c.l.LogStart() == 0 && u != kafka.NoOffset && before.firstUnstable() > u {
		rt.Fatalf("first unstable offset %d, was %d", u, before.firstUnstable())
	}
}

func (c *compactor) deleteRecords(rt *rapid.T) {
	if c.forgot {
		return
	}
	at := kafka.Offset(rapid.IntRange(0, int(c.l.LogEnd())/3).Draw(rt, "log start"))
	if err := c.l.SetLogStart(at); err != nil {
		rt.Fatal(err)
	}
	if _, err := c.l.DropBelowLogStart(); err != nil {
		rt.Fatal(err)
	}
}

func (c *compactor) cleanOnce(rt *rapid.T) {
	least := c.hw
	if c.hw = c.l.LogEnd(); rapid.IntRange(0, 3).Draw(rt, "committed") == 0 {
		c.hw = kafka.Offset(rapid.IntRange(int(least), int(c.hw)).Draw(rt, "high watermark"))
	}
	o := cleanUpTo(c.l, c.now, c.hw)
	o.DeleteRetention = rapid.SampledFrom([]int64{0, 1000, 100_000}).Draw(rt, "delete retention")
	o.MapBytes = int64(rapid.SampledFrom([]int{2, 4, 1000}).Draw(rt, "keys")) * offsetMapEntryBytes
	before, left := everythingRaw(rt, c.l), c.left()
	unstable := c.l.mu.producers.firstUnstable()
	r, err := c.l.Clean(o)
	if err != nil {
		rt.Fatal(err)
	}
	if r.To > o.Committed && r.To > r.From || unstable != kafka.NoOffset && r.To > unstable && r.To > r.From || r.To < r.From {
		rt.Fatalf("compacted from %d to %d: committed %d, first unstable %d", r.From, r.To, o.Committed, unstable)
	}
	after := everythingRaw(rt, c.l)
	for offset := range before {
		if _, stays := after[offset]; !stays {
			c.mayGo(offset, r.To)
		}
	}
	for offset := range after {
		c.mustStay(offset, r, before)
	}
	if r.To > r.From {
		c.clean = r.To
		c.noteHorizons(after, left, r.To, o.DeleteRetention)
	}
	noneLeftOver(rt, c.fs, c.o.Dir)
}

// mayGo checks that a record, or a marker, was right to go.
func (c *compactor) mayGo(offset, to kafka.Offset) {
	if txn := c.markers[offset]; txn != nil {
		if txn.horizon == 0 || c.now < txn.horizon {
			c.rt.Fatalf("the marker at %d went at %d; its horizon is %d", offset, c.now, txn.horizon)
		}
		if c.l.DeletesRemovedBelow() <= offset {
			c.rt.Fatalf("the marker at %d went, and deletions are said to be there from %d on", offset, c.l.DeletesRemovedBelow())
		}
		return
	}
	w := c.records[offset]
	if w.txn != nil && w.txn.aborted {
		return
	}
	for o, x := range c.records {
		if o > offset && o < to && x.key == w.key && !(x.txn != nil && x.txn.aborted) {
			return
		}
	}
	if w.tombstone && w.horizon != 0 && c.now >= w.horizon {
		if c.l.DeletesRemovedBelow() <= offset {
			c.rt.Fatalf("the tombstone at %d went, and deletions are said to be there from %d on", offset, c.l.DeletesRemovedBelow())
		}
		return
	}
	c.rt.Fatalf("the record at %d went at %d (compacted to %d): %+v", offset, c.now, to, w)
}

// mustStay checks that what stayed had to, where the log is compacted.
func (c *compactor) mustStay(offset kafka.Offset, r CleanResult, before map[kafka.Offset]bool) {
	if !before[offset] {
		c.rt.Fatalf("offset %d was not there before", offset)
	}
	w := c.records[offset]
	if w == nil || offset >= r.To || r.To == r.From || offset < c.l.LogStart() {
		return
	}
	if w.txn != nil && w.txn.aborted {
		c.rt.Fatalf("the record at %d was aborted and is there", offset)
	}
	for o, x := range c.records {
		if o > offset && o < r.To && x.key == w.key && !(x.txn != nil && x.txn.aborted) {
			c.rt.Fatalf("the record at %d is there, and so is a later one of its key %q at %d (%+v, %+v); %+v", offset, w.key, o, x, x.txn, r)
		}
	}
}

// noteHorizons notes from when on the tombstones and markers that are compacted now may go.
func (c *compactor) noteHorizons(after map[kafka.Offset]bool, left map[*modelTxn]bool, to kafka.Offset, retention int64) {
	for offset := range after {
		if w := c.records[offset]; w != nil && w.tombstone && w.horizon == 0 && w.last < to { // only what is wholly compacted
			w.horizon = c.now + retention
		}
		if txn := c.markers[offset]; txn != nil && txn.horizon == 0 && offset < to && !left[txn] {
			txn.horizon = c.now + retention
			if c.l.LogStart() > 0 {
				txn.horizon = c.now // what is left of it may lie below the log's start, where nobody reads
			}
		}
	}
}

// left are the transactions of which there are batches, with or without records.
func (c *compactor) left() map[*modelTxn]bool {
	left := map[*modelTxn]bool{}
	for rest := readAll(c.rt, c.l, c.l.LogStart(), 4000); len(rest) > 0; {
		b, more, _ := record.Next(rest)
		rest = more
		for o := b.BaseOffset(); o <= b.LastOffset(); o++ {
			if w := c.records[o]; w != nil && w.txn != nil {
				left[w.txn] = true
			}
		}
	}
	return left
}

// everythingRaw is every offset that has a record, markers included, whoever may see it.
func everythingRaw(t fataler, l *Log) map[kafka.Offset]bool {
	m := map[kafka.Offset]bool{}
	for rest := readAll(t, l, l.LogStart(), 4000); len(rest) > 0; {
		b, more, err := record.Next(rest)
		if err != nil {
			t.Fatal(err)
		}
		rest = more
		for r, err := range l.codecs.Records(b, 0) {
			if err != nil {
				t.Fatal(err)
			}
			m[r.Offset] = true
		}
	}
	return m
}

// check compares all that readers see with what was written.
func (c *compactor) check(rt *rapid.T) {
	c.rt = rt
	start := c.l.LogStart()
	want := map[string]found{}
	for _, offset := range slices.Sorted(mapKeys(c.records)) {
		w := c.records[offset]
		if offset < start || w.txn != nil && w.txn.aborted {
			continue
		}
		if delete(want, w.key); !w.tombstone {
			want[w.key] = found{offset, w.value}
		}
	}
	got := map[string]found{}
	readRecords(rt, c.l, func(offset kafka.Offset, key string, value []byte, b record.Batch) {
		if offset < start {
			return
		}
		w := c.records[offset]
		if w == nil || w.key != key || w.tombstone != (value == nil) || w.value != string(value) {
			rt.Fatalf("offset %d is %q: %q, and was %+v", offset, key, value, w)
		}
		if w.txn != nil && w.txn.aborted {
			rt.Fatalf("offset %d is shown, and was aborted", offset)
		}
		for r := range c.l.codecs.Records(b, 0) {
			if r.Timestamp != c.records[r.Offset].millis {
				rt.Fatalf("offset %d has timestamp %d, and had %d", r.Offset, r.Timestamp, c.records[r.Offset].millis)
			}
		}
		if delete(got, key); value != nil {
			got[key] = found{offset, string(value)}
		}
	})
	if fmt.Sprint(got) != fmt.Sprint(want) {
		rt.Fatalf("the log comes to %v, want %v", got, want)
	}
	largest := int64(math.MinInt64)
	for rest := readAll(rt, c.l, start, 1<<20); len(rest) > 0; {
		b, more, _ := record.Next(rest)
		rest = more
		w := c.headers[b.BaseOffset()]
		if w == nil || b.LastOffset() != w.LastOffset() || b.LeaderEpoch() != w.LeaderEpoch() || b.ProducerID() != w.ProducerID() ||
			b.ProducerEpoch() != w.ProducerEpoch() || b.BaseSequence() != w.BaseSequence() || b.Transactional() != w.Transactional() ||
			b.Control() != w.Control() || b.Count() > 0 && b.Codec() != w.Codec() {
			rt.Fatalf("batch at %d: %x, was %x", b.BaseOffset(), []byte(b[:record.HeaderSize]), []byte(w))
		}
		if b.Count() > 0 {
			largest = max(largest, b.MaxTimestamp())
		}
	}
	at, ok, err := c.l.MaxTimestamp()
	if err != nil || ok != (largest != math.MinInt64) || ok && at.Timestamp < largest {
		rt.Fatalf("the largest timestamp is %+v (%v, %v), want %d", at, ok, err, largest)
	}
	if f := c.l.FirstDirty(); f < start || f > c.l.LogEnd() {
		rt.Fatalf("first dirty offset %d in [%d, %d)", f, start, c.l.LogEnd())
	}
}

func mapKeys[V any](m map[kafka.Offset]V) func(func(kafka.Offset) bool) {
	return func(yield func(kafka.Offset) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestCleanModel compacts logs of random records, producers and transactions again and again, in between other changes: what
// they come to stays, nothing is renumbered, and nothing goes before it may.
func TestCleanModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCompactor(rt)
		defer func() { _ = c.l.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"append": c.with(c.append), "append more": c.with(c.append), "produce": c.with(c.produce), "produce more": c.with(c.produce), "decide": c.with(c.decide),
			"wait": c.with(c.wait), "clean": c.with(c.cleanOnce), "clean more": c.with(c.cleanOnce), "clean and die": c.with(c.cleanAndDie), "reopen": c.with(c.reopen),
			"delete records": c.with(c.deleteRecords), "": c.check,
		})
		err := c.l.Verify(t.Context(), func(x *Corruption) { rt.Errorf("verify: %v", x) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func (c *compactor) with(do func(*rapid.T)) func(*rapid.T) {
	return func(rt *rapid.T) { c.rt = rt; do(rt) }
}
