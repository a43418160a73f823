package wal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Open opens the log in a directory, made if need be. Unless Options.Clean says where the log ends, its files are synced
// and dropped from the page cache, and read from Options.From on: the log ends before the first group that is not
// whole. A *CorruptionError names what cannot be explained by a crash. Replay, if at all, comes before the first
// Submit, which goes on in a fresh file.
func Open(o Options) (*Log, error) {
	o.setDefaults()
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("make write-ahead log directory: %w", err)
	}
	l := &Log{o: o, stop: make(chan struct{}), references: make(chan *group, groupsMax)}
	l.work, l.room = sync.NewCond(&l.mu), sync.NewCond(&l.mu)
	end, err := l.openFiles()
	if err != nil {
		l.files.close()
		return nil, err
	}
	l.mu.next, l.mu.durable = end, end
	l.referencesUntil.Store(uint64(end))
	l.files.wake = make(chan struct{}, 1)
	l.files.released = make(chan struct{}, 1)
	l.done.Go(l.makeSpares)
	l.done.Add(2)
	go l.write()
	go l.complete()
	return l, nil
}

// Close writes what was submitted, waits until it is durable and closes the files. The error is that of a log which
// failed before.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.mu.closed {
		l.mu.Unlock()
		return nil
	}
	l.mu.closed = true
	last := l.mu.next - 1
	l.work.Signal()
	l.room.Broadcast()
	l.mu.Unlock()

	err := l.WaitDurable(context.Background(), last)
	l.fail(ErrClosed)
	// The writer is the only sender; it has ended, or ends without sending more, once it sees the error.
	l.done.Wait()
	if l.lazyTimer != nil {
		l.lazyTimer.Stop()
	}
	return errors.Join(err, l.files.close())
}

// Abort ends the log without waiting for anything: its owner knows that nothing can be made durable any more. Close lets go
// of the files.
func (l *Log) Abort(err error) { l.fail(err) }

// fail ends the log; the first reason stays.
func (l *Log) fail(err error) {
	l.mu.Lock()
	if l.mu.err != nil {
		l.mu.Unlock()
		return
	}
	l.mu.err = err
	close(l.stop)
	l.wakeLocked()
	l.work.Broadcast()
	l.room.Broadcast()
	l.mu.Unlock()
	if err != ErrClosed {
		l.o.Logger.Error("write-ahead log failed; nothing more can be made durable", "dir", l.o.Dir, "error", err)
		l.o.Fatal(err)
	}
}

// sleep returns false if the log ends meanwhile.
func (l *Log) sleep(d time.Duration) bool {
	t := l.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		l.mu.Lock()
		defer l.mu.Unlock()
		return !l.mu.closed
	case <-l.stop:
		return false
	}
}
