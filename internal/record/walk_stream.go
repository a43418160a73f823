package record

import (
	"bytes"
	"io"

	"chronik/internal/kafka"
)

// streamWindow is the memory that validating a compressed batch takes beside the decoder's own, in bytes.
const streamWindow = 32 << 10

// stream reads records from a decoder through a window of fixed size, and counts what it takes.
type stream struct {
	r      io.Reader
	buf    []byte
	p, end int   // unread: buf[p:end]
	left   int64 // bytes that may still be decoded
	err    error // sticky; io.EOF at the end
}

// walkCompressed is walk for compressed records: the same checks, with the records never in memory as a whole.
func (c *Codecs) walkCompressed(w *walker, codec Codec, data []byte, limit int64) error {
	r, err := c.open(codec, bytes.NewReader(data))
	if err != nil {
		return decodeError(codec, err, limit)
	}
	defer r.put()
	s, ok := c.walk.Get().(*stream)
	if !ok {
		s = &stream{buf: make([]byte, streamWindow)}
	}
	s.r, s.p, s.end, s.left, s.err = r, 0, 0, limit, nil
	defer func() { s.r = nil; c.walk.Put(s) }()
	if err := w.walkStream(s); err != nil {
		if s.err != nil && s.err != io.EOF {
			return decodeError(codec, s.err, limit)
		}
		return err
	}
	return nil
}

func (w *walker) walkStream(s *stream) error {
	w.max = NoTimestamp
	for i := int32(0); i < w.count; i++ {
		size, ok := s.varint(maxVarint32)
		if !ok {
			return errEnd(i)
		}
		if size < 0 {
			return errSize(i, int32(size), s.end-s.p)
		}
		start := s.taken()
		delta, nullKey, err := w.streamRecord(s, i)
		if err != nil {
			return err
		}
		if s.taken()-start != size {
			return errRecord(i)
		}
		w.take(i, delta, nullKey)
	}
	if s.more() {
		return kafka.ErrInvalidRecord.With("bytes follow the last of the record batch's %d records", w.count)
	}
	if s.err != io.EOF {
		return s.err // the decoder's own checksum, behind the last byte
	}
	return nil
}

// streamRecord reads one record behind its length.
func (w *walker) streamRecord(s *stream, i int32) (delta int64, nullKey bool, err error) {
	if !s.skip(1) {
		return 0, false, errRecord(i)
	}
	delta, ok := s.varint(10)
	if !ok {
		return 0, false, errRecord(i)
	}
	if d, ok := s.varint(maxVarint32); !ok || d != int64(i) {
		return 0, false, errRecordOffset(i)
	}
	keySize, ok1 := s.varint(maxVarint32)
	ok1 = ok1 && s.skip(keySize)
	valueSize, ok2 := s.varint(maxVarint32)
	ok2 = ok2 && s.skip(valueSize)
	n, ok3 := s.varint(maxVarint32)
	if !ok1 || !ok2 || !ok3 || n < 0 {
		return 0, false, errRecord(i)
	}
	for range n {
		k, ok := s.varint(maxVarint32)
		if !ok || k < 0 || !s.skip(k) {
			return 0, false, errRecord(i)
		}
		v, ok := s.varint(maxVarint32)
		if !ok || !s.skip(v) {
			return 0, false, errRecord(i)
		}
	}
	return delta, keySize < 0, nil
}

// taken is a position: the number of bytes consumed, up to a constant.
func (s *stream) taken() int64 { return -s.left - int64(s.end-s.p) }

// more has at least one byte in the window, or the sticky error.
func (s *stream) more() bool {
	for s.p == s.end {
		if s.err != nil {
			return false
		}
		n, err := s.r.Read(s.buf)
		s.p, s.end, s.err = 0, n, err
		if s.left -= int64(n); s.left < 0 {
			s.p, s.end, s.err = 0, 0, errTooMuchOutput
		}
	}
	return true
}

// varint reads a zigzag varint of at most most bytes.
func (s *stream) varint(most int) (int64, bool) {
	if most == maxVarint32 && s.end-s.p >= maxVarint32 {
		v, p := varint32(s.buf[:s.end], s.p)
		if p < 0 {
			return 0, false
		}
		s.p = p
		return int64(v), true
	}
	if most != maxVarint32 && s.end-s.p >= most {
		v, p := varint(s.buf[:s.end], s.p)
		if p < 0 {
			return 0, false
		}
		s.p = p
		return v, true
	}
	var tmp [10]byte
	for n := 0; n < most; {
		if !s.more() {
			return 0, false
		}
		tmp[n] = s.buf[s.p]
		s.p++
		n++
		if tmp[n-1] >= 0x80 {
			continue
		}
		if most == maxVarint32 {
			v, _ := varint32(tmp[:n], 0)
			return int64(v), true
		}
		v, _ := varint(tmp[:n], 0)
		return v, true
	}
	return 0, false
}

// skip passes over n bytes; none if n is negative, which is how a null is written.
func (s *stream) skip(n int64) bool {
	for n > 0 {
		if !s.more() {
			return false
		}
		step := min(n, int64(s.end-s.p))
		s.p += int(step)
		n -= step
	}
	return true
}
