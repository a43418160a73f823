package groups

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// OfApacheKafka are settings of Apache Kafka alone: it assigns at once, as chronik does.
var OfApacheKafka = []string{"group.consumer.assignment.interval.ms=0", "group.consumer.assignor.offload.enable=false"}

// TalkNext is about consumer groups (KIP-848), keys 68 and 69, and what the other keys say of them. Members ask for the range
// assignor, whose result is the same for everyone.
func TalkNext(p *pair.Side) {
	s := &side{Side: p}
	s.groupTopics()
	s.findEpochBase()
	s.wrongHeartbeats()
	for version := int16(0); version <= 1; version++ {
		s.nextLife(version)
	}
	s.nextTwo()
	s.nextStatic()
	s.nextSubscriptions()
	s.nextRegex()
	s.nextOffsets()
	s.nextOtherKeys()
	s.nextEmpty()
	s.nextJoinedByClassic()
	s.nextConfigs()
	s.EpochBase = 0 // these come from a classic group's generation
	s.nextUpgrade()
}

type beatOption func(*kmsg.ConsumerGroupHeartbeatRequest)

// owning says what the member has; topics of groupTopics as in "t-0".
func (s *side) owning(partitions ...string) beatOption {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, name := range partitions {
			row := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			row.TopicID = s.topicID(name[:1])
			row.Partitions = []int32{int32(name[2] - '0')}
			if n := len(r.Topics); n > 0 && r.Topics[n-1].TopicID == row.TopicID {
				r.Topics[n-1].Partitions = append(r.Topics[n-1].Partitions, row.Partitions...)
				continue
			}
			r.Topics = append(r.Topics, row)
		}
	}
}

func subscribing(topics ...string) beatOption {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = append([]string{}, topics...) }
}

func matching(pattern string) beatOption {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicRegex = &pattern }
}

func statically(id string) beatOption {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = &id }
}

func assignedBy(name string) beatOption {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = &name }
}

func timeout(ms int32) beatOption {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = ms }
}

func rack(name string) beatOption {
	return func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RackID = &name }
}

// findEpochBase learns what a new group's first epoch is: Apache Kafka 4.3 begins at 2, its versions before at 1.
func (s *side) findEpochBase() {
	s.EpochBase = 0
	_, first := s.beat(1, "base", "m", 0)
	s.beat(1, "base", "m", -1)
	s.deleteGroups(2, "base")
	s.EpochBase = first - 1
	s.Said = nil
}

// real is an epoch as the server counts it.
func (s *side) real(epoch int32) int32 {
	if epoch > 0 {
		return epoch + s.EpochBase
	}
	return epoch
}

// beat sends a heartbeat; one with epoch 0 joins, with a subscription to t unless the options have another. It returns the member's
// ID and epoch of the answer.
func (s *side) beat(version int16, group, member string, epoch int32, options ...beatOption) (string, int32) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = group, member, s.real(epoch)
	if epoch == 0 {
		for _, o := range []beatOption{subscribing("t"), s.owning(), assignedBy("range"), timeout(20_000)} {
			o(req)
		}
	}
	for _, o := range options {
		o(req)
	}
	resp := pair.Call[*kmsg.ConsumerGroupHeartbeatResponse](s.Side, version, req)
	s.last, s.assigned = -9, nil
	if resp == nil || resp.MemberID == nil {
		return "", -9
	}
	s.last, s.assigned = resp.MemberEpoch, resp.Assignment
	if s.last > 0 {
		s.last -= s.EpochBase
	}
	if member == "" && resp.ErrorCode == 0 {
		s.ID(*resp.MemberID)
	}
	return *resp.MemberID, s.last
}

func (s *side) describeNext(groups ...string) {
	for version := int16(0); version <= 1; version++ {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups, req.IncludeAuthorizedOperations = groups, true
		pair.Call[*kmsg.ConsumerGroupDescribeResponse](s.Side, version, req)
	}
}

