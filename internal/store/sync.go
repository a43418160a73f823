package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// syncStep is how many appended bytes ask for a background sync.
func (s *Store) syncStep() int64 {
	n := max(syncStepBytes, s.dirtyCount.Load()*syncStepPerPartition)
	return min(n, max(s.o.Config.CheckpointBytes/2, 1))
}

// syncLoop syncs segments in the background, oldest first, and makes checkpoints.
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
	full := s.walFull.Swap(false) || s.sinceCheckpoint.Load() >= s.o.Config.CheckpointBytes
	from, err := s.syncSegments(full)
	if err != nil || !full {
		return err
	}
	return s.writeCheckpoint(from)
}

// Checkpoint syncs everything appended so far and moves the start of replay behind it.
func (s *Store) Checkpoint() error {
	s.syncSlot <- struct{}{}
	defer func() { <-s.syncSlot }()
	from, err := s.syncSegments(true)
	if err == nil {
		err = s.writeCheckpoint(from)
	}
	if err != nil {
		s.survives(err)
	}
	return err
}

// survives judges an error of a background sync. A lack of space while writing (indexes, the checkpoint) loses nothing:
// replay starts where it did, and the next attempt may find space. Everything else is fatal, above all what a sync says.
func (s *Store) survives(err error) bool {
	var named *fs.PathError
	if errors.Is(err, syscall.ENOSPC) && errors.As(err, &named) && !strings.Contains(named.Op, "sync") {
		s.o.Logger.Warn("background sync is put off: no space left", "error", err)
		s.sinceSync.Add(s.syncStep())
		s.pause(spaceRetry)
		return true
	}
	s.fail(err)
	return false
}

// syncSegments syncs every dirty log and returns the LSN below which everything is applied and synced. The order counts:
// first the LSN, then the list; see the package's invariants.
func (s *Store) syncSegments(snapshots bool) (wal.LSN, error) {
	from := s.wal.Durable()
	s.sinceSync.Store(0)
	if snapshots {
		for _, p := range s.Partitions() {
			if p.sinceSnapshot.Load() >= snapshotBytes {
				p.markDirty()
			}
		}
	}
	s.mu.Lock()
	list := s.mu.dirty
	s.mu.dirty = nil
	s.mu.Unlock()
	s.dirtyCount.Add(-int64(len(list)))
	var wait sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	next := 0
	for range min(syncParallel, len(list)) {
		wait.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(list) {
					return
				}
				if err := list[i].syncDirty(snapshots); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	return from, errors.Join(errs...)
}

// syncDirty syncs the log and writes a snapshot of its producers, so that opening it again reads little.
func (p *Partition) syncDirty(snapshot bool) error {
	p.dirty.Store(false)
	snapshot = snapshot && p.sinceSnapshot.Load() >= snapshotBytes
	if snapshot {
		p.sinceSnapshot.Store(0)
	}
	l := p.log.Load()
	if l == nil || p.deleting.Load() {
		return nil
	}
	rate := p.s.o.Config.SegmentSyncRateBytes
	for {
		n := l.Unsynced()
		_, more, err := l.SyncOldest()
		if err == nil && !more && snapshot {
			err = l.Snapshot()
		}
		if err != nil {
			if p.deleting.Load() {
				return nil
			}
			p.markDirty()
			return fmt.Errorf("sync partition %s: %w", p.name(), err)
		}
		if !more {
			return nil
		}
		if rate > 0 {
			p.s.pause(time.Duration(float64(n-l.Unsynced()) / float64(rate) * float64(time.Second)))
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

// writeCheckpoint makes replay start at from, or earlier where a change is logged but not yet applied. Everything below
// from is synced.
func (s *Store) writeCheckpoint(from wal.LSN) error {
	logged := s.sinceCheckpoint.Load()
	c := checkpoint{from: from}
	for _, p := range s.Partitions() {
		p.checkpointInto(&c, from)
	}
	if err := writeFile(s.o.FS, s.o.Dir, checkpointName, c.encode()); err != nil {
		return err
	}
	s.sinceCheckpoint.Add(-logged)
	s.checkpoints.Add(1)
	s.wal.Release(c.from)
	return nil
}

// checkpointInto adds the partition to a checkpoint that is to start at an LSN. Again the order counts: first whether a change is under way, then the state.
func (p *Partition) checkpointInto(c *checkpoint, start wal.LSN) {
	p.mu.Lock()
	from, st := p.mu.changeFrom, p.mu.state
	p.mu.Unlock()
	if p.deleting.Load() || st.created >= start {
		return // all that is known of it is in the WAL from start on
	}
	if from != 0 {
		c.from = min(c.from, from)
	}
	if l := p.log.Load(); l != nil {
		st.synced = l.Synced()
		// What began behind the synced end is in the WAL.
		st.epoch = log.EpochOffset{Epoch: kafka.NoLeaderEpoch}
		for _, e := range l.Epochs() {
			if e.Offset <= st.synced.EndOffset {
				st.epoch = e
			}
		}
	}
	c.partitions = append(c.partitions, checkpointEntry{p.id, st})
}
