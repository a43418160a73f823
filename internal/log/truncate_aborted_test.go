package log

import (
	"testing"

	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestTruncateIntoASealedSegment: a segment of which nobody asked for the aborted transactions since the log was opened is
// cut, and goes on with another history. The transactions that were aborted there before the cut are none of that, and those
// that are aborted since are.
func TestTruncateIntoASealedSegment(t *testing.T) {
	fs := vfs.NewMem(0)
	o := options(fs, Config{SegmentBytes: 100_000, IndexIntervalBytes: 1})
	l := openFresh(t, o)
	put := func(sequence int32) {
		t.Helper()
		if _, err := produce(l, 1, 0, sequence, true); err != nil {
			t.Fatal(err)
		}
	}
	finish := func(how record.ControlType) {
		t.Helper()
		if err := end(l, 1, 0, how, 0); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	put(1) // offset 1
	put(2)
	finish(record.ControlAbort) // 3
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, plain(1, 10, 1), 0)
	c, err := l.Sync()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	o.Checkpoint = &c
	l = openFresh(t, o)
	if end, err := l.TruncateTo(1); err != nil || end != 1 {
		t.Fatal(end, err)
	}
	put(1)
	put(2)
	finish(record.ControlCommit) // 3, too
	put(3)                       // 4
	finish(record.ControlAbort)
	put(4)
	check := func(what string) {
		t.Helper()
		list, err := l.AbortedTransactions(0, l.LogEnd())
		if err != nil || len(list) != 1 || list[0].FirstOffset != 4 || list[0].LastOffset != 5 {
			t.Errorf("%s: aborted transactions %+v, %v; want that of offsets 4 to 5", what, list, err)
		}
	}
	check("after the cut")
	if c, err = l.Sync(); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	o.Checkpoint = &c
	l = openFresh(t, o)
	check("opened again")
}
