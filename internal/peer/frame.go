package peer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame is: CRC-32C of all that follows, length of the body, type, body.
const headerSize = 4 + 4 + 1

// readBufferSize is what a connection reads ahead, readBufferMax where it is full again and again. Frames that fit are not
// copied.
const (
	readBufferSize = 64 << 10
	readBufferMax  = 256 << 10
)

// keptBufferSize is how much a connection keeps of a buffer that one large frame has grown.
const keptBufferSize = 4 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// beginFrame appends a header that endFrame completes.
func beginFrame(b []byte, typ byte) []byte {
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0, typ)
}

// endFrame completes the frame that starts at position start and ends where b ends.
func endFrame(b []byte, start int) {
	frame := b[start:]
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-headerSize))
	binary.LittleEndian.PutUint32(frame, crc32.Checksum(frame[4:], castagnoli))
}

// frameReader reads frames, into its own buffer if they fit. Memory for a large one grows as its bytes arrive: a length
// that is only claimed costs nothing.
type frameReader struct {
	source io.Reader
	max    int                  // bytes of a body
	heard  func()               // after every successful read
	admit  func(size int) error // before a body above readBufferSize is read; may wait

	buf        []byte
	start, end int    // what of buf is read and not used
	full       bool   // the last read filled it
	large      []byte // the last body that did not fit into buf
}

func newFrameReader(source io.Reader, maxBody int, heard func()) *frameReader {
	return &frameReader{source: source, max: maxBody, heard: heard, buf: make([]byte, readBufferSize)}
}

// next returns the next frame's type and body, which is valid until the next call, or for good after own. io.EOF means
// an end between two frames.
func (r *frameReader) next() (typ byte, body []byte, err error) {
	if cap(r.large) > keptBufferSize {
		r.large = nil
	}
	if err := r.fill(headerSize); err != nil {
		if err == io.EOF && r.end > r.start {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	header := r.buf[r.start : r.start+headerSize]
	want, length := binary.LittleEndian.Uint32(header), binary.LittleEndian.Uint32(header[4:])
	typ = header[8]
	if uint64(length) > uint64(r.max) {
		return 0, nil, fmt.Errorf("a frame of %d bytes was announced, at most %d are possible", length, r.max)
	}
	sum := crc32.Checksum(header[4:], castagnoli)
	if size := headerSize + int(length); size <= len(r.buf) {
		if err := r.fill(size); err != nil {
			return 0, nil, unexpected(err)
		}
		body = r.buf[r.start+headerSize : r.start+size : r.start+size]
		r.start += size
	} else {
		r.start += headerSize
		if body, err = r.readLarge(int(length)); err != nil {
			return 0, nil, err
		}
	}
	if got := crc32.Update(sum, castagnoli, body); got != want {
		return 0, nil, fmt.Errorf("a frame of %d bytes arrived broken: CRC %08x, not %08x", length, got, want)
	}
	return typ, body, nil
}

// ready tells whether the next frame has been read ahead.
func (r *frameReader) ready() bool {
	read := r.buf[r.start:r.end]
	return len(read) >= headerSize && uint64(len(read)-headerSize) >= uint64(binary.LittleEndian.Uint32(read[4:]))
}

// own makes the last body the caller's.
func (r *frameReader) own(body []byte) []byte {
	if len(body) > 0 && len(r.large) == len(body) && &r.large[0] == &body[0] {
		r.large = nil
		return body
	}
	return append(make([]byte, 0, len(body)), body...)
}

// fill makes at least n bytes available in buf.
func (r *frameReader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if r.start == r.end {
		if r.full && len(r.buf) < readBufferMax {
			r.buf = make([]byte, 2*len(r.buf))
		}
		r.start, r.end = 0, 0
	} else if r.start+n > len(r.buf) {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	for r.end-r.start < n {
		got, err := r.source.Read(r.buf[r.end:])
		if got > 0 {
			r.end += got
			r.full = r.end == len(r.buf)
			r.heard()
			continue // an error comes again
		}
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	return nil
}

func (r *frameReader) readLarge(length int) ([]byte, error) {
	if r.admit != nil {
		if err := r.admit(length); err != nil {
			return nil, err
		}
	}
	const firstStep = 1 << 20
	body := r.large[:0]
	body = append(body, r.buf[r.start:min(r.end, r.start+length)]...)
	r.start += len(body)
	for len(body) < length {
		if len(body) == cap(body) || cap(body) < min(length, firstStep) {
			grown := make([]byte, len(body), min(length, max(firstStep, 2*len(body))))
			copy(grown, body)
			body = grown
		}
		got, err := r.source.Read(body[len(body):min(length, cap(body))])
		body = body[:len(body)+got]
		if got > 0 {
			r.heard()
			continue
		}
		if err == nil {
			err = io.ErrNoProgress
		}
		return nil, unexpected(err)
	}
	r.large = body
	return body, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