func (s *side) wrongHeartbeats() {
	long := timeout(-1)
	nothing := func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.SubscribedTopicNames, r.SubscribedTopicRegex = nil, nil
	}
	unowned := func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Topics = nil }
	for version := int16(0); version <= 1; version++ {
		g := fmt.Sprint("wrong", version)
		s.beat(version, "", "m", 0)
		s.beat(version, g, "", 5)
		s.beat(version, g, "", -1)
		s.beat(version, g, "m", -2)
		s.beat(version, g, "m", -3)
		s.beat(version, g, "m", 0, statically(""))
		s.beat(version, g, "m", 0, statically(" "))
		s.beat(version, g, "m", 0, rack(""))
		s.beat(version, g, "m", 0, long)
		s.beat(version, g, "m", 0, unowned)
		s.beat(version, g, "m", 0, s.owning("t-0"))
		s.beat(version, g, "m", 0, nothing)
		s.beat(version, g, "m", 0, assignedBy("sticky"))
		s.beat(version, g, "m", 0, assignedBy(""))
		s.beat(version, g, "m", 0, timeout(0))
		s.beat(version, g+"b", "m", 0, timeout(-5))
		s.beat(version, g+"none", "m", 1)
		s.beat(version, g+"none", "m", -1)
		s.beat(version, g+"none", "m", -2, statically("i"))
		s.describeNext(g, g+"none", "")
		s.beat(version, g, "m", -1)
	}
	s.beat(1, "wrong2", "", 0)
	s.beat(1, "wrong2", "m", 0, nothing, matching("("))
	s.beat(1, "wrong2", "m", 0, nothing, matching("(?=t)"))
	s.describeNext("wrong2")
}

func (s *side) nextLife(version int16) {
	g, id := fmt.Sprint("next", version), "m"
	if version == 0 {
		id = ""
	}
	id, _ = s.beat(version, g, id, 0)
	s.beat(version, g, id, 1)
	s.beat(version, g, id, 1, s.owning("t-0", "t-1"))
	s.beat(version, g, id, 1, s.owning("t-0"))
	s.beat(version, g, id, 1, s.owning("t-0", "t-1"), timeout(30_000), subscribing("t")) // all that there is to say
	s.beat(version, g, id, 2)
	s.beat(version, g, id, 2, s.owning("t-0", "t-1"))
	s.beat(version, g, "x", 1)
	s.describeNext(g)
	s.beat(version, g, id, 0)
	s.beat(version, g, id, 1)
	s.describeNext(g)
	s.beat(version, g, "x", -1)
	s.beat(version, g, id, -1)
	s.beat(version, g, id, 1)
	s.describeNext(g)
	s.beat(version, g, id, 0)
	s.beat(version, g, id, 3)
	s.describeNext(g)
	s.beat(version, g, id, -1)
	s.list(5, nil, nil)
	s.deleteGroups(2, g)
	s.describeNext(g)
}

// nextTwo: a partition goes from one member to another.
func (s *side) nextTwo() {
	const g = "nexttwo"
	s.beat(1, g, "a", 0)
	s.beat(1, g, "b", 0)
	s.describeNext(g)
	s.beat(1, g, "b", 2)
	s.beat(1, g, "a", 1) // is told to give t-1 up
	s.describeNext(g)
	s.beat(1, g, "b", 2)
	s.commit(9, g, "a", 1, "", "t-1")
	s.beat(1, g, "a", 1)
	s.beat(1, g, "a", 1, s.owning("t-0", "t-1"))
	s.beat(1, g, "a", 2)
	s.beat(1, g, "a", 1, s.owning("t-0")) // has given it up
	s.describeNext(g)
	s.beat(1, g, "a", 1, s.owning("t-0")) // an answer was lost
	s.beat(1, g, "a", 1)
	s.beat(1, g, "a", 1, s.owning("t-0", "t-1"))
	s.beat(1, g, "b", 2)
	s.describeNext(g)
	s.commit(9, g, "a", 1, "", "t-0")
	s.commit(9, g, "a", 2, "", "t-0")
	s.commit(9, g, "a", 3, "", "t-0")
	s.beat(1, g, "a", 2, subscribing("t", "u"))
	s.describeNext(g)
	s.beat(1, g, "b", 2, s.owning("t-1"))
	s.describeNext(g)
	s.beat(1, g, "a", 3, s.owning("t-0"))
	s.beat(1, g, "b", 3, subscribing())
	s.describeNext(g)
	s.beat(1, g, "a", 4)
	s.beat(1, g, "b", 3, s.owning())
	s.describeNext(g)
	s.beat(1, g, "a", 3, s.owning("t-0"))
	s.beat(1, g, "a", 4)
	s.describeNext(g)
	s.beat(1, g, "a", -1)
	s.beat(1, g, "b", 4)
	s.beat(1, g, "b", 4, subscribing("t"))
	s.describeNext(g)
	s.beat(1, g, "b", -1)
	s.describeNext(g)
}

