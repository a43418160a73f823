package log

import (
	"fmt"
	"sort"

	"chronik/internal/kafka"
)

// CheckStretch checks the bytes that hold the offsets of [from, to), or the gaps there, against the checksums of the index: a
// batch's own CRC does not cover its base offset, and a changed one would look like a gap. The error matches
// CORRUPT_MESSAGE.
func (l *Log) CheckStretch(from, to kafka.Offset) error {
	for {
		swaps := l.Swaps()
		err := l.readError(l.checkRange(from, to))
		if l.Swaps() == swaps {
			return err
		}
	}
}

func (l *Log) checkRange(from, to kafka.Offset) error {
	l.mu.Lock()
	var segments []*segment
	for i := max(l.segmentIndexLocked(from), 0); i < len(l.mu.segments) && l.mu.segments[i].base < to; i++ {
		segments = append(segments, l.mu.segments[i])
	}
	l.mu.Unlock()
	for _, s := range segments {
		if err := l.checkIn(s, from, to); err != nil {
			return err
		}
	}
	return nil
}

// checkIn checks the intervals of one segment, from the one that holds the offset from, or the gap there.
func (l *Log) checkIn(s *segment, from, to kafka.Offset) error {
	if err := l.load(s); err != nil {
		return err
	}
	file, err := s.data.acquire()
	if err != nil {
		return err
	}
	defer s.data.release()
	l.mu.Lock()
	n, open := s.index.written+len(s.index.tail), s.index.open
	l.mu.Unlock()
	first := sort.Search(n, func(i int) bool {
		e, ok, serr := l.entryAt(s, i)
		if serr != nil {
			err = serr
		}
		return ok && s.base+kafka.Offset(e.base) > from
	}) - 1
	if err != nil {
		return err
	}
	position := int64(-1)
	var buf []byte
	for i := max(first, 0); i < n; i++ {
		e, _, err := l.entryAt(s, i)
		if err != nil {
			return err
		}
		if s.base+kafka.Offset(e.base) >= to {
			return nil
		}
		if position >= 0 && int64(e.position) != position {
			return &Corruption{File: s.indexFile.path, Position: indexHeaderSize + int64(i)*indexEntrySize, Offset: s.base, Reason: fmt.Sprintf("entry %d begins at byte %d, the one before it ends at %d", i, e.position, position)}
		}
		if _, err := l.verifyInterval(s, file, &e, buf); err != nil {
			return err
		}
		position = e.end()
	}
	if open.length == 0 || open.base >= to {
		return nil
	}
	e := entry{base: uint32(open.base - s.base), position: uint32(open.start), length: uint32(open.length), crc: open.crc}
	_, err = l.verifyInterval(s, file, &e, buf)
	return err
}
