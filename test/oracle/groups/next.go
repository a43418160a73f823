package groups

import (
	"fmt"
	"slices"
	"strings"
	"time"

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

// nextRegex: Apache Kafka resolves patterns aside, so that only what comes in the end is compared.
func (s *side) nextRegex() {
	const g = "nextregex"
	nothing := subscribing()
	s.beat(1, g, "a", 0, nothing, matching("t|u"))
	s.Without("MemberEpoch", "Assignment")
	a := &settling{id: "a", epoch: s.last, have: s.names(s.assigned)}
	s.settle(g, []string{"t-0 t-1 u-0 u-1"}, a)
	s.beat(1, g, "b", 0, subscribing("t"), matching("u.*"))
	s.Without("MemberEpoch", "Assignment")
	b := &settling{id: "b", epoch: s.last, have: s.names(s.assigned)}
	s.settle(g, []string{"t-0 u-0", "t-1 u-1"}, a, b)
	s.beat(1, g, "b", -1)
	s.settle(g, []string{"t-0 t-1 u-0 u-1"}, a)
	s.beat(1, g, "a", -1)
}

// settling is a member that does what it is told.
type settling struct {
	id    string
	epoch int32
	have  []string
}

// settle sends heartbeats that are not compared until the members have what is wanted.
func (s *side) settle(group string, want []string, members ...*settling) {
	said := len(s.Said)
	defer func() { s.Said = append(s.Said[:said], pair.Answer{What: "settled " + group, Body: fmt.Sprint(want)}) }()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var have []string
		for _, m := range members {
			if _, next := s.beat(1, group, m.id, m.epoch, s.owning(m.have...)); next > 0 {
				m.epoch = next
			}
			if s.assigned != nil {
				m.have = s.names(s.assigned)
			}
			have = append(have, strings.Join(m.have, " "))
		}
		if fmt.Sprint(have) == fmt.Sprint(want) {
			return
		}
	}
	s.T.Errorf("%s: %s does not settle at %q", s.Name, group, want)
}

