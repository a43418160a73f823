package log

import (
	"errors"
	"fmt"
	"maps"
	"syscall"
	"testing"

	"chronik/internal/clock"
	"chronik/internal/vfs"
)

// TestEachCallOfACleaningFails: each call of the file system that changes something fails once while a log is compacted, with an error of
// the disk or for want of space, a write after some of its bytes. What is read stays right; either the log goes on and can be
// compacted, or it takes no more changes until it is opened again; and it opens as it was.
func TestEachCallOfACleaningFails(t *testing.T) {
	for _, op := range []vfs.Operation{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpRename, vfs.OpRemove, vfs.OpRead, vfs.OpOpen, vfs.OpStat} {
		for _, failure := range []error{syscall.EIO, syscall.ENOSPC} {
			for at, failed := 0, true; failed; at++ {
				failed = cleanAndFail(t, op, at, failure)
				if t.Failed() {
					t.Fatalf("%v %d failed with %v", op, at, failure)
				}
				if at > 200 {
					t.Fatalf("%v: no end", op)
				}
			}
		}
	}
}

func cleanAndFail(t *testing.T, op vfs.Operation, at int, failure error) (failed bool) {
	t.Helper()
	mem := vfs.NewMem(0)
	fault := vfs.NewFault(mem, clock.System{})
	l, o := small(t, fault)
	mustClean(t, l, cleanAll(l, 5000))
	more(t, l)
	want := fold(t, l)
	options := cleanAll(l, 9000)
	hit := false
	fault.Add(vfs.Rule{Op: op, After: at, Times: 1, Err: failure, Short: 7, Hook: func(vfs.Operation, string) { hit = true }})
	_, err := l.Clean(options)
	fault.Clear()
	what := fmt.Sprintf("%v %d: %v", op, at, err)
	if hit && err == nil && op&(vfs.OpRemove|vfs.OpOpen|vfs.OpRead|vfs.OpStat) == 0 {
		t.Errorf("%s: the failure is not told", what)
	}
	if err != nil && !errors.Is(err, failure) {
		t.Errorf("%s: not the failure", what)
	}
	if got := fold(t, l); !maps.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
	if l.usable(false) == nil {
		again := fault.Calls(vfs.OpAny)
		if _, err := l.Clean(cleanAll(l, 10_000)); err != nil {
			t.Errorf("%s: then %v (%d)", what, err, again)
		}
		if got := fold(t, l); !maps.Equal(got, want) {
			t.Errorf("%s: compacted again: %v, want %v", what, got, want)
		}
	} else if !errors.Is(err, ErrFailed) {
		t.Errorf("%s: the log is not usable: %v", what, l.usable(false))
	}
	_ = l.Close()
	for _, fs := range []*vfs.Mem{mem.Clone(), mem.Clone().PowerLoss(nil)} {
		o.FS, o.Checkpoint, o.Unclean = fs, &options.Durable, true
		checkCompacted(t, o, want, what)
	}
	return hit
}
