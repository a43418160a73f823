package assign

import (
	"bytes"
	"slices"

	"chronik/internal/kafka"
)

// Topic is a topic that members may subscribe to.
type Topic struct {
	ID         kafka.TopicID
	Partitions int
	// Racks are the racks of each partition's replicas; nil, or shorter than Partitions, where they are not known.
	Racks [][]string
}

// TopicPartitions are partitions of one topic, ascending.
type TopicPartitions struct {
	Topic      kafka.TopicID
	Partitions []int32
}

// Assignment is what one member owns: topics ascending by ID, none of them without partitions. It is immutable.
type Assignment []TopicPartitions

// Member is one member of the group.
type Member struct {
	ID       string
	Instance *string // group.instance.id; nil for dynamic members
	Rack     string  // "" if it did not say
	// Topics are the IDs of the topics that it subscribes to, those of regular expressions included, ascending and
	// without duplicates. Members that subscribe to the same topics best share one slice. IDs that are not in Input.Topics do
	// not count.
	Topics []kafka.TopicID
	// Target is its part of the current target assignment; empty for a new member. What it does not subscribe to any more, and
	// partitions that do not exist, do not count.
	Target Assignment
}

// Input is all that an assignment depends on.
type Input struct {
	Members []Member // ascending by ID
	Topics  []Topic  // ascending by ID; those that nobody subscribes to do not count
}

// Assignor computes a group's target assignment.
type Assignor interface {
	// Name is what clients and configurations call it.
	Name() string
	// Assign returns the assignment of each of Input.Members, in their order.
	Assign(Input) []Assignment
}

// The names of the assignors.
const (
	UniformName = "uniform"
	RangeName   = "range"
)

// ByName finds an assignor; nil if there is none with the name.
func ByName(name string) Assignor {
	switch name {
	case UniformName:
		return Uniform{}
	case RangeName:
		return Range{}
	}
	return nil
}

// Compare orders topic IDs, for the slices that are to be ascending.
func Compare(a, b kafka.TopicID) int { return bytes.Compare(a[:], b[:]) }

// Len is the number of partitions.
func (a Assignment) Len() int {
	n := 0
	for i := range a {
		n += len(a[i].Partitions)
	}
	return n
}

// Of are the partitions of one topic; nil for none.
func (a Assignment) Of(topic kafka.TopicID) []int32 {
	i, ok := slices.BinarySearchFunc(a, topic, func(row TopicPartitions, id kafka.TopicID) int { return Compare(row.Topic, id) })
	if !ok {
		return nil
	}
	return a[i].Partitions
}

// Has tells whether a partition is in it.
func (a Assignment) Has(topic kafka.TopicID, partition int32) bool {
	_, ok := slices.BinarySearch(a.Of(topic), partition)
	return ok
}

// Equal tells whether both hold the same partitions.
func (a Assignment) Equal(b Assignment) bool {
	return slices.EqualFunc(a, b, func(x, y TopicPartitions) bool {
		return x.Topic == y.Topic && slices.Equal(x.Partitions, y.Partitions)
	})
}
