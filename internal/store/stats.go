package store

import (
	"time"

	"chronik/internal/wal"
)

// Stats is what a store has done since Open.
type Stats struct {
	WAL             wal.Stats
	Partitions      int
	Dirty           int   // partitions with appends that are not synced to their segments
	Checkpoints     int64 // written
	SinceCheckpoint int64 // bytes that a recovery would have to look at
	SpaceRefusals   int64 // appends refused for lack of space
	Scrubbed        int64 // bytes that the scrub has read
	ScrubPasses     int64 // that have ended
	Damaged         int64 // ranges found that are not as they were written
	Failed          bool
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	n := len(s.mu.partitions)
	s.mu.Unlock()
	return Stats{
		WAL: s.wal.Stats(), Partitions: n, Dirty: int(s.dirtyCount.Load()), Checkpoints: s.checkpoints.Load(),
		SinceCheckpoint: s.sinceCheckpoint.Load(), SpaceRefusals: s.space.refused.Load(),
		Scrubbed: s.scrub.bytes.Load(), ScrubPasses: s.scrub.passes.Load(), Damaged: s.scrub.damage.Load(), Failed: s.fatal.Load() != nil,
	}
}

// SyncAge is how long the sync of the WAL that runs now takes already; 0 if none runs.
func (s *Store) SyncAge() time.Duration { return s.wal.Stats().SyncRunning }
