package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// ConsumerHeartbeat queues a ConsumerGroupHeartbeat.
func (s *Service) ConsumerHeartbeat(r *ConsumerHeartbeatRequest) *coordinator.Promise[*kmsg.ConsumerGroupHeartbeatResponse] {
	return answering(s, r.Group, func(m *Machine, tx *coordinator.Tx) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
		return m.ConsumerHeartbeat(tx, r)
	})
}

// ConsumerDescribe queues a description of one consumer group.
func (s *Service) ConsumerDescribe(group string) *coordinator.Promise[kmsg.ConsumerGroupDescribeResponseGroup] {
	return answering(s, group, func(m *Machine, _ *coordinator.Tx) (kmsg.ConsumerGroupDescribeResponseGroup, error) {
		return m.ConsumerDescribe(group), nil
	})
}

// FetchAs is Fetch for a member of a consumer group (OffsetFetch from version 9 on): UNKNOWN_MEMBER_ID or
// STALE_MEMBER_EPOCH unless memberID is nil and memberEpoch negative, which is how others ask.
func (s *Service) FetchAs(group string, memberID *string, memberEpoch int32, topics []FetchTopic) *coordinator.Promise[[]FetchedTopic] {
	return answering(s, group, func(m *Machine, _ *coordinator.Tx) ([]FetchedTopic, error) {
		if err := m.ValidateFetch(group, memberID, memberEpoch); err != nil {
			return nil, err
		}
		return m.Fetch(group, topics), nil
	})
}

// ValidateFetch checks the member and epoch of an OffsetFetch; for groups that are not consumer groups they do not count.
func (m *Machine) ValidateFetch(group string, memberID *string, memberEpoch int32) error {
	g := m.consumers[group]
	if g == nil || memberID == nil && memberEpoch < 0 {
		return nil
	}
	mb := (*consumerMember)(nil)
	if memberID != nil {
		mb = g.members[*memberID]
	}
	if mb == nil {
		return kafka.ErrUnknownMemberID.With("the request comes from nobody who is a member of group %s", group)
	}
	if memberEpoch != mb.epoch {
		return mb.stale(memberEpoch)
	}
	return nil
}

// stale refuses what comes from another epoch than the member's.
func (mb *consumerMember) stale(epoch int32) error {
	if mb.classic != nil {
		return kafka.ErrIllegalGeneration.With("the received generation %d does not match the member epoch %d of %s", epoch, mb.epoch, mb.id)
	}
	return kafka.ErrStaleMemberEpoch.With("the received member epoch %d does not match the member epoch %d of %s", epoch, mb.epoch, mb.id)
}

// validateConsumerCommit decides who may commit for a consumer group: administrators while it has no members, and members. An
// epoch that lies behind is good for partitions that the member has had since then or longer (KIP-1251): a heartbeat that
// overtakes a commit does no harm.
func (m *Machine) validateConsumerCommit(g *consumerGroup, r *Commit) error {
	if r.Generation < 0 && len(g.members) == 0 {
		return nil
	}
	mb := g.members[r.MemberID]
	switch {
	case mb == nil:
		return kafka.ErrUnknownMemberID.With("Member %s is not a member of group %s.", r.MemberID, g.id)
	case mb.classic == nil && r.Version < 9:
		return kafka.ErrUnsupportedVersion.With("OffsetCommit version 9 or above must be used by members using the modern group protocol")
	case r.Generation == mb.epoch:
		return nil
	case r.Generation > mb.epoch:
		return mb.stale(r.Generation)
	}
	topics := m.topics()
	for i := range r.Topics {
		id := r.Topics[i].ID
		if id.IsZero() {
			id, _ = topics.ID(r.Topics[i].Name)
		}
		for j := range r.Topics[i].Partitions {
			p := r.Topics[i].Partitions[j].Partition
			since, ok := mb.assigned.epoch(id, p)
			if !ok {
				since, ok = mb.pending.epoch(id, p)
			}
			if !ok || r.Generation < since {
				return mb.stale(r.Generation)
			}
		}
	}
	return nil
}
