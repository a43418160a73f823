package log

import (
	"errors"
	"fmt"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// CleanLimits say what of a log may be compacted.
type CleanLimits struct {
	// Committed is the high watermark. Nothing is compacted above it, nor above the last stable offset.
	Committed kafka.Offset
	// Durable is the state from which a recovery would begin: below it nothing is replayed.
	Durable Checkpoint
	Now     int64 // wall clock, milliseconds
	MinLag  int64 // min.compaction.lag.ms
	MaxLag  int64 // max.compaction.lag.ms; math.MaxInt64 for none
}

// Cleanable is what Clean would do.
type Cleanable struct {
	From       kafka.Offset // the first offset that was never compacted
	To         kafka.Offset // where the segments end that may be compacted now
	DirtyBytes int64        // of the segments from From to To
	TotalBytes int64        // those and the ones before
	// Overdue is for how long the oldest record that was never compacted is overdue by MaxLag, in milliseconds; 0 if it is not.
	Overdue int64
	// Waiting are the bytes of dirty segments that a later Durable would let be compacted.
	Waiting int64

	segments   []*segment // from the first on, to To
	ends       []kafka.Offset
	generation uint64
}

// Ratio is the share of the log that was never compacted: min.cleanable.dirty.ratio is what it has to exceed.
func (c *Cleanable) Ratio() float64 { return ratio(c.DirtyBytes, c.TotalBytes) }

// RatioAhead is what Ratio would be with what is waiting.
func (c *Cleanable) RatioAhead() float64 {
	return ratio(c.DirtyBytes+c.Waiting, c.TotalBytes+c.Waiting)
}

func ratio(dirty, total int64) float64 {
	if total == 0 {
		return 0
	}
	return float64(dirty) / float64(total)
}

// Cleanable tells what may be compacted: segments that are not appended to, wholly below the last stable offset and the
// state that a recovery begins with, and, of those not compacted yet, none with a record younger than min.compaction.lag.ms
// nor any behind such a one.
func (l *Log) Cleanable(limits *CleanLimits) (Cleanable, error) {
	l.mu.Lock()
	if err := l.usableLocked(false); err != nil {
		l.mu.Unlock()
		return Cleanable{}, err
	}
	segments := slices.Clone(l.mu.segments)
	c := Cleanable{From: max(l.mu.cleaner.firstDirty, l.mu.logStart), generation: l.mu.generation}
	limit, logEnd := limits.Committed, l.mu.end
	if first := l.mu.producers.firstUnstable(); first != kafka.NoOffset {
		limit = min(limit, first)
	}
	l.mu.Unlock()
	c.To = c.From
	for i, s := range segments {
		l.mu.Lock()
		size, end := s.size, s.end
		l.mu.Unlock()
		if i == len(segments)-1 || end > limit {
			break
		}
		dirty := end > c.From
		if dirty {
			young, err := l.within(s, limits)
			if err != nil {
				return c, err
			}
			if young {
				break
			}
			if err := l.age(s, limits, &c); err != nil {
				return c, err
			}
		}
		// Not where they are the same: a state may be told as the end of one segment or as the start of the next.
		if c.generation != limits.Durable.Generation || end >= limits.Durable.EndOffset {
			if dirty && end < logEnd {
				c.Waiting += size
			}
			continue
		}
		c.segments, c.ends = append(c.segments, s), append(c.ends, end)
		c.TotalBytes += size
		if dirty {
			c.To = end
			c.DirtyBytes += size
		}
	}
	return c, nil
}

// within tells whether a segment has a record that is too young to be compacted.
func (l *Log) within(s *segment, limits *CleanLimits) (bool, error) {
	if limits.MinLag <= 0 {
		return false, nil
	}
	if err := l.load(s); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	largest := s.maxTimestamp
	if largest == record.NoTimestamp {
		largest = s.createdMillis
	}
	return largest > limits.Now-limits.MinLag, nil
}

// age looks for how long a segment is overdue.
func (l *Log) age(s *segment, limits *CleanLimits, c *Cleanable) error {
	if limits.MaxLag > limits.Now { // no record is that old
		return nil
	}
	if err := l.loadRollTimestamp(s); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := s.rollTimestamp; t > 0 {
		c.Overdue = max(c.Overdue, limits.Now-limits.MaxLag-t)
	}
	return nil
}

// errDamaged stops a cleaning: what is not as it was written must not be taken for what was.
var errDamaged = errors.New("it has bytes that are not as they were written")

// checkSound refuses segments of which a part is known to be damaged.
func (l *Log) checkSound(segments []*segment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range segments {
		for _, d := range s.damaged {
			return fmt.Errorf("compact %s: %w: %s", l.o.Name, errDamaged, d.Reason)
		}
	}
	return nil
}