func (s *side) nextStatic() {
	const g = "nextstatic"
	s.beat(1, g, "a", 0, statically("i1"))
	s.beat(1, g, "b", 0, statically("i2"))
	s.beat(1, g, "a", 1, statically("i1"))
	s.beat(1, g, "a", 1, statically("i1"), s.owning("t-0"))
	s.beat(1, g, "b", 2, statically("i2"))
	s.describeNext(g)
	s.beat(1, g, "a", 2, statically("i2"))
	s.beat(1, g, "a", 2, statically("i9"))
	s.beat(1, g, "a", 2)
	s.beat(1, g, "c", 0, statically("i1"))
	s.beat(1, g, "c", -2, statically("i1"))
	s.beat(1, g, "a", -2, statically("i1")) // away for a while
	s.describeNext(g)
	s.beat(1, g, "a", 2, statically("i1"))
	s.beat(1, g, "b", 2, statically("i2"))
	s.beat(1, g, "c", 0, statically("i1")) // back, as another
	s.describeNext(g)
	s.beat(1, g, "a", 2, statically("i1"))
	s.beat(1, g, "c", 2, statically("i1"))
	s.beat(1, g, "b", 2, statically("i2"))
	s.commit(9, g, "a", 2, "", "t-0")
	s.commit(9, g, "c", 2, "", "t-0")
	s.beat(1, g, "c", -2, statically("i1"))
	s.beat(1, g, "d", 0, statically("i1"), subscribing("t", "u")) // back, with another subscription
	s.describeNext(g)
	s.leave(5, g, leaving("", "i2"))
	s.describeNext(g)
	s.beat(1, g, "b", 2, statically("i2"))
	s.beat(1, g, "d", -1, statically("i1"))
	s.beat(1, g, "b", -1, statically("i2"))
	s.describeNext(g)
}

func (s *side) nextSubscriptions() {
	const g = "nextsubs"
	s.beat(1, g, "a", 0, subscribing("none"))
	s.describeNext(g)
	s.beat(1, g, "a", 1, subscribing("t", "none", "t"))
	s.describeNext(g)
	s.beat(1, g, "a", 2, subscribing("u"))
	s.describeNext(g)
	s.beat(1, g, "a", 2, s.owning())
	s.describeNext(g)
	s.beat(1, g, "a", 3, subscribing("u"))
	s.beat(1, g, "a", 3, assignedBy("uniform"))
	s.beat(1, g, "a", 3, assignedBy("none"))
	s.describeNext(g)
	s.beat(1, g, "a", 3, rack("r"))
	s.describeNext(g)
	s.beat(1, g, "a", 4)
	s.describeNext(g)
	s.beat(1, g, "a", -1)
}

