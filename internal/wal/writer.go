package wal

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
)

var errRecordTooLarge = fmt.Errorf("record of more than %d bytes does not fit the write-ahead log", recordBytesMax)

// write is the writer goroutine: it takes the pending group, writes and syncs it, and completes it or hands it to the
// completer.
func (l *Log) write() {
	defer l.done.Done()
	defer close(l.references)
	for g := l.take(); g != nil; g = l.take() {
		ok := l.writeAndComplete(g)
		l.endWriting()
		if !ok {
			return
		}
	}
}

// Commit makes the pending group durable, what others submitted to it included. Where nobody writes it does so on the
// caller's goroutine, which wakes nobody: for a caller who has nothing to do until then. Else, and where the group is wanted
// already or refers to files, it asks the writer and returns at once. It does nothing where all entries of the group are lazy.
func (l *Log) Commit() {
	l.mu.Lock()
	g := l.mu.filling
	if g == nil || !g.wanted || l.mu.err != nil {
		l.mu.Unlock()
		return
	}
	if l.mu.writing || g.urgent || len(g.refs) > 0 || l.inCompleter.Load() > 0 {
		l.urgeLocked(g)
		l.mu.Unlock()
		return
	}
	l.beginLocked()
	l.mu.Unlock()
	l.writeAndComplete(g)
	l.endWriting()
}

// beginLocked takes the pending group to be written.
func (l *Log) beginLocked() {
	l.mu.filling, l.mu.writing = nil, true
	l.room.Broadcast()
}

func (l *Log) endWriting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.writing = false
	l.work.Signal() // the writer may have been asked meanwhile, or the log have ended
}

// writeAndComplete is what the writer does with a group; false once the log failed.
func (l *Log) writeAndComplete(g *group) bool {
	if len(g.refs) > 0 { // the completer syncs them while the group itself is written
		l.inCompleter.Add(1)
		l.references <- g
	}
	deferred := len(g.refs) > 0
	if err := l.writeGroup(g); err != nil {
		l.fail(err)
		if deferred {
			g.walDone <- struct{}{}
		}
		return false
	}
	// Callbacks keep nobody waiting who has a group to write: the completer makes them then, and all that follow until it
	// has caught up, so that they stay in order.
	behind := l.inCompleter.Load() > 0
	if g.direct = l.uncalled.Load() > 0 || !behind && l.waiting(); g.direct {
		l.uncalled.Add(1)
	} else {
		l.completeDirect(g)
	}
	switch {
	case deferred:
		g.walDone <- struct{}{}
	case behind || g.direct:
		l.inCompleter.Add(1)
		g.walDone <- struct{}{}
		l.references <- g
	default:
		l.finish(g)
	}
	return true
}

// waiting tells whether the next group wants to be written.
func (l *Log) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.filling != nil && l.mu.filling.urgent
}

// take waits for a group that wants to be written. nil once the log is to end.
func (l *Log) take() *group {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; ; l.work.Wait() {
		if l.mu.writing { // somebody called Commit, and wakes the writer when he is through
			continue
		}
		if l.mu.err != nil {
			return nil
		}
		if g := l.mu.filling; g != nil && g.count > 0 && (g.urgent || l.mu.closed) {
			l.beginLocked()
			return g
		}
		if l.mu.closed {
			return nil
		}
	}
}

// writeGroup brings the group's records to the disk.
func (l *Log) writeGroup(g *group) error {
	padded := align(int64(len(g.buf)))
	f, err := l.fileFor(padded, g.first)
	if err != nil {
		return err
	}
	sealGroup(g.buf, f.header, g.count, g.first, LSN(l.referencesUntil.Load()))
	for int64(len(g.buf)) < padded {
		g.buf = append(g.buf, 0)
	}
	if err := l.writeAt(f, g.buf, f.position); err != nil {
		return err
	}
	started := l.stats.syncStarted(l.o.Clock.Now())
	if err := f.f.Datasync(); err != nil {
		return fmt.Errorf("sync write-ahead log %s: %w", f.name, err)
	}
	l.stats.syncEnded(started, l.o.Clock.Now(), g.count, len(g.buf))
	f.position += padded
	l.askForSpare(f)
	return nil
}

