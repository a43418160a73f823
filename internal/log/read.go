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
	First    kafka.Offset // base offset of the first batch, at or below the offset asked for
	Next     kafka.Offset // the offset behind the last batch

	handle *handle
}

// Release lets go of the file. It may be called once.
func (s *Slice) Release() {
	if s.handle != nil {
		s.handle.release()
		s.handle = nil
	}
}

// Read finds whole batches from the one that holds offset from, up to maxBytes and below limit (the high watermark or the
// last stable offset), for sendfile. They lie in one segment. atLeastOne returns the first batch even where it is larger
// than maxBytes (KIP-74). OFFSET_OUT_OF_RANGE below the log's start or above its end.
func (l *Log) Read(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (Slice, error) {
	start, stop, err := l.find(from, maxBytes, limit, atLeastOne)
	err = l.readError(err)
	if err == nil && start.s == nil {
		return Slice{First: from, Next: from}, nil
	}
	var file vfs.File
	var h *handle
	if err == nil {
		h = &start.s.data.handle
		file, err = h.acquire()
	}
	if err != nil {
		if logStart := l.LogStart(); from < logStart { // retention was faster
			err = kafka.ErrOffsetOutOfRange.With("offset %d of %s is below the log's start %d", from, l.o.Name, logStart)
		}
		return Slice{}, err
	}
	return Slice{File: file, Position: start.position, Length: stop.position - start.position, First: start.offset, Next: stop.offset, handle: h}, nil
}

// ReadCopy appends the batches that Read would find to dst: what may yet be truncated must not be handed out by
// reference.
func (l *Log) ReadCopy(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) ([]byte, error) {
	for {
		generation := l.Generation()
		s, err := l.Read(from, maxBytes, limit, atLeastOne)
		if err != nil || s.Length == 0 {
			return dst, err
		}
		n := len(dst)
		out := slices.Grow(dst, int(s.Length))[:n+int(s.Length)]
		err = readFull(s.File, s.handle.path, out[n:], s.Position)
		s.Release()
		if l.Generation() != generation {
			continue // truncated meanwhile: what was read may be of two histories
		}
		if err != nil {
			return dst, err
		}
		return out, nil
	}
}

// find returns where a read begins and ends; no segment if there is nothing to read.
func (l *Log) find(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (start, stop place, err error) {
	l.mu.Lock()
	logStart, end, closed := l.mu.logStart, l.mu.end, l.mu.closed
	l.mu.Unlock()
	if closed {
		return place{}, place{}, ErrClosed
	}
	if from < logStart || from > end {
		return place{}, place{}, kafka.ErrOffsetOutOfRange.With("offset %d of %s is outside of [%d, %d]", from, l.o.Name, logStart, end)
	}
	limit = min(limit, end)
	if from >= limit {
		return place{}, place{}, nil
	}
	if err = l.refuse(from); err != nil {
		return place{}, place{}, err
	}
	if start, err = l.locate(from); err != nil {
		return place{}, place{}, err
	}
	if err = l.refuse(start.offset); err != nil { // a gap ends where damage begins
		return place{}, place{}, err
	}
	if stop, err = l.findEnd(start, int64(maxBytes), limit, atLeastOne); err != nil {
		return place{}, place{}, err
	}
	if stop.position <= start.position {
		return place{}, place{}, nil
	}
	l.mu.Lock()
	l.mu.hints.add(batchPlace{stop.offset, start.s.base, stop.position})
	l.mu.Unlock()
	return start, stop, nil
}

// findEnd returns the batch boundary where a read that begins at start ends.
func (l *Log) findEnd(start place, maxBytes int64, limit kafka.Offset, atLeastOne bool) (place, error) {
	l.mu.Lock()
	stop := soundEndLocked(start)
	l.mu.Unlock()
	if limit < stop.offset {
		var err error
		if stop, err = l.locate(limit); err != nil {
			return place{}, err
		}
		if stop.s != start.s {
			return start, nil
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
