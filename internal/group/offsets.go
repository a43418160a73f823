package group

import (
	"maps"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// groupOffsets are the committed offsets of one group, by topic and partition.
type groupOffsets map[string]map[int32]*committed

func (m *Machine) offset(group, topic string, partition int32) *committed {
	return m.offsets[group][topic][partition]
}

func (m *Machine) putOffset(group, topic string, partition int32, c *committed) {
	byTopic := m.offsets[group]
	if byTopic == nil {
		byTopic = groupOffsets{}
		m.offsets[group] = byTopic
	}
	byPartition := byTopic[topic]
	if byPartition == nil {
		byPartition = map[int32]*committed{}
		byTopic[topic] = byPartition
	}
	byPartition[partition] = c
}

func (m *Machine) deleteOffset(group, topic string, partition int32) {
	byPartition := m.offsets[group][topic]
	delete(byPartition, partition)
	if len(byPartition) == 0 {
		delete(m.offsets[group], topic)
	}
	if len(m.offsets[group]) == 0 {
		delete(m.offsets, group)
	}
}

// Commit is an OffsetCommit whose topics were resolved: what exists, by name and ID.
type Commit struct {
	Group           string
	Version         int16
	Generation      int32 // -1 from who does not use group membership
	MemberID        string
	InstanceID      *string
	RetentionMillis int64 // -1 for the broker's
	Topics          []CommitTopic
}

// CommitTopic is one topic of a Commit.
type CommitTopic struct {
	Name       string
	ID         kafka.TopicID
	Partitions []kmsg.OffsetCommitRequestTopicPartition
}

// Commit stores offsets. The result has a code for every partition, in the order of the request; the error is that of
// the whole request.
func (m *Machine) Commit(tx *coordinator.Tx, r *Commit) ([][]int16, error) {
	g := m.groups[r.Group]
	if g == nil {
		switch {
		case r.Generation < 0: // it only keeps its offsets here: the group is a name
			g = m.create(r.Group, tx.Millis())
		case r.Version >= 9:
			return nil, kafka.ErrGroupIDNotFound.With("group %s not found", r.Group)
		default:
			return nil, kafka.ErrIllegalGeneration
		}
	}
	if err := g.validateCommit(r); err != nil {
		return nil, err
	}
	if mb := g.byID[r.MemberID]; mb != nil && (g.state == Stable || g.state == PreparingRebalance) {
		m.resetSession(tx, g, mb)
	}
	expire := int64(-1)
	if r.RetentionMillis != -1 {
		expire = tx.Millis() + r.RetentionMillis
	}
	limits := m.limits()
	codes := make([][]int16, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		codes[i] = make([]int16, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			c := &committed{
				offset: kafka.Offset(p.Offset), leaderEpoch: kafka.LeaderEpoch(p.LeaderEpoch),
				commitTime: tx.Millis(), expireTime: expire, topicID: t.ID,
			}
			if r.Version < 6 {
				c.leaderEpoch = kafka.NoLeaderEpoch
			}
			if p.Metadata != nil {
				c.metadata = *p.Metadata
			}
			rec := offsetRecord(r.Group, t.Name, p.Partition, c)
			switch {
			case javaLen(c.metadata) > limits.OffsetMetadataMax:
				codes[i][j] = kafka.ErrOffsetMetadataTooLarge.Code
			case rec.Size() > limits.RecordMaxBytes:
				codes[i][j] = kafka.ErrInvalidCommitOffsetSize.Code
			default:
				m.putOffset(r.Group, t.Name, p.Partition, c)
				tx.Append(rec)
			}
		}
	}
	return codes, nil
}

func (g *classic) validateCommit(r *Commit) error {
	if r.Generation < 0 && g.state == Empty {
		return nil // an administrator, or a consumer without group membership
	}
	switch {
	case r.Generation >= 0 || r.MemberID != "" || r.InstanceID != nil:
		if err := g.validate(r.MemberID, r.InstanceID); err != nil {
			return err
		}
		if r.Generation != g.generation {
			return kafka.ErrIllegalGeneration.With("group %s is in generation %d", g.id, g.generation)
		}
	case g.state != Empty:
		return kafka.ErrUnknownMemberID.With("group %s has members: only they commit", g.id)
	}
	if g.state == CompletingRebalance {
		return kafka.ErrRebalanceInProgress
	}
	return nil
}

// javaLen is the length of a string as Java counts it, which is what offset.metadata.max.bytes is compared with.
func javaLen(s string) int {
	n := 0
	for _, r := range s {
		if r == utf8.RuneError {
			n++
			continue
		}
		n += utf16.RuneLen(r)
	}
	return n
}

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
	exists := m.groups[group] != nil
	if topics == nil {
		out := []FetchedTopic{}
		if !exists {
			return out
		}
		for _, name := range slices.Sorted(maps.Keys(m.offsets[group])) {
			t := FetchedTopic{Name: name}
			for _, p := range slices.Sorted(maps.Keys(m.offsets[group][name])) {
				t.Partitions = append(t.Partitions, fetched(p, m.offset(group, name, p)))
			}
			out = append(out, t)
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

// DeleteOffsets forgets committed offsets, but not those of a topic that the group consumes. The result has a code for
// every partition, in the order of the request.
func (m *Machine) DeleteOffsets(tx *coordinator.Tx, group string, topics []FetchTopic) ([][]int16, error) {
	g := m.groups[group]
	if g == nil {
		return nil, kafka.ErrGroupIDNotFound.With("group %s not found", group)
	}
	if g.state != Empty && !g.isConsumer() {
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

func (m *Machine) dropOffset(tx *coordinator.Tx, group, topic string, partition int32) {
	m.deleteOffset(group, topic, partition)
	tx.Append(offsetTombstone(group, topic, partition))
}

// TopicDeleted forgets what was committed for a topic that is gone.
func (m *Machine) TopicDeleted(tx *coordinator.Tx, name string, id kafka.TopicID) {
	for _, group := range slices.Sorted(maps.Keys(m.offsets)) {
		for _, p := range slices.Sorted(maps.Keys(m.offsets[group][name])) {
			if c := m.offset(group, name, p); c.topicID.IsZero() || c.topicID == id {
				m.dropOffset(tx, group, name, p)
			}
		}
	}
}

// DropDeleted forgets what was committed for topics that are gone, by their IDs: their deletion may have been missed
// while nobody coordinated these groups.
func (m *Machine) DropDeleted(tx *coordinator.Tx, exists func(kafka.TopicID) bool) {
	for _, group := range slices.Sorted(maps.Keys(m.offsets)) {
		for _, topic := range slices.Sorted(maps.Keys(m.offsets[group])) {
			for _, p := range slices.Sorted(maps.Keys(m.offsets[group][topic])) {
				if id := m.offset(group, topic, p).topicID; !id.IsZero() && !exists(id) {
					m.dropOffset(tx, group, topic, p)
				}
			}
		}
	}
}
