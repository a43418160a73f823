package log

import (
	"errors"
	"testing"

	"chronik/internal/clock"
	"chronik/internal/vfs"
)

// Whoever syncs a segment while its partition is deleted finds no directory to sync, and nothing that had to be: with
// thousands of partitions in a deleted topic that is sure to happen, and a failed sync ends the process.
func TestSegmentIsSyncedWhileItsPartitionIsDeleted(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
	l := openFresh(t, options(fault, Config{SegmentBytes: 1 << 20, IndexIntervalBytes: 4096}))
	segment := mustAppend(t, l, plain(1, 10, 1), 0).Segment
	deleted := false
	fault.Add(vfs.Rule{Op: vfs.OpSyncDir, Hook: func(vfs.Operation, string) {
		if !deleted {
			deleted = true
			if err := l.Delete(); err != nil {
				t.Error(err)
			}
		}
	}})
	if err := segment.Sync(); err != nil || !deleted {
		t.Errorf("deleted %v: %v", deleted, err)
	}

	// A directory that cannot be synced is an error while there is one.
	broken := errors.New("broken")
	fault.Clear()
	l = openFresh(t, options(fault, Config{SegmentBytes: 1 << 20, IndexIntervalBytes: 4096}))
	segment = mustAppend(t, l, plain(1, 10, 1), 0).Segment
	fault.Add(vfs.Rule{Op: vfs.OpSyncDir, Err: broken})
	if err := segment.Sync(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	_ = l.Close()
}
