package log

import (
	"fmt"
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// SetLogStart raises the log's start; nothing below it is served any more. It does nothing for an offset at or below the
// present one; OFFSET_OUT_OF_RANGE above the end. Files go with DropBelowLogStart, once the change is durable elsewhere.
func (l *Log) SetLogStart(offset kafka.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(true); err != nil {
		return err
	}
	if offset > l.mu.end {
		return kafka.ErrOffsetOutOfRange.With("the log of %s cannot start at %d, it ends at %d", l.o.Name, offset, l.mu.end)
	}
	if offset <= l.mu.logStart {
		return nil
	}
	l.mu.logStart = offset
	l.mu.epochsDirty = l.mu.epochs.truncateStart(offset) || l.mu.epochsDirty
	l.mu.producers.replicatedTo(offset)
	return nil
}

// DropBelowLogStart unlinks the segments wholly below the log's start, but never the active one; who reads them keeps them
// until done. It returns the bytes freed.
func (l *Log) DropBelowLogStart() (int64, error) {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	if err := l.usableLocked(false); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	n := 0
	var freed int64
	for n < len(l.mu.segments)-1 && l.mu.segments[n].end <= l.mu.logStart {
		freed += l.mu.segments[n].size
		n++
	}
	gone := slices.Clone(l.mu.segments[:n])
	l.mu.segments = slices.Delete(l.mu.segments, 0, n)
	if n > 0 {
		l.mu.swaps++
		if first := l.mu.segments[0]; l.mu.synced.Segment < first.base {
			l.mu.synced.Segment, l.mu.synced.Position, l.mu.synced.EndOffset = first.base, 0, first.base
		}
	}
	l.mu.Unlock()
	for _, s := range gone {
		if err := l.unlink(s); err != nil {
			return 0, fmt.Errorf("delete the segment of %s at offset %d: %w", l.o.Name, s.base, err)
		}
	}
	return freed, nil
}

// RetentionStart is the log start that retention asks for: behind the segments, from the oldest on, that end at or below
// limit (the high watermark) and are too old (retention; negative keeps) or too many (bytes; negative keeps). It is the
// present start if nothing is to go. Where it is the log's end, the active segment is among them: Roll before
// DropBelowLogStart. now is wall-clock time.
func (l *Log) RetentionStart(now time.Time, retention time.Duration, bytes int64, limit kafka.Offset) (kafka.Offset, error) {
	l.mu.Lock()
	start := l.mu.logStart
	segments := slices.Clone(l.mu.segments)
	excess := int64(0)
	for _, s := range segments {
		excess += s.size
	}
	l.mu.Unlock()
	excess -= bytes
	for _, s := range segments {
		if err := l.load(s); err != nil {
			return start, err
		}
		l.mu.Lock()
		size, end, largest, created := s.size, s.end, s.maxTimestamp, s.createdMillis
		l.mu.Unlock()
		if size == 0 || end > limit {
			break
		}
		if largest == record.NoTimestamp {
			largest = created
		}
		old := retention >= 0 && now.UnixMilli()-largest > retention.Milliseconds()
		many := bytes >= 0 && excess >= size
		if !old && !many {
			break
		}
		excess -= size
		start = max(start, end)
	}
	return start, nil
}
