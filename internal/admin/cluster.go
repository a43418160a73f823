package admin

import (
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Cluster is what /v1 asks the node; package broker connects it. None of its methods blocks, and all may be called from
// any goroutine.
type Cluster interface {
	// Self is the node that is asked.
	Self() kafka.BrokerID
	// Image is the metadata as the node has it.
	Image() *metadata.Image
	// Subscribe is metadata.Store's.
	Subscribe(name string, after metadata.Offset) *metadata.Cursor
	// Quorum is what the node knows of those who commit the metadata.
	Quorum() Quorum
	// Replica is the node's own view of a partition that it has a replica of; ok is false if it has none.
	Replica(tp kafka.TopicPartition) (view Replica, ok bool)
}

// Quorum is who commits the metadata.
type Quorum struct {
	Controller kafka.BrokerID // who writes it; kafka.NoLeader if that is not known
	Term       uint64
	Voters     []kafka.BrokerID // sorted
	Learners   []kafka.BrokerID // sorted
	// Applied is how far each broker has applied the metadata, as far as this node was told: the controller knows all of
	// them, others know themselves.
	Applied map[kafka.BrokerID]metadata.Offset
}

// Replica is a partition as the node that holds it sees it, beyond what the metadata say.
type Replica struct {
	Leads         bool // it leads, in LeaderEpoch
	LeaderEpoch   kafka.LeaderEpoch
	LogStart      kafka.Offset
	LogEnd        kafka.Offset
	Durable       kafka.Offset // fsynced here
	HighWatermark kafka.Offset
	Damaged       int // ranges of offsets that are not as they were written
	// Lease is whether the node may answer for it now: a leader that the controller has not answered for longer than its
	// lease keeps reads and acks=1 waiting.
	Lease bool
	// Of a leader only:
	Proposed    []kafka.BrokerID // an in-sync set that the controller has not decided on; nil if there is none
	ProposedWhy string
	Followers   []Follower // all other replicas, sorted
}

// Follower is what a leader knows of another replica.
type Follower struct {
	Broker    kafka.BrokerID
	Connected bool         // it follows, in the leader's epoch
	Since     time.Time    // it does, or does not
	Durable   kafka.Offset // what it has acknowledged as durable; -1 if it has said nothing yet
	Lagging   string       // why it does not count as caught up; "" if it does
}
