package metadata

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"strings"

	"chronik/internal/kafka"
)

// Image is the cluster's metadata at one offset. It is immutable; a change makes a new one that shares what it did not
// touch.
type Image struct {
	offset         Offset
	clusterID      string
	nextProducerID kafka.ProducerID
	partitionCount int
	// configsEmptied is the offset at which the last entry left configs: what is not there may have changed then.
	configsEmptied Offset

	deleted []kafka.TopicID // the last ones, oldest first; copied by each deletion

	voters    []Voter // sorted by ID; a change makes a new slice
	formation []Voter

	topics  tree[kafka.TopicID, *Topic]
	names   tree[string, kafka.TopicID]
	unified tree[string, string] // names that hold '.' or '_', by their form with '_' only
	brokers tree[kafka.BrokerID, *Broker]
	configs tree[Resource, *resourceConfig] // of everything but topics; never empty ones
}

type resourceConfig struct {
	values map[string]string
	offset Offset // of the last change
}

// Empty is the image before the first record.
func Empty() *Image {
	return &Image{
		topics:  newTree[kafka.TopicID, *Topic](func(a, b kafka.TopicID) int { return bytes.Compare(a[:], b[:]) }),
		names:   newTree[string, kafka.TopicID](strings.Compare),
		unified: newTree[string, string](strings.Compare),
		brokers: newTree[kafka.BrokerID, *Broker](cmp.Compare[kafka.BrokerID]),
		configs: newTree[Resource, *resourceConfig](func(a, b Resource) int {
			return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
		}),
	}
}

// Offset is that of the last entry folded in.
func (img *Image) Offset() Offset { return img.offset }

// ClusterID is the cluster's name for good.
func (img *Image) ClusterID() string { return img.clusterID }

// Voters are the members of the quorum, sorted by ID; the slice must not be changed. They follow Raft's own membership, which
// is what counts, with the next record. A cluster of before there were voters has none until its controller has told.
func (img *Image) Voters() []Voter { return img.voters }

// Formation is who formed the cluster, sorted by ID; the slice must not be changed.
func (img *Image) Formation() []Voter { return img.formation }

// NextProducerID is the first producer ID that was never given out.
func (img *Image) NextProducerID() kafka.ProducerID { return img.nextProducerID }

// Topic is the topic of that name, nil if there is none.
func (img *Image) Topic(name string) *Topic {
	id, ok := img.names.get(name)
	if !ok {
		return nil
	}
	return img.TopicByID(id)
}

// TopicByID is the topic with that ID, nil if there is none.
func (img *Image) TopicByID(id kafka.TopicID) *Topic {
	topic, _ := img.topics.get(id)
	return topic
}

// Partition is a partition by topic ID and index, nil if there is none.
func (img *Image) Partition(tp kafka.TopicPartition) *Partition {
	topic := img.TopicByID(tp.Topic)
	if topic == nil {
		return nil
	}
	return topic.Partitions.At(tp.Partition)
}

// Topics yields all topics, sorted by name.
func (img *Image) Topics() iter.Seq[*Topic] {
	return func(yield func(*Topic) bool) {
		for _, id := range img.names.all() {
			if !yield(img.TopicByID(id)) {
				return
			}
		}
	}
}

// WasDeleted tells whether the ID was that of one of the topics deleted last. It must not be used again: offsets of the new
// topic would be given twice.
func (img *Image) WasDeleted(id kafka.TopicID) bool { return slices.Contains(img.deleted, id) }

// TopicCount and PartitionCount are sizes without a walk.
func (img *Image) TopicCount() int { return img.topics.len() }

// PartitionCount is the number of partitions of all topics.
func (img *Image) PartitionCount() int { return img.partitionCount }

// Collision is the topic whose name differs from name only in '.' against '_', which would make their metrics collide;
// "" if there is none. A topic does not collide with itself.
func (img *Image) Collision(name string) string {
	unified, has := unify(name)
	if !has {
		return ""
	}
	other, _ := img.unified.get(unified)
	if other == name {
		return ""
	}
	return other
}

func unify(name string) (unified string, has bool) {
	return strings.ReplaceAll(name, ".", "_"), strings.ContainsAny(name, "._")
}

// Broker is a registered broker, nil if there is none.
func (img *Image) Broker(id kafka.BrokerID) *Broker {
	broker, _ := img.brokers.get(id)
	return broker
}

// Brokers yields the registered brokers, sorted by ID.
func (img *Image) Brokers() iter.Seq[*Broker] {
	return func(yield func(*Broker) bool) {
		for _, b := range img.brokers.all() {
			if !yield(b) {
				return
			}
		}
	}
}

// BrokerCount is the number of registered brokers, fenced ones too.
func (img *Image) BrokerCount() int { return img.brokers.len() }

// Config is what was set on a resource; the map must not be changed.
func (img *Image) Config(r Resource) map[string]string {
	if r.Type == TopicResource {
		if topic := img.Topic(r.Name); topic != nil {
			return topic.Config
		}
		return nil
	}
	if c, ok := img.configs.get(r); ok {
		return c.values
	}
	return nil
}

// ConfigChangedAt is an offset after which the resource's configuration did not change: that of its last change, or
// later where the image no longer knows it.
func (img *Image) ConfigChangedAt(r Resource) Offset {
	if r.Type == TopicResource {
		if topic := img.Topic(r.Name); topic != nil {
			return topic.ConfigOffset
		}
		return img.offset
	}
	if c, ok := img.configs.get(r); ok {
		return c.offset
	}
	return img.configsEmptied
}

// ConfiguredResources yields the brokers and groups that have configuration, sorted by type and name.
func (img *Image) ConfiguredResources() iter.Seq[Resource] {
	return func(yield func(Resource) bool) {
		for r := range img.configs.all() {
			if !yield(r) {
				return
			}
		}
	}
}

// SameMembers tells whether two images have the same brokers, in the same state, and the same voters. It looks at no broker.
func (img *Image) SameMembers(other *Image) bool {
	return img.brokers.root == other.brokers.root && slices.Equal(img.voters, other.voters)
}
