package groups

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// Settings of both sides, so that what differs by default does not differ here.
var Settings = []string{"group.initial.rebalance.delay.ms=300", "offsets.topic.num.partitions=3"}

const memberIDRequired = 79

// loading tells the errors of a coordinator that is not there yet.
func loading(code int16) bool { return code >= 14 && code <= 16 }

type side struct {
	*pair.Side

	last     int32                                          // the epoch of the last ConsumerGroupHeartbeat's answer
	assigned *kmsg.ConsumerGroupHeartbeatResponseAssignment // and its assignment
}

// Talk is about classic consumer groups at every version: keys 8 to 16, 42 and 47, good and bad input.
func Talk(p *pair.Side) {
	s := &side{Side: p}
	s.groupTopics()
	s.findCoordinators()
	for version := int16(0); version <= 9; version++ {
		s.groupLife(version)
	}
	for _, version := range []int16{0, 5, 9} {
		s.joinErrors(version)
	}
	s.twoMembers()
	for _, version := range []int16{5, 8, 9} {
		s.staticMembers(version)
	}
	for version := int16(2); version <= 10; version++ {
		s.simpleOffsets(version)
	}
	s.listGroups()
}

// groupTopics makes the topics t and u, and waits until groups can be used. It is not compared.
func (s *side) groupTopics() {
	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = 10_000
	for _, name := range []string{"t", "u"} {
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = name, 2, 1
		create.Topics = append(create.Topics, t)
	}
	for _, t := range pair.Call[*kmsg.CreateTopicsResponse](s.Side, 7, create).Topics {
		s.Topics[t.Topic] = t.TopicID
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		ready := true
		for _, g := range []string{"a", "b", "c"} { // one in each partition
			find := kmsg.NewPtrFindCoordinatorRequest()
			find.CoordinatorKeys = []string{g}
			ready = ready && !loading(pair.Call[*kmsg.FindCoordinatorResponse](s.Side, 4, find).Coordinators[0].ErrorCode)
			fetch := kmsg.NewPtrOffsetFetchRequest()
			fetch.Group = g
			ready = ready && !loading(pair.Call[*kmsg.OffsetFetchResponse](s.Side, 7, fetch).ErrorCode)
		}
		if ready {
			break
		}
	}
	s.Said = nil
}

func (s *side) findCoordinators() {
	for version := int16(0); version <= 6; version++ {
		s.findCoordinator(version, "g", "", "h")
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "", "h"}
		if version >= 1 {
			req.CoordinatorType = 3
			pair.Call[*kmsg.FindCoordinatorResponse](s.Side, version, req)
		}
		if version >= 4 {
			req.CoordinatorType, req.CoordinatorKeys = 0, nil
			pair.Call[*kmsg.FindCoordinatorResponse](s.Side, version, req)
		}
	}
}

func (s *side) findCoordinator(version int16, groups ...string) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = groups[0], groups
	pair.Call[*kmsg.FindCoordinatorResponse](s.Side, version, req)
}

