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
	Cleaner         CleanerStats
}

// CleanerStats is what log compaction has done since Open.
type CleanerStats struct {
	Runs           int64
	Failures       int64
	Running        int64
	BytesRead      int64
	BytesWritten   int64
	BytesFreed     int64
	RecordsRemoved int64
	// DirtyRatioMax is the largest share of a log that was not compacted, Overdue the longest time that a record is overdue by
	// max.compaction.lag.ms, and Uncleanable the number of logs that cannot be compacted, when they were looked at last.
	DirtyRatioMax float64
	Overdue       time.Duration
	Uncleanable   int
}

func (c *cleaners) stats() CleanerStats {
	c.mu.Lock()
	ratio, uncleanable, overdue := c.mu.ratioMax, c.mu.uncleanable, c.mu.overdue
	c.mu.Unlock()
	return CleanerStats{
		Runs: c.runs.Load(), Failures: c.failures.Load(), Running: c.running.Load(), BytesRead: c.read.Load(), BytesWritten: c.written.Load(),
		BytesFreed: c.dropped.Load(), RecordsRemoved: c.removed.Load(), DirtyRatioMax: ratio, Overdue: millis(overdue), Uncleanable: uncleanable,
	}
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
		Cleaner: s.clean.stats(),
	}
}

// SyncAge is how long the sync of the WAL that runs now takes already; 0 if none runs.
func (s *Store) SyncAge() time.Duration { return s.wal.Stats().SyncRunning }
