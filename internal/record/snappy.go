package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/snappy"
)

// Java's producers frame snappy as the xerial library does: a 16-byte header, then chunks, each a 4-byte big-endian
// length and a raw snappy block. Others send one raw block.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeaderSize = 16
	xerialChunk      = 32 << 10
	// snappyMaxRatio bounds what a raw block can expand to: a copy of 64 bytes takes three.
	snappyMaxRatio = 22
)

var errSnappy = errors.New("broken snappy framing")

// snappyReader decodes both framings from a whole message in memory.
type snappyReader struct {
	src    *bytes.Reader
	first  bool
	framed bool
	in     []byte
	out    []byte // decoded and not yet read
	buf    []byte
}

func (s *snappyReader) reset(src *bytes.Reader) {
	s.src, s.first, s.framed, s.out = src, true, false, nil
	if cap(s.buf) > 1<<20 { // a raw block may be large; do not keep it
		s.buf = nil
	}
	if cap(s.in) > 1<<20 {
		s.in = nil
	}
}

func (s *snappyReader) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// next decodes the next chunk, or the one raw block.
func (s *snappyReader) next() error {
	if s.first {
		s.first = false
		var head [xerialHeaderSize]byte
		n, _ := io.ReadFull(s.src, head[:])
		s.framed = n == xerialHeaderSize && bytes.Equal(head[:len(xerialMagic)], xerialMagic)
		if !s.framed {
			if _, err := s.src.Seek(int64(-n), io.SeekCurrent); err != nil {
				return err
			}
			if s.src.Len() == 0 {
				return io.EOF
			}
			return s.block(s.src.Len())
		}
	}
	if s.src.Len() == 0 || !s.framed {
		return io.EOF
	}
	var size [4]byte
	if _, err := io.ReadFull(s.src, size[:]); err != nil {
		return errSnappy
	}
	n := int64(int32(binary.BigEndian.Uint32(size[:])))
	if n <= 0 || n > int64(s.src.Len()) {
		return errSnappy
	}
	return s.block(int(n))
}

func (s *snappyReader) block(n int) error {
	if cap(s.in) < n {
		s.in = make([]byte, n)
	}
	s.in = s.in[:n]
	if _, err := io.ReadFull(s.src, s.in); err != nil {
		return errSnappy
	}
	size, err := snappy.DecodedLen(s.in)
	if err != nil {
		return err
	}
	if size > n*snappyMaxRatio+64 {
		return errSnappy // it claims more than it can hold: nothing is allocated for it
	}
	if cap(s.buf) < size {
		s.buf = make([]byte, size)
	}
	s.out, err = snappy.Decode(s.buf[:size], s.in)
	return err
}

// appendXerial compresses src as Java's producers do.
func appendXerial(dst, src []byte) []byte {
	dst = append(dst, xerialMagic...)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1)
	for len(src) > 0 {
		chunk := src[:min(xerialChunk, len(src))]
		src = src[len(chunk):]
		at := len(dst)
		need := 4 + snappy.MaxEncodedLen(len(chunk))
		if cap(dst)-at < need {
			grown := make([]byte, at, max(2*cap(dst), at+need))
			copy(grown, dst)
			dst = grown
		}
		out := snappy.Encode(dst[at+4:at+need], chunk)
		dst = dst[:at+4+len(out)]
		binary.BigEndian.PutUint32(dst[at:], uint32(len(out)))
	}
	return dst
}
