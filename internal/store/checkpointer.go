package store

import (
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// writeCheckpoint makes replay start at from, or earlier where a change is logged but not yet applied. Everything below
// from is synced.
func (s *Store) writeCheckpoint(from wal.LSN) error {
	logged := s.sinceCheckpoint.Load()
	// After a clean start the WAL has no file until something is logged.
	c := checkpoint{from: from, clean: from == s.cleanStart}
	s.mu.Lock()
	creating := s.mu.creatingFrom
	s.mu.Unlock()
	if creating != 0 {
		c.from, c.clean = min(c.from, creating), c.clean && creating >= c.from
	}
	for _, p := range s.Partitions() {
		p.checkpointInto(&c, from)
	}
	if err := writeFile(s.o.FS, s.o.Dir, checkpointName, c.encode()); err != nil {
		return err
	}
	s.noteCheckpoints(&c)
	s.sinceCheckpoint.Add(-logged)
	s.checkpoints.Add(1)
	s.wal.Release(c.from)
	return nil
}

// checkpointInto adds the partition to a checkpoint that is to start at an LSN. Again the order counts: first whether a
// change is under way, then the state.
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
