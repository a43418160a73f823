package group

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

func (s *Service) beat(member string, epoch int32, change func(*kmsg.ConsumerGroupHeartbeatRequest)) *coordinator.Promise[*kmsg.ConsumerGroupHeartbeatResponse] {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch = 1, "g", member, epoch
	if epoch == 0 {
		r.RebalanceTimeoutMillis, r.SubscribedTopicNames, r.Topics = 60_000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	if change != nil {
		change(r)
	}
	return s.ConsumerHeartbeat(&ConsumerHeartbeatRequest{ConsumerGroupHeartbeatRequest: r, ClientID: "c", ClientHost: "/h"})
}

// A consumer group moves with the leadership of its partition in the middle of a rebalance, and goes on at the new coordinator, who
// then also sees that its topic grows.
func TestConsumerGroupsMoveWithTheLeader(t *testing.T) {
	one, two := twoNodes(t)
	id := kafka.NewTopicID()
	if r := one.store.CreateTopics(t.Context(), []metadata.CreateTopic{{Name: "t", ID: id, Partitions: 2, ReplicationFactor: 1}}, false); r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	owns := func(partitions ...int32) func(*kmsg.ConsumerGroupHeartbeatRequest) {
		return func(r *kmsg.ConsumerGroupHeartbeatRequest) {
			row := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			row.TopicID, row.Partitions = id, partitions
			r.Topics = append(r.Topics, row)
		}
	}
	want := func(what string, resp *kmsg.ConsumerGroupHeartbeatResponse, epoch int32, partitions int) {
		t.Helper()
		n := 0
		if resp.Assignment == nil {
			n = -1
		} else {
			for _, row := range resp.Assignment.Topics {
				n += len(row.Partitions)
			}
		}
		if resp.MemberEpoch != epoch || n != partitions {
			t.Fatalf("%s: epoch %d with %d partitions, want %d with %d", what, resp.MemberEpoch, n, epoch, partitions)
		}
	}
	type answer = coordinator.Promise[*kmsg.ConsumerGroupHeartbeatResponse]
	a, err := settled(t, func() *answer { return one.beat("a", 0, nil) })
	if err != nil {
		t.Fatal(err)
	}
	want("a joins", a, 1, 2)
	want("b joins", await(t, one.beat("b", 0, nil)), 2, 0)
	want("a is told to give up one", await(t, one.beat("a", 1, owns(0, 1))), 1, 1)

	one.moveTo(2)
	a, err = settled(t, func() *answer { return two.beat("a", 1, owns(0, 1)) })
	if err != nil {
		t.Fatal(err)
	}
	want("a has not given it up at the new coordinator", a, 1, -1)
	want("b waits", await(t, two.beat("b", 2, nil)), 2, -1)
	want("a has", await(t, two.beat("a", 1, owns(0))), 2, -1)
	want("b is given it", await(t, two.beat("b", 2, nil)), 2, 1)
	if codes := await(t, two.Commit(commitOf("b", 2, 7))); codes[0][0] != 0 {
		t.Errorf("commit: %v", codes)
	}
	if _, err := two.Commit(commitOf("b", 1, 8)).Wait(t.Context()); kafka.CodeOf(err) != kafka.ErrStaleMemberEpoch.Code {
		t.Errorf("commit in an old epoch: %v", err)
	}
	member := "b"
	if rows := await(t, two.FetchAs("g", &member, 2, nil)); rows[0].Partitions[0].Offset != 7 {
		t.Errorf("offsets: %+v", rows)
	}
	if _, err := two.FetchAs("g", &member, 1, nil).Wait(t.Context()); kafka.CodeOf(err) != kafka.ErrStaleMemberEpoch.Code {
		t.Errorf("fetch in an old epoch: %v", err)
	}

	if err := one.store.CreatePartitions(t.Context(), metadata.CreatePartitions{Topic: "t", Count: 3}, false); err != nil {
		t.Fatal(err)
	}
	for epoch := int32(2); epoch == 2; time.Sleep(time.Millisecond) { // the events are on their way
		epoch = await(t, two.beat("b", 2, nil)).MemberEpoch
	}
	if d := await(t, two.ConsumerDescribe("g")); d.Epoch != 3 || d.AssignmentEpoch != 3 || len(d.Members) != 2 {
		t.Errorf("described: %+v", d)
	}
	if got := await(t, two.Describe("g", 6)); got.ErrorCode != kafka.ErrGroupIDNotFound.Code {
		t.Errorf("described as a classic group: %+v", got)
	}
}
