package peer

import (
	"time"

	"chronik/internal/kafka"
)

// EventKind is what happened to the control connection that this node dialled to a peer.
type EventKind byte

// The kinds of events.
const (
	Up   EventKind = 1 // connected, and the peer has introduced itself
	Down EventKind = 2 // the connection is gone, or more is known of why
)

// Event tells of a change in the connection to a peer. One loss may give several: Down when the connection ends, Down
// again with proof of death if the redial gives it.
type Event struct {
	Kind   EventKind
	Broker kafka.BrokerID
	// Identity is who answered (Up), or who was connected last (Down).
	Identity Identity
	// Refused: the connection ended and the redial was refused: nobody listens there. Proof that Identity's process died.
	Refused bool
	// Replaced: the redial was answered by another process. Proof that Identity's process died. Up follows.
	Replaced *Identity
}

// Proof tells whether the event proves that the process of Identity is dead.
func (e Event) Proof() bool { return e.Kind == Down && (e.Refused || e.Replaced != nil) }

// Status is what a node knows of a peer at a moment.
type Status struct {
	Address   string
	Connected bool
	// Identity is who is connected, or was last; its Incarnation is zero if nobody ever was.
	Identity Identity
	// Refused: Identity's process is dead, its redial was refused.
	Refused bool
	// Left: Identity's process has said that it stops.
	Left bool
	// LastHeard is when anything last came from the peer; zero if never.
	LastHeard time.Time
	// Err is why the last attempt to connect failed; nil while connected.
	Err error
}