// writeAt writes, and while there is no space waits for it: the bytes go to the same place again, and no sync has
// failed yet, so nothing is lost by trying.
func (l *Log) writeAt(f *file, b []byte, at int64) error {
	return l.whileFull("write", f.name, func() error {
		_, err := f.f.WriteAt(b, at)
		return err
	})
}

func (l *Log) whileFull(what, name string, do func() error) error {
	for warned := false; ; warned = true {
		err := do()
		if err == nil {
			if warned {
				l.noSpace.Store(false)
				l.o.Logger.Info("write-ahead log goes on: there is space again", "file", name)
			}
			return nil
		}
		if !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("%s write-ahead log %s: %w", what, name, err)
		}
		if !warned {
			l.noSpace.Store(true)
			l.o.Logger.Error("write-ahead log waits: no space left on its disk; free some", "file", name)
		}
		if !l.sleep(spaceRetry) {
			return fmt.Errorf("%s write-ahead log %s: %w", what, name, err)
		}
	}
}

// completeDirect tells the streams that wait for no reference that their entries are durable.
func (l *Log) completeDirect(g *group) {
	l.mu.Lock()
	for i := range g.members {
		m := &g.members[i]
		if !m.deferred && m.stream.outstanding > 0 {
			m.deferred = true
			m.stream.outstanding++
		}
	}
	l.mu.Unlock()
	for i := range g.members {
		if m := &g.members[i]; !m.deferred {
			m.stream.OnDurable(m.end)
		}
	}
}

// complete is the completer goroutine: it syncs the files that records refer to, and finishes groups in order. The groups
// that came while the last sync ran share the next one: what they refer to was written before they came.
func (l *Log) complete() {
	defer l.done.Done()
	var groups []*group
	var refs []Reference
	for g := range l.references {
		if len(g.refs) == 0 {
			l.completed(g, nil)
			continue
		}
		groups = append(groups[:0], g)
		for range len(l.references) {
			groups = append(groups, <-l.references)
		}
		refs = refs[:0]
		for _, g := range groups {
			for _, ref := range g.refs {
				if !slices.Contains(refs, ref) {
					refs = append(refs, ref)
				}
			}
		}
		err := l.syncReferences(refs)
		clear(refs)
		for _, g := range groups {
			l.completed(g, err)
		}
	}
}

// completed ends the completer's part in a group once the writer's is done; err is that of its references.
func (l *Log) completed(g *group, err error) {
	<-g.walDone
	if err != nil {
		l.fail(err)
	}
	if g.direct {
		if l.Err() == nil {
			l.completeDirect(g)
		}
		l.uncalled.Add(-1)
	}
	l.finish(g)
	l.inCompleter.Add(-1)
}

func (l *Log) syncReferences(refs []Reference) error {
	l.stats.referenceSyncs.Add(int64(len(refs)))
	if len(refs) == 1 {
		return refs[0].Sync()
	}
	errs := make([]error, len(refs))
	var wait sync.WaitGroup
	for i, ref := range refs {
		wait.Go(func() { errs[i] = ref.Sync() })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// finish ends a group of which everything is on the disk, after all groups before it. Once the log failed it does
// nothing: a reference of a group before this one may be what could not be synced.
func (l *Log) finish(g *group) {
	if l.Err() != nil {
		return
	}
	l.referencesUntil.Store(uint64(g.end()))
	any := false
	for i := range g.members {
		if m := &g.members[i]; m.deferred {
			any = true
			m.stream.OnDurable(m.end)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if any {
		for i := range g.members {
			if g.members[i].deferred {
				g.members[i].stream.outstanding--
			}
		}
	}
	l.mu.durable = g.end()
	l.wakeLocked()
	g.reset(0, 0)
	l.mu.free = append(l.mu.free, g)
	l.room.Broadcast()
}
