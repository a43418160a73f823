package metadata

import (
	"iter"

	"chronik/internal/kafka"
)

// Image is the cluster's metadata at one offset. It is immutable; a change makes a new one that shares what it did not
// touch.
type Image struct{}

// Offset is that of the last record folded in.
func (img *Image) Offset() Offset { panic("seam") }

// ClusterID is the cluster's name for good.
func (img *Image) ClusterID() string { panic("seam") }

// Topic is the topic of that name, nil if there is none.
func (img *Image) Topic(name string) *Topic { panic("seam") }

// TopicByID is the topic with that ID, nil if there is none.
func (img *Image) TopicByID(id kafka.TopicID) *Topic { panic("seam") }

// Partition is a partition by topic ID and index, nil if there is none.
func (img *Image) Partition(tp kafka.TopicPartition) *Partition { panic("seam") }

// Topics yields all topics, sorted by name.
func (img *Image) Topics() iter.Seq[*Topic] { panic("seam") }

// TopicCount and PartitionCount are sizes without a walk.
func (img *Image) TopicCount() int { panic("seam") }

// PartitionCount is the number of partitions of all topics.
func (img *Image) PartitionCount() int { panic("seam") }

// Broker is a registered broker, nil if there is none.
func (img *Image) Broker(id kafka.BrokerID) *Broker { panic("seam") }

// Brokers yields the registered brokers, sorted by ID.
func (img *Image) Brokers() iter.Seq[*Broker] { panic("seam") }

// Config is what was set on a resource; the map must not be changed.
func (img *Image) Config(r Resource) map[string]string { panic("seam") }
