package peer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"chronik/internal/kafka"
)

// SetPeer tells that a broker is to be reached at address, and keeps a control connection to it. Nothing happens if that
// is known already, or if id is this node's own.
func (n *Node) SetPeer(id kafka.BrokerID, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.mu.peers[id]
	if n.mu.closing || id == n.opts.Self.Broker || before != nil && before.address == address {
		return
	}
	if before == nil {
		before = n.mu.removed[id]
		delete(n.mu.removed, id)
	}
	o := &outgoing{node: n, id: id, address: address, before: before, ended: make(chan struct{})}
	o.ctx, o.cancel = context.WithCancel(n.ctx)
	if before != nil {
		before.stop()
	}
	n.mu.peers[id] = o
	n.heardLocked(id)
	o.startLocked()
}

// RemovePeer forgets a broker and closes the connection to it.
func (n *Node) RemovePeer(id kafka.BrokerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if o := n.mu.peers[id]; o != nil {
		delete(n.mu.peers, id)
		n.mu.removed[id] = o
		o.stop()
	}
}

// stop ends the goroutine, without waiting for it.
func (o *outgoing) stop() {
	o.cancel()
	if c := o.connected(); c != nil {
		c.close(net.ErrClosed)
	}
}

// Peers are the brokers that SetPeer named, in ascending order.
func (n *Node) Peers() []kafka.BrokerID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.mu.peers))
}

func (n *Node) peer(id kafka.BrokerID) *outgoing {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.peers[id]
}

// Status tells what is known of a peer; false if SetPeer has not named it.
func (n *Node) Status(id kafka.BrokerID) (Status, bool) {
	o := n.peer(id)
	if o == nil {
		return Status{}, false
	}
	s := Status{Address: o.address, LastHeard: n.LastHeard(id)}
	o.mu.Lock()
	s.Connected, s.Identity, s.Refused, s.Err = o.mu.control != nil, o.mu.identity, o.mu.refused, o.mu.err
	if o.mu.control != nil {
		s.Identity = o.mu.control.identity()
	}
	o.mu.Unlock()
	s.Left = n.hasLeft(s.Identity)
	return s, true
}

// Notify sends a one-way message. It never blocks; false tells that it was dropped because the peer is not connected or
// its queue is full. true promises nothing. body is copied.
func (n *Node) Notify(to kafka.BrokerID, m Method, body []byte) bool {
	o := n.peer(to)
	if o == nil {
		return false
	}
	c := o.connected()
	return c != nil && c.send(frameNotify, true, []byte{byte(m)}, body)
}

// Call asks a peer. Errors are those of the peer's handler (a *kafka.Error, or a *RemoteError), or ErrNotSent, or
// ErrOutcomeUnknown (with ctx's error, if that was the reason). A peer that is not connected is ErrNotSent at once. body
// is copied.
func (n *Node) Call(ctx context.Context, to kafka.BrokerID, m Method, body []byte) ([]byte, error) {
	o := n.peer(to)
	if o == nil {
		return nil, fmt.Errorf("%w: broker %d is not among the peers", ErrNotSent, to)
	}
	c := o.connected()
	if c == nil {
		return nil, fmt.Errorf("%w: broker %d at %s is not connected", ErrNotSent, to, o.address)
	}
	return c.call(ctx, m, body)
}

// CallAddress asks whoever listens at an address, over a connection of its own, and tells who answered. The identity is
// also returned with the error of a handler.
func (n *Node) CallAddress(ctx context.Context, address string, m Method, body []byte) (Identity, []byte, error) {
	c, err := n.dialControl(ctx, address, anyBroker)
	if err != nil {
		return Identity{}, nil, notSent(address, err)
	}
	served := make(chan struct{})
	n.mu.Lock()
	if n.mu.closing {
		n.mu.Unlock()
		c.close(net.ErrClosed)
		n.forget(&c.link)
		c.cancel()
		return Identity{}, nil, notSent(address, net.ErrClosed)
	}
	n.goroutines.Add(1)
	n.mu.Unlock()
	go func() {
		defer n.goroutines.Done()
		defer close(served)
		_ = c.serve()
	}()
	answer, err := c.call(ctx, m, body)
	c.close(net.ErrClosed)
	<-served
	return c.identity(), answer, err
}

// DialData opens a data connection to a peer that SetPeer named; the caller closes it. Both nodes must be in one cluster.
func (n *Node) DialData(ctx context.Context, to kafka.BrokerID, kind Kind) (*Conn, error) {
	o := n.peer(to)
	if o == nil {
		return nil, fmt.Errorf("%w: broker %d is not among the peers", ErrNotSent, to)
	}
	if !kind.data() {
		return nil, fmt.Errorf("a %s connection is not for data", kind)
	}
	conn, peer, _, err := n.dial(ctx, o.address, to, kind)
	if err != nil {
		return nil, notSent(o.address, err)
	}
	defer n.release(conn)
	c := newConn(n, conn, kind, peer)
	if !n.register(&c.link, nil) {
		_ = conn.Close()
		return nil, notSent(o.address, net.ErrClosed)
	}
	return c, nil
}

// notSent wraps what kept a node from connecting; a dialler names the address already, where it can.
func notSent(address string, err error) error {
	var named *net.OpError
	if errors.As(err, &named) {
		return fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrNotSent, address, err)
}
