package log

import "chronik/internal/kafka"

// StateAt is the state that the log would have were it cut at offset, at a batch's start: with everything below synced,
// what replay starts from once the cut is logged. The generation is the present one. The caller orders it among appends.
func (l *Log) StateAt(offset kafka.Offset) (Checkpoint, error) {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	c := Checkpoint{LogStart: l.mu.logStart, Generation: l.mu.generation}
	end := l.mu.end
	err := l.usableLocked(false)
	l.mu.Unlock()
	switch {
	case err != nil:
		return c, err
	case offset < c.LogStart:
		return Checkpoint{Segment: offset, EndOffset: offset, LogStart: offset, Generation: c.Generation}, nil
	case offset >= end:
		return l.Synced(), nil
	}
	at, err := l.locate(offset)
	if err != nil {
		return c, err
	}
	c.Segment, c.Position, c.EndOffset = at.s.base, at.position, at.offset
	return c, nil
}