// groupLife is one member from its first JoinGroup to the deletion of its group, with wrong turns.
func (s *side) groupLife(version int16) {
	g := fmt.Sprint("life", version)
	sync, beat, leave, describe, commit := min(version, 5), min(version, 4), min(version, 5), min(version, 6), min(version+2, 10)
	id := s.join(version, g, "")
	if version >= 4 {
		s.join(version, g, id)
	}
	s.sync(sync, g, id, 1, map[string]string{id: "mine"})
	s.heartbeat(beat, g, id, 1, nil)
	s.heartbeat(beat, g, id, 2, nil)
	s.heartbeat(beat, g, "x", 1, nil)
	s.heartbeat(beat, "none", "x", 1, nil)
	s.heartbeat(beat, "", "x", 1, nil)
	s.sync(sync, g, id, 2, nil)
	s.sync(sync, g, "x", 1, nil)
	s.sync(sync, "none", "x", 1, nil)
	s.sync(sync, "", "x", 1, nil)
	other := "other"
	s.sync(sync, g, id, 1, nil, func(r *kmsg.SyncGroupRequest) { r.Protocol = &other })
	s.sync(sync, g, id, 1, nil, func(r *kmsg.SyncGroupRequest) { r.ProtocolType = &other })
	s.sync(sync, g, id, 1, nil, func(r *kmsg.SyncGroupRequest) { r.ProtocolType, r.Protocol = nil, nil })
	s.sync(sync, g, id, 1, nil)
	s.describe(describe, g, "none", "")
	s.commit(commit, g, id, 1, "m", "t-0", "t-9", "none-0")
	s.commit(commit, g, id, 2, "", "t-0")
	s.commit(commit, g, "x", 1, "", "t-0")
	s.commit(commit, g, "", -1, "", "t-0")
	s.fetch(min(version+1, 10), false, g)
	s.fetch(min(version+1, 10), version >= 1, g)
	s.deleteOffsets(g, "t", "u", "none")
	s.deleteGroups(min(version, 2), g, "none", g, "")
	s.join(version, g, id) // the leader makes the group rebalance
	s.sync(sync, g, id, 1, nil)
	s.join(version, g, "x")
	s.join(version, g, "", ofType("other"))
	s.join(version, g, "", protocols("other"))
	s.join(version, g, id, protocols("other"))
	s.join(version, g, "", protocols())
	s.join(version, g, "", ofType(""))
	s.heartbeat(beat, g, id, 2, nil)
	s.leave(leave, g, leaving("x", ""))
	s.leave(leave, "none", leaving("x", ""))
	s.leave(leave, "", leaving("x", ""))
	s.leave(leave, g, leaving(id, ""), leaving("y", ""))
	s.describe(describe, g)
	s.heartbeat(beat, g, id, 2, nil)
	s.sync(sync, g, id, 2, nil)
	s.join(version, g, id)
	s.deleteOffsets(g, "t")
	s.list(min(version, 5), nil, nil)
	s.deleteGroups(min(version, 2), g)
	s.describe(describe, g)
}

func (s *side) joinErrors(version int16) {
	s.join(version, "", "")
	s.join(version, "new1", "x")
	s.join(version, "new2", "", session(5_999))
	s.join(version, "new3", "", session(1_800_001))
	s.join(version, "new4", "", protocols())
	s.join(version, "new5", "", ofType(""))
	time.Sleep(s.Eventually / 5) // Apache Kafka refuses a join before it shows the group that the join made
	s.describe(5, "new1", "new2", "new3", "new4", "new5")
	s.deleteGroups(2, "new4", "new5")
}

// pause lets a request that waits arrive before the next.
func pause() { time.Sleep(100 * time.Millisecond) }

func (s *side) twoMembers() {
	const g = "two"
	first := s.startJoin(3, g, "")
	pause()
	second := s.startJoin(3, g, "", protocols("x", "range"))
	a, b := first(), second()
	waits := s.startSync(5, g, b, 1, nil)
	pause()
	s.sync(5, g, a, 1, map[string]string{a: "A", b: "B", "x": "X"})
	waits()
	s.heartbeat(4, g, b, 1, nil)
	s.join(3, g, b, protocols("x", "range")) // a follower with the same metadata
	second = s.startJoin(3, g, b, protocols("range"))
	pause()
	s.heartbeat(4, g, a, 1, nil)
	s.sync(5, g, a, 1, nil)
	s.commit(9, g, a, 1, "", "t-0")
	s.describe(5, g)
	first = s.startJoin(3, g, a)
	second()
	first()
	s.commit(9, g, a, 2, "", "t-0")
	s.describe(5, g)
	s.join(3, g, b, protocols("range"))
	s.leave(5, g, leaving(a, ""))
	s.heartbeat(4, g, b, 2, nil)
	s.sync(5, g, b, 2, nil)
	s.join(3, g, b, protocols("range"))
	s.leave(3, g, leaving(b, ""))
	s.describe(5, g)
}

