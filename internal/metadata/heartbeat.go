package metadata

import (
	"time"

	"chronik/internal/kafka"
)

// DamagedPartitionsMax is how many damaged partitions a heartbeat names; others follow as those are repaired.
const DamagedPartitionsMax = 4096

// Heartbeat is what a broker tells the controller, twice a second and at once when something changes.
type Heartbeat struct {
	Broker      kafka.BrokerID
	Epoch       kafka.BrokerEpoch
	Incarnation [16]byte
	// Applied is the offset of the broker's image.
	Applied Offset
	// Ready: the broker serves, so the fence may be taken away once it has applied its own registration.
	Ready bool
	// ShuttingDown asks for a controlled shutdown.
	ShuttingDown bool
	// SyncAge is how long the disk's oldest running sync takes already; 0 if none runs.
	SyncAge time.Duration
	// Damaged are the broker's replicas that are known to lack or to have changed bytes.
	Damaged []kafka.TopicPartition
}

// HeartbeatAnswer is the controller's answer. It was given with a quorum behind it: no other controller had been elected
// when the heartbeat came.
type HeartbeatAnswer struct {
	// Fenced: the broker leads nothing and must not act as a leader.
	Fenced bool
	// MayShutDown: nothing is led by the broker that another could lead, and all live brokers know.
	MayShutDown bool
	// Term is the controller's.
	Term uint64
	// Lease is how long the broker may take itself for the leader of what its image says, counted from when it sent the
	// heartbeat; 0 if it is fenced.
	Lease time.Duration
	// Offset is the metadata offset that the answer rests on; the lease counts once the broker has applied it.
	Offset Offset
}

// DescribeBrokers asks the controller what it knows of all brokers; the answer is a []BrokerStatus, sorted by ID.
type DescribeBrokers struct{}

// BrokerStatus is what the controller knows of a broker beside its registration.
type BrokerStatus struct {
	ID    kafka.BrokerID
	Epoch kafka.BrokerEpoch
	// Silence is how long nothing was heard of the broker; negative if nothing ever was by this controller.
	Silence time.Duration
	// The broker's state, when it began (by the clock of the controller of that time) and what caused it.
	Fenced               bool
	InControlledShutdown bool
	Slow                 bool
	Since                time.Time
	Reason               string
	// Of the last heartbeat.
	Ready   bool
	Applied Offset
	SyncAge time.Duration
	Damaged []kafka.TopicPartition
}
