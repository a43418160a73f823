package simnet

import (
	"net"
	"os"
	"syscall"
	"time"
)

// conn is one end of a connection.
type conn struct {
	process       *Process
	local, remote *net.TCPAddr
	in, out       *pipe
	peer          *conn
	closed        bool
	dead          bool // its process was killed, or its host lost power
	read, write   deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (c *conn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Read returns what has arrived.
func (c *conn) Read(b []byte) (int, error) {
	n := c.in.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case c.closed || c.dead:
			return 0, c.fail("read", net.ErrClosed)
		case c.read.passed():
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		}
		count, err, ok := c.in.readLocked(b)
		if ok {
			if err == syscall.ECONNRESET {
				err = c.fail("read", os.NewSyscallError("read", err))
			}
			return count, err
		}
		c.in.readable.Wait()
	}
}

// Write hands everything over, waiting for room in the window.
func (c *conn) Write(b []byte) (int, error) {
	n := c.out.net
	n.mu.Lock()
	defer n.mu.Unlock()
	written := 0
	for {
		switch {
		case c.closed || c.dead:
			return written, c.fail("write", net.ErrClosed)
		case c.in.toldReset():
			return written, c.fail("write", os.NewSyscallError("write", syscall.EPIPE))
		case c.write.passed():
			return written, c.fail("write", os.ErrDeadlineExceeded)
		case written == len(b):
			return written, nil
		}
		room := c.out.room()
		if room <= 0 {
			c.out.writable.Wait()
			continue
		}
		step := min(room, segmentSize, len(b)-written)
		c.out.pushLocked(b[written : written+step])
		written += step
	}
}

// Close ends the connection: in order, or by a reset if something that arrived was never read.
func (c *conn) Close() error {
	n := c.in.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed || c.dead {
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	if len(c.in.segments) > 0 {
		c.out.resetLocked(false)
	} else {
		c.out.endLocked()
	}
	c.endLocked()
	return nil
}

// endLocked lets go of a connection whose process has closed it or is gone.
func (c *conn) endLocked() {
	delete(c.process.conns, c)
	c.in.dropLocked()
	c.in.readable.Broadcast()
	c.out.writable.Broadcast()
	for _, d := range []*deadline{&c.read, &c.write} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	if c.peer.closed || c.peer.dead {
		c.in.forgetLocked()
		c.out.forgetLocked()
	}
}

// CloseWrite sends EOF and reads on.
func (c *conn) CloseWrite() error {
	c.in.net.mu.Lock()
	defer c.in.net.mu.Unlock()
	if !c.closed && !c.dead {
		c.out.endLocked()
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.read, t, c.in.readable.Broadcast)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.write, t, c.out.writable.Broadcast)
}

func (c *conn) setDeadline(d *deadline, t time.Time, wake func()) error {
	n := c.in.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed || c.dead {
		return c.fail("set deadline", net.ErrClosed)
	}
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() && time.Until(t) > 0 {
		d.timer = time.AfterFunc(time.Until(t), func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			wake()
		})
	}
	wake()
	return nil
}
