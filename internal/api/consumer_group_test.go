package api

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator/coordtest"
	"chronik/internal/group"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

func consumerHeartbeat(name, member string, epoch int32, topics ...string) *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = name, member, epoch
	if epoch == 0 {
		req.RebalanceTimeoutMillis, req.SubscribedTopicNames = 60_000, append([]string{}, topics...)
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	return req
}

func (c *cluster) heartbeat848(version int16, req *kmsg.ConsumerGroupHeartbeatRequest, want *kafka.Error) *kmsg.ConsumerGroupHeartbeatResponse {
	c.t.Helper()
	resp := call[*kmsg.ConsumerGroupHeartbeatResponse](c, version, req)
	c.wantCode("consumer group heartbeat", resp.ErrorCode, want)
	if (want == nil) != (resp.ErrorMessage == nil) {
		c.t.Errorf("error message %q", deref(resp.ErrorMessage))
	}
	return resp
}

func (c *cluster) describe848(version int16, name string) kmsg.ConsumerGroupDescribeResponseGroup {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups, req.IncludeAuthorizedOperations = []string{name}, true
	return call[*kmsg.ConsumerGroupDescribeResponse](c, version, req).Groups[0]
}

func TestConsumerGroupLife(t *testing.T) {
	c := newGroupCluster(t, false)
	c.create("t", 2)
	topic := c.Store.Image().Topic("t")
	every(c, 68, func(version int16) {
		name := fmt.Sprint("next", version)
		member := ""
		if version >= 1 { // KIP-1082: members make their IDs themselves
			c.heartbeat848(version, consumerHeartbeat(name, "", 0, "t"), kafka.ErrInvalidRequest)
			member = "mine"
		}
		joined := c.heartbeat848(version, consumerHeartbeat(name, member, 0, "t"), nil)
		if joined.MemberID == nil || *joined.MemberID == "" || member != "" && *joined.MemberID != member || joined.MemberEpoch != 1 || joined.HeartbeatIntervalMillis != 5000 {
			t.Fatalf("v%d: joined %+v", version, joined)
		}
		member = *joined.MemberID
		if a := joined.Assignment; a == nil || len(a.Topics) != 1 || a.Topics[0].TopicID != topic.ID || len(a.Topics[0].Partitions) != 2 {
			t.Fatalf("v%d: assignment %+v", version, a)
		}
		if again := c.heartbeat848(version, consumerHeartbeat(name, member, 1), nil); again.Assignment != nil || again.MemberEpoch != 1 {
			t.Errorf("v%d: heartbeat %+v", version, again)
		}
		c.heartbeat848(version, consumerHeartbeat(name, member, 7), kafka.ErrFencedMemberEpoch)
		c.heartbeat848(version, consumerHeartbeat(name, "other", 1), kafka.ErrUnknownMemberID)
		c.heartbeat848(version, consumerHeartbeat("none", member, 1), kafka.ErrGroupIDNotFound)
		c.described848(version, name, member)
		c.otherApis848(name)
		left := c.heartbeat848(version, consumerHeartbeat(name, member, -1), nil)
		if left.MemberEpoch != -1 || deref(left.MemberID) != member {
			t.Errorf("v%d: left %+v", version, left)
		}
		if d := c.describe848(version, name); d.State != "Empty" || len(d.Members) != 0 || d.ErrorCode != 0 {
			t.Errorf("v%d: %+v", version, d)
		}
	})
}

