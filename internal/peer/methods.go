package peer

import "fmt"

// Method names what a call or a notification is about. The numbers are part of the format: never use one again.
type Method byte

// The methods.
const (
	Raft          Method = 1  // notification: a Raft message
	Forward       Method = 2  // call: a command for the controller
	Register      Method = 3  // call: a broker's registration, from a node that is not yet a member of Raft's group
	Heartbeat     Method = 4  // call: a broker's heartbeat
	Hello         Method = 5  // call: what a node knows of its cluster, before there is one
	Form          Method = 6  // call: the lowest voter has formed the cluster
	Join          Method = 7  // call: an empty node asks a member for the cluster's metadata
	ReadIndex     Method = 8  // call: the committed metadata offset, for a barrier
	Campaign      Method = 9  // notification: a voter asks another to take Raft's leadership
	ClusterStatus Method = 10 // call: what a node knows of itself, for people
	RaftPart      Method = 11 // call: a part of a large Raft message
)

// methods is the one table of names.
var methods = map[Method]string{
	Raft:          "Raft",
	Forward:       "Forward",
	Register:      "Register",
	Heartbeat:     "Heartbeat",
	Hello:         "Hello",
	Form:          "Form",
	Join:          "Join",
	ReadIndex:     "ReadIndex",
	Campaign:      "Campaign",
	ClusterStatus: "ClusterStatus",
	RaftPart:      "RaftPart",
}

func (m Method) String() string {
	if name, ok := methods[m]; ok {
		return name
	}
	return fmt.Sprintf("method %d", byte(m))
}
