package controller

import (
	"strings"
	"unicode/utf8"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// state is all that a decision rests on.
type state struct {
	image    *metadata.Image
	defaults Defaults
	limits   Limits
	// What heartbeats told: replicas that are damaged, and brokers whose process was heard of within its lease.
	damaged damages
	leased  map[kafka.BrokerID]bool
}

// The commands that are not plain types of package metadata.
type (
	createTopics struct {
		topics []metadata.CreateTopic
	}
	deleteTopic struct {
		id     kafka.TopicID
		reason string
	}
	allocateProducerIDs struct{}
	unregisterBroker    struct{ id kafka.BrokerID }
	fenceBroker         struct {
		id     kafka.BrokerID
		fenced bool
		reason string
	}
)

// decision is what a command leads to: the records, and the answer, which is given the image after them.
type decision struct {
	records []*pb.Record
	answer  func(img *metadata.Image) any
}

// decide is pure: it depends on its arguments alone and changes nothing. An error is a *kafka.Error and comes with no
// records.
func decide(s state, command any) (decision, error) {
	switch c := command.(type) {
	case createTopics:
		return s.createTopics(c), nil
	case deleteTopic:
		return s.deleteTopic(c)
	case metadata.CreatePartitions:
		return s.createPartitions(c)
	case metadata.SetConfig:
		return s.setConfig(c)
	case allocateProducerIDs:
		return s.allocateProducerIDs(), nil
	case metadata.RegisterBroker:
		return s.registerBroker(c)
	case unregisterBroker:
		return s.unregisterBroker(c)
	case fenceBroker:
		return s.fenceBroker(c)
	case brokerState:
		return s.brokerState(c)
	case balanceLeaders:
		return s.balanceLeaders(c), nil
	case widenTopics:
		return s.widenTopics(c), nil
	case metadata.AssignPartition:
		return s.assignPartition(c)
	case metadata.SetPartitionLeader:
		return s.setPartitionLeader(c)
	case metadata.UpdateISR:
		return s.updateISR(c)
	}
	return decision{}, kafka.ErrUnknownServerError.With("the controller does not know the command %T", command)
}

// find is the partition with its topic.
func (s state) find(tp kafka.TopicPartition) (*metadata.Topic, *metadata.Partition, error) {
	topic := s.image.TopicByID(tp.Topic)
	if topic == nil {
		return nil, nil, kafka.ErrUnknownTopicID.With("no topic has the ID %s; it may have been deleted", tp.Topic)
	}
	p := topic.Partitions.At(tp.Partition)
	if p == nil {
		return nil, nil, kafka.ErrUnknownTopicOrPartition.With("topic %q has %d partitions, there is no partition %d",
			topic.Name, topic.Partitions.Len(), tp.Partition)
	}
	return topic, p, nil
}

// because is a reason fit for a record; protobuf strings are UTF-8.
func because(reason, otherwise string) string {
	if reason == "" {
		return otherwise
	}
	return strings.ToValidUTF8(reason, "?")
}

func validText(texts ...string) bool {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return false
		}
	}
	return true
}