func (c *cluster) described848(version int16, name, member string) {
	d := c.describe848(version, name)
	if d.State != "Stable" || d.Epoch != 1 || d.AssignmentEpoch != 1 || d.AssignorName != "uniform" || len(d.Members) != 1 || d.AuthorizedOperations != groupOperations {
		c.t.Fatalf("%+v", d)
	}
	m := d.Members[0]
	wantType := int8(-1)
	if version >= 1 {
		wantType = 1
	}
	if m.MemberID != member || m.MemberEpoch != 1 || fmt.Sprint(m.SubscribedTopics) != "[t]" || m.MemberType != wantType ||
		len(m.Assignment.TopicPartitions) != 1 || m.Assignment.TopicPartitions[0].Topic != "t" || len(m.TargetAssignment.TopicPartitions) != 1 {
		c.t.Errorf("%+v", m)
	}
	if d := c.describe848(version, "none"); d.ErrorCode != kafka.ErrGroupIDNotFound.Code || d.Group != "none" || d.ErrorMessage == nil {
		c.t.Errorf("no such group: %+v", d)
	}
}

// otherApis848: what the classic protocol's APIs say of a consumer group.
func (c *cluster) otherApis848(name string) {
	for version := int16(0); version <= 6; version++ {
		d := c.describeGroup(name, version)
		want := int16(0)
		if version >= 6 {
			want = kafka.ErrGroupIDNotFound.Code
		}
		if d.State != "Dead" || d.ErrorCode != want {
			c.t.Errorf("DescribeGroups v%d: %+v", version, d)
		}
	}
	list := kmsg.NewPtrListGroupsRequest()
	list.TypesFilter = []string{"Consumer"}
	found := false
	for _, g := range call[*kmsg.ListGroupsResponse](c, 5, list).Groups {
		found = found || g.Group == name && g.GroupType == "consumer" && g.GroupState == "Stable" && g.ProtocolType == "consumer"
		if g.GroupType != "consumer" {
			c.t.Errorf("listed %+v", g)
		}
	}
	if !found {
		c.t.Errorf("%s is not listed", name)
	}
	hb := kmsg.NewPtrHeartbeatRequest()
	hb.Group, hb.Generation, hb.MemberID = name, 1, "x"
	c.wantCode("classic heartbeat", call[*kmsg.HeartbeatResponse](c, 4, hb).ErrorCode, kafka.ErrUnknownMemberID)
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{name}
	c.wantCode("delete", call[*kmsg.DeleteGroupsResponse](c, 2, del).Groups[0].ErrorCode, kafka.ErrNonEmptyGroup)
}

func TestConsumerGroupOffsets(t *testing.T) {
	c := newGroupCluster(t, false)
	c.create("t", 2)
	member := deref(c.heartbeat848(1, consumerHeartbeat("g", "me", 0, "t"), nil).MemberID)
	commit := func(version int16, member string, epoch int32) int16 {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.MemberID, req.Generation = "g", member, epoch
		row := kmsg.NewOffsetCommitRequestTopic()
		row.Topic, row.TopicID = "t", c.Store.Image().Topic("t").ID
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset = 5
		row.Partitions = append(row.Partitions, p)
		req.Topics = append(req.Topics, row)
		return call[*kmsg.OffsetCommitResponse](c, version, req).Topics[0].Partitions[0].ErrorCode
	}
	for _, version := range []int16{9, 10} {
		c.wantCode("commit", commit(version, member, 1), nil)
		c.wantCode("commit ahead", commit(version, member, 2), kafka.ErrStaleMemberEpoch)
		c.wantCode("commit of another", commit(version, "x", 1), kafka.ErrUnknownMemberID)
		c.wantCode("commit of nobody", commit(version, "", -1), kafka.ErrUnknownMemberID)
	}
	c.wantCode("commit before v9", commit(8, member, 1), kafka.ErrUnsupportedVersion)
	fetch := func(version int16, member string, epoch int32) kmsg.OffsetFetchResponseGroup {
		req := kmsg.NewPtrOffsetFetchRequest()
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group, g.MemberEpoch = "g", epoch
		if member != "" {
			g.MemberID = &member
		}
		row := kmsg.NewOffsetFetchRequestGroupTopic()
		row.Topic, row.TopicID, row.Partitions = "t", c.Store.Image().Topic("t").ID, []int32{0}
		g.Topics = append(g.Topics, row)
		req.Groups = append(req.Groups, g)
		return call[*kmsg.OffsetFetchResponse](c, version, req).Groups[0]
	}
	for _, version := range []int16{9, 10} {
		for _, own := range []kmsg.OffsetFetchResponseGroup{fetch(version, member, 1), fetch(version, "", -1)} {
			if own.ErrorCode != 0 || own.Topics[0].Partitions[0].Offset != 5 {
				t.Errorf("v%d: %+v", version, own)
			}
		}
		c.wantCode("fetch with an old epoch", fetch(version, member, 0).ErrorCode, kafka.ErrStaleMemberEpoch)
		c.wantCode("fetch of another", fetch(version, "x", 1).ErrorCode, kafka.ErrUnknownMemberID)
	}
	if own := fetch(8, "", -1); own.ErrorCode != 0 || own.Topics[0].Partitions[0].Offset != 5 {
		t.Errorf("v8: %+v", own)
	}
}

