package group

import (
	"chronik/internal/kafka"
)

// FetchTopic asks for committed offsets of one topic. An ID that is not zero must be that which the offset was committed
// for: the offsets of a topic that was deleted are not those of its successor.
type FetchTopic struct {
	Name       string
	ID         kafka.TopicID
	Partitions []int32
}

// FetchedTopic are committed offsets of one topic.
type FetchedTopic struct {
	Name       string
	ID         kafka.TopicID // as asked for
	Partitions []FetchedOffset
}

// FetchedOffset is a committed offset: offset -1 and epoch -1 if there is none.
type FetchedOffset struct {
	Partition   int32
	Offset      kafka.Offset
	LeaderEpoch kafka.LeaderEpoch
	Metadata    string
	ErrorCode   int16
}

// Fetch looks up committed offsets: those of topics, or all where topics is nil. A group that does not exist has none.
func (m *Machine) Fetch(group string, topics []FetchTopic) []FetchedTopic {
	exists := m.expirerOf(group) != nil
	if topics == nil {
		out := []FetchedTopic{}
		if !exists {
			return out
		}
		for topic, c := range m.offsets[group].all() {
			if len(out) == 0 || out[len(out)-1].Name != topic {
				out = append(out, FetchedTopic{Name: topic})
			}
			last := &out[len(out)-1]
			last.Partitions = append(last.Partitions, fetched(c.partition, c))
		}
		return out
	}
	out := make([]FetchedTopic, len(topics))
	for i, t := range topics {
		out[i] = FetchedTopic{Name: t.Name, ID: t.ID, Partitions: make([]FetchedOffset, len(t.Partitions))}
		for j, p := range t.Partitions {
			var c *committed
			if exists {
				c = m.offset(group, t.Name, p)
			}
			if c != nil && !t.ID.IsZero() && !c.topicID.IsZero() && t.ID != c.topicID {
				c = nil
			}
			out[i].Partitions[j] = fetched(p, c)
		}
	}
	return out
}

func fetched(partition int32, c *committed) FetchedOffset {
	if c == nil {
		return FetchedOffset{Partition: partition, Offset: kafka.NoOffset, LeaderEpoch: kafka.NoLeaderEpoch}
	}
	return FetchedOffset{Partition: partition, Offset: c.offset, LeaderEpoch: c.leaderEpoch, Metadata: c.metadata}
}