func (s *side) staticMembers(version int16) {
	g, i1, i2, i9 := fmt.Sprint("static", version), "i1", "i2", "i9"
	first := s.startJoin(version, g, "", instance(i1))
	pause()
	second := s.startJoin(version, g, "", instance(i2))
	a, b := first(), second()
	waits := s.startSync(5, g, b, 1, nil, func(r *kmsg.SyncGroupRequest) { r.InstanceID = &i2 })
	pause()
	s.sync(5, g, a, 1, map[string]string{a: "A", b: "B"})
	waits()
	replaced := s.join(version, g, "", instance(i2))
	s.sync(5, g, replaced, 1, nil)
	s.heartbeat(4, g, b, 1, &i2)
	s.heartbeat(4, g, b, 1, nil)
	s.heartbeat(4, g, replaced, 1, &i9)
	s.heartbeat(4, g, replaced, 1, &i2)
	s.heartbeat(4, g, replaced, 1, nil)
	s.join(version, g, b, instance(i2))
	s.join(version, g, replaced, instance(i9))
	leader := s.join(version, g, "", instance(i1))
	s.sync(5, g, leader, 1, nil)
	s.describe(5, g)
	s.leave(5, g, leaving(b, i2), leaving("", i9), leaving("", i2))
	s.describe(5, g)
	s.join(version, g, leader, instance(i1))
	s.leave(5, g, leaving(leader, i1))
	s.describe(5, g)
}

// simpleOffsets are offsets of a group that nobody joins.
func (s *side) simpleOffsets(version int16) {
	g := fmt.Sprint("simple", version)
	s.commit(version, g, "", -1, "", "t-0", "t-9", "none-0")
	s.commit(version, g, "", -1, strings.Repeat("x", 4097), "t-1")
	s.commit(version, g, "", -1, strings.Repeat("x", 4096), "t-1")
	s.commit(version, g, "x", 5, "", "t-0")
	s.commit(version, g+"none", "x", 5, "", "t-0")
	s.commit(version, "", "", -1, "", "t-0")
	s.commit(version, g, "", -1, "", "none-0")
	s.commit(version, g, "", -1, "")
	for fetch := int16(1); fetch <= 10; fetch++ {
		s.fetch(fetch, false, g)
		s.fetch(fetch, false, "none")
		if fetch >= 2 {
			s.fetch(fetch, true, g)
		}
		if fetch >= 8 {
			s.fetch(fetch, true, g, "none", "")
		}
	}
	s.describe(6, g)
	s.deleteOffsets(g, "t", "none")
	s.deleteOffsets("none", "t")
	s.deleteOffsets("", "t")
	s.deleteOffsets(g)
	s.fetch(9, true, g)
	s.deleteGroups(2, g)
	s.fetch(9, true, g)
}

func (s *side) listGroups() {
	s.commit(9, "zz", "", -1, "", "t-0")
	for version := int16(0); version <= 5; version++ {
		s.list(version, nil, nil)
		if version >= 4 {
			s.list(version, []string{"empty"}, nil)
			s.list(version, []string{"bogus"}, nil)
		}
		if version >= 5 {
			s.list(version, nil, []string{"CLASSIC"})
			s.list(version, nil, []string{"consumer"})
			s.list(version, nil, []string{"bogus"})
		}
	}
}

type joinOption func(*kmsg.JoinGroupRequest)

func instance(id string) joinOption { return func(r *kmsg.JoinGroupRequest) { r.InstanceID = &id } }
func ofType(t string) joinOption    { return func(r *kmsg.JoinGroupRequest) { r.ProtocolType = t } }
func session(ms int32) joinOption {
	return func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = ms }
}

func protocols(names ...string) joinOption {
	return func(r *kmsg.JoinGroupRequest) {
		r.Protocols = nil
		for _, name := range names {
			p := kmsg.NewJoinGroupRequestProtocol()
			p.Name, p.Metadata = name, binary.BigEndian.AppendUint32([]byte{0, 1, 0, 0, 0, 1, 0, 1, 't'}, 1<<32-1)
			r.Protocols = append(r.Protocols, p)
		}
	}
}

// join returns the member ID of the answer.
func (s *side) join(version int16, group, member string, options ...joinOption) string {
	return s.startJoin(version, group, member, options...)()
}

func (s *side) startJoin(version int16, group, member string, options ...joinOption) func() string {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = group, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
	protocols("range")(req)
	for _, o := range options {
		o(req)
	}
	answer := s.Start(version, req)
	return func() string {
		resp, ok := answer().(*kmsg.JoinGroupResponse)
		if !ok {
			return ""
		}
		if resp.ErrorCode == 0 || resp.ErrorCode == memberIDRequired {
			s.ID(resp.MemberID)
		}
		return resp.MemberID
	}
}

func (s *side) sync(version int16, group, member string, generation int32, assign map[string]string, options ...func(*kmsg.SyncGroupRequest)) {
	s.startSync(version, group, member, generation, assign, options...)()
}

