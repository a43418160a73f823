package wal

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// HistogramBuckets is the number of buckets of a Stats histogram: bucket i counts syncs of less than 2^i µs that were
// not less than 2^(i-1) µs; the last one takes all that is longer.
const HistogramBuckets = 26

// Stats is what a log has done since Open.
type Stats struct {
	Groups         int64 // written and synced, one fdatasync each
	Records        int64
	Bytes          int64 // of groups
	ReferenceSyncs int64 // fdatasyncs of files that records refer to
	FullWaits      int64 // times that somebody waited because a group or the log was full
	Files          int64 // started
	SyncSeconds    float64
	SyncHistogram  [HistogramBuckets]int64
	SyncRunning    time.Duration // how long the sync that runs now has been running; 0 if none does
	WaitsForSpace  bool
}

type counters struct {
	groups, records, bytes, referenceSyncs, fullWaits, files atomic.Int64
	syncNanos                                                atomic.Int64
	histogram                                                [HistogramBuckets]atomic.Int64
	mu                                                       struct {
		sync.Mutex
		running time.Time // zero if no sync runs
	}
}

func (c *counters) syncStarted(now time.Time) time.Time {
	c.mu.Lock()
	c.mu.running = now
	c.mu.Unlock()
	return now
}

func (c *counters) syncEnded(started, now time.Time, records, bytes int) {
	d := max(now.Sub(started), 0)
	c.groups.Add(1)
	c.records.Add(int64(records))
	c.bytes.Add(int64(bytes))
	c.syncNanos.Add(int64(d))
	c.histogram[min(bits.Len64(uint64(d/time.Microsecond)), HistogramBuckets-1)].Add(1)
	c.mu.Lock()
	c.mu.running = time.Time{}
	c.mu.Unlock()
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	c := &l.stats
	s := Stats{
		Groups: c.groups.Load(), Records: c.records.Load(), Bytes: c.bytes.Load(), ReferenceSyncs: c.referenceSyncs.Load(),
		FullWaits: c.fullWaits.Load(), Files: c.files.Load(), SyncSeconds: time.Duration(c.syncNanos.Load()).Seconds(),
		WaitsForSpace: l.noSpace.Load(),
	}
	for i := range s.SyncHistogram {
		s.SyncHistogram[i] = c.histogram[i].Load()
	}
	c.mu.Lock()
	if !c.mu.running.IsZero() {
		s.SyncRunning = l.o.Clock.Now().Sub(c.mu.running)
	}
	c.mu.Unlock()
	return s
}
