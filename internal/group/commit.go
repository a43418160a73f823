package group

import (
	"unicode/utf16"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

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
	if c := m.consumers[r.Group]; c != nil {
		if err := m.validateConsumerCommit(c, r); err != nil {
			return nil, err
		}
		return m.store(tx, r), nil
	}
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
	return m.store(tx, r), nil
}

// store keeps the offsets of a commit that is allowed.
func (m *Machine) store(tx *coordinator.Tx, r *Commit) [][]int16 {
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
			c := committed{
				partition: p.Partition, offset: kafka.Offset(p.Offset), leaderEpoch: kafka.LeaderEpoch(p.LeaderEpoch),
				commitTime: tx.Millis(), expireTime: expire, topicID: t.ID,
			}
			if r.Version < 6 {
				c.leaderEpoch = kafka.NoLeaderEpoch
			}
			if p.Metadata != nil {
				c.metadata = *p.Metadata
			}
			rec := offsetRecord(r.Group, t.Name, &c)
			switch {
			case javaLen(c.metadata) > limits.OffsetMetadataMax:
				codes[i][j] = kafka.ErrOffsetMetadataTooLarge.Code
			case rec.Size() > limits.RecordMaxBytes:
				codes[i][j] = kafka.ErrInvalidCommitOffsetSize.Code
			default:
				m.putOffset(r.Group, t.Name, c)
				tx.Append(rec)
			}
		}
	}
	return codes
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
