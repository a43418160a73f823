package metadata

import "chronik/internal/kafka"

// Event is something that a committed record did, with the offset and the cause of the record. The types below are all
// there are.
type Event interface{ Meta() EventMeta }

// EventMeta is what every event carries.
type EventMeta struct {
	Offset Offset
	Reason string
}

// Meta returns it.
func (m EventMeta) Meta() EventMeta { return m }

// The events. Each carries the state after the change, from the image at its offset.
type (
	// TopicCreated comes before the PartitionAssigned of its partitions.
	TopicCreated struct {
		EventMeta
		Topic *Topic
	}
	// TopicDeleted comes instead of events for each partition.
	TopicDeleted struct {
		EventMeta
		Topic *Topic
	}
	// PartitionAssigned says that a partition is new, or has other replicas.
	PartitionAssigned struct {
		EventMeta
		Topic     *Topic
		Partition *Partition
	}
	// PartitionLeaderChanged says that the leader or its epoch is another.
	PartitionLeaderChanged struct {
		EventMeta
		Topic     *Topic
		Partition *Partition
	}
	// ISRUpdated says that the in-sync set or the eligible replicas are others.
	ISRUpdated struct {
		EventMeta
		Topic     *Topic
		Partition *Partition
	}
	// ConfigChanged says that a resource's configuration is another.
	ConfigChanged struct {
		EventMeta
		Resource Resource
	}
	// BrokerRegistered, BrokerFenced, BrokerUnfenced and BrokerRemoved follow the life of a broker.
	BrokerRegistered struct {
		EventMeta
		Broker *Broker
	}
	// BrokerFenced says that the broker serves nothing until it is heard of again.
	BrokerFenced struct {
		EventMeta
		Broker *Broker
	}
	// BrokerUnfenced says that the broker serves again.
	BrokerUnfenced struct {
		EventMeta
		Broker *Broker
	}
	// BrokerStateChanged says that the broker began or ended to shut down in order, or that its disk became slow or is no
	// longer.
	BrokerStateChanged struct {
		EventMeta
		Broker *Broker
	}
	// BrokerRemoved says that the broker is no longer part of the cluster.
	BrokerRemoved struct {
		EventMeta
		ID kafka.BrokerID
	}
	// VotersChanged says that others are the quorum.
	VotersChanged struct {
		EventMeta
		Voters []Voter
	}
	// SnapshotInstalled stands for events that the cursor can no longer read: handle it as the difference of two images
	// (see Difference).
	SnapshotInstalled struct {
		EventMeta
		Old, New *Image
	}
)
