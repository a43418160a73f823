package store

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/log"
)

const (
	// cleanPauseStep is how long compaction waits for its rate before it looks whether it should end.
	cleanPauseStep = 100 * time.Millisecond
	// cleanLook is how often resting compaction looks whether it is to rest less.
	cleanLook = 15 * time.Second
	// cleanRetry is how long a log is left alone that could not be compacted.
	cleanRetry = 10 * time.Minute
)

// cleaners compact the logs of partitions with cleanup.policy=compact, leaders' and followers' alike, each by itself: what is
// below the high watermark is the same everywhere, and stays the same to who folds it. log.cleaner.threads goroutines take the
// dirtiest log each, one after the other, and rest for log.cleaner.backoff.ms where none needs it.
//
// A segment is compacted only once it lies below a checkpoint that is on the disk, so that no replay ever comes to it. Where
// that is all that keeps a log from being compacted, a checkpoint is made.
type cleaners struct {
	runs     atomic.Int64
	failures atomic.Int64
	read     atomic.Int64 // bytes
	written  atomic.Int64
	removed  atomic.Int64 // records
	dropped  atomic.Int64 // bytes that the logs have become smaller by
	running  atomic.Int64

	mu struct {
		sync.Mutex
		busy        map[*Partition]bool
		ratioMax    float64 // of the last look at all logs
		uncleanable int
		overdue     int64     // milliseconds
		next        time.Time // when the next read or write may begin
		rate        float64   // at which that was reckoned
		spaceWarned bool
	}
}

var errCleanEnds = errors.New("the compaction ends")

func (s *Store) cleanLoop() {
	defer s.background.Done()
	s.cleanRest()
	for !s.stopping() && s.failed() == nil {
		if !s.Clean() {
			s.cleanRest()
		}
	}
}

// cleanRest waits for as long as no log may need compaction. A change of that counts at the next look.
func (s *Store) cleanRest() {
	begun := s.o.Clock.Now()
	for !s.stopping() {
		rest := s.o.Live.Load().CleanerBackoff - s.o.Clock.Now().Sub(begun)
		if rest <= 0 {
			return
		}
		s.pause(min(rest, cleanLook))
	}
}

// Clean compacts the log that needs it most, if any does, and tells whether it did.
func (s *Store) Clean() bool {
	p, c, behind := s.dirtiest()
	if p == nil && behind {
		if s.Checkpoint() == nil {
			p, c, _ = s.dirtiest()
		}
	}
	if p == nil {
		return false
	}
	defer func() {
		s.clean.mu.Lock()
		delete(s.clean.mu.busy, p)
		s.clean.mu.Unlock()
	}()
	return p.clean(c)
}

// dirtiest is the log with the largest share that was never compacted, of those that need compaction, marked as busy; nil if
// there is none. behind tells that a checkpoint would let one be compacted.
func (s *Store) dirtiest() (p *Partition, c log.Cleanable, behind bool) {
	var ratioMax float64
	var overdue int64
	uncleanable := 0
	list := s.Partitions()
	s.clean.mu.Lock()
	busy := make(map[*Partition]bool, len(s.clean.mu.busy))
	for b := range s.clean.mu.busy {
		busy[b] = true
	}
	s.clean.mu.Unlock()
	for _, q := range list {
		if s.stopping() {
			return nil, c, false
		}
		if !q.topic().CleanupPolicy.Compact || q.hw.Load() <= 0 || q.LogEnd() == q.LogStart() || q.usable() != nil {
			continue
		}
		found, err := q.cleanable()
		if errors.Is(err, errUncleanable) {
			uncleanable++
		}
		if err != nil {
			continue
		}
		ratioMax, overdue = max(ratioMax, found.Ratio()), max(overdue, found.Overdue)
		least := q.topic().MinCleanableDirtyRatio
		due := found.DirtyBytes > 0 && (found.Overdue > 0 || found.Ratio() > least)
		behind = behind || !due && found.Waiting > 0 && (found.Overdue > 0 || found.RatioAhead() > least)
		if due && !busy[q] && (p == nil || found.Ratio() > c.Ratio()) {
			p, c = q, found
		}
	}
	s.clean.mu.Lock()
	defer s.clean.mu.Unlock()
	m := &s.clean.mu
	m.ratioMax, m.uncleanable, m.overdue = ratioMax, uncleanable, overdue
	if p != nil && m.busy[p] { // another goroutine was faster
		return nil, c, false
	}
	if p != nil {
		if m.busy == nil {
			m.busy = map[*Partition]bool{}
		}
		m.busy[p] = true
	}
	return p, c, behind
}

var errUncleanable = errors.New("the log cannot be compacted")

// cleanable asks a partition's log. errUncleanable where it has damage, or failed lately.
func (p *Partition) cleanable() (log.Cleanable, error) {
	if until := p.uncleanable.Load(); until != 0 {
		// More than cleanRetry ahead: the clock was set back since.
		if ahead := time.Duration(until - p.s.o.Clock.Now().UnixNano()); ahead > 0 && ahead <= cleanRetry {
			return log.Cleanable{}, errUncleanable
		}
		p.uncleanable.Store(0)
	}
	l, err := p.opened()
	if err != nil {
		return log.Cleanable{}, errUncleanable
	}
	if len(l.Damaged()) > 0 {
		return log.Cleanable{}, errUncleanable
	}
	limits := p.cleanLimits()
	return l.Cleanable(&limits)
}

