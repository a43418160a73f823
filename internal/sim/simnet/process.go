package simnet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// backlog is how many connections wait to be accepted.
const backlog = 128

// Process is what opens sockets on a host. When it is killed, all of them are gone.
type Process struct {
	host      *Host
	over      bool
	conns     map[*conn]struct{}
	listeners map[*listener]struct{}
}

// Kill ends the process: the host's kernel closes its sockets. Peers see an end or a reset of each connection, and are
// refused from then on.
func (p *Process) Kill() {
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	for _, c := range p.sortedConns() {
		c.dead = true
		if hash(n.opts.Seed, c.out.label, c.out.messages, 7)%2 == 0 || len(c.in.segments) > 0 {
			c.out.resetLocked(true)
		} else {
			c.out.endLocked()
		}
		c.endLocked()
	}
	p.closeListenersLocked()
	n.changed.Broadcast()
}

// PowerOff ends the process and turns the host off: what has not arrived never will, and nobody is told.
func (p *Process) PowerOff() {
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	p.host.on = false
	if !p.over {
		p.over = true
		for _, c := range p.sortedConns() {
			c.dead = true
			c.in.lost, c.out.lost = true, true
			c.out.segments, c.out.queued = nil, 0
			unread, queued := c.in.segments, c.in.queued // the sender's view: never acknowledged
			c.endLocked()
			c.in.segments, c.in.queued = unread, queued
		}
		p.closeListenersLocked()
	}
	n.changed.Broadcast()
}

func (p *Process) sortedConns() []*conn {
	return slices.SortedFunc(maps.Keys(p.conns), func(a, b *conn) int {
		return int(int64(a.in.id) - int64(b.in.id))
	})
}

func (p *Process) closeListenersLocked() {
	for l := range p.listeners {
		l.closeLocked()
	}
}

var errProcessOver = errors.New("the process was killed")

// listener is a port that is listened on.
type listener struct {
	process *Process
	address *net.TCPAddr
	pending []*conn
	closed  bool
	arrived sync.Cond
}

// Listen opens a port of the host. The host part of the address is not looked at; port 0 picks one.
func (p *Process) Listen(_, address string) (net.Listener, error) {
	n := p.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	_, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	if p.over {
		return nil, errProcessOver
	}
	for port == 0 || p.host.ports[port] != nil && portText == "0" {
		p.host.nextOut++
		port = p.host.nextOut
	}
	addr := &net.TCPAddr{IP: net.ParseIP(p.host.ip), Port: port}
	if p.host.ports[port] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: addr, Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &listener{process: p, address: addr}
	l.arrived.L = &n.mu
	p.host.ports[port] = l
	p.listeners[l] = struct{}{}
	return l, nil
}

func (l *listener) Addr() net.Addr { return l.address }

func (l *listener) Accept() (net.Conn, error) {
	n := l.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(l.pending) == 0 && !l.closed {
		l.arrived.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.address, Err: net.ErrClosed}
	}
	c := l.pending[0]
	l.pending = l.pending[1:]
	return c, nil
}

func (l *listener) Close() error {
	n := l.process.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.address, Err: net.ErrClosed}
	}
	l.closeLocked()
	return nil
}

func (l *listener) closeLocked() {
	l.closed = true
	delete(l.process.host.ports, l.address.Port)
	delete(l.process.listeners, l)
	for _, c := range l.pending {
		if !c.dead {
			c.dead = true
			c.out.resetLocked(true)
			c.endLocked()
		}
	}
	l.pending = nil
	l.arrived.Broadcast()
}

// Dial connects to a port of a host. Where nothing passes it waits for ctx to end, as a lost SYN does.
func (p *Process) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil || net.ParseIP(host) == nil {
		return nil, fmt.Errorf("dial %s: an IP address and a port are needed", address)
	}
	n := p.host.net
	defer context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.changed.Broadcast()
	})()
	n.mu.Lock()
	defer n.mu.Unlock()
	target := n.hostLocked(host)
	remote := &net.TCPAddr{IP: net.ParseIP(host), Port: port}
	c, err := p.dialLocked(ctx, target, remote)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: remote, Err: err}
	}
	return c, nil
}

func (p *Process) dialLocked(ctx context.Context, target *Host, remote *net.TCPAddr) (*conn, error) {
	n, there, back := p.host.net, link{p.host.ip, target.ip}, link{target.ip, p.host.ip}
	n.dials[there]++
	label := hash(hashString(there.from), hashString(there.to), n.dials[there])
	arrival := time.Time{}
	for {
		switch {
		case p.over:
			return nil, errProcessOver
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil, os.ErrDeadlineExceeded
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		if !target.on || n.cuts[there] || n.cuts[back] {
			arrival = time.Time{}
			n.changed.Wait()
			continue
		}
		if arrival.IsZero() {
			arrival = time.Now().Add(n.delay(there, label, 0) + n.delay(back, label, 1))
			timer := time.AfterFunc(time.Until(arrival), func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.changed.Broadcast()
			})
			defer timer.Stop()
		}
		if time.Now().Before(arrival) {
			n.changed.Wait()
			continue
		}
		l := target.ports[remote.Port]
		if l == nil || target.refuses || len(l.pending) >= backlog {
			return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
		}
		return p.connectLocked(l, remote, label), nil
	}
}

func (p *Process) connectLocked(l *listener, remote *net.TCPAddr, label uint64) *conn {
	n := p.host.net
	p.host.nextOut++
	local := &net.TCPAddr{IP: net.ParseIP(p.host.ip), Port: p.host.nextOut}
	out, in := n.newPipe(p.host, l.process.host, hash(label, 1)), n.newPipe(l.process.host, p.host, hash(label, 2))
	out.back, in.back = in, out
	near := &conn{process: p, local: local, remote: remote, in: in, out: out}
	far := &conn{process: l.process, local: remote, remote: local, in: out, out: in}
	near.peer, far.peer = far, near
	p.conns[near] = struct{}{}
	l.process.conns[far] = struct{}{}
	l.pending = append(l.pending, far)
	l.arrived.Signal()
	return near
}
