package wire

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// chunkBytes is read from a socket at a time where frames are small.
const chunkBytes = 16 << 10

// maxProven is the most that a connection is given on a promise, once it has kept one of that size, in bytes.
const maxProven = 4 << 20

// FrameReader takes frames off a connection. It holds no memory while it waits for a frame to begin: on a plain
// socket it asks for a buffer only when there is something to read, and a frame's own buffer grows with what has
// arrived, whatever length it promised.
//
// Next is called from one goroutine; the counters may be read from any.
type FrameReader struct {
	conn   net.Conn
	raw    syscall.RawConn // nil where the connection is not a plain socket: no chunks then
	frames *Frames
	limit  int32

	header  [4]byte
	headerN int
	chunk   *Buffer // nil, or what was read beyond the last frame: chunk.B[at:]
	at      int
	proven  int // the largest frame that came whole, up to maxProven; one of that size gets all its memory at once

	into []byte // of the read under way
	n    int
	err  error
	read func(fd uintptr) bool
	fill func(fd uintptr) bool

	bytes    atomic.Int64
	progress frameProgress
}

// frameProgress is what the sweeper looks at.
type frameProgress struct {
	promised atomic.Int64 // bytes of the frame that is being waited for; 0 if none is
	arrived  atomic.Int64
}

// NewFrameReader reads frames of at most limit bytes.
func NewFrameReader(conn net.Conn, frames *Frames, limit int32) *FrameReader {
	r := &FrameReader{conn: conn, frames: frames, limit: limit}
	r.read, r.fill = r.readOnce, r.fillOnce
	if s, ok := conn.(*net.TCPConn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			r.raw = raw
		}
	}
	return r
}

// SetLimit changes the largest frame, as after authentication. It is for Next's goroutine.
func (r *FrameReader) SetLimit(limit int32) { r.limit = limit }

// BytesRead is the number of bytes that the connection sent.
func (r *FrameReader) BytesRead() int64 { return r.bytes.Load() }

// Partial tells of a frame whose rest the client owes: its size and what of it has arrived, in bytes; 0 if none.
func (r *FrameReader) Partial() (promised, arrived int64) {
	return r.progress.promised.Load(), r.progress.arrived.Load()
}

// Next returns the next frame into f. Errors: io.EOF at a frame's boundary, io.ErrUnexpectedEOF inside one,
// *[FrameSizeError], [ErrGivenUp] if done closed while waiting for memory, and the connection's.
func (r *FrameReader) Next(f *Frame, done <-chan struct{}) error {
	if err := r.readHeader(); err != nil {
		return err
	}
	size := int32(binary.BigEndian.Uint32(r.header[:]))
	if size < 0 || size > r.limit || int64(size) > r.frames.MaxFrame() {
		return &FrameSizeError{Size: size, Limit: r.limit}
	}
	if err := r.readBody(f, int(size), done); err != nil {
		f.Release()
		return err
	}
	r.headerN = 0
	r.proven = min(max(r.proven, int(size)), maxProven)
	return nil
}

// Close gives back what the reader holds. Next must have returned.
func (r *FrameReader) Close() { r.dropChunk() }

func (r *FrameReader) dropChunk() {
	r.frames.Free(r.chunk)
	r.chunk, r.at = nil, 0
}

// take copies what the chunk has, at most len(p).
func (r *FrameReader) take(p []byte) int {
	if r.chunk == nil {
		return 0
	}
	n := copy(p, r.chunk.B[r.at:])
	r.at += n
	if r.at == len(r.chunk.B) {
		r.dropChunk()
	}
	return n
}

func (r *FrameReader) readHeader() error {
	for {
		r.headerN += r.take(r.header[r.headerN:])
		if r.headerN == len(r.header) {
			return nil
		}
		var err error
		if r.raw != nil {
			err = r.fillChunk()
		} else {
			var n int
			n, err = r.receive(r.header[r.headerN:])
			r.headerN += n
		}
		if err == io.EOF && r.headerN > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
}

func (r *FrameReader) readBody(f *Frame, size int, done <-chan struct{}) error {
	have := 0
	if r.chunk != nil {
		have = len(r.chunk.B) - r.at
	}
	room := size // of the first buffer
	var err error
	if have < size && size > r.proven {
		room = min(size, max(have, 512))
		err = f.begin(r.frames, int64(room), done)
	} else {
		err = f.whole(r.frames, int64(size), done)
	}
	if err != nil {
		return err
	}
	f.buffer = r.frames.Get(room)
	n := r.take(f.buffer.B[:room])
	if n < size {
		if err := r.readRest(f, n, room, size, done); err != nil {
			return err
		}
	}
	f.Bytes = f.buffer.B[:size]
	return nil
}

// readRest waits for what the client still owes of a frame.
func (r *FrameReader) readRest(f *Frame, n, room, size int, done <-chan struct{}) error {
	defer r.progress.promised.Store(0)
	r.progress.arrived.Store(int64(n))
	for n < size {
		if n == room {
			var err error
			if room, err = r.grow(f, n, size, done); err != nil {
				return err
			}
		}
		r.progress.promised.Store(int64(size))
		got, err := r.receive(f.buffer.B[n:room])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		n += got
		r.progress.arrived.Store(int64(n))
	}
	return nil
}

// grow gives a frame of which n bytes have arrived a buffer of four times as much, having taken the budget for all of it.
func (r *FrameReader) grow(f *Frame, n, size int, done <-chan struct{}) (room int, err error) {
	room = min(size, 4*n)
	if f.held < int64(size) {
		r.progress.promised.Store(0) // it is not the client that is waited for
		if err := f.whole(r.frames, int64(size), done); err != nil {
			return 0, err
		}
	}
	larger := r.frames.Get(room)
	copy(larger.B[:n], f.buffer.B[:n])
	r.frames.Free(f.buffer)
	f.buffer = larger
	return room, nil
}

// receive reads at least one byte into p.
func (r *FrameReader) receive(p []byte) (int, error) {
	if r.raw == nil {
		n, err := r.conn.Read(p)
		r.bytes.Add(int64(n))
		if n > 0 {
			err = nil
		}
		return n, err
	}
	r.into = p
	err := r.raw.Read(r.read)
	r.into = nil
	if err == nil {
		err = r.err
	}
	if err != nil {
		return 0, err
	}
	r.bytes.Add(int64(r.n))
	return r.n, nil
}

// fillChunk waits until the socket is readable and only then takes a buffer for what is there.
func (r *FrameReader) fillChunk() error {
	if err := r.raw.Read(r.fill); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	r.bytes.Add(int64(r.n))
	return nil
}

func (r *FrameReader) fillOnce(fd uintptr) bool {
	b := r.frames.Get(chunkBytes)
	r.into = b.B[:chunkBytes]
	readable := r.readOnce(fd)
	r.into = nil
	if !readable || r.err != nil {
		r.frames.Free(b)
		return readable
	}
	b.B = b.B[:r.n]
	r.chunk, r.at = b, 0
	return true
}

func (r *FrameReader) readOnce(fd uintptr) bool {
	for {
		n, err := readNow(fd, r.into)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			r.n, r.err = 0, err
		case n == 0:
			r.n, r.err = 0, io.EOF
		default:
			r.n, r.err = n, nil
		}
		return true
	}
}
