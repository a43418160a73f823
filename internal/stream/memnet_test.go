package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// memnet is a network in memory whose connections buffer, delay, break and go silent as the test says. It runs on the fake
// clock of synctest.
type memnet struct {
	mu struct {
		sync.Mutex
		listeners map[string]*memListener
		conns     map[*memConn]struct{}
		delay     func(from, to string) time.Duration // one way
		cut       map[[2]string]bool                  // from, to: nothing arrives, nothing is refused
		bytes     map[[2]string]int64
	}
}

func newMemnet() *memnet {
	n := &memnet{}
	n.mu.listeners = map[string]*memListener{}
	n.mu.conns = map[*memConn]struct{}{}
	n.mu.cut = map[[2]string]bool{}
	n.mu.bytes = map[[2]string]int64{}
	n.mu.delay = func(string, string) time.Duration { return 0 }
	return n
}

func (n *memnet) setDelay(f func(from, to string) time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.delay = f
}

type memAddr string

func (a memAddr) Network() string { return "mem" }
func (a memAddr) String() string  { return string(a) }

type memListener struct {
	n       *memnet
	address string
	mu      sync.Mutex
	some    *sync.Cond
	queue   []*memConn
	closed  bool
}

func (n *memnet) listen(address string) *memListener {
	l := &memListener{n: n, address: address}
	l.some = sync.NewCond(&l.mu)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.listeners[address] = l
	return l
}

func (l *memListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.some.Wait()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

func (l *memListener) Close() error {
	l.n.mu.Lock()
	if l.n.mu.listeners[l.address] == l {
		delete(l.n.mu.listeners, l.address)
	}
	l.n.mu.Unlock()
	l.mu.Lock()
	l.closed = true
	queue := l.queue
	l.queue = nil
	l.some.Broadcast()
	l.mu.Unlock()
	for _, c := range queue {
		c.reset()
	}
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr(l.address) }

// dialFrom is Dial for the node at from.
func (n *memnet) dialFrom(from string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, to string) (net.Conn, error) {
		n.mu.Lock()
		l, cut := n.mu.listeners[to], n.mu.cut[[2]string{from, to}] || n.mu.cut[[2]string{to, from}]
		delay := n.mu.delay(from, to) + n.mu.delay(to, from)
		n.mu.Unlock()
		if cut {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if delay > 0 {
			time.Sleep(delay)
		}
		refused := &net.OpError{Op: "dial", Net: "mem", Err: fmt.Errorf("%s: %w", to, syscall.ECONNREFUSED)}
		if l == nil {
			return nil, refused
		}
		a, b := newMemConn(n, from, to), newMemConn(n, to, from)
		a.peer, b.peer = b, a
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			return nil, refused
		}
		n.mu.Lock()
		n.mu.conns[a], n.mu.conns[b] = struct{}{}, struct{}{}
		n.mu.Unlock()
		l.queue = append(l.queue, b)
		l.some.Signal()
		return a, nil
	}
}

// resetAll resets all connections that touch the address.
func (n *memnet) resetAll(address string) {
	for _, c := range n.touching(address) {
		c.reset()
	}
}

func (n *memnet) touching(address string) []*memConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*memConn
	for c := range n.mu.conns {
		if c.local == address || c.remote == address {
			out = append(out, c)
		}
	}
	return out
}

// setCut makes the way between two addresses swallow everything.
func (n *memnet) setCut(a, b string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.cut[[2]string{a, b}] = cut
	n.mu.cut[[2]string{b, a}] = cut
}

const memWindow = 1 << 20

// memConn is one end; what it holds is what it will read.
type memConn struct {
	n             *memnet
	local, remote string
	peer          *memConn

	mu       sync.Mutex
	change   *sync.Cond
	queue    []memChunk
	buffered int
	last     time.Time // when the newest chunk arrives: order is kept
	err      error     // of reads, once the queue is empty
	broken   error     // of reads and writes, at once
	limit    int       // bytes after which the connection is reset, mid-frame; 0 for none
}

type memChunk struct {
	at time.Time
	b  []byte
}

func newMemConn(n *memnet, local, remote string) *memConn {
	c := &memConn{n: n, local: local, remote: remote}
	c.change = sync.NewCond(&c.mu)
	return c
}

func (c *memConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.broken != nil {
			return 0, c.broken
		}
		if len(c.queue) > 0 {
			if wait := time.Until(c.queue[0].at); wait > 0 {
				time.AfterFunc(wait, c.wake)
				c.change.Wait()
				continue
			}
			n := 0
			for n < len(b) && len(c.queue) > 0 && time.Until(c.queue[0].at) <= 0 { // a stream knows no writes
				took := copy(b[n:], c.queue[0].b)
				if c.queue[0].b = c.queue[0].b[took:]; len(c.queue[0].b) == 0 {
					c.queue = c.queue[1:]
				}
				n += took
			}
			c.buffered -= n
			c.change.Broadcast()
			return n, nil
		}
		if c.err != nil {
			return 0, c.err
		}
		c.change.Wait()
	}
}

func (c *memConn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change.Broadcast()
}

func (c *memConn) Write(b []byte) (int, error) {
	c.n.mu.Lock()
	key := [2]string{c.local, c.remote}
	delay, cut := c.n.mu.delay(c.local, c.remote), c.n.mu.cut[key]
	c.n.mu.bytes[key] += int64(len(b))
	c.n.mu.Unlock()
	p := c.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for written < len(b) {
		if p.broken != nil {
			return written, p.broken
		}
		if p.err != nil {
			return written, p.err
		}
		room := memWindow - p.buffered
		if room <= 0 {
			p.change.Wait()
			continue
		}
		n := min(room, len(b)-written)
		if p.limit > 0 {
			if n >= p.limit {
				n = p.limit
				defer c.reset()
				b = b[:written+n]
			}
			p.limit -= n
		}
		if !cut {
			at := time.Now().Add(delay)
			if at.Before(p.last) {
				at = p.last
			}
			p.last = at
			p.queue = append(p.queue, memChunk{at, append([]byte(nil), b[written:written+n]...)})
			p.buffered += n
			p.change.Broadcast()
		}
		written += n
	}
	return written, nil
}

func (c *memConn) end(err error, broken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	if broken && c.broken == nil {
		c.broken = err
	}
	c.change.Broadcast()
}

func (c *memConn) Close() error {
	c.end(net.ErrClosed, true)
	c.n.mu.Lock()
	cut := c.n.mu.cut[[2]string{c.local, c.remote}]
	delete(c.n.mu.conns, c)
	c.n.mu.Unlock()
	if !cut {
		c.peer.end(io.EOF, false)
	}
	return nil
}

var errReset = errors.New("connection reset by peer")

// reset breaks both ends at once; what is on the way is lost.
func (c *memConn) reset() {
	go func() { // the caller may hold a lock of one of them
		c.end(errReset, true)
		c.peer.end(errReset, true)
	}()
}

// resetAfter resets the connection once so many more bytes have gone this way.
func (c *memConn) resetAfter(bytes int) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	c.peer.limit = max(bytes, 1)
}

func (c *memConn) LocalAddr() net.Addr              { return memAddr(c.local) }
func (c *memConn) RemoteAddr() net.Addr             { return memAddr(c.remote) }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
