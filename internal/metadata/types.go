package metadata

import (
	"iter"
	"time"

	"chronik/internal/kafka"
)

// Offset is a position in the metadata WAL: the Raft index of a record's entry.
type Offset int64

// Topic is one topic of an Image; it is immutable.
type Topic struct {
	Name         string
	ID           kafka.TopicID
	Internal     bool              // made by the brokers for themselves, such as __consumer_offsets
	Config       map[string]string // the overrides that were set on the topic, by Kafka's key
	ConfigOffset Offset            // of the last change of Config
	Partitions   Partitions
}

// Partitions are a topic's partitions by index. Versions share structure, so that a change of one partition out of
// many thousand copies little; hence no slice.
type Partitions struct{ v vector[*Partition] }

// PartitionsOf makes Partitions; partitions[i].Index must be i.
func PartitionsOf(partitions ...*Partition) Partitions { return Partitions{vectorOf(partitions)} }

// Len is the number of partitions.
func (p Partitions) Len() int { return p.v.len() }

// At is the partition of that index, nil if there is none.
func (p Partitions) At(index int32) *Partition {
	if index < 0 || int(index) >= p.v.len() {
		return nil
	}
	return p.v.at(int(index))
}

// All yields the partitions in order of their index.
func (p Partitions) All() iter.Seq[*Partition] { return p.v.all() }

// Partition is one partition of a topic; it is immutable.
type Partition struct {
	Index          int32
	Replicas       []kafka.BrokerID // in order of preference
	ISR            []kafka.BrokerID // sorted
	ELR            []kafka.BrokerID // eligible leader replicas (KIP-966), sorted
	Leader         kafka.BrokerID   // kafka.NoLeader while there is none
	LeaderEpoch    kafka.LeaderEpoch
	PartitionEpoch kafka.PartitionEpoch
	History        []Change // the last changes, oldest first, bounded; it survives compaction
}

// Change is one entry of a partition's history.
type Change struct {
	Offset      Offset
	Time        time.Time
	Reason      string // for a person: what caused it
	Leader      kafka.BrokerID
	LeaderEpoch kafka.LeaderEpoch
	ISR         []kafka.BrokerID
}

// Broker is a registered broker; it is immutable.
type Broker struct {
	ID          kafka.BrokerID
	Epoch       kafka.BrokerEpoch
	Incarnation [16]byte // drawn by the process at start
	Directory   [16]byte // the random ID of its data directory
	Rack        string
	Endpoints   []Endpoint
	// ClusterAddress is the host:port of the port for other nodes; empty on a node that is alone.
	ClusterAddress string
	Fenced         bool
	// InControlledShutdown: it has asked to shut down; it leads nothing that another can lead, and enters no ISR.
	InControlledShutdown bool
	Slow                 bool // its disk takes seconds for a sync: the same, until it does better
	// Of the last change of its state, registration included: when, where, and what caused it.
	Since       time.Time
	StateOffset Offset
	Reason      string
}

// Voter is a member of the quorum that commits the metadata.
type Voter struct {
	ID        kafka.BrokerID
	Directory [16]byte // the random ID of its data directory
	Address   string   // host:port of the port for other nodes, as it was when it became a voter
}

// Endpoint is an address that clients or peers may dial. Host is empty on a node that answers with whatever address
// the client dialled.
type Endpoint struct {
	Listener string
	Host     string
	Port     int32
	TLS      bool
}
