package peer

import (
	"context"
	"errors"
	"time"

	"chronik/internal/kafka"
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

// Node is this process towards the other nodes.
type Node struct{}

// New makes a node that neither dials nor accepts before [Node.Start]. Set handlers before that.
func New(opts Options) (*Node, error) { panic("not yet") }

// Start accepts connections and dials peers.
func (n *Node) Start() {}

// Close ends every connection, and returns when every goroutine has ended, those of handlers too.
func (n *Node) Close() error { return nil }

// Self is what the node says of itself.
func (n *Node) Self() Identity { return Identity{} }

// SetClusterID tells that this node belongs to a cluster now. Peers are told; those of another cluster are cut off.
func (n *Node) SetClusterID(id string) {}

// Handle sets the handler of a method. Call it before Start.
func (n *Node) Handle(m Method, h Handler) {}

// OnNotify sets the receiver of a method's notifications. It is called in the order of the connection, on its reading
// goroutine: it must not block. body is valid during the call only. Call it before Start.
func (n *Node) OnNotify(m Method, f func(from Identity, body []byte)) {}

// OnData sets what serves the data connections that peers dial, each in a goroutine of its own; the connection is
// closed when f returns. Call it before Start.
func (n *Node) OnData(f func(c *Conn)) {}

// SetPeer tells that a broker is to be reached at address, and keeps a control connection to it. Nothing happens if that
// is known already, or if id is this node's own.
func (n *Node) SetPeer(id kafka.BrokerID, address string) {}

// RemovePeer forgets a broker and closes the connection to it.
func (n *Node) RemovePeer(id kafka.BrokerID) {}

// Peers are the brokers that SetPeer named, in ascending order.
func (n *Node) Peers() []kafka.BrokerID { return nil }

// Notify sends a one-way message. It never blocks; false tells that it was dropped because the peer is not connected or
// its queue is full. true promises nothing. body is copied.
func (n *Node) Notify(to kafka.BrokerID, m Method, body []byte) bool { return false }

// Call asks a peer. Errors are those of the peer's handler (a *kafka.Error, or a *RemoteError), or ErrNotSent, or
// ErrOutcomeUnknown (with ctx's error, if that was the reason). A peer that is not connected is ErrNotSent at once. body
// is copied.
func (n *Node) Call(ctx context.Context, to kafka.BrokerID, m Method, body []byte) ([]byte, error) {
	return nil, ErrNotSent
}

// CallAddress asks whoever listens at an address, over a connection of its own, and tells who answered.
func (n *Node) CallAddress(ctx context.Context, address string, m Method, body []byte) (Identity, []byte, error) {
	return Identity{}, nil, ErrNotSent
}

// DialData opens a data connection to a peer that SetPeer named; the caller closes it. Both nodes must be in one cluster.
func (n *Node) DialData(ctx context.Context, to kafka.BrokerID, kind Kind) (*Conn, error) {
	return nil, ErrNotSent
}

// Watch adds a receiver of events. Those of one peer come in order; it must not block. Status tells what was before.
func (n *Node) Watch(f func(Event)) {}

// Status tells what is known of a peer; false if SetPeer has not named it.
func (n *Node) Status(id kafka.BrokerID) (Status, bool) { return Status{}, false }

// LastHeard is when anything last came from a peer, on any connection of either direction; zero if never.
func (n *Node) LastHeard(id kafka.BrokerID) time.Time { return time.Time{} }