func (s *side) nextOffsets() {
	const g = "nextoffsets"
	s.beat(1, g, "a", 0)
	for version := int16(2); version <= 10; version++ {
		s.commit(version, g, "a", 1, "", "t-0")
		s.commit(version, g, "a", 0, "", "t-0")
		s.commit(version, g, "a", 2, "", "t-0")
		s.commit(version, g, "x", 1, "", "t-0")
		s.commit(version, g, "", -1, "", "t-0")
		s.commit(version, g, "a", -1, "", "t-0")
	}
	for version := int16(8); version <= 10; version++ {
		for _, who := range []struct {
			member string
			epoch  int32
		}{{"a", 1}, {"a", 0}, {"a", 2}, {"a", -1}, {"x", 1}, {"", -1}} {
			s.fetchAs(version, g, who.member, who.epoch)
			s.fetchAs(version, g+"none", who.member, who.epoch)
		}
	}
	s.deleteOffsets(g, "t", "u")
	s.beat(1, g, "a", -1)
	s.commit(9, g, "", -1, "", "t-0")
	s.commit(9, g, "a", 1, "", "t-0")
	s.fetchAs(9, g, "a", 1)
	s.fetchAs(9, g, "", -1)
	s.deleteOffsets(g, "t", "u")
	s.deleteGroups(2, g)
	s.fetchAs(9, g, "a", 1)
	s.commit(9, "nextsimple", "", -1, "", "t-0") // offsets alone are no obstacle
	s.beat(1, "nextsimple", "a", 0)
	s.fetchAs(9, "nextsimple", "a", 1)
	s.describeNext("nextsimple")
	s.beat(1, "nextsimple", "a", -1)
}

func (s *side) fetchAs(version int16, group, member string, epoch int32) {
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberEpoch = group, s.real(epoch)
	if member != "" {
		g.MemberID = &member
	}
	row := kmsg.NewOffsetFetchRequestGroupTopic()
	row.Topic, row.TopicID, row.Partitions = "t", s.topicID("t"), []int32{0, 1}
	g.Topics = append(g.Topics, row)
	req.Groups = append(req.Groups, g)
	pair.Call[*kmsg.OffsetFetchResponse](s.Side, version, req)
}

// nextOtherKeys: what the keys of the classic protocol say of a consumer group.
func (s *side) nextOtherKeys() {
	const g = "nextkeys"
	i := "i"
	s.beat(1, g, "a", 0)
	for version := int16(0); version <= 6; version++ {
		s.describe(version, g)
	}
	s.heartbeat(4, g, "a", 1, nil)
	s.heartbeat(4, g, "x", 1, nil)
	s.heartbeat(4, g, "x", 1, &i)
	s.sync(5, g, "a", 1, nil)
	s.sync(5, g, "x", 1, nil)
	s.deleteGroups(2, g)
	for version := int16(0); version <= 5; version++ {
		s.list(version, nil, nil)
	}
	for _, states := range [][]string{{"stable"}, {"Stable", "Empty"}, {"reconciling"}, {"bogus"}} {
		s.list(5, states, nil)
		s.list(5, states, []string{"Consumer"})
		s.list(5, states, []string{"classic"})
	}
	s.leave(5, g, leaving("x", ""))
	s.leave(5, g, leaving("", "i"))
	s.leave(2, g, leaving("x", ""))
	s.leave(5, g, leaving("a", ""))
	s.describeNext(g)
	s.join(9, "nextclassic", "", ofType("other"))
	s.describeNext("nextclassic")
	s.beat(1, "nextclassic", "a", 0)
	s.beat(1, "nextclassic", "a", 1)
	s.beat(1, "nextclassic", "a", -1)
}

// consuming is a JoinGroup of a consumer that subscribes to t and owns partitions of it; the metadata are of the version that has
// the generation (KIP-792).
func consuming(generation int32, owned ...int32) joinOption {
	return func(r *kmsg.JoinGroupRequest) {
		m := kmsg.NewConsumerMemberMetadata()
		m.Version, m.Topics, m.Generation = 2, []string{"t"}, generation
		if len(owned) > 0 {
			o := kmsg.NewConsumerMemberMetadataOwnedPartition()
			o.Topic, o.Partitions = "t", owned
			m.OwnedPartitions = append(m.OwnedPartitions, o)
		}
		r.Protocols[0].Metadata = m.AppendTo(nil)
	}
}
