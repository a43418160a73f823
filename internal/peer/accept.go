package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

const acceptPause = 200 * time.Millisecond

// accept is the goroutine of the cluster port.
func (n *Node) accept() {
	defer n.goroutines.Done()
	for {
		conn, err := n.opts.Listener.Accept()
		if err == nil {
			n.admit(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) || n.ctx.Err() != nil {
			return
		}
		n.opts.Logger.Error("cannot accept connections on the cluster port; is the limit of open files (ulimit -n) too low?", "error", err)
		timer := n.opts.Clock.NewTimer(acceptPause)
		select {
		case <-timer.C():
		case <-n.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// admit starts a connection, or closes it if there are too many.
func (n *Node) admit(conn net.Conn) {
	n.mu.Lock()
	introducing := 0
	for _, accepted := range n.mu.sockets {
		if accepted {
			introducing++
		}
	}
	full := n.mu.accepted >= n.opts.Limits.Connections || introducing >= n.opts.Limits.Handshakes
	if full || n.mu.closing {
		n.mu.Unlock()
		if full {
			n.opts.Logger.Debug("a connection to the cluster port is refused: too many are open", "remote", conn.RemoteAddr())
		}
		_ = conn.Close()
		return
	}
	n.mu.sockets[conn] = true
	n.mu.accepted++
	n.goroutines.Add(1)
	n.mu.Unlock()
	go n.serve(conn)
}

// serve is an accepted connection's goroutine.
func (n *Node) serve(conn net.Conn) {
	defer n.goroutines.Done()
	defer func() {
		_ = conn.Close()
		n.mu.Lock()
		delete(n.mu.sockets, conn)
		n.mu.accepted--
		n.mu.Unlock()
	}()
	inTime := n.within(n.opts.Limits.Handshake, conn)
	h, me, err := welcomePeer(conn, n.Self, func() bool { return n.data.Load() != nil })
	if !inTime() && err == nil {
		return
	}
	if err != nil {
		n.logRefusal(conn, h, err)
		return
	}
	if h.kind == Control {
		c := newControl(n, conn, false, h.identity, me.ClusterID)
		defer c.cancel()
		if n.register(&c.link, c) {
			n.release(conn)
			err := c.serve()
			n.opts.Logger.Debug("a peer's control connection ended", "peer", c.identity().Broker, "reason", err)
		}
		return
	}
	c := newConn(n, conn, h.kind, h.identity)
	if n.register(&c.link, nil) {
		n.release(conn)
		(*n.data.Load())(c)
		_ = c.Close()
	}
}

// logRefusal: strangers are worth no more than a debug line, a peer that is refused by name is a mistake in somebody's
// configuration.
func (n *Node) logRefusal(conn net.Conn, h hello, err error) {
	level := slog.LevelDebug
	var refused *RefusedError
	if errors.As(err, &refused) && h.kind == Control {
		level, err = slog.LevelWarn, errors.New(refused.Text)
	}
	n.opts.Logger.Log(n.ctx, level, "a connection to the cluster port is refused", "remote", conn.RemoteAddr(),
		"peer", fmt.Sprint(h.identity.Broker), "reason", err)
}
