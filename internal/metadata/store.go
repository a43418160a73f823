package metadata

import (
	"context"

	"chronik/internal/kafka"
)

// Store is the metadata as request handlers, partition management and coordinators know it. A change returns once its
// records are committed on a quorum and applied to this node's Image; the error is a *kafka.Error that says which name
// was refused and why, and REQUEST_TIMED_OUT where the outcome is not known.
type Store interface {
	// Image is the newest image applied here: no lock, no I/O, no network.
	Image() *Image
	// Subscribe returns a cursor that starts after offset; see Cursor.
	Subscribe(name string, after Offset) *Cursor
	// Barrier returns once this node has applied everything that was committed when it was called.
	Barrier(ctx context.Context) error
	// WaitApplied returns once the image's offset has reached the offset.
	WaitApplied(ctx context.Context, offset Offset) error
	// Controller is the broker that writes the metadata WAL now; kafka.NoLeader if unknown.
	Controller() kafka.BrokerID

	// CreateTopics makes topics, all in one batch of records; the results are in the order of the commands.
	// ValidateOnly decides and checks, and writes nothing.
	CreateTopics(ctx context.Context, topics []CreateTopic, validateOnly bool) []CreateTopicResult
	DeleteTopic(ctx context.Context, id kafka.TopicID) error
	CreatePartitions(ctx context.Context, cmd CreatePartitions, validateOnly bool) error
	// SetConfig sets and removes configuration keys of one resource.
	SetConfig(ctx context.Context, cmd SetConfig, validateOnly bool) error
	// AllocateProducerIDs reserves a block of producer IDs that nobody else will ever be given.
	AllocateProducerIDs(ctx context.Context) (first kafka.ProducerID, count int64, err error)

	RegisterBroker(ctx context.Context, cmd RegisterBroker) (kafka.BrokerEpoch, error)
	UnregisterBroker(ctx context.Context, id kafka.BrokerID) error
	AssignPartition(ctx context.Context, cmd AssignPartition) error
	SetPartitionLeader(ctx context.Context, cmd SetPartitionLeader) error
	UpdateISR(ctx context.Context, cmd UpdateISR) (kafka.PartitionEpoch, error)
}

// CreateTopic asks for one topic. Partitions and ReplicationFactor are -1 for the cluster's default. With Assignment,
// both are -1 and Assignment[i] lists the replicas of partition i.
type CreateTopic struct {
	Name              string
	ID                kafka.TopicID // drawn by the caller, so that a retry recognises its own success
	Partitions        int32
	ReplicationFactor int16
	Assignment        [][]kafka.BrokerID
	Config            map[string]string
	Internal          bool
	Reason            string
}

// CreateTopicResult tells what became of one CreateTopic.
type CreateTopicResult struct {
	Topic *Topic // as created, or as it would be; nil on error
	Err   error
}

// CreatePartitions raises a topic's partition count to Count.
type CreatePartitions struct {
	Topic      string
	Count      int32
	Assignment [][]kafka.BrokerID // of the new partitions only; nil to let the controller place them
	Reason     string
}

// ResourceType is the kind of thing that a configuration belongs to, with Kafka's numbers.
type ResourceType int8

// The resource types that hold configuration in the metadata.
const (
	TopicResource  ResourceType = 2
	BrokerResource ResourceType = 4
	GroupResource  ResourceType = 32
)

// Resource names what a configuration belongs to: a topic's name, a broker's ID in decimal, or "" for the default of
// all brokers.
type Resource struct {
	Type ResourceType
	Name string
}

// SetConfig changes keys of one resource: a nil value removes the key. Replace removes every key that is not named.
// Values were checked by the caller against package config; Base is the image offset that the change was computed on
// (list appends and subtractions), refused with INVALID_UPDATE_VERSION if the resource has changed since: the caller
// looks again. Base 0 is not checked.
type SetConfig struct {
	Resource Resource
	Values   map[string]*string
	Replace  bool
	Base     Offset
	Reason   string
}

// RegisterBroker announces a process of a broker. The same records give a new leader epoch to every partition that an
// earlier process of this broker led. Unclean tells that the broker did not shut down in order before: it leaves the
// in-sync sets of topics whose sync is interval.
type RegisterBroker struct {
	ID          kafka.BrokerID
	Incarnation [16]byte
	Directory   [16]byte
	Rack        string
	Endpoints   []Endpoint
	// ClusterAddress is the host:port of the port for other nodes; empty on a node that is alone.
	ClusterAddress string
	Unclean        bool
}

// AssignPartition gives a partition other replicas.
type AssignPartition struct {
	Partition kafka.TopicPartition
	Replicas  []kafka.BrokerID
	Base      kafka.PartitionEpoch
	Reason    string
}

// SetPartitionLeader elects a leader out of the ISR, else the ELR (or outside both, if Unclean). Leader NoLeader leaves
// the choice to the controller. Base is compared as everywhere: INVALID_UPDATE_VERSION if it is not the current one.
type SetPartitionLeader struct {
	Partition kafka.TopicPartition
	Leader    kafka.BrokerID
	Base      kafka.PartitionEpoch
	Unclean   bool
	Reason    string
}

// UpdateISR is the leader's proposal of an in-sync set: compare-and-set on the partition epoch (KIP-497), members with
// their broker epochs (KIP-903).
type UpdateISR struct {
	Partition   kafka.TopicPartition
	LeaderEpoch kafka.LeaderEpoch
	Base        kafka.PartitionEpoch
	ISR         []ISRMember
	Reason      string
}

// ISRMember is a proposed member of an in-sync set.
type ISRMember struct {
	Broker kafka.BrokerID
	Epoch  kafka.BrokerEpoch
}
