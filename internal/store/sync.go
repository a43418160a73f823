package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"chronik/internal/log"
	"chronik/internal/wal"
)

// syncStep is how many appended bytes ask for a background sync of the segments that got them.
func (s *Store) syncStep() int64 {
	return max(syncStepBytes, s.dirtyCount.Load()*syncStepPerPartition)
}

// checkpointStep is how many logged bytes ask for a checkpoint: few while it costs little, so that the WAL goes round in
// few files and a recovery is short.
func (s *Store) checkpointStep() int64 {
	return min(s.o.Config.CheckpointBytes, max(checkpointStepBytes, s.dirtyCount.Load()*syncStepPerPartition))
}

// appended counts towards the next background sync and checkpoint.
func (s *Store) appended(n int64) {
	total := s.sinceCheckpoint.Add(n)
	if n >= s.o.Config.WALReferenceMinBytes { // the WAL's group syncs it
		n = 0
	}
	if s.sinceSync.Add(n) >= s.syncStep() || total >= s.checkpointStep() {
		s.wantSync()
	}
}

func (s *Store) wantSync() {
	select {
	case s.syncWanted <- struct{}{}:
	default:
	}
}

// syncLoop syncs segments in the background, at the rate at which they grow, and makes checkpoints.
func (s *Store) syncLoop() {
	defer s.background.Done()
	for {
		select {
		case <-s.syncWanted:
		case <-s.stop:
			return
		}
		if err := s.syncOnce(); err != nil && !s.survives(err) {
			return
		}
	}
}

func (s *Store) syncOnce() error {
	s.syncSlot <- struct{}{}
	defer func() { <-s.syncSlot }()
	if s.walFull.Swap(false) || s.sinceCheckpoint.Load() >= s.checkpointStep() {
		return s.checkpoint()
	}
	if s.sinceSync.Load() < s.syncStep() {
		return nil
	}
	s.sinceSync.Store(0)
	s.mu.Lock()
	s.syncList = append(s.syncList[:0], s.mu.dirty...)
	s.mu.Unlock()
	defer clear(s.syncList) // of partitions that may be deleted meanwhile
	return inParallel(s.syncList, (*Partition).syncAhead)
}

// Checkpoint syncs everything appended so far and moves the start of replay behind it.
func (s *Store) Checkpoint() error {
	s.syncSlot <- struct{}{}
	defer func() { <-s.syncSlot }()
	err := s.checkpoint()
	if err != nil {
		s.survives(err)
	}
	return err
}

// survives judges an error of a background sync. A lack of space while writing (indexes, the checkpoint) loses nothing:
// replay starts where it did, and the next attempt may find space. Everything else is fatal, above all what a sync says.
func (s *Store) survives(err error) bool {
	if !onlySpace(err) {
		s.fail(err)
		return false
	}
	if !s.syncPutOff.Swap(true) {
		s.o.Logger.Warn("background sync is put off until there is space again", "error", err)
	}
	s.pause(spaceRetry)
	s.retrySync()
	return true
}

// retrySync asks for a checkpoint, whatever was logged since the last one: nothing else may ask again, because appends may
// wait for the room that it makes in the WAL.
func (s *Store) retrySync() {
	s.walFull.Store(true)
	s.wantSync()
}

func onlySpace(err error) bool {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			if !onlySpace(e) {
				return false
			}
		}
		return true
	}
	return errors.Is(err, syscall.ENOSPC) && !isSync(err)
}

// isSync tells whether an error is that of a sync, or of a call that names no file.
func isSync(err error) bool {
	var named *fs.PathError
	return !errors.As(err, &named) || strings.Contains(named.Op, "sync")
}

// failIfSync is for errors of calls that do more than sync: a sync that failed is fatal wherever it happened.
func (s *Store) failIfSync(err error) {
	var named *fs.PathError
	if errors.As(err, &named) && isSync(err) {
		s.fail(err)
	}
}

// checkpoint syncs every dirty log and writes a checkpoint. The caller holds syncSlot.
func (s *Store) checkpoint() error {
	from, err := s.syncLogs()
	if err != nil {
		return err
	}
	if err := s.writeCheckpoint(from); err != nil {
		return err
	}
	if s.syncPutOff.Swap(false) {
		s.o.Logger.Info("background sync goes on: there is space again")
	}
	return nil
}

// syncLogs syncs every dirty log and returns the LSN below which everything is applied and synced. The order counts:
// first the LSN, then the list; see the package's invariants.
func (s *Store) syncLogs() (wal.LSN, error) {
	from := s.wal.Durable()
	s.sinceSync.Store(0)
	for _, p := range s.Partitions() {
		if p.sinceSnapshot.Load() >= snapshotBytes {
			p.markDirty()
		}
	}
	s.mu.Lock()
	list := s.mu.dirty
	s.mu.dirty, s.mu.deleted = nil, 0
	s.mu.Unlock()
	s.dirtyCount.Add(-int64(len(list)))
	return from, inParallel(list, (*Partition).syncDirty)
}

// inParallel runs do for all of a list, a few at a time, from the first on.
func inParallel(list []*Partition, do func(*Partition) error) error {
	if len(list) == 1 {
		return do(list[0])
	}
	var mu sync.Mutex
	var errs []error
	next := 0
	var wait sync.WaitGroup
	for range min(syncParallel, len(list)) {
		wait.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for next < len(list) {
				p := list[next]
				next++
				mu.Unlock()
				err := do(p)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// syncAhead syncs the segment that was appended to last, so that a checkpoint finds little to do.
func (p *Partition) syncAhead() error {
	segment := p.segment.Swap(nil)
	if segment == nil {
		return nil
	}
	if err := segment.Sync(); err != nil {
		return fmt.Errorf("sync partition %s: %w", p.name(), err)
	}
	return nil
}

// syncDirty syncs all of the log that was appended before the call, and, if there was much, writes a snapshot of its
// producers, so that opening it again reads little.
func (p *Partition) syncDirty() error {
	p.dirty.Store(false)
	l := p.log.Load()
	if l == nil || p.deleting.Load() {
		return nil
	}
	err := p.syncPaced(l)
	if err == nil && p.sinceSnapshot.Load() >= snapshotBytes {
		p.sinceSnapshot.Store(0)
		err = l.Snapshot()
	}
	if err != nil && !p.deleting.Load() {
		p.markDirty()
		return fmt.Errorf("sync partition %s: %w", p.name(), err)
	}
	return nil
}

// syncPaced syncs segment by segment, at the rate of segment.sync.rate.bytes.
func (p *Partition) syncPaced(l *log.Log) error {
	rate := p.s.o.Config.SegmentSyncRateBytes
	end, generation := l.LogEnd(), l.Generation()
	for {
		before := l.Synced()
		c, more, err := l.SyncOldest()
		if err != nil || !more || c.EndOffset >= end || c.Generation != generation {
			return err
		}
		if rate > 0 {
			p.s.pause(time.Duration(float64(max(c.Position-before.Position, 0)) / float64(rate) * float64(time.Second)))
		}
	}
}

func (s *Store) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := s.o.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
	case <-s.stop:
	}
}