func (p *Partition) cleanLimits() log.CleanLimits {
	c := p.topic()
	limits := log.CleanLimits{
		Committed: kafka.Offset(p.hw.Load()), Now: p.s.o.Clock.Now().UnixMilli(),
		MinLag: c.MinCompactionLagMillis, MaxLag: c.MaxCompactionLagMillis,
	}
	if at := p.checkpointed.Load(); at != nil {
		limits.Durable = *at
	}
	return limits
}

// clean compacts a partition's log once. It tells whether that succeeded: another pass may follow at once.
func (p *Partition) clean(c log.Cleanable) bool {
	s, topic, cfg := p.s, p.topic(), p.s.o.Live.Load()
	l, err := p.opened()
	if err != nil || !s.roomToClean(p, &c) {
		return false
	}
	n := max(s.o.Config.CleanerThreads, 1)
	s.clean.running.Add(1)
	begun := s.o.Clock.Now()
	r, err := l.Clean(&log.CleanOptions{
		CleanLimits: p.cleanLimits(), DeleteRetention: topic.DeleteRetentionMillis,
		MapBytes: cfg.CleanerDedupeBytes / int64(n), MapLoad: cfg.CleanerLoadFactor, IOBytes: cfg.CleanerIOBytes / n,
		Pace: p.cleanPace, Found: p.damaged,
	})
	s.clean.running.Add(-1)
	s.clean.read.Add(r.BytesRead)
	s.clean.written.Add(r.BytesWritten)
	if err != nil {
		p.cleanFailed(err)
		return false
	}
	s.clean.runs.Add(1)
	s.clean.removed.Add(r.RecordsBefore - r.RecordsAfter)
	s.clean.dropped.Add(r.BytesBefore - r.BytesAfter)
	s.o.Logger.Info("compacted", "partition", p.name(), "from", int64(r.From), "to", int64(r.To), "partial", r.Partial,
		"bytesBefore", r.BytesBefore, "bytesAfter", r.BytesAfter, "recordsBefore", r.RecordsBefore, "recordsAfter", r.RecordsAfter,
		"segmentsBefore", r.SegmentsBefore, "segmentsAfter", r.SegmentsAfter, "keys", r.Keys, "took", s.o.Clock.Now().Sub(begun))
	if r.Keyless > 0 {
		s.o.Logger.Warn("records without a key went with compaction: they are from before cleanup.policy was compact", "partition", p.name(), "records", r.Keyless)
	}
	return r.To > r.From
}

// cleanFailed judges why a compaction ended.
func (p *Partition) cleanFailed(err error) {
	s := p.s
	switch {
	case errors.Is(err, errCleanEnds), errors.Is(err, log.ErrClosed), errors.Is(err, log.ErrOvertaken), p.deleting.Load():
		return
	case errors.Is(err, log.ErrFailed):
		s.fail(err) // the files are between two states, which only opening them again settles
		return
	}
	s.failIfSync(err)
	s.clean.failures.Add(1)
	p.uncleanable.Store(s.o.Clock.Now().Add(cleanRetry).UnixNano())
	if errors.Is(err, syscall.ENOSPC) {
		s.o.Logger.Warn("compaction is put off: no space left", "partition", p.name(), "dir", s.o.Dir, "error", err)
		return
	}
	s.o.Logger.Error("a log cannot be compacted, and grows until it can", "partition", p.name(), "again after", cleanRetry, "error", err)
}

// roomToClean looks whether the disk has room for the segment that a compaction writes before it removes others.
func (s *Store) roomToClean(p *Partition, c *log.Cleanable) bool {
	free, err := s.o.FS.Free(s.o.Dir)
	if err != nil {
		return false
	}
	enough := free-s.o.Config.FreeSpaceReserveBytes >= min(c.TotalBytes, int64(p.topic().SegmentBytes))
	s.clean.mu.Lock()
	warned := s.clean.mu.spaceWarned
	s.clean.mu.spaceWarned = !enough
	s.clean.mu.Unlock()
	if !enough && !warned {
		s.o.Logger.Warn("compaction is put off: no space left", "partition", p.name(), "dir", s.o.Dir, "free", free)
	}
	return enough
}

// cleanPace waits until n more bytes may be read or written. The rate is that of all cleaners together.
func (p *Partition) cleanPace(n int64) error {
	s := p.s
	for {
		rate := s.o.Live.Load().CleanerBytesPerSecond
		if s.stopping() || p.deleting.Load() || s.failed() != nil {
			return errCleanEnds
		}
		if rate >= math.MaxFloat64 || rate <= 0 {
			return nil
		}
		now := s.o.Clock.Now()
		s.clean.mu.Lock()
		if rate != s.clean.mu.rate {
			s.clean.mu.rate, s.clean.mu.next = rate, now
		}
		wait := s.clean.mu.next.Sub(now)
		if wait <= 0 {
			if -wait > time.Second || s.clean.mu.next.IsZero() {
				s.clean.mu.next = now // time that was not used is not made up for
			}
			s.clean.mu.next = s.clean.mu.next.Add(time.Duration(float64(n) / rate * float64(time.Second)))
		}
		s.clean.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		s.pause(min(wait, cleanPauseStep))
	}
}

// noteCheckpoints has the partitions know what a checkpoint on the disk says of them.
func (s *Store) noteCheckpoints(c *checkpoint) {
	for i := range c.partitions {
		e := &c.partitions[i]
		if p := s.Partition(e.id); p != nil {
			p.checkpointed.Store(&e.synced)
		}
	}
}
