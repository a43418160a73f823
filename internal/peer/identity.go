package peer

import (
	"encoding/hex"
	"fmt"

	"chronik/internal/kafka"
)

// Identity is what a node says of itself when a connection is made.
type Identity struct {
	Broker kafka.BrokerID
	// Directory is the random ID of the data directory: a wiped disk has another one.
	Directory [16]byte
	// Incarnation is drawn at random by each process.
	Incarnation [16]byte
	// ClusterID is empty until the node has formed or joined a cluster.
	ClusterID string
	// Address is the host:port of the node's cluster port, as peers reach it.
	Address string
}

// String is for log lines and error texts.
func (id Identity) String() string {
	return fmt.Sprintf("broker %d (process %s) at %s", id.Broker, hex.EncodeToString(id.Incarnation[:4]), id.Address)
}

// SameProcess tells whether both are one process of one node.
func (id Identity) SameProcess(other Identity) bool {
	return id.Broker == other.Broker && id.Directory == other.Directory && id.Incarnation == other.Incarnation
}

// Kind tells what a connection is for.
type Kind byte

// The kinds of connections.
const (
	Control Kind = 1 // calls, notifications, pings
	Hot     Kind = 2 // replication of what is new
	CatchUp Kind = 3 // replication of what is far behind
)

func (k Kind) String() string {
	switch k {
	case Control:
		return "control"
	case Hot:
		return "hot"
	case CatchUp:
		return "catch-up"
	}
	return fmt.Sprintf("kind %d", byte(k))
}

func (k Kind) data() bool { return k == Hot || k == CatchUp }
