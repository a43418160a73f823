package log

import (
	"errors"
	"maps"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

// TestCleanBesideALoggedCut: the state at which a cut is logged names a place in a segment. Compaction leaves that segment as
// it is until the cut is done: a start that comes in between looks for the place.
func TestCleanBesideALoggedCut(t *testing.T) {
	fs := vfs.NewMem(0)
	l, o := small(t, fs)
	options := cleanAll(l, 5000)
	const to = 8
	base, err := l.StateAt(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Clean(options); !errors.Is(err, ErrOvertaken) {
		t.Errorf("compacted while a cut is under way: %v", err)
	}
	o.FS, o.Checkpoint, o.Unclean = fs.Clone().PowerLoss(nil), &base, true
	again := openFresh(t, o)
	if again.LogEnd() != to || len(everything(t, again)) != to {
		t.Errorf("it ends at offset %d with %d records, was to be cut to %d", again.LogEnd(), len(everything(t, again)), to)
	}
	if end, err := l.TruncateTo(to); err != nil || end != to {
		t.Fatal(end, err)
	}
	if !maps.Equal(everything(t, l), everything(t, again)) {
		t.Error("the log that was cut is not the one that is found")
	}
	more(t, l)
	if r := mustClean(t, l, cleanAll(l, 5000)); r.To <= kafka.Offset(to) {
		t.Errorf("it is not compacted any more: %+v", r)
	}
}
