package store

import "chronik/internal/wal"

// Stats is what a store has done since Open.
type Stats struct {
	WAL             wal.Stats
	Partitions      int
	Dirty           int   // partitions with appends that are not synced to their segments
	Checkpoints     int64 // written
	SinceCheckpoint int64 // bytes that a recovery would have to look at
	SpaceRefusals   int64 // appends refused for lack of space
	Failed          bool
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	n := len(s.mu.partitions)
	s.mu.Unlock()
	return Stats{
		WAL: s.wal.Stats(), Partitions: n, Dirty: int(s.dirtyCount.Load()), Checkpoints: s.checkpoints.Load(),
		SinceCheckpoint: s.sinceCheckpoint.Load(), SpaceRefusals: s.space.refused.Load(), Failed: s.fatal.Load() != nil,
	}
}
