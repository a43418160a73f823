package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// recovery is one run of it.
type recovery struct {
	survey
	s      *Store
	stats  Recovery
	broken bool // a log ended before a reference
}

// recoverOnceThereIsSpace waits where replay has to write what a power loss took and the disk is full: it begins again.
func (s *Store) recoverOnceThereIsSpace(ctx context.Context, c *checkpoint) error {
	for warned := false; ; warned = true {
		err := s.recover(ctx, c)
		if err == nil || !onlySpace(err) {
			return err
		}
		if !warned {
			s.o.Logger.Error("recovery waits: no space left in the data directory; free some", "dir", s.o.Dir, "error", err)
		}
		if err := s.closeLogs(); err != nil {
			return err
		}
		s.mu.partitions, s.mu.dirty = map[kafka.TopicPartition]*Partition{}, nil
		s.dirtyCount.Store(0)
		t := s.o.Clock.NewTimer(spaceRetry)
		select {
		case <-t.C():
		case <-ctx.Done():
			t.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// recover brings the partitions to where the WAL ends. Nothing that it finds counts as durable before it is synced again.
func (s *Store) recover(ctx context.Context, c *checkpoint) error {
	started := s.o.Clock.Now()
	r := recovery{s: s, survey: newSurvey(c)}
	r.stats.Unclean = s.unclean
	if !s.wal.Clean() {
		if err := s.wal.Replay(c.from, r.add); err != nil {
			return err
		}
		r.stats.Records = r.records
	}
	for id, pl := range r.plans {
		if pl.deleted {
			if err := s.o.FS.RemoveAll(s.partitionDir(id)); err != nil {
				return err
			}
			continue
		}
		pl.p = s.newPartition(id, pl.partitionState)
		s.mu.partitions[id] = pl.p
	}
	if err := s.removeUnknown(c); err != nil {
		return err
	}
	if !s.unclean {
		s.noteCheckpoints(c)
	}
	if s.unclean {
		if err := s.wal.Replay(c.from, r.apply); err != nil {
			return err
		}
		for _, pl := range r.plans {
			if pl.rebased && !pl.deleted {
				if _, err := r.open(pl); err != nil {
					return err
				}
			}
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
		if err := r.checkpoint(); err != nil {
			return err
		}
	}
	r.stats.Duration = s.o.Clock.Now().Sub(started)
	s.recovery = r.stats
	if s.unclean {
		s.o.Logger.Info("recovered after an unclean end", "records", r.stats.Records, "partitions", r.stats.Partitions, "bytes", r.stats.Bytes, "took", r.stats.Duration)
	}
	return nil
}

// removeUnknown removes the directories that belong to no partition: deletions that a power loss undid, and creations that
// never became durable. Without a checkpoint nothing is known well enough for that.
func (s *Store) removeUnknown(c *checkpoint) error {
	if c.from <= 1 {
		return nil
	}
	names, err := s.o.FS.ReadDir(path.Join(s.o.Dir, partitionsDir))
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(s.mu.partitions))
	for id := range s.mu.partitions {
		known[id.String()] = true
	}
	for _, name := range names {
		topic, _, ok := strings.Cut(name, "-")
		if _, err := hex.DecodeString(topic); known[name] || !ok || err != nil || len(topic) != 32 {
			continue
		}
		s.o.Logger.Info("removing a directory that belongs to no partition", "directory", name)
		if err := s.o.FS.RemoveAll(path.Join(s.o.Dir, partitionsDir, name)); err != nil {
			return err
		}
	}
	return nil
}

// apply is the second pass.
func (r *recovery) apply(rec wal.Record) error {
	op, batches, err := decodeOperation(rec)
	if err != nil {
		return err
	}
	pl := r.plans[op.id]
	if pl == nil || pl.deleted || rec.LSN < pl.created {
		return nil
	}
	switch op.kind {
	case opAppend, opStretch:
		err = r.applyAppend(pl, rec, &op, batches)
	case opEpoch:
		err = r.applyEpoch(pl, &op)
	case opTruncate:
		if op.generation == pl.generation && pl.synced.Generation < op.generation {
			err = r.applyTruncate(pl, &op)
		}
	case opReset:
		err = r.applyReset(pl, &op)
	}
	if err != nil {
		return fmt.Errorf("replay WAL record %d (%s of partition %s): %w", rec.LSN, opNames[op.kind], op.id, err)
	}
	return nil
}

func (r *recovery) open(pl *plan) (*log.Log, error) {
	if pl.log != nil {
		return pl.log, nil
	}
	l, err := pl.p.openLog()
	if err != nil {
		return nil, err
	}
	pl.log = l
	pl.p.log.Store(l)
	return l, nil
}

func (r *recovery) applyAppend(pl *plan, rec wal.Record, op *operation, batches []byte) error {
	if op.generation != pl.generation || op.end <= pl.synced.EndOffset || pl.ended {
		return nil
	}
	l, err := r.open(pl)
	if err != nil {
		return err
	}
	if op.end <= l.LogEnd() {
		return nil
	}
	if rec.ByReference {
		if op.kind == opStretch {
			_, err = l.ReplayStretchReference(op.stretch(nil), op.segment, op.position, int64(op.length), op.crc)
		} else {
			_, err = l.ReplayReference(op.segment, op.position, int64(op.length), op.crc)
		}
		var damage *log.Corruption
		if errors.As(err, &damage) && rec.LSN >= r.referencesUntil {
			// It was never acknowledged, and neither was anything behind it.
			pl.ended, r.broken = true, true
			r.s.o.Logger.Info("a partition's log ends before a reference that did not reach the disk", "partition", op.id, "offset", op.first)
			return nil
		}
		if damage != nil { // it was synced, and is lost here: another replica may have it
			var d log.Damage
			if d, err = l.ReplayDamaged(op.segment, op.position, int64(op.length), op.first, op.end, damage.Error()); err == nil {
				pl.p.damaged(d)
			}
		}
	} else if op.kind == opStretch {
		_, err = l.ReplayStretch(op.stretch(batches), op.segment, op.position)
	} else {
		_, err = l.Replay(batches, op.segment, op.position)
	}
	if err != nil {
		return fmt.Errorf("offset %d to %d, the log ends at %d: %w", op.first, op.end, l.LogEnd(), err)
	}
	r.stats.Bytes += int64(op.length)
	return nil
}

func (r *recovery) applyEpoch(pl *plan, op *operation) error {
	if op.generation != pl.generation {
		return nil // in the synced history, or cut
	}
	if !pl.appends && pl.log == nil {
		st := &pl.p.mu.state
		if op.epoch > st.epoch.Epoch && op.offset == st.synced.EndOffset {
			st.epoch = log.EpochOffset{Epoch: op.epoch, Offset: op.offset}
		}
		return nil
	}
	l, err := r.open(pl)
	if err != nil {
		return err
	}
	if op.epoch <= l.Epoch().Epoch || pl.ended || op.offset < l.LogEnd() {
		return nil // the state is ahead of the operation
	}
	if err := l.StartEpoch(op.epoch, op.offset); !errors.Is(err, log.ErrNotAtEnd) {
		return err
	}
	return nil // it began behind where the log was cut later
}

func (r *recovery) applyTruncate(pl *plan, op *operation) error {
	l, err := r.open(pl)
	if err != nil {
		return err
	}
	_, err = l.TruncateTo(op.offset)
	return err
}

// applyReset gives the log what the reset brought. That it is empty and where it starts is in the plan's state already; if
// it is not empty that state is later, and was synced with all of it.
func (r *recovery) applyReset(pl *plan, op *operation) error {
	if op.generation != pl.generation || pl.synced.EndOffset != op.offset || len(op.beginning.Epochs) == 0 && len(op.beginning.Producers) == 0 {
		return nil
	}
	l, err := r.open(pl)
	if err != nil {
		return err
	}
	if err = l.Begin(op.beginning); errors.Is(err, log.ErrNotAtEnd) {
		return nil
	}
	return err
}

// settle ends replay: what lies behind the ends is cut, and everything is synced again.
func (r *recovery) settle(ctx context.Context) error {
	var list []*plan
	for _, pl := range r.plans {
		if pl.log != nil {
			list = append(list, pl)
		}
	}
	slices.SortFunc(list, func(a, b *plan) int { return compareIDs(a.p.id, b.p.id) })
	r.stats.Partitions = len(list)
	work := make(chan *plan)
	errs := make([]error, syncParallel)
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			for pl := range work {
				if errs[i] == nil {
					errs[i] = pl.settle()
				}
			}
		})
	}
	for _, pl := range list {
		if ctx.Err() != nil {
			break
		}
		work <- pl
	}
	close(work)
	wait.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// checkpoint makes the next replay start here. It needs some space, and what was recovered is durable without it: a full
// disk only puts it off.
func (r *recovery) checkpoint() error {
	s := r.s
	if s.dirtyCount.Load() == 0 {
		err := s.writeCheckpoint(s.wal.Durable())
		// A reference that never reached the disk must not be replayed again: the WAL's next group says that everything
		// before it is synced, which would make it damage.
		if err == nil || !onlySpace(err) || r.broken {
			return err
		}
	} else if r.broken {
		return &fs.PathError{Op: "write", Path: path.Join(s.o.Dir, checkpointName), Err: syscall.ENOSPC}
	}
	s.o.Logger.Warn("recovered, but there is no space for a checkpoint; it is put off", "dir", s.o.Dir)
	s.syncPutOff.Store(true)
	s.retrySync()
	return nil
}

func (pl *plan) settle() error {
	if err := pl.log.FinishRecovery(); err != nil {
		return err
	}
	if _, err := pl.log.DropBelowLogStart(); err != nil {
		return err
	}
	_, err := pl.log.Sync()
	if err != nil && onlySpace(err) {
		// There is no space for indexes and the like. The records are in the WAL, or where it refers to: durable all the same,
		// as long as the WAL starts where it does.
		pl.p.markDirty()
		err = pl.log.SyncData()
	}
	if err != nil {
		return fmt.Errorf("sync partition %s: %w", pl.p.id, err)
	}
	pl.p.logEnd.Store(int64(pl.log.LogEnd()))
	pl.p.durable.Store(int64(pl.log.LogEnd()))
	pl.p.logStart.Store(int64(pl.log.LogStart()))
	return nil
}
