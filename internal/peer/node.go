package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/wire"
)

// What a call can end with, besides the error that its handler returned.
var (
	// ErrNotSent: the call has reached no handler, and never will: the peer is not connected, its queue or this node's is
	// full, or it has no handler for the method.
	ErrNotSent = errors.New("the call was not made")
	// ErrOutcomeUnknown: the connection ended, or the context did, after the call was sent.
	ErrOutcomeUnknown = errors.New("the outcome of the call is unknown")
)

// Handler answers a call, in a goroutine of its own. It owns body. ctx ends with the caller's deadline, with the
// connection, or with the node. A *kafka.Error reaches the caller with its code and text.
type Handler func(ctx context.Context, from Identity, body []byte) ([]byte, error)

// Receiver takes a notification.
type Receiver func(from Identity, body []byte)

// Node is this process towards the other nodes.
type Node struct {
	opts   Options
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	base   time.Time
	self   atomic.Pointer[Identity]

	handlers  [256]atomic.Pointer[Handler]
	receivers [256]atomic.Pointer[Receiver]
	data      atomic.Pointer[func(*Conn)]
	running   atomic.Int64 // handlers
	large     *wire.Budget // of control frames above readBufferSize

	goroutines sync.WaitGroup
	mu         struct {
		sync.Mutex
		started, closing bool
		peers            map[kafka.BrokerID]*outgoing
		removed          map[kafka.BrokerID]*outgoing // the last ones; who follows them waits for their end
		heard            map[kafka.BrokerID]*atomic.Int64
		links            map[uint64]*link
		controls         map[uint64]*control // the control connections among links
		sockets          map[net.Conn]bool   // being introduced; true for accepted ones
		accepted         int                 // sockets and connections that were accepted
		lastLink         uint64
		leaving          map[kafka.BrokerID][16]byte // incarnations that have said that they stop
		watchers         []func(Event)
	}
}

// New makes a node that neither dials nor accepts before [Node.Start].
func New(opts Options) (*Node, error) {
	opts.Limits = opts.Limits.withDefaults()
	if opts.Clock == nil {
		opts.Clock = clock.System{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Dial == nil {
		opts.Dial = new(net.Dialer).DialContext
	}
	self := opts.Self
	if self.Broker < 0 || len(self.ClusterID) > stringMax || len(self.Address) > stringMax {
		return nil, fmt.Errorf("broker %d of cluster %q at %q cannot introduce itself: the ID must not be negative, the names at most %d bytes long",
			self.Broker, self.ClusterID, self.Address, stringMax)
	}
	n := &Node{opts: opts, base: opts.Clock.Now(), large: wire.NewBudget(opts.Limits.LargeFrames)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.self.Store(&self)
	n.mu.peers = map[kafka.BrokerID]*outgoing{}
	n.mu.removed = map[kafka.BrokerID]*outgoing{}
	n.mu.heard = map[kafka.BrokerID]*atomic.Int64{}
	n.mu.leaving = map[kafka.BrokerID][16]byte{}
	n.mu.links = map[uint64]*link{}
	n.mu.controls = map[uint64]*control{}
	n.mu.sockets = map[net.Conn]bool{}
	return n, nil
}

// Start accepts connections and dials peers.
func (n *Node) Start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.started || n.mu.closing {
		return
	}
	n.mu.started = true
	n.goroutines.Add(1)
	go n.sweep()
	if n.opts.Listener != nil {
		n.goroutines.Add(1)
		go n.accept()
	}
	for _, id := range slices.Sorted(maps.Keys(n.mu.peers)) {
		n.mu.peers[id].startLocked()
	}
}

// Close ends every connection, and returns when every goroutine has ended, those of handlers too.
func (n *Node) Close() error {
	n.mu.Lock()
	n.mu.closing = true
	controls := n.controlsLocked()
	n.mu.Unlock()
	n.sayBye(controls)
	n.mu.Lock()
	links := n.linksLocked()
	sockets := slices.Collect(maps.Keys(n.mu.sockets))
	n.mu.Unlock()
	n.cancel()
	var err error
	if n.opts.Listener != nil {
		if err = n.opts.Listener.Close(); errors.Is(err, net.ErrClosed) {
			err = nil
		}
	}
	for _, l := range links {
		l.close(net.ErrClosed)
	}
	for _, s := range sockets {
		_ = s.Close()
	}
	n.goroutines.Wait()
	return err
}

// byeLimit bounds how long Close waits for peers to hear that it is one.
const byeLimit = 100 * time.Millisecond

func (n *Node) sayBye(controls []*control) {
	timer := n.opts.Clock.NewTimer(byeLimit)
	defer timer.Stop()
	for _, c := range controls {
		c.sayBye()
	}
	for _, c := range controls {
		select {
		case <-c.served:
		case <-timer.C():
			return
		}
	}
}

// Self is what the node says of itself.
func (n *Node) Self() Identity { return *n.self.Load() }

// SetClusterID tells that this node belongs to a cluster now. Peers are told; those of another cluster are cut off.
func (n *Node) SetClusterID(id string) {
	n.mu.Lock()
	self := n.Self()
	self.ClusterID = id
	n.self.Store(&self)
	controls := n.controlsLocked()
	n.mu.Unlock()
	for _, c := range controls {
		if peer := c.identity(); !sameCluster(id, peer.ClusterID) {
			c.refuse(otherCluster(self, peer))
			continue
		}
		c.tellCluster(id)
	}
}

// Handle sets the handler of a method. Until then calls of it are ErrNotSent at the caller's.
func (n *Node) Handle(m Method, h Handler) { n.handlers[m].Store(&h) }

// OnNotify sets the receiver of a method's notifications; until then they are dropped. It is called in the order of the
// connection, on its reading goroutine: it must not block. body is valid during the call only.
func (n *Node) OnNotify(m Method, f func(from Identity, body []byte)) {
	r := Receiver(f)
	n.receivers[m].Store(&r)
}

// OnData sets what serves the data connections that peers dial, each in a goroutine of its own; the connection is
// closed when f returns. Until then they are refused.
func (n *Node) OnData(f func(c *Conn)) { n.data.Store(&f) }

// Watch adds a receiver of events. Those of one peer come in order, those of different peers perhaps at the same time; it
// must not block. Status tells what was before.
func (n *Node) Watch(f func(Event)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.watchers = append(slices.Clone(n.mu.watchers), f)
}

func (n *Node) emit(e Event) {
	n.mu.Lock()
	watchers := n.mu.watchers
	n.mu.Unlock()
	for _, w := range watchers {
		w(e)
	}
}

// LastHeard is when anything last came from a peer, on any connection of either direction; zero if never.
func (n *Node) LastHeard(id kafka.BrokerID) time.Time {
	n.mu.Lock()
	heard := n.mu.heard[id]
	n.mu.Unlock()
	if heard == nil || heard.Load() == 0 {
		return time.Time{}
	}
	return n.base.Add(time.Duration(heard.Load()))
}

// sinceBase is the node's monotonic time; never zero.
func (n *Node) sinceBase() time.Duration { return max(1, n.opts.Clock.Now().Sub(n.base)) }

// maxHeard bounds the brokers that LastHeard knows: whoever introduces itself may claim any ID.
const maxHeard = 4096

func (n *Node) heardLocked(id kafka.BrokerID) *atomic.Int64 {
	heard := n.mu.heard[id]
	if heard == nil {
		heard = new(atomic.Int64)
		if len(n.mu.heard) < maxHeard || n.mu.peers[id] != nil {
			n.mu.heard[id] = heard
		}
	}
	return heard
}