func (s *side) startSync(version int16, group, member string, generation int32, assign map[string]string, options ...func(*kmsg.SyncGroupRequest)) func() kmsg.Response {
	req := kmsg.NewPtrSyncGroupRequest()
	typ, protocol := "consumer", "range"
	req.Group, req.MemberID, req.Generation, req.ProtocolType, req.Protocol = group, member, s.real(generation), &typ, &protocol
	for _, id := range append(append([]string{}, s.IDs...), "x") { // in an order of its own, so that the requests are equal
		if what, ok := assign[id]; ok {
			a := kmsg.NewSyncGroupRequestGroupAssignment()
			a.MemberID, a.MemberAssignment = id, []byte(what)
			req.GroupAssignment = append(req.GroupAssignment, a)
		}
	}
	for _, o := range options {
		o(req)
	}
	return s.Start(version, req)
}

func (s *side) heartbeat(version int16, group, member string, generation int32, instance *string) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation, req.InstanceID = group, member, s.real(generation), instance
	pair.Call[*kmsg.HeartbeatResponse](s.Side, version, req)
}

func leaving(id, instance string) kmsg.LeaveGroupRequestMember {
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID = id
	if instance != "" {
		m.InstanceID = &instance
	}
	return m
}

func (s *side) leave(version int16, group string, members ...kmsg.LeaveGroupRequestMember) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID, req.Members = group, members[0].MemberID, members
	pair.Call[*kmsg.LeaveGroupResponse](s.Side, version, req)
}

// topicID is that of a topic that exists, and else one that does not.
func (s *side) topicID(name string) [16]byte {
	if id, ok := s.Topics[name]; ok {
		return id
	}
	return [16]byte{1}
}

func (s *side) commit(version int16, group, member string, generation int32, metadata string, partitions ...string) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = group, member, s.real(generation)
	for _, name := range partitions {
		topic, number, _ := strings.Cut(name, "-")
		row := kmsg.NewOffsetCommitRequestTopic()
		row.Topic, row.TopicID = topic, s.topicID(topic)
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		_, _ = fmt.Sscan(number, &p.Partition)
		p.Offset, p.LeaderEpoch = 42, 3
		if metadata != "" {
			p.Metadata = &metadata
		}
		row.Partitions = append(row.Partitions, p)
		req.Topics = append(req.Topics, row)
	}
	pair.Call[*kmsg.OffsetCommitResponse](s.Side, version, req)
}

func (s *side) fetch(version int16, all bool, groups ...string) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = version%2 == 1
	for _, name := range groups {
		req.Group, req.Topics = name, nil
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = name
		for _, topic := range []string{"t", "none"} {
			partitions := map[string][]int32{"t": {0, 1, 9}, "none": {0}}[topic]
			if all {
				break
			}
			one := kmsg.NewOffsetFetchRequestTopic()
			one.Topic, one.Partitions = topic, partitions
			row := kmsg.NewOffsetFetchRequestGroupTopic()
			row.Topic, row.TopicID, row.Partitions = topic, s.topicID(topic), partitions
			req.Topics, g.Topics = append(req.Topics, one), append(g.Topics, row)
		}
		req.Groups = append(req.Groups, g)
	}
	pair.Call[*kmsg.OffsetFetchResponse](s.Side, version, req)
}

func (s *side) describe(version int16, groups ...string) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups, req.IncludeAuthorizedOperations = groups, true
	pair.Call[*kmsg.DescribeGroupsResponse](s.Side, version, req)
}

func (s *side) list(version int16, states, types []string) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter, req.TypesFilter = states, types
	pair.Call[*kmsg.ListGroupsResponse](s.Side, version, req)
}

func (s *side) deleteGroups(version int16, groups ...string) {
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = groups
	pair.Call[*kmsg.DeleteGroupsResponse](s.Side, version, req)
}

func (s *side) deleteOffsets(group string, topics ...string) {
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = group
	for _, name := range topics {
		t := kmsg.NewOffsetDeleteRequestTopic()
		t.Topic = name
		t.Partitions = []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}, {Partition: 9}}
		req.Topics = append(req.Topics, t)
	}
	pair.Call[*kmsg.OffsetDeleteResponse](s.Side, 0, req)
}

// Known is where chronik differs from Apache Kafka on purpose; docs/compatibility.md is made of it.
var Known []pair.Difference
