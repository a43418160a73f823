package log

import (
	"context"
	"errors"
	"sync"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestConcurrent appends while others read, search, sync, snapshot, verify and delete, with few files open.
func TestConcurrent(t *testing.T) {
	fs := vfs.NewMem(0)
	o := options(fs, Config{SegmentBytes: 3000, IndexIntervalBytes: 200})
	o.Files = NewFiles(fs, 8)
	l := openFresh(t, o)
	mustAppend(t, l, plain(2, 50, 0), 0)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	worker := func(do func()) {
		wait.Go(func() {
			for ctx.Err() == nil {
				do()
			}
		})
	}
	for range 2 {
		from := kafka.Offset(0)
		worker(func() {
			s, err := l.Read(from, 1000, l.LogEnd(), true)
			if errors.Is(err, kafka.ErrOffsetOutOfRange) {
				from = l.LogStart()
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if s.Length > 0 {
				b := make([]byte, s.Length)
				if _, err := s.File.ReadAt(b, s.Position); err != nil {
					t.Error(err)
				}
				for rest := b; len(rest) > 0; {
					one, more, err := record.Next(rest)
					if err != nil || !one.VerifyCRC() {
						t.Error("a broken batch", err)
						return
					}
					rest = more
				}
				if record.Batch(b).BaseOffset() > from {
					t.Errorf("asked for %d, got %d", from, record.Batch(b).BaseOffset())
				}
				from = s.Next
			}
			s.Release()
		})
	}
	worker(func() {
		if _, err := l.Sync(); err != nil {
			t.Error(err)
		}
	})
	worker(func() {
		if err := l.Snapshot(); err != nil {
			t.Error(err)
		}
	})
	worker(func() {
		if err := l.Verify(ctx, func(c *Corruption) { t.Error(c) }); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	worker(func() {
		_, _, err := l.OffsetForTimestamp(int64(l.LogEnd())-20, l.LogEnd())
		if err != nil {
			t.Error(err)
		}
		if _, _, err := l.MaxTimestamp(); err != nil {
			t.Error(err)
		}
	})
	worker(func() {
		if end := l.LogEnd(); end > l.LogStart()+300 {
			if _, err := l.Sync(); err != nil {
				t.Error(err)
			}
			if err := l.SetLogStart(end - 100); err != nil {
				t.Error(err)
			}
			if _, err := l.DropBelowLogStart(); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 3000 {
		mustAppend(t, l, plain(2, 50, int64(i)*2), 0)
	}
	cancel()
	wait.Wait()
	verifyClean(t, l)
}
