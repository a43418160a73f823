package group

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Topics is an unchanging view of the cluster's topics, for the assignment of partitions.
type Topics interface {
	// Topic tells of a topic: its ID, how many partitions it has, and for each of them the racks of its replicas, sorted;
	// racks is nil where no broker has a rack.
	Topic(name string) (id kafka.TopicID, partitions int, racks [][]string, ok bool)
	// ID is the ID of a topic.
	ID(name string) (id kafka.TopicID, ok bool)
	// ByID is the name of the topic with that ID.
	ByID(id kafka.TopicID) (name string, ok bool)
	// Names are all topics' names, sorted; internal ones too.
	Names() []string
	// Offset tells views apart: a higher one is later, an equal one is the same.
	Offset() kafka.Offset
}

// noTopics is the view of a machine that was given none.
type noTopics struct{}

func (noTopics) Topic(string) (id kafka.TopicID, partitions int, racks [][]string, ok bool) { return }
func (noTopics) ID(string) (id kafka.TopicID, ok bool)                                      { return }
func (noTopics) ByID(kafka.TopicID) (string, bool)                                          { return "", false }
func (noTopics) Names() []string                                                            { return nil }
func (noTopics) Offset() kafka.Offset                                                       { return 0 }

// imageTopics is a view of the metadata.
type imageTopics struct{ img *metadata.Image }

func (t imageTopics) Topic(name string) (id kafka.TopicID, partitions int, racks [][]string, ok bool) {
	topic := t.img.Topic(name)
	if topic == nil {
		return id, 0, nil, false
	}
	return topic.ID, topic.Partitions.Len(), t.racks(topic), true
}

// racks are those of each partition's replicas; nil if no broker says where it stands.
func (t imageTopics) racks(topic *metadata.Topic) [][]string {
	if !t.anyRack() {
		return nil
	}
	all := make([][]string, 0, topic.Partitions.Len())
	for p := range topic.Partitions.All() {
		var racks []string
		for _, id := range p.Replicas {
			if b := t.img.Broker(id); b != nil && b.Rack != "" {
				racks = insertSorted(racks, b.Rack)
			}
		}
		all = append(all, racks)
	}
	return all
}

func (t imageTopics) anyRack() bool {
	for b := range t.img.Brokers() {
		if b.Rack != "" {
			return true
		}
	}
	return false
}

func (t imageTopics) ID(name string) (id kafka.TopicID, ok bool) {
	topic := t.img.Topic(name)
	if topic == nil {
		return id, false
	}
	return topic.ID, true
}

func (t imageTopics) ByID(id kafka.TopicID) (string, bool) {
	topic := t.img.TopicByID(id)
	if topic == nil {
		return "", false
	}
	return topic.Name, true
}

func (t imageTopics) Names() []string {
	names := make([]string, 0, t.img.TopicCount())
	for topic := range t.img.Topics() {
		names = append(names, topic.Name)
	}
	return names
}

func (t imageTopics) Offset() kafka.Offset { return kafka.Offset(t.img.Offset()) }

// insertSorted puts s into the sorted list unless it is there.
func insertSorted(list []string, s string) []string {
	i, found := slices.BinarySearch(list, s)
	if found {
		return list
	}
	return slices.Insert(list, i, s)
}

// SetTopics says where the machine looks for topics; they may change between operations, not during one.
func (m *Machine) SetTopics(topics func() Topics) { m.topics = topics }

// TopicsChanged makes the consumer groups that subscribe to any of the topics, by name or by regular expression, look at
// them again with their members' next heartbeat; nil stands for all topics.
func (m *Machine) TopicsChanged(names []string) {
	if len(names) > concernedMax {
		names = nil
	}
	for _, g := range m.consumers { // any order: each is marked for itself
		if names == nil || g.concerned(names) {
			g.stale = true
		}
	}
}

// concernedMax bounds the work of finding out whom topics concern: of more, all groups look.
const concernedMax = 64

// concerned tells whether any of the topics may matter to the group.
func (g *consumerGroup) concerned(names []string) bool {
	return len(g.regexes) > 0 || slices.ContainsFunc(names, g.subscribesTo)
}

func (s *Service) topics() Topics { return imageTopics{s.o.Store.Image()} }
