package log

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// transactions writes to a log in transactions.
type transactions struct {
	t        *testing.T
	l        *Log
	sequence map[kafka.ProducerID]int32
}

func (x *transactions) put(id kafka.ProducerID, key, value string) kafka.Offset {
	x.t.Helper()
	b := record.NewBuilder()
	b.ProducerID, b.BaseSequence, b.ProducerEpoch, b.Transactional = id, x.sequence[id], 0, true
	x.sequence[id]++
	return mustAppend(x.t, x.l, keyedBy(b, 100, kv{key, value}), 0).BaseOffset
}

func (x *transactions) end(id kafka.ProducerID, how record.ControlType) kafka.Offset {
	x.t.Helper()
	p, err := x.l.Append(record.AppendEndTransaction(nil, id, 0, record.EndTransaction{Type: how}, 100), 0, record.FromCoordinator)
	if err != nil {
		x.t.Fatal(err)
	}
	return p.BaseOffset
}

func (x *transactions) more() {
	for i := range 40 {
		mustAppend(x.t, x.l, keyed(100, kv{"other", fmt.Sprint(i)}), 0)
	}
}

func (x *transactions) has(offset kafka.Offset) bool { return everythingRaw(x.t, x.l)[offset] }

// TestCleanTransactions: what was aborted goes at once, whatever its key; a marker stays while a batch of its transaction
// does, and for delete.retention.ms after that; an open transaction holds compaction back; who reads committed records sees
// none of an aborted one, with the aborted transactions that are listed then.
func TestCleanTransactions(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 700, IndexIntervalBytes: 100}))
	x := &transactions{t: t, l: l, sequence: map[kafka.ProducerID]int32{}}
	mustAppend(t, l, keyed(100, kv{"a", "before"}), 0)
	dropped := x.put(1, "a", "aborted")
	kept := x.put(2, "b", "committed")
	abort := x.end(1, record.ControlAbort)
	commit := x.end(2, record.ControlCommit)
	superseded := x.put(3, "c", "superseded")
	gone := x.end(3, record.ControlCommit)
	mustAppend(t, l, keyed(100, kv{"c", "later"}), 0)
	for _, id := range []kafka.ProducerID{1, 2, 3} { // so that no batch of the first transactions is a producer's last
		x.put(id, "d", "x")
		x.end(id, record.ControlCommit)
	}
	x.more()
	open := x.put(4, "e", "open")
	x.more()

	r := mustClean(t, l, cleanAll(l, 5000)) // seen: batches of all three
	if r.To > open {
		t.Errorf("compacted to %d, a transaction is open since %d", r.To, open)
	}
	if x.has(dropped) || x.has(superseded) || !x.has(kept) || !x.has(abort) || !x.has(commit) || !x.has(gone) {
		t.Errorf("after the first cleaning: %v %v %v %v %v %v", x.has(dropped), x.has(superseded), x.has(kept), x.has(abort), x.has(commit), x.has(gone))
	}
	aborted, err := l.AbortedTransactions(0, l.LogEnd())
	if err != nil || len(aborted) != 1 || aborted[0].FirstOffset != dropped || aborted[0].LastOffset != abort {
		t.Errorf("aborted transactions %+v, %v", aborted, err)
	}
	// A second pass over the same: nothing of the first and the third transaction is left, and their markers get their time.
	x.end(4, record.ControlCommit)
	x.more()
	mustClean(t, l, cleanAll(l, 6000))
	if !x.has(kept) || !x.has(abort) || !x.has(commit) || !x.has(gone) {
		t.Errorf("after the second cleaning: %v %v %v %v", x.has(kept), x.has(abort), x.has(commit), x.has(gone))
	}
	if aborted, _ := l.AbortedTransactions(0, l.LogEnd()); len(aborted) != 0 {
		t.Errorf("aborted transactions without records: %+v", aborted)
	}
	x.more()
	mustClean(t, l, cleanAll(l, 6999))
	if !x.has(abort) || !x.has(gone) || l.DeletesRemovedBelow() != 0 {
		t.Error("markers went before their time")
	}
	x.more()
	mustClean(t, l, cleanAll(l, 7000))
	if x.has(abort) || x.has(gone) || !x.has(commit) || !x.has(kept) || l.DeletesRemovedBelow() <= gone {
		t.Errorf("at their time: %v %v %v %v, deletions are gone below %d", x.has(abort), x.has(gone), x.has(commit), x.has(kept), l.DeletesRemovedBelow())
	}
	f := fold(t, l)
	if f["a"].value != "before" || f["b"].value != "committed" || f["c"].value != "later" {
		t.Error(f)
	}
	verifyClean(t, l)
}

// TestCleanAbortedAhead: where an aborted transaction's records are compacted and its marker lies above, it stays listed.
func TestCleanAbortedAhead(t *testing.T) {
	fs := vfs.NewMem(0)
	o := options(fs, Config{SegmentBytes: 500, IndexIntervalBytes: 100})
	l := openFresh(t, o)
	x := &transactions{t: t, l: l, sequence: map[kafka.ProducerID]int32{}}
	first := x.put(1, "a", "aborted")
	x.more()
	late := x.put(1, "b", "aborted late")
	x.end(1, record.ControlAbort)
	x.more()
	c := cleanAll(l, 5000)
	c.MapBytes = 2 * offsetMapEntryBytes // one key: it comes no further than where a second one is
	b := record.NewBuilder()
	b.Add(1, []byte("second"), bytes.Repeat([]byte("x"), 10))
	mustClean(t, l, c)
	if x.has(first) || x.has(late) && l.FirstDirty() > late {
		t.Errorf("aborted records: %v %v, compacted to %d", x.has(first), x.has(late), l.FirstDirty())
	}
	if f := fold(t, l); len(f) != 1 {
		t.Error(f)
	}
	at, err := l.Sync()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	o.Checkpoint = &at
	l = openFresh(t, o)
	if f := fold(t, l); len(f) != 1 {
		t.Errorf("opened again: %v", f)
	}
	if !slices.Equal(l.Damaged(), nil) {
		t.Error(l.Damaged())
	}
}
