package log

import (
	"errors"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// OffsetForTimestamp finds the first record at or behind the log's start and below limit whose timestamp is at least
// millis; false if there is none.
func (l *Log) OffsetForTimestamp(millis int64, limit kafka.Offset) (TimestampOffset, bool, error) {
	for {
		start, swaps := l.LogStart(), l.Swaps()
		t, ok, err := l.offsetForTimestamp(millis, limit)
		if !l.overtaken(start, swaps, err) {
			return t, ok, err
		}
	}
}

// overtaken tells whether a segment was deleted or replaced in the middle of a search: it begins again.
func (l *Log) overtaken(start kafka.Offset, swaps uint64, err error) bool {
	return l.Swaps() != swaps || (errors.Is(err, ErrClosed) || errors.Is(err, kafka.ErrOffsetOutOfRange)) && l.LogStart() > start
}

func (l *Log) offsetForTimestamp(millis int64, limit kafka.Offset) (TimestampOffset, bool, error) {
	l.mu.Lock()
	logStart := l.mu.logStart
	segments := slices.Clone(l.mu.segments)
	l.mu.Unlock()
	for _, s := range segments {
		if err := l.load(s); err != nil {
			return TimestampOffset{}, false, err
		}
		l.mu.Lock()
		skip := s.maxTimestamp < millis || s.end <= logStart
		l.mu.Unlock()
		if skip {
			continue
		}
		t, ok, err := l.searchTimestamp(s, millis, logStart)
		if err != nil || ok {
			return t, ok && t.Offset < limit, err
		}
	}
	return TimestampOffset{}, false, nil
}

// searchTimestamp looks for the first record of a segment with a timestamp of at least millis. The intervals whose
// largest timestamp so far is below are passed over by the index.
func (l *Log) searchTimestamp(s *segment, millis int64, from kafka.Offset) (TimestampOffset, bool, error) {
	l.mu.Lock()
	size := s.size
	l.mu.Unlock()
	// The open interval is compared as one that reaches the present maximum: it is not before.
	e, err := l.searchIndex(s, func(e entry) bool { return e.length > 0 && e.maxTimestamp < millis })
	if err != nil {
		return TimestampOffset{}, false, err
	}
	file, err := s.data.acquire()
	if err != nil {
		return TimestampOffset{}, false, err
	}
	defer s.data.release()
	r := batchReader{scanner: newScanner(s.data.path, file, e.end(), size, s.base+kafka.Offset(e.base))}
	defer r.close()
	for {
		b, at, err := r.next()
		if b == nil || err != nil {
			return TimestampOffset{}, false, err
		}
		if b.MaxTimestamp() < millis || b.NextOffset() <= from {
			continue
		}
		r.rewind(at, b.BaseOffset())
		if b, _, err = r.nextWhole(); err != nil {
			return TimestampOffset{}, false, err
		}
		for rec, err := range l.codecs.Records(b, 0) {
			if err != nil {
				return TimestampOffset{}, false, err
			}
			if rec.Timestamp >= millis && rec.Offset >= from {
				return TimestampOffset{rec.Timestamp, rec.Offset, b.LeaderEpoch()}, true, nil
			}
		}
	}
}

// MaxTimestamp finds the record with the largest timestamp, the first of them (ListOffsets -3, KIP-734); false in a log
// without timestamps.
func (l *Log) MaxTimestamp() (TimestampOffset, bool, error) {
	for {
		start, swaps := l.LogStart(), l.Swaps()
		t, ok, err := l.findMaxTimestamp()
		if !l.overtaken(start, swaps, err) {
			return t, ok, err
		}
	}
}

func (l *Log) findMaxTimestamp() (TimestampOffset, bool, error) {
	l.mu.Lock()
	segments := slices.Clone(l.mu.segments)
	l.mu.Unlock()
	var best *segment
	bestTimestamp := record.NoTimestamp
	var bestOffset kafka.Offset
	for _, s := range segments {
		if err := l.load(s); err != nil {
			return TimestampOffset{}, false, err
		}
		l.mu.Lock()
		if s.size > 0 && s.maxTimestamp > bestTimestamp {
			best, bestTimestamp, bestOffset = s, s.maxTimestamp, s.maxOffset
		}
		l.mu.Unlock()
	}
	if best == nil {
		return TimestampOffset{}, false, nil
	}
	p, err := l.locate(bestOffset)
	if err != nil {
		return TimestampOffset{}, false, err
	}
	file, err := p.s.data.acquire()
	if err != nil {
		return TimestampOffset{}, false, err
	}
	defer p.s.data.release()
	r := batchReader{scanner: newScanner(p.s.data.path, file, p.position, p.s.sizeOf(l), p.offset)}
	defer r.close()
	b, _, err := r.nextWhole()
	if b == nil || err != nil {
		return TimestampOffset{}, false, err
	}
	found := TimestampOffset{Timestamp: record.NoTimestamp}
	for rec, err := range l.codecs.Records(b, 0) {
		if err != nil {
			return TimestampOffset{}, false, err
		}
		if rec.Timestamp > found.Timestamp {
			found = TimestampOffset{rec.Timestamp, rec.Offset, b.LeaderEpoch()}
		}
	}
	return found, found.Timestamp != record.NoTimestamp, nil
}

func (s *segment) sizeOf(l *Log) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.size
}
