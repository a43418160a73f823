package server

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"chronik/internal/wire"
)

const (
	// writeBytes go to the socket at a time, so that a slow client's progress shows.
	writeBytes = 256 << 10
	// copyBytes is the buffer for file sections that must be copied (TLS), copyBytesLean where memory is short: two
	// TLS records.
	copyBytes     = 256 << 10
	copyBytesLean = 32 << 10
	// sendfileBytes go out by one call.
	sendfileBytes = 4 << 20
)

// sender writes to one socket. The functions for the raw socket are made once: a closure each time would be garbage.
type sender struct {
	c      *connection
	p      []byte
	more   bool
	source int
	off    int64
	n      int
	err    error

	writeFunc    func(fd uintptr) bool
	sendfileFunc func(fd uintptr) bool
}

func (s *sender) init(c *connection) {
	s.c = c
	s.writeFunc, s.sendfileFunc = s.writeOnce, s.sendfileOnce
}

// bytes sends p. more tells the kernel that something follows at once.
func (s *sender) bytes(p []byte, more bool) error {
	s.c.writing.Store(true)
	defer s.c.writing.Store(false)
	for len(p) > 0 {
		part := p[:min(len(p), writeBytes)]
		var n int
		var err error
		if s.c.raw != nil {
			n, err = s.write(part, more || len(part) < len(p))
		} else {
			n, err = s.c.conn.Write(part)
		}
		s.c.written.Add(int64(n))
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (s *sender) write(p []byte, more bool) (int, error) {
	s.p, s.more = p, more
	err := s.c.raw.Write(s.writeFunc)
	s.p = nil
	if err != nil {
		return 0, err
	}
	return s.n, s.err
}

func (s *sender) writeOnce(fd uintptr) bool {
	for {
		if s.more {
			s.n, s.err = writeMore(int(fd), s.p)
		} else {
			s.n, s.err = wire.WriteNow(fd, s.p)
		}
		switch s.err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		s.n = max(s.n, 0)
		return true
	}
}

// file sends length bytes of a file from offset: by sendfile, which reads from the page cache and leaves the file's
// own position alone, or through a buffer where the connection must see the bytes (TLS). A file that ends early is an
// error: the length has been promised already.
func (s *sender) file(f *os.File, offset, length int64) error {
	s.c.writing.Store(true)
	defer s.c.writing.Store(false)
	if s.c.raw == nil {
		return s.copyFile(f, offset, length)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for length > 0 {
		s.off, s.n = offset, int(min(length, sendfileBytes))
		var sent error
		// Control keeps the descriptor from being closed, and its number from naming another file, meanwhile.
		err := raw.Control(func(fd uintptr) {
			s.source = int(fd)
			sent = s.c.raw.Write(s.sendfileFunc)
		})
		switch {
		case err != nil:
			return err
		case sent != nil:
			return sent
		case s.err != nil:
			return fmt.Errorf("sendfile from %s at %d: %w", f.Name(), offset, s.err)
		case s.n == 0:
			return fmt.Errorf("%s ends at %d, %d bytes short of what was promised: %w", f.Name(), offset, length, io.ErrUnexpectedEOF)
		}
		s.c.written.Add(int64(s.n))
		s.c.server.counters.sendfile.Add(int64(s.n))
		offset += int64(s.n)
		length -= int64(s.n)
	}
	return nil
}

func (s *sender) sendfileOnce(fd uintptr) bool {
	for {
		off := s.off
		n, err := unix.Sendfile(int(fd), s.source, &off, s.n)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return false
		}
		s.n, s.err = max(n, 0), err
		return true
	}
}

func (s *sender) copyFile(f *os.File, offset, length int64) error {
	size, held := copyBytesLean, int64(0)
	if length > copyBytesLean && s.c.server.responses.TryAcquire(copyBytes) {
		size, held = copyBytes, copyBytes
		s.c.copied.Add(held)
	}
	b := s.c.server.frames.Get(size)
	defer func() {
		s.c.server.frames.Free(b)
		s.c.copied.Add(-held)
		s.c.server.responses.Release(held)
	}()
	for length > 0 {
		p := b.B[:min(length, int64(size))]
		n, err := f.ReadAt(p, offset)
		if n < len(p) {
			return fmt.Errorf("read %s at %d: %w", f.Name(), offset, err)
		}
		n, err = s.c.conn.Write(p)
		s.c.written.Add(int64(n))
		if err != nil {
			return err
		}
		offset += int64(n)
		length -= int64(n)
	}
	return nil
}
