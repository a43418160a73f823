package log

import (
	"errors"
	"fmt"
	"math"
	"syscall"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// maxSegmentOffsets bounds the offsets of one segment: the index holds them relative to the segment's base.
const maxSegmentOffsets = math.MaxInt32

// rollIfNeeded makes sure that the active segment can take size bytes, offsets first to last. The rules are Kafka's: size, time
// between the records of the segment (segment.ms), and offsets that the index could not hold. A gap before first stays with
// the old segment.
func (l *Log) rollIfNeeded(size, timestamp int64, first, last kafka.Offset) (rolled bool, err error) {
	l.mu.Lock()
	c := l.mu.config
	s := l.activeLocked()
	l.mu.Unlock()
	if s != nil {
		if err := l.loadRollTimestamp(s); err != nil {
			return false, err
		}
		l.mu.Lock()
		age := l.o.Clock.Now().UnixMilli() - s.createdMillis
		if s.rollTimestamp >= 0 && timestamp >= 0 {
			age = timestamp - s.rollTimestamp
		}
		sealed := l.sealedLocked(s)
		keep := !sealed && s.size <= c.SegmentBytes-size && (s.size == 0 || age <= c.SegmentMillis) && last-s.base <= maxSegmentOffsets
		l.mu.Unlock()
		if keep {
			return false, nil
		}
		if s.size == 0 && !sealed && last-s.base <= maxSegmentOffsets {
			return false, nil
		}
	}
	return true, l.rollAt(first)
}

// loadRollTimestamp reads the first batch's timestamp of a segment that this process did not begin.
func (l *Log) loadRollTimestamp(s *segment) error {
	l.mu.Lock()
	known := s.rollKnown || s.size == 0
	l.mu.Unlock()
	if known {
		return nil
	}
	var head [record.HeaderSize]byte
	if err := l.readHeader(s, 0, head[:]); err != nil {
		return err
	}
	l.mu.Lock()
	s.rollTimestamp, s.rollKnown = record.Batch(head[:]).MaxTimestamp(), true
	l.mu.Unlock()
	return nil
}

// Roll begins a new segment at the log's end, unless the active one begins there. The caller orders it among appends.
func (l *Log) Roll() error {
	if err := l.usable(false); err != nil {
		return err
	}
	l.mu.Lock()
	s := l.activeLocked()
	there := s == nil || s.base == l.mu.end // one without batches may have been left behind by a gap
	l.mu.Unlock()
	if there {
		return nil
	}
	return l.roll()
}

// roll seals the active segment and makes the next one, at the log's end. An empty active segment is replaced.
func (l *Log) roll() error {
	if err := l.makeDir(); err != nil {
		return err
	}
	l.mu.Lock()
	old, end, recovering := l.activeLocked(), l.mu.end, l.mu.recovering
	sealed := old != nil && l.sealedLocked(old)
	if old != nil && old.base == end {
		l.mu.Unlock()
		return nil // it is empty
	}
	if old != nil {
		old.closeIntervalLocked()
	}
	l.mu.Unlock()
	if old != nil && !sealed {
		if err := l.seal(old, recovering); err != nil {
			return err
		}
	}
	s := l.newSegment(end)
	if recovering { // what the last process derived may be of another history
		if err := l.o.FS.Remove(s.abortedPath()); err != nil && !vfsNotExist(err) {
			return err
		}
	}
	s.loaded, s.abortedLoaded, s.changes = true, true, 1
	if _, err := s.data.create(recovering); err != nil {
		return fmt.Errorf("roll %s at offset %d: %w", l.o.Name, end, err)
	}
	s.data.release()
	l.mu.Lock()
	if n := len(l.mu.segments); old != nil && old.size == 0 {
		l.mu.segments = l.mu.segments[:n-1]
	}
	if len(l.mu.segments) == 0 {
		l.mu.synced.Segment, l.mu.synced.Position, l.mu.synced.EndOffset = end, 0, end
	}
	l.mu.segments = append(l.mu.segments, s)
	l.takeSnapshotLocked()
	l.mu.Unlock()
	if old != nil && old.size == 0 {
		return l.unlink(old)
	}
	return nil
}

// seal ends a segment: its index is written out, and while recovering what stands behind its end is cut.
func (l *Log) seal(s *segment, recovering bool) error {
	var err error
	if l.w.indexBuf, err = l.flushIndex(s, l.w.indexBuf); err != nil && (!recovering || !errors.Is(err, syscall.ENOSPC)) {
		return err // replay of what is there must not end for want of an index: its entries stay in memory until a Sync
	}
	if !recovering {
		return nil
	}
	return l.cut(s)
}