// TestConsumerGroupFollowsTopics: a topic that grows, or that comes and matches, reaches members with a heartbeat.
func TestConsumerGroupFollowsTopics(t *testing.T) {
	c := newGroupCluster(t, false)
	c.create("orders-1", 1)
	join := consumerHeartbeat("g", "me", 0)
	pattern := "orders-.*"
	join.SubscribedTopicNames, join.SubscribedTopicRegex = nil, &pattern
	resp := c.heartbeat848(1, join, nil)
	bad := consumerHeartbeat("g", "you", 0)
	broken := "orders-("
	bad.SubscribedTopicNames, bad.SubscribedTopicRegex = nil, &broken
	c.heartbeat848(1, bad, kafka.ErrInvalidRegularExpression)

	epoch, total := resp.MemberEpoch, 0
	count := func(a *kmsg.ConsumerGroupHeartbeatResponseAssignment) (n int) {
		for _, topic := range a.Topics {
			n += len(topic.Partitions)
		}
		return n
	}
	await := func(want int) {
		t.Helper()
		for range 2000 {
			resp := c.heartbeat848(1, consumerHeartbeat("g", "me", epoch), nil)
			if epoch = resp.MemberEpoch; resp.Assignment != nil {
				total = count(resp.Assignment)
			}
			if total == want {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatalf("%d partitions are assigned, not %d", total, want)
	}
	total = count(resp.Assignment)
	await(1)
	c.create("orders-2", 3)
	await(4)
	c.create("other", 3)
	grow := metadata.CreatePartitions{Topic: "orders-1", Count: 4}
	if err := c.Store.CreatePartitions(t.Context(), grow, false); err != nil {
		t.Fatal(err)
	}
	await(7)
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.TimeoutMillis, gone.TopicNames = 10_000, []string{"orders-2"}
	c.wantCode("delete", call[*kmsg.DeleteTopicsResponse](c, 4, gone).Topics[0].ErrorCode, nil)
	await(4)
}

func TestConsumerProtocolSwitchedOff(t *testing.T) {
	c := newCluster(t, "group.coordinator.rebalance.protocols=classic")
	c.Groups = group.NewService(group.Options{NodeID: 1, Store: c.Store, Open: (&coordtest.Logs{}).Open, Config: c.Config, Clock: c.Clock, Logger: c.Logger})
	c.Groups.Start()
	t.Cleanup(c.Groups.Close)
	c.heartbeat848(1, consumerHeartbeat("g", "me", 0, "t"), kafka.ErrUnsupportedVersion)
	c.wantCode("describe", c.describe848(1, "g").ErrorCode, kafka.ErrUnsupportedVersion)
}

func TestGroupConfigs(t *testing.T) {
	const groupResource = kmsg.ConfigResourceTypeGroupConfig
	c := newGroupCluster(t, false)
	if e := c.entry(4, groupResource, "g", "consumer.session.timeout.ms"); deref(e.Value) != "45000" || e.Source != kmsg.ConfigSourceDefaultConfig || e.ReadOnly {
		t.Errorf("%+v", e)
	}
	every(c, 44, func(version int16) {
		if code, text := c.alter(version, true, groupResource, "g", "consumer.session.timeout.ms=50000"); code != 0 {
			t.Errorf("%s %s", codeName(code), text)
		}
		if len(c.listConfigResources(1, int8(groupResource))) != 0 {
			t.Error("a dry run was no dry run")
		}
		if code, text := c.alter(version, false, groupResource, "g", "consumer.session.timeout.ms=50000", "consumer.heartbeat.interval.ms=7000"); code != 0 {
			t.Errorf("%s %s", codeName(code), text)
		}
		e := c.entry(4, groupResource, "g", "consumer.session.timeout.ms")
		if deref(e.Value) != "50000" || e.Source != kmsg.ConfigSource(8) || len(e.ConfigSynonyms) != 2 || e.ConfigSynonyms[1].Name != "group.consumer.session.timeout.ms" {
			t.Errorf("%+v", e)
		}
		if names := c.listConfigResources(1, int8(groupResource)); len(names) != 1 || names[0] != "g" {
			t.Errorf("listed %v", names)
		}
		c.create(fmt.Sprint("t", version), 1)
		if resp := c.heartbeat848(1, consumerHeartbeat("g", fmt.Sprint("me", version), 0, fmt.Sprint("t", version)), nil); resp.HeartbeatIntervalMillis != 7000 {
			t.Errorf("heartbeat every %d ms", resp.HeartbeatIntervalMillis)
		}
		if code, text := c.alter(version, false, groupResource, "g", "!consumer.session.timeout.ms", "!consumer.heartbeat.interval.ms"); code != 0 {
			t.Errorf("%s %s", codeName(code), text)
		}
	})
	for _, tc := range []struct {
		group, op string
		want      *kafka.Error
	}{
		{"", "consumer.session.timeout.ms=50000", kafka.ErrInvalidRequest},
		{"g", "consumer.session.timeout.ms=44999", kafka.ErrInvalidConfig},
		{"g", "consumer.session.timeout.ms=x", kafka.ErrInvalidConfig},
		{"g", "consumer.heartbeat.interval.ms=20000", kafka.ErrInvalidConfig},
		{"g", "no.such.key=1", kafka.ErrInvalidConfig},
		{"g", "+consumer.session.timeout.ms=1", kafka.ErrInvalidConfig},
	} {
		code, _ := c.alter(1, false, groupResource, tc.group, tc.op)
		c.wantCode(tc.op, code, tc.want)
	}
	c.wantCode("no name", c.describe(4, groupResource, "").ErrorCode, kafka.ErrInvalidRequest)
}

func (c *cluster) listConfigResources(version int16, types ...int8) []string {
	c.t.Helper()
	req := kmsg.NewPtrListConfigResourcesRequest()
	req.ResourceTypes = types
	resp := call[*kmsg.ListConfigResourcesResponse](c, version, req)
	c.wantCode("list config resources", resp.ErrorCode, nil)
	var names []string
	for _, r := range resp.ConfigResources {
		names = append(names, r.Name)
	}
	return names
}

func TestListConfigResources(t *testing.T) {
	c := newCluster(t)
	c.create("t", 1)
	if got := fmt.Sprint(c.listConfigResources(0)); got != "[]" {
		t.Errorf("client metrics: %s", got)
	}
	if got := fmt.Sprint(c.listConfigResources(1)); got != "[t 1 1]" { // the topic, the broker, its loggers
		t.Errorf("all: %s", got)
	}
	if got := fmt.Sprint(c.listConfigResources(1, 4)); got != "[1]" {
		t.Errorf("brokers: %s", got)
	}
	req := kmsg.NewPtrListConfigResourcesRequest()
	req.ResourceTypes = []int8{99}
	c.wantCode("unknown type", call[*kmsg.ListConfigResourcesResponse](c, 1, req).ErrorCode, kafka.ErrUnsupportedVersion)
}