// names are the partitions of an assignment, in order.
func (s *side) names(a *kmsg.ConsumerGroupHeartbeatResponseAssignment) []string {
	var names []string
	if a == nil {
		return nil
	}
	for _, topic := range []string{"t", "u"} {
		for _, row := range a.Topics {
			slices.Sort(row.Partitions)
			for _, p := range row.Partitions {
				if row.TopicID == s.Topics[topic] {
					names = append(names, fmt.Sprint(topic, "-", p))
				}
			}
		}
	}
	return names
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

// nextEmpty: a group without members is of whichever protocol comes next.
func (s *side) nextEmpty() {
	const g = "nextempty"
	s.beat(1, g, "a", 0)
	s.commit(9, g, "a", 1, "", "t-0")
	s.beat(1, g, "a", -1)
	s.heartbeat(4, g, "x", 1, nil)
	s.join(9, g, "x", consuming(-1))
	base := s.EpochBase
	s.EpochBase = 0 // of a classic group's generation
	id := s.join(9, g, "", consuming(-1))
	s.describe(6, g)
	s.describeNext(g)
	s.join(9, g, id, consuming(-1))
	s.describe(5, g)
	s.Without("ProtocolMetadata")
	s.EpochBase = base
	s.describeNext(g)
	s.list(5, nil, []string{"classic"})
	s.fetch(9, false, g)
	s.leave(5, g, leaving(id, ""))
	s.beat(1, g, "a", 0)
	s.describeNext(g)
	s.fetchAs(9, g, "a", 1)
	s.beat(1, g, "a", -1)
}

// LimitSettings and TalkLimits are about what a configuration forbids.
var LimitSettings = append([]string{"group.consumer.migration.policy=disabled", "group.consumer.max.size=2"}, Settings...)

// TalkLimits is about groups that may not change their protocol nor grow.
func TalkLimits(p *pair.Side) {
	s := &side{Side: p}
	s.groupTopics()
	s.findEpochBase()
	s.beat(1, "full", "a", 0)
	s.beat(1, "full", "b", 0)
	s.beat(1, "full", "c", 0)
	s.beat(1, "full", "c", 0, statically("i"))
	s.beat(1, "full", "a", 0)
	s.describeNext("full")
	s.join(9, "full", "", consuming(-1))
	s.join(9, "full", "x", consuming(-1))
	s.beat(1, "full", "b", -1)
	s.beat(1, "full", "c", 0)
	base := s.EpochBase
	s.EpochBase = 0 // of a classic group's generation
	id := s.join(9, "old", "", consuming(-1))
	s.join(9, "old", id, consuming(-1))
	s.sync(5, "old", id, 1, nil)
	s.beat(1, "old", "a", 0)
	s.heartbeat(4, "old", id, 1, nil)
	s.leave(5, "old", leaving(id, ""))
	s.EpochBase = base
	s.beat(1, "old", "a", 0)
	s.beat(1, "old", "a", -1)
	s.EpochBase = 0
	id = s.join(9, "old", "", consuming(-1))
	s.join(9, "old", id, consuming(-1))
	s.EpochBase = base
	s.list(5, nil, nil)
	s.describeNext("old", "full")
}

// first is the ID of a member that comes before all random ones.
const first = "!"

// nextJoinedByClassic: a member of the classic protocol in a consumer group, and the group when the last other has left.
func (s *side) nextJoinedByClassic() {
	const g = "nextmixed"
	s.beat(1, g, first, 0)
	s.join(9, g, "", ofType("other"))
	s.join(9, g, "", consuming(-1), protocols("x"))
	id := s.join(9, g, "", consuming(-1))
	s.join(9, g, id, consuming(-1))
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.sync(5, g, id, 2, nil)
	s.beat(1, g, first, 1)
	s.heartbeat(4, g, id, 2, nil)
	s.beat(1, g, first, 1, s.owning("t-0"))
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.heartbeat(4, g, id, 1, nil)
	s.commit(9, g, id, 2, "", "t-0")
	s.commit(8, g, id, 2, "", "t-0")
	s.commit(8, g, id, 1, "", "t-0")
	s.commit(9, g, first, 2, "", "t-0")
	s.join(9, g, id, consuming(2))
	s.heartbeat(4, g, id, 2, nil)
	s.sync(5, g, id, 2, nil)
	s.sync(5, g, id, 1, nil)
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.beat(1, g, id, 2)
	s.beat(1, g, first, 2, subscribing("u"))
	s.heartbeat(4, g, id, 2, nil)
	s.join(9, g, id, consuming(2, 1))
	s.sync(5, g, id, 3, nil)
	s.beat(1, g, first, 2, s.owning())
	s.heartbeat(4, g, id, 3, nil)
	s.join(9, g, id, consuming(3, 1))
	s.sync(5, g, id, 3, nil)
	s.describeNext(g)
	s.leave(5, g, leaving(id, ""))
	s.describeNext(g)
	s.heartbeat(4, g, id, 3, nil)
	s.beat(1, g, first, -1)
	s.describeNext(g)
}

// nextUpgrade: a member of the new protocol joins a classic group; the group goes back with the last of them.
func (s *side) nextUpgrade() {
	const g = "nextup"
	id := s.join(9, g, "", consuming(-1))
	s.join(9, g, id, consuming(-1))
	s.sync(5, g, id, 1, map[string]string{id: string(assignment("t", 0, 1))})
	s.heartbeat(4, g, id, 1, nil)
	s.beat(1, g, first, 1)
	s.beat(1, g, first, 0)
	s.describeNext(g)
	s.describe(6, g)
	s.heartbeat(4, g, id, 1, nil)
	s.commit(9, g, id, 1, "", "t-0")
	s.fetch(9, false, g)
	s.join(9, g, id, consuming(1, 0, 1))
	s.sync(5, g, id, 2, nil)
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.join(9, g, id, consuming(2, 0))
	s.sync(5, g, id, 2, nil)
	s.describeNext(g)
	s.beat(1, g, first, 2)
	s.heartbeat(4, g, id, 2, nil)
	s.describeNext(g)
	s.beat(1, g, first, -1)
	s.list(5, nil, nil)
	s.describeNext(g)
	s.describe(6, g)
	s.heartbeat(4, g, id, 2, nil)
	s.heartbeat(4, g, id, 3, nil)
	s.fetch(9, false, g)
	other := s.join(9, "nextother", "", ofType("other")) // not consumers
	s.join(9, "nextother", other, ofType("other"))
	s.sync(5, "nextother", other, 1, nil)
	s.beat(1, "nextother", first, 0)
}

// assignment is a ConsumerProtocolAssignment of partitions of one topic.
func assignment(topic string, partitions ...int32) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	row := kmsg.NewConsumerMemberAssignmentTopic()
	row.Topic, row.Partitions = topic, partitions
	a.Topics = append(a.Topics, row)
	return a.AppendTo(nil)
}

func (s *side) nextConfigs() {
	alter := func(group, key string, value *string, op kmsg.IncrementalAlterConfigOp) {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value, c.Op = key, value, op
		r.Configs = append(r.Configs, c)
		req.Resources = append(req.Resources, r)
		pair.Call[*kmsg.IncrementalAlterConfigsResponse](s.Side, 1, req)
	}
	describe := func(group string) {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.IncludeSynonyms = true
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
		r.ConfigNames = []string{"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"}
		req.Resources = append(req.Resources, r)
		pair.Call[*kmsg.DescribeConfigsResponse](s.Side, 4, req)
	}
	const session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
	for _, value := range []string{"50000", "44999", "60001", "x", ""} {
		alter("nextconf", session, &value, kmsg.IncrementalAlterConfigOpSet)
	}
	for _, value := range []string{"7000", "4999", "15001"} {
		alter("nextconf", heartbeat, &value, kmsg.IncrementalAlterConfigOpSet)
	}
	one := "1"
	alter("nextconf", "no.such.key", &one, kmsg.IncrementalAlterConfigOpSet)
	alter("nextconf", session, &one, kmsg.IncrementalAlterConfigOpAppend)
	alter("", session, &one, kmsg.IncrementalAlterConfigOpSet)
	time.Sleep(s.Eventually)
	describe("nextconf")
	describe("nextother")
	describe("")
	s.beat(1, "nextconf", "a", 0)
	for _, types := range [][]int8{{32}, {99}} {
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.ResourceTypes = types
		pair.Call[*kmsg.ListConfigResourcesResponse](s.Side, 1, req)
	}
	pair.Call[*kmsg.ListConfigResourcesResponse](s.Side, 0, kmsg.NewPtrListConfigResourcesRequest())
	alter("nextconf", session, nil, kmsg.IncrementalAlterConfigOpDelete)
	time.Sleep(s.Eventually)
	describe("nextconf")
	s.beat(1, "nextconf", "a", -1)
}
