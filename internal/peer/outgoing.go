package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"chronik/internal/kafka"
)

var (
	errReplaced = errors.New("another process of that broker has answered")
	errSilent   = errors.New("the peer has been silent for too long")
	errStalled  = errors.New("the peer takes nothing")
)

// outgoing is a peer that this node holds a control connection to. Its goroutine dials, serves the connection until it
// ends, and dials again.
type outgoing struct {
	node    *Node
	id      kafka.BrokerID
	address string
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{}
	before  *outgoing // the same broker at another address: this one starts when that has ended
	running bool      // under Node.mu

	mu struct {
		sync.Mutex
		control  *control // nil while not connected
		identity Identity // who is connected, or was last
		known    bool     // identity is set
		here     bool     // it was connected at this address
		refused  bool
		err      error
		told     bool // the outage stands in the log
	}
}

// startLocked starts the goroutine, once.
func (o *outgoing) startLocked() {
	if o.running || !o.node.mu.started || o.node.mu.closing {
		return
	}
	o.running = true
	o.node.goroutines.Add(1)
	go o.run()
}

func (o *outgoing) run() {
	defer o.node.goroutines.Done()
	defer close(o.ended)
	o.inherit()
	backoff := time.Duration(0)
	for o.ctx.Err() == nil {
		c, err := o.connect()
		if err == nil {
			began := o.node.sinceBase()
			o.up(c)
			err = c.serve()
			o.down(err)
			if o.node.sinceBase()-began >= o.node.opts.Limits.RedialMax {
				backoff = 0
			}
		} else {
			o.failed(err)
		}
		if backoff > 0 {
			o.pause(backoff)
		}
		backoff = min(max(2*backoff, o.node.opts.Limits.RedialMin), o.node.opts.Limits.RedialMax)
	}
}

// inherit waits for the goroutine of the broker's earlier address, and goes on with what that knew.
func (o *outgoing) inherit() {
	if o.before == nil {
		return
	}
	if o.before.running {
		<-o.before.ended
	}
	o.before.mu.Lock()
	identity, known := o.before.mu.identity, o.before.mu.known
	o.before.mu.Unlock()
	o.before = nil
	o.mu.Lock()
	o.mu.identity, o.mu.known = identity, known
	o.mu.Unlock()
}

func (o *outgoing) pause(d time.Duration) {
	timer := o.node.opts.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-o.ctx.Done():
	}
}

// connect dials and introduces this node.
func (o *outgoing) connect() (*control, error) {
	c, err := o.node.dialControl(o.ctx, o.address, o.id)
	if err != nil && o.ctx.Err() != nil {
		err = o.ctx.Err()
	}
	return c, err
}

// dial connects to an address and shakes hands. The socket is held by the node until the caller has registered the
// connection and calls release.
func (n *Node) dial(ctx context.Context, address string, expected kafka.BrokerID, kind Kind) (net.Conn, Identity, string, error) {
	dialCtx, cancel := context.WithTimeout(ctx, n.opts.Limits.Dial)
	conn, err := n.opts.Dial(dialCtx, "tcp", address)
	cancel()
	if err != nil {
		return nil, Identity{}, "", err
	}
	if !n.hold(conn, false) {
		_ = conn.Close()
		return nil, Identity{}, "", net.ErrClosed
	}
	inTime := n.within(n.opts.Limits.Handshake, conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	self := n.Self()
	peer, err := introduce(conn, self, kind, expected)
	if cancelled, late := !stop(), !inTime(); cancelled { // that the socket was closed under it says nothing
		err = ctx.Err()
	} else if late {
		err = fmt.Errorf("it has not introduced itself within %v", n.opts.Limits.Handshake)
	}
	if err != nil {
		n.release(conn)
		_ = conn.Close()
		return nil, peer, "", err
	}
	return conn, peer, self.ClusterID, nil
}

func (n *Node) dialControl(ctx context.Context, address string, expected kafka.BrokerID) (*control, error) {
	conn, peer, told, err := n.dial(ctx, address, expected, Control)
	if err != nil {
		return nil, err
	}
	defer n.release(conn)
	c := newControl(n, conn, true, peer, told)
	if !n.register(&c.link, c) {
		c.cancel()
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// up notes and tells that the peer is connected.
func (o *outgoing) up(c *control) {
	now := c.identity()
	o.mu.Lock()
	last, known := o.mu.identity, o.mu.known
	replaced := known && !last.SameProcess(now)
	o.mu.identity, o.mu.known, o.mu.here = now, true, true
	o.mu.refused, o.mu.err, o.mu.control, o.mu.told = false, nil, c, false
	o.mu.Unlock()
	o.node.opts.Logger.Info("connected to a peer", "peer", o.id, "address", o.address)
	if replaced {
		o.node.cutOthers(now)
		o.node.emit(Event{Kind: Down, Broker: o.id, Identity: last, Replaced: &now})
	}
	o.node.emit(Event{Kind: Up, Broker: o.id, Identity: now})
}

func (o *outgoing) down(reason error) {
	o.mu.Lock()
	o.mu.identity = o.mu.control.identity() // its cluster may have become known
	last := o.mu.identity
	o.mu.control, o.mu.err = nil, reason
	o.mu.Unlock()
	if o.ctx.Err() == nil {
		o.node.opts.Logger.Info("the connection to a peer ended", "peer", o.id, "address", o.address, "reason", reason)
	}
	o.node.emit(Event{Kind: Down, Broker: o.id, Identity: last})
}

// failed notes why the peer cannot be connected; refused where it was before, its process is dead.
func (o *outgoing) failed(err error) {
	o.mu.Lock()
	dead := o.mu.here && !o.mu.refused && errors.Is(err, syscall.ECONNREFUSED)
	if dead {
		o.mu.refused = true
	}
	// One line for each outage, and one for each refusal by name.
	var byName *RefusedError
	news := !o.mu.told || errors.As(err, &byName) && o.mu.err.Error() != err.Error()
	o.mu.told = true
	o.mu.err = err
	last, known := o.mu.identity, o.mu.known
	o.mu.Unlock()
	if o.ctx.Err() != nil || o.node.closing() {
		return
	}
	if news {
		level := slog.LevelWarn
		if !known || o.node.hasLeft(last) {
			level = slog.LevelInfo
		}
		o.node.opts.Logger.Log(o.ctx, level, "cannot connect to a peer, trying on", "peer", o.id, "address", o.address, "reason", err)
	}
	if dead {
		o.node.emit(Event{Kind: Down, Broker: o.id, Identity: last, Refused: true})
	}
}

// connected is the control connection, nil without one.
func (o *outgoing) connected() *control {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.control
}
