package log

import (
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestAbortedTransactionsGoWithTheirSegment: a reader that has a stretch of a segment and asks for the aborted transactions
// in it when the segment has been deleted, or all of the log was, gets to know that the answer is not that of the stretch.
func TestAbortedTransactionsGoWithTheirSegment(t *testing.T) {
	for what, remove := range map[string]func(l *Log) error{
		"deleted": func(l *Log) error {
			if err := l.SetLogStart(l.LogEnd() - 1); err != nil {
				return err
			}
			_, err := l.DropBelowLogStart()
			return err
		},
		"reset":     func(l *Log) error { return l.Reset(100) },
		"gone":      func(l *Log) error { return l.Delete() },
		"truncated": func(l *Log) error { _, err := l.TruncateTo(1); return err },
	} {
		l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 100_000, IndexIntervalBytes: 1}))
		if list, err := l.rebuildAborted(l.newSegment(0)); err != nil || len(list) > 0 { // of a log without segments
			t.Error(list, err)
		}
		if _, err := produce(l, 1, 0, 0, true); err != nil {
			t.Fatal(err)
		}
		if err := end(l, 1, 0, record.ControlAbort, 0); err != nil {
			t.Fatal(err)
		}
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, plain(3, 10, 1), 0)
		s, err := l.Read(0, 1000, l.LogEnd(), true)
		if err != nil || s.Length == 0 {
			t.Fatal(s, err)
		}
		if list, err := l.AbortedTransactions(0, s.Next); err != nil || len(list) != 1 || l.Swaps() != s.Swaps {
			t.Errorf("%s: %v, %v", what, list, err)
		}
		if err := remove(l); err != nil {
			t.Fatal(err)
		}
		if list, err := l.AbortedTransactions(0, s.Next); err == nil && len(list) == 0 && l.Swaps() == s.Swaps {
			t.Errorf("%s: a reader of committed records gets aborted ones", what)
		}
		s.Release()
	}
}

// TestStrayAbortedTransactions: a list of aborted transactions that a compaction wrote aside which failed, and that could not
// be removed, does not come with the segment of the next one.
func TestStrayAbortedTransactions(t *testing.T) {
	fs := vfs.NewMem(0)
	l, o := small(t, fs)
	stray := l.mu.segments[0].abortedPath() + cleanedSuffix
	file, err := fs.Create(stray)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(encodeAborted([]AbortedTransaction{{1, 0, 3, 4}}, 0), 0); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	mustClean(t, l, cleanAll(l, 5000))
	c, err := l.Sync()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	o.Checkpoint = &c
	l = openFresh(t, o)
	if list, err := l.AbortedTransactions(kafka.Offset(0), l.LogEnd()); err != nil || len(list) > 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
