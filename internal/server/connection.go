package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/clock"
	"chronik/internal/wire"
)

// connection is one client. Its read loop owns reader, frame and clientID; its write loop owns out and unsent; the
// atomics are for both and for the sweeper.
type connection struct {
	server *Server
	conn   net.Conn        // *tls.Conn on a TLS listener
	socket net.Conn        // what is below: closing it never waits
	raw    syscall.RawConn // of a plain TCP socket; nil otherwise
	api    api.Conn
	opened time.Time
	ctx    context.Context // ends when the answers are not wanted any more
	cancel context.CancelFunc
	queue  chan *inflight

	reader   *wire.FrameReader
	frame    wire.Frame
	clientID string

	out    *wire.Buffer // encoded answers that are not sent yet
	held   int64        // bytes of out that are counted as answers in flight
	unsent []answered
	send   sender
	// leanFetch: the last Fetch had little but records to say.
	leanFetch bool
	linger    clock.Timer // closes the socket after a last answer; nil before

	draining atomic.Bool // no more requests are read; those in the queue are answered
	broken   atomic.Bool // nothing more is written
	read     atomic.Int64
	done     atomic.Int64 // of the requests read, those that are over
	written  atomic.Int64 // bytes
	writing  atomic.Bool
	copied   atomic.Int64 // bytes of answers held beside the small buffer
	sweep    sweepState
}

// inflight is a request from its frame to its answer.
type inflight struct {
	request       api.Request
	reply         api.Reply // nil: no answer
	frame         wire.Frame
	decoded       int64 // bytes held of decodedFrom
	decodedFrom   *wire.Budget
	key, version  int16 // of the answer
	correlationID int32
	began         time.Time
	produce       kmsg.ProduceRequest // what request.Body is for Produce, used again
}

// answered is what an encoded answer's latency is counted by.
type answered struct {
	key   int16
	began time.Time
}

func (s *Server) newConnection(l *listener, conn net.Conn) *connection {
	c := &connection{
		server: s, conn: conn, socket: conn, opened: s.opts.Clock.Now(),
		queue: make(chan *inflight, s.opts.Limits.QueuedReplies),
		api: api.Conn{
			Listener:  l.name,
			TLS:       l.tls,
			Local:     localAddress(conn.LocalAddr()),
			Remote:    remoteAddress(conn.RemoteAddr()),
			Principal: anonymous,
		},
	}
	if s.opts.RequireAuthentication {
		c.api.Principal = ""
	}
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
		if l.tls {
			conn = tls.Server(conn, l.config)
			c.conn = conn
		} else if raw, err := tcp.SyscallConn(); err == nil {
			c.raw = raw
		}
	} else if l.tls {
		c.conn = tls.Server(conn, l.config)
	}
	c.send.init(c)
	c.reader = wire.NewFrameReader(c.conn, s.frames, s.opts.Limits.RequestBytes)
	return c
}

// anonymous is the principal of a client where authentication is not asked for, as Kafka names it. A connection that
// must authenticate first has none.
const anonymous = "User:ANONYMOUS"

// serve is the connection's first goroutine: handshake, then the read loop; it starts the second.
func (c *connection) serve() {
	defer c.server.goroutines.Done()
	if !c.handshake() {
		c.abort()
		c.server.forget(c)
		return
	}
	c.server.goroutines.Add(1)
	go c.writeLoop()
	c.readLoop()
	c.reader.Close()
	close(c.queue)
}

func (c *connection) handshake() bool {
	t, ok := c.conn.(*tls.Conn)
	if !ok {
		return true
	}
	timer := c.server.opts.Clock.AfterFunc(c.server.opts.Limits.Handshake, func() { _ = c.socket.Close() })
	err := t.HandshakeContext(c.ctx)
	timer.Stop()
	if err != nil {
		c.server.counters.tlsFailures.Add(1)
		c.server.opts.Logger.Debug("TLS handshake failed", "remote", c.api.Remote, "listener", c.api.Listener, "error", err)
		return false
	}
	if name := t.ConnectionState().ServerName; name != "" {
		c.api.Local.Host = name
	}
	return true
}

// abort ends the connection without further answers: replies that wait are told through their context.
func (c *connection) abort() {
	c.broken.Store(true)
	c.cancel()
	_ = c.socket.Close()
}

// drain stops the read loop at the next frame; what is queued is still answered.
func (c *connection) drain() {
	c.draining.Store(true)
	_ = c.socket.SetReadDeadline(time.Unix(1, 0))
}

// hangUp closes the connection so that the client gets the answers sent so far: to close a socket that has unread
// requests would reset it and drop them.
func (c *connection) hangUp() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		c.abort()
		return
	}
	timer := c.server.opts.Clock.AfterFunc(lingerTime, c.abort)
	_ = c.socket.SetReadDeadline(time.Time{})
	var sink [4096]byte
	for range lingerBytes / len(sink) {
		if _, err := c.socket.Read(sink[:]); err != nil {
			break
		}
	}
	timer.Stop()
	c.abort()
}

const (
	lingerTime  = 100 * time.Millisecond
	lingerBytes = 1 << 20
)

func localAddress(a net.Addr) api.Address {
	if p, err := netip.ParseAddrPort(a.String()); err == nil {
		return api.Address{Host: p.Addr().Unmap().String(), Port: int32(p.Port())}
	}
	return api.Address{Host: a.String()}
}

func remoteAddress(a net.Addr) netip.Addr {
	p, _ := netip.ParseAddrPort(a.String())
	return p.Addr().Unmap()
}
