package group

import (
	"cmp"
	"iter"
	"slices"
	"unique"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// committed is one committed offset. Many thousand groups may keep theirs on a node, so it is small and lies in a slice.
type committed struct {
	offset      kafka.Offset
	commitTime  int64 // milliseconds
	expireTime  int64 // milliseconds; -1 for what the group's retention says
	metadata    string
	topicID     kafka.TopicID
	partition   int32
	leaderEpoch kafka.LeaderEpoch // of the last record consumed; NoLeaderEpoch if the client did not say
}

// groupOffsets are the committed offsets of one group, sorted by topic.
type groupOffsets struct{ topics []topicOffsets }

// topicOffsets are those of one topic, sorted by partition.
type topicOffsets struct {
	name       string
	partitions []committed
}

func (o *groupOffsets) find(topic string) (int, bool) {
	return slices.BinarySearchFunc(o.topics, topic, func(t topicOffsets, name string) int { return cmp.Compare(t.name, name) })
}

func (t *topicOffsets) find(partition int32) (int, bool) {
	return slices.BinarySearchFunc(t.partitions, partition, func(c committed, p int32) int { return cmp.Compare(c.partition, p) })
}

// topic are the offsets of one topic; nil if there are none. It is valid until the next change.
func (o *groupOffsets) topic(name string) []committed {
	if o == nil {
		return nil
	}
	i, ok := o.find(name)
	if !ok {
		return nil
	}
	return o.topics[i].partitions
}

// at is one committed offset; nil if there is none. It is valid until the next change.
func (o *groupOffsets) at(topic string, partition int32) *committed {
	t := topicOffsets{partitions: o.topic(topic)}
	i, ok := t.find(partition)
	if !ok {
		return nil
	}
	return &t.partitions[i]
}

// all yields every offset by topic and partition. Nothing may change meanwhile.
func (o *groupOffsets) all() iter.Seq2[string, *committed] {
	return func(yield func(string, *committed) bool) {
		if o == nil {
			return
		}
		for i := range o.topics {
			for j := range o.topics[i].partitions {
				if !yield(o.topics[i].name, &o.topics[i].partitions[j]) {
					return
				}
			}
		}
	}
}

func (m *Machine) offset(group, topic string, partition int32) *committed {
	return m.offsets[group].at(topic, partition)
}

func (m *Machine) putOffset(group, topic string, c committed) {
	o := m.offsets[group]
	if o == nil {
		o = &groupOffsets{}
		m.offsets[group] = o
	}
	i, ok := o.find(topic)
	if !ok {
		o.topics = slices.Insert(o.topics, i, topicOffsets{name: unique.Make(topic).Value()}) // groups share the names of topics
	}
	t := &o.topics[i]
	j, ok := t.find(c.partition)
	if ok {
		t.partitions[j] = c
		return
	}
	t.partitions = slices.Insert(t.partitions, j, c)
}

func (m *Machine) deleteOffset(group, topic string, partition int32) {
	o := m.offsets[group]
	if o == nil {
		return
	}
	i, ok := o.find(topic)
	if !ok {
		return
	}
	t := &o.topics[i]
	if j, ok := t.find(partition); ok {
		t.partitions = slices.Delete(t.partitions, j, j+1)
	}
	if len(t.partitions) == 0 {
		o.topics = slices.Delete(o.topics, i, i+1)
	}
	if len(o.topics) == 0 {
		delete(m.offsets, group)
	}
}

// position names a committed offset of a group.
type position struct {
	topic     string
	partition int32
}

// dropOffsets forgets the offsets of a group for which drop says so, with their tombstones, and tells how many.
func (m *Machine) dropOffsets(tx *coordinator.Tx, group string, drop func(topic string, c *committed) bool) int {
	var gone []position
	for topic, c := range m.offsets[group].all() {
		if drop(topic, c) {
			gone = append(gone, position{topic, c.partition})
		}
	}
	for _, p := range gone {
		m.dropOffset(tx, group, p.topic, p.partition)
	}
	return len(gone)
}

func (m *Machine) dropOffset(tx *coordinator.Tx, group, topic string, partition int32) {
	m.deleteOffset(group, topic, partition)
	tx.Append(offsetTombstone(group, topic, partition))
}

// groupsWith are the groups, sorted, for whose committed offsets want says so.
func (m *Machine) groupsWith(want func(*groupOffsets) bool) []string {
	var groups []string
	for id, o := range m.offsets {
		if want(o) {
			groups = append(groups, id)
		}
	}
	slices.Sort(groups)
	return groups
}

// TopicDeleted forgets what was committed for a topic that is gone.
func (m *Machine) TopicDeleted(tx *coordinator.Tx, name string, id kafka.TopicID) {
	m.dropEverywhere(tx, coordinator.TimerKey{Kind: "topic-deleted", A: name, B: id.String()},
		func(o *groupOffsets) bool {
			return slices.ContainsFunc(o.topic(name), func(c committed) bool { return c.isOf(id) })
		},
		func(topic string, c *committed) bool { return topic == name && c.isOf(id) })
}

func (c *committed) isOf(topic kafka.TopicID) bool { return c.topicID.IsZero() || c.topicID == topic }

// DropDeleted forgets what was committed for topics that are gone, by their IDs: their deletion may have been missed
// while nobody coordinated these groups.
func (m *Machine) DropDeleted(tx *coordinator.Tx, exists func(kafka.TopicID) bool) {
	gone := func(_ string, c *committed) bool { return !c.topicID.IsZero() && !exists(c.topicID) }
	m.dropEverywhere(tx, coordinator.TimerKey{Kind: "deleted-topics"}, func(o *groupOffsets) bool {
		for topic, c := range o.all() {
			if gone(topic, c) {
				return true
			}
		}
		return false
	}, gone)
}

// dropEverywhere forgets offsets of all groups, and goes on in another operation where they are many: others wait meanwhile.
func (m *Machine) dropEverywhere(tx *coordinator.Tx, key coordinator.TimerKey, has func(*groupOffsets) bool, drop func(topic string, c *committed) bool) {
	for _, group := range m.groupsWith(has) {
		if tx.Appended() >= expiryStep {
			tx.After(key, 0, func(tx *coordinator.Tx) { m.dropEverywhere(tx, key, has, drop) })
			return
		}
		m.dropOffsets(tx, group, drop)
	}
}

// DeleteOffsets forgets committed offsets, but not those of a topic that the group consumes. The result has a code for
// every partition, in the order of the request.
func (m *Machine) DeleteOffsets(tx *coordinator.Tx, group string, topics []FetchTopic) ([][]int16, error) {
	g := m.expirerOf(group)
	if g == nil {
		return nil, kafka.ErrGroupIDNotFound.With("group %s not found", group)
	}
	if c := m.groups[group]; c != nil && c.state != Empty && !c.isConsumer() {
		return nil, kafka.ErrNonEmptyGroup.With("group %s has members", group)
	}
	codes := make([][]int16, len(topics))
	for i, t := range topics {
		codes[i] = make([]int16, len(t.Partitions))
		for j, p := range t.Partitions {
			switch {
			case g.subscribesTo(t.Name):
				codes[i][j] = kafka.ErrGroupSubscribedToTopic.Code
			case m.offset(group, t.Name, p) != nil:
				m.dropOffset(tx, group, t.Name, p)
			}
		}
	}
	return codes, nil
}
