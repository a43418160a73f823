package bench

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ceilingFileBytes = 1 << 30 // of a log file, written over from the start when full
	ceilingGroupMax  = 4 << 20
)

// CeilingNode runs a node of the ceiling until the process ends: "leader" (followers are the addresses it streams to),
// "follower" or "file" (a server of one warm file). It prints its address.
func CeilingNode(role, path string, sync bool, followers string, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	// Written full of zeros for fdatasync without a change of the inode, and for sendfile from the page cache.
	size := int64(ceilingFileBytes)
	if role != "file" && !sync {
		size = 0
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr())
	log := &ceilingLog{file: f, sync: sync}
	switch role {
	case "follower":
		return log.follow(l)
	case "file":
		return serveFile(l, f)
	}
	return log.lead(l, followers)
}

type ceilingLog struct {
	file *os.File
	at   int64
	sync bool
}

func (w *ceilingLog) write(b []byte) error {
	if w.at+int64(len(b)) > ceilingFileBytes {
		w.at = 0
	}
	if _, err := w.file.WriteAt(b, w.at); err != nil {
		return err
	}
	w.at += int64(len(b))
	if !w.sync {
		return nil
	}
	return datasync(w.file)
}

// follow logs a byte stream and answers with how much of it is durable.
func (w *ceilingLog) follow(l net.Listener) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	buf := make([]byte, ceilingGroupMax)
	var position [8]byte
	for total := uint64(0); ; {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if err := w.write(buf[:n]); err != nil {
			return err
		}
		total += uint64(n)
		binary.BigEndian.PutUint64(position[:], total)
		if _, err := conn.Write(position[:]); err != nil {
			return err
		}
	}
}

// serveFile answers each request for n bytes by sendfile, going through the file.
func serveFile(l net.Listener, f *os.File) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer func() { _ = conn.Close() }()
			raw, err := conn.(*net.TCPConn).SyscallConn()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			var size [4]byte
			at := int64(0)
			for {
				if _, err := io.ReadFull(in, size[:]); err != nil {
					return
				}
				left := int(binary.BigEndian.Uint32(size[:]))
				if at+int64(left) > ceilingFileBytes {
					at = 0
				}
				err := raw.Write(func(fd uintptr) bool {
					for left > 0 {
						n, err := unix.Sendfile(int(fd), int(f.Fd()), &at, left)
						if err == unix.EAGAIN {
							return false
						}
						if err != nil || n == 0 {
							return true
						}
						left -= n
					}
					return true
				})
				if err != nil || left > 0 {
					return
				}
			}
		}()
	}
}

// ceilingLeader groups what the connections bring: one write and one sync a group, the group's bytes to every follower
// meanwhile, and the answers once all have it.
type ceilingLeader struct {
	mu struct {
		sync.Mutex
		group   []byte
		waiting []waiter
		total   uint64
	}
	wake     chan struct{} // the writer: there is a group
	moved    chan struct{} // the completer: a position or the queue moved
	queue    chan []waiter
	position []atomic.Uint64 // of the leader's own disk, then of each follower
}

type waiter struct {
	conn net.Conn
	end  uint64
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *ceilingLog) lead(l net.Listener, followers string) error {
	s := &ceilingLeader{wake: make(chan struct{}, 1), moved: make(chan struct{}, 1), queue: make(chan []waiter, 1024)}
	var streams []net.Conn
	for _, addr := range strings.FieldsFunc(followers, func(r rune) bool { return r == ',' }) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		streams = append(streams, conn)
	}
	s.position = make([]atomic.Uint64, 1+len(streams))
	for i, conn := range streams {
		go s.acks(conn, &s.position[1+i])
	}
	go s.complete()
	failed := make(chan error, 1)
	go func() { failed <- s.write(w, streams) }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				failed <- err
				return
			}
			go s.serve(conn)
		}
	}()
	return <-failed
}

func (s *ceilingLeader) acks(conn net.Conn, position *atomic.Uint64) {
	in := bufio.NewReader(conn)
	var b [8]byte
	for {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return
		}
		position.Store(binary.BigEndian.Uint64(b[:]))
		signal(s.moved)
	}
}

func (s *ceilingLeader) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	table := crc32.MakeTable(crc32.Castagnoli)
	in := bufio.NewReaderSize(conn, 64<<10)
	var size [4]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(in, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(size[:]))
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(in, buf); err != nil {
			return
		}
		_ = crc32.Checksum(buf, table) // what a log must do to each payload
		s.mu.Lock()
		for len(s.mu.group) > 0 && len(s.mu.group)+n > ceilingGroupMax {
			s.mu.Unlock()
			time.Sleep(20 * time.Microsecond)
			s.mu.Lock()
		}
		s.mu.group = append(s.mu.group, buf...)
		s.mu.total += uint64(n)
		s.mu.waiting = append(s.mu.waiting, waiter{conn, s.mu.total})
		s.mu.Unlock()
		signal(s.wake)
	}
}

func (s *ceilingLeader) write(w *ceilingLog, streams []net.Conn) error {
	var spare []byte
	send := make([]chan []byte, len(streams))
	sent := make(chan error, len(streams))
	for i, conn := range streams {
		send[i] = make(chan []byte)
		go func() {
			for b := range send[i] {
				_, err := conn.Write(b)
				sent <- err
			}
		}()
	}
	for range s.wake {
		s.mu.Lock()
		group, waiting, total := s.mu.group, s.mu.waiting, s.mu.total
		s.mu.group, s.mu.waiting = spare[:0], nil
		s.mu.Unlock()
		if len(group) == 0 {
			spare = group
			continue
		}
		for _, c := range send {
			c <- group
		}
		s.queue <- waiting
		if err := w.write(group); err != nil {
			return err
		}
		s.position[0].Store(total)
		signal(s.moved)
		for range send {
			if err := <-sent; err != nil {
				return err
			}
		}
		spare = group
	}
	return nil
}

func (s *ceilingLeader) complete() {
	var queue []waiter
	var answer [8]byte
	for {
		select {
		case more := <-s.queue:
			queue = append(queue, more...)
		case <-s.moved:
		}
		durable := s.position[0].Load()
		for i := range s.position {
			durable = min(durable, s.position[i].Load())
		}
		n := 0
		for n < len(queue) && queue[n].end <= durable {
			_, _ = queue[n].conn.Write(answer[:]) // a connection that is gone reads nothing
			n++
		}
		queue = append(queue[:0], queue[n:]...)
	}
}
