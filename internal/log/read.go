package log

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// Slice is a stretch of one segment file with a reference to it: Release it.
type Slice struct {
	File     vfs.File
	Position int64
	Length   int64        // bytes; 0: there is nothing to read, and nothing to release
	First    kafka.Offset // base offset of the first batch, or the offset asked for if that lies above
	Next     kafka.Offset // where to go on: there is no batch between the last one and it, nor, if there are none, below it
	Swaps    uint64       // of the log when it was read; see Log.Swaps

	handle *handle
}

// Release lets go of the file. It may be called once.
func (s *Slice) Release() {
	if s.handle != nil {
		s.handle.release()
		s.handle = nil
	}
}

// Read finds whole batches from the one that holds offset from, or the next one where compaction left a gap there, up to
// maxBytes and below limit (the high watermark or the last stable offset), for sendfile. They lie in one segment. atLeastOne
// returns the first batch even where it is larger than maxBytes (KIP-74). OFFSET_OUT_OF_RANGE below the log's start or above
// its end.
func (l *Log) Read(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (Slice, error) {
	for {
		swaps, generation := l.state()
		start, stop, err := l.find(from, maxBytes, limit, atLeastOne)
		err = l.readError(err)
		s := Slice{First: start.offset, Next: max(from, min(stop.offset, limit)), Swaps: swaps}
		if err == nil && start.s != nil {
			s.handle = &start.s.data.handle
			s.File, err = s.handle.acquire()
			s.Position, s.Length = start.position, stop.position-start.position
		}
		if l.Swaps() != swaps { // what was found may be of segments that are not the log's any more
			if err == nil {
				s.Release()
			}
			continue
		}
		if err != nil {
			if logStart := l.LogStart(); from < logStart { // retention was faster
				err = kafka.ErrOffsetOutOfRange.With("offset %d of %s is below the log's start %d", from, l.o.Name, logStart)
			}
			return Slice{}, err
		}
		if s.Length > 0 {
			l.mu.Lock()
			if l.mu.swaps == swaps && l.mu.generation == generation {
				l.mu.hints.add(batchPlace{offset: stop.offset, base: start.s.base, position: stop.position})
			}
			l.mu.Unlock()
		}
		return s, nil
	}
}

// state counts what may make a place that was found another one.
func (l *Log) state() (swaps, generation uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.swaps, l.mu.generation
}

// ReadCopy appends the batches that Read would find to dst: what may yet be truncated must not be handed out by
// reference.
func (l *Log) ReadCopy(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) ([]byte, error) {
	dst, _, err := l.ReadStretch(dst, from, maxBytes, limit, atLeastOne)
	return dst, err
}

// ReadStretch is ReadCopy, and tells where to go on: at next, below which there are no other batches. It is above from where
// a batch was found, and where none is left up to limit.
func (l *Log) ReadStretch(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (b []byte, next kafka.Offset, err error) {
	for {
		generation := l.Generation()
		s, err := l.Read(from, maxBytes, limit, atLeastOne)
		if err == nil && s.Length == 0 && l.Generation() != generation {
			continue
		}
		if err != nil || s.Length == 0 {
			return dst, max(s.Next, from), err
		}
		n := len(dst)
		out := slices.Grow(dst, int(s.Length))[:n+int(s.Length)]
		err = readFull(s.File, s.handle.path, out[n:], s.Position)
		s.Release()
		if l.Generation() != generation {
			continue // truncated meanwhile: what was read may be of two histories
		}
		if err != nil {
			return dst, from, err
		}
		return out, s.Next, nil
	}
}

// find returns where a read begins and ends. With no segment there is nothing to read, and nothing up to the offsets.
func (l *Log) find(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (start, stop place, err error) {
	l.mu.Lock()
	logStart, end, closed, empty := l.mu.logStart, l.mu.end, l.mu.closed, len(l.mu.segments) == 0
	l.mu.Unlock()
	if closed {
		return place{}, place{}, ErrClosed
	}
	if from < logStart || from > end {
		return place{}, place{}, kafka.ErrOffsetOutOfRange.With("offset %d of %s is outside of [%d, %d]", from, l.o.Name, logStart, end)
	}
	limit = min(limit, end)
	nothing := place{offset: from}
	if from >= limit {
		return nothing, nothing, nil
	}
	if empty {
		return nothing, place{offset: limit}, nil
	}
	if err = l.refuse(from); err != nil {
		return place{}, place{}, err
	}
	if start, err = l.locate(from); err != nil {
		return place{}, place{}, err
	}
	if start.offset >= limit || l.behindAll(start) { // all that is left lies above
		return nothing, place{offset: limit}, nil
	}
	if err = l.refuse(start.offset); err != nil { // a gap ends where damage begins
		return place{}, place{}, err
	}
	if stop, err = l.findEnd(start, int64(maxBytes), limit, atLeastOne); err != nil {
		return place{}, place{}, err
	}
	if stop.position <= start.position {
		return nothing, l.before(start, from, limit), nil
	}
	return start, stop, nil
}

// before is where a read goes on that found nothing below limit at a place: where the next batch lies above limit a gap is all
// that is left, though a hint may have told a lower offset of the place.
func (l *Log) before(at place, from, limit kafka.Offset) place {
	var head [record.HeaderSize]byte
	if err := l.readHeader(at.s, at.position, head[:]); err == nil && record.Batch(head[:]).BaseOffset() >= limit {
		return place{offset: limit}
	}
	return place{offset: from}
}

// behindAll tells whether a place is that behind the last batch of the log.
func (l *Log) behindAll(at place) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return at.s == l.activeLocked() && at.position == at.s.size
}

// findEnd returns the batch boundary where a read that begins at start ends.
func (l *Log) findEnd(start place, maxBytes int64, limit kafka.Offset, atLeastOne bool) (place, error) {
	l.mu.Lock()
	stop := soundEndLocked(start)
	l.mu.Unlock()
	if limit < stop.offset {
		at, err := l.locate(limit)
		if err != nil {
			return place{}, err
		}
		if at.s == start.s && at.position < stop.position { // else all that is left of this segment lies below
			stop = at
		}
	}
	if stop.position-start.position <= maxBytes {
		return stop, nil
	}
	cut, err := l.locatePosition(start.s, start.position+max(maxBytes, 0))
	if err != nil || cut.position > start.position || !atLeastOne {
		return cut, err
	}
	var head [record.HeaderSize]byte
	if err := l.readHeader(start.s, start.position, head[:]); err != nil {
		return place{}, err
	}
	b := record.Batch(head[:])
	return place{start.s, start.position + int64(b.Size()), b.NextOffset()}, nil
}
