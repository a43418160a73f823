package log

import (
	"fmt"
	"io"
	"sync"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// scanChunk is how much of a segment is read at once to look at batch headers, in bytes.
const scanChunk = 16 << 10

var (
	scanBuffers = sync.Pool{New: func() any { b := make([]byte, scanChunk); return &b }}
	scanners    = sync.Pool{New: func() any { return &scanner{back: make([]byte, scanChunk)} }}
)

// scanner goes over the batch headers in a stretch of a segment that begins at a batch.
type scanner struct {
	path     string
	file     vfs.File
	position int64 // of the batch that next returns
	end      int64 // of the stretch
	chunk    int   // bytes read at once
	expect   kafka.Offset

	buf  []byte // the last bytes read, in back
	at   int64  // position of buf's first byte
	back []byte
}

// newScanner reads file, which the caller holds open, from position, where the batch at offset expect or behind it begins,
// to end.
func newScanner(path string, file vfs.File, position, end int64, expect kafka.Offset) *scanner {
	s := scanners.Get().(*scanner)
	*s = scanner{path: path, file: file, position: position, end: end, expect: expect, back: s.back, chunk: scanChunk}
	return s
}

// close gives the scanner back.
func (s *scanner) close() {
	s.file = nil
	scanners.Put(s)
}

func (s *scanner) corrupt(format string, args ...any) error {
	return &Corruption{File: s.path, Position: s.position, Offset: s.expect, Reason: fmt.Sprintf(format, args...)}
}

// next returns the header of the next batch, valid until the next call, and its position; nil at the end.
func (s *scanner) next() (record.Batch, int64, error) {
	if s.position >= s.end {
		return nil, s.position, nil
	}
	if s.end-s.position < record.HeaderSize {
		return nil, s.position, s.corrupt("%d bytes are left, fewer than a batch's header", s.end-s.position)
	}
	if err := s.fill(); err != nil {
		return nil, s.position, err
	}
	b := record.Batch(s.buf[s.position-s.at:])
	if err := s.sane(b); err != nil {
		return nil, s.position, err
	}
	p := s.position
	s.position += int64(b.Size())
	s.expect = b.NextOffset()
	return b[:record.HeaderSize], p, nil
}

// sane checks what can be told from a header alone.
func (s *scanner) sane(b record.Batch) error {
	switch {
	case b.Magic() != 2:
		return s.corrupt("a batch has magic %d", b.Magic())
	case b.Size() < record.HeaderSize || int64(b.Size()) > s.end-s.position:
		return s.corrupt("a batch claims %d bytes, %d are left", b.Size(), s.end-s.position)
	case b.BaseOffset() < s.expect || b.LastOffsetDelta() < 0:
		return s.corrupt("a batch claims offset %d and last offset delta %d", b.BaseOffset(), b.LastOffsetDelta())
	}
	return nil
}

// fill has the header at position in buf.
func (s *scanner) fill() error {
	if s.position >= s.at && s.position+record.HeaderSize <= s.at+int64(len(s.buf)) {
		return nil
	}
	n := min(int64(s.chunk), s.end-s.position)
	s.buf = s.back[:n]
	s.at = s.position
	return readFull(s.file, s.path, s.buf, s.at)
}

// readFull reads exactly len(b) bytes.
func readFull(file vfs.File, path string, b []byte, at int64) error {
	n, err := file.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		return &Corruption{File: path, Position: at + int64(n), Offset: kafka.NoOffset, Reason: fmt.Sprintf("the file ends %d bytes early", len(b)-n)}
	}
	return fmt.Errorf("read %s at byte %d: %w", path, at, err)
}

// readHeader reads the batch header at position.
func (l *Log) readHeader(s *segment, position int64, head []byte) error {
	file, err := s.data.acquire()
	if err != nil {
		return err
	}
	defer s.data.release()
	return readFull(file, s.data.path, head[:record.HeaderSize], position)
}

// batchReader reads whole batches of a stretch, one after the other.
type batchReader struct {
	*scanner
	whole []byte
}

// nextWhole returns the next batch with its records, valid until the next call; nil at the end. It does not check the CRC.
func (r *batchReader) nextWhole() (record.Batch, int64, error) {
	b, p, err := r.next()
	if b == nil || err != nil {
		return nil, p, err
	}
	size := b.Size()
	if p >= r.at && p+int64(size) <= r.at+int64(len(r.buf)) {
		return record.Batch(r.buf[p-r.at:][:size:size]), p, nil
	}
	if cap(r.whole) < size {
		r.whole = make([]byte, size, size+size/4)
	}
	r.whole = r.whole[:size]
	if err := readFull(r.file, r.path, r.whole, p); err != nil {
		return nil, p, err
	}
	return r.whole, p, nil
}

// rewind has the next call return the batch at position again.
func (s *scanner) rewind(position int64, offset kafka.Offset) {
	s.position, s.expect = position, offset
}
