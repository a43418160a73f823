package api

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator/coordtest"
	"chronik/internal/group"
	"chronik/internal/kafka"
)

// newGroupCluster is a cluster with a group coordinator over logs in memory; unless bare, __consumer_offsets exists.
func newGroupCluster(t *testing.T, bare bool) *cluster {
	c := newCluster(t, "group.initial.rebalance.delay.ms=1", "offsets.topic.num.partitions=3")
	c.Groups = group.NewService(group.Options{
		NodeID: 1, Store: c.Store, Open: (&coordtest.Logs{}).Open, Config: c.Config, Clock: c.Clock, Logger: c.Logger,
	})
	c.Groups.Start()
	t.Cleanup(c.Groups.Close)
	if !bare {
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} { // all partitions serve
			c.findGroup(key)
		}
	}
	return c
}

func (c *cluster) findGroup(key string) {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKeys = []string{key}
	if resp := call[*kmsg.FindCoordinatorResponse](c, 4, req); resp.Coordinators[0].ErrorCode != 0 {
		c.t.Fatalf("coordinator of %s: %s", key, codeName(resp.Coordinators[0].ErrorCode))
	}
}

func joinRequest(name, member string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = name, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 10_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", []byte{0, 1, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 0}
	req.Protocols = append(req.Protocols, p)
	return req
}

// member makes a group with one member in generation 1, its assignment "mine".
func (c *cluster) member(name string, version int16) string {
	c.t.Helper()
	join := call[*kmsg.JoinGroupResponse](c, version, joinRequest(name, ""))
	if version >= 4 {
		c.wantCode("first join", join.ErrorCode, kafka.ErrMemberIDRequired)
		join = call[*kmsg.JoinGroupResponse](c, version, joinRequest(name, join.MemberID))
	}
	c.wantCode("join", join.ErrorCode, nil)
	if join.Generation != 1 || join.LeaderID != join.MemberID || len(join.Members) != 1 || deref(join.Protocol) != "range" {
		c.t.Errorf("join v%d: %+v", version, join)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID = name, 1, join.MemberID
	typ, protocol := "consumer", "range"
	sync.ProtocolType, sync.Protocol = &typ, &protocol
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = join.MemberID, []byte("mine")
	sync.GroupAssignment = append(sync.GroupAssignment, a)
	got := call[*kmsg.SyncGroupResponse](c, min(version, 5), sync)
	c.wantCode("sync", got.ErrorCode, nil)
	if string(got.MemberAssignment) != "mine" {
		c.t.Errorf("sync v%d: %+v", version, got)
	}
	return join.MemberID
}

func TestGroupLifeAtEveryVersion(t *testing.T) {
	c := newGroupCluster(t, false)
	every(c, 11, func(version int16) {
		name := fmt.Sprint("life", version)
		id := c.member(name, version)
		hb := kmsg.NewPtrHeartbeatRequest()
		hb.Group, hb.Generation, hb.MemberID = name, 1, id
		c.wantCode("heartbeat", call[*kmsg.HeartbeatResponse](c, min(version, 4), hb).ErrorCode, nil)
		hb.Generation = 2
		c.wantCode("heartbeat", call[*kmsg.HeartbeatResponse](c, min(version, 4), hb).ErrorCode, kafka.ErrIllegalGeneration)

		d := c.describeGroup(name, min(version, 6))
		if d.State != "Stable" || d.Protocol != "range" || len(d.Members) != 1 || d.Members[0].MemberID != id ||
			string(d.Members[0].MemberAssignment) != "mine" || d.Members[0].ClientID != "test" || d.Members[0].ClientHost != "/unknown" {
			t.Errorf("describe v%d: %+v", version, d)
		}

		del := kmsg.NewPtrDeleteGroupsRequest()
		del.Groups = []string{name, "none", name}
		got := call[*kmsg.DeleteGroupsResponse](c, min(version, 2), del)
		if len(got.Groups) != 2 {
			t.Fatalf("delete: %+v", got)
		}
		c.wantCode("delete", got.Groups[0].ErrorCode, kafka.ErrNonEmptyGroup)
		c.wantCode("delete", got.Groups[1].ErrorCode, kafka.ErrGroupIDNotFound)

		leave := kmsg.NewPtrLeaveGroupRequest()
		v := min(version, 5)
		leave.Group, leave.MemberID = name, id
		for _, m := range []string{id, "nobody"} {
			row := kmsg.NewLeaveGroupRequestMember()
			row.MemberID = m
			leave.Members = append(leave.Members, row)
		}
		left := call[*kmsg.LeaveGroupResponse](c, v, leave)
		c.wantCode("leave", left.ErrorCode, nil)
		if v >= 3 {
			c.wantCode("leave", left.Members[0].ErrorCode, nil)
			c.wantCode("leave", left.Members[1].ErrorCode, kafka.ErrUnknownMemberID)
		} else {
			c.wantCode("leave again", call[*kmsg.LeaveGroupResponse](c, v, leave).ErrorCode, kafka.ErrUnknownMemberID)
		}
		c.wantCode("delete", call[*kmsg.DeleteGroupsResponse](c, min(version, 2), del).Groups[0].ErrorCode, nil)
	})
}

func (c *cluster) describeGroup(name string, version int16) kmsg.DescribeGroupsResponseGroup {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups, req.IncludeAuthorizedOperations = []string{name}, true
	return call[*kmsg.DescribeGroupsResponse](c, version, req).Groups[0]
}

func TestDescribeGroupsAtEveryVersion(t *testing.T) {
	c := newGroupCluster(t, false)
	c.member("g", 9)
	every(c, 15, func(version int16) {
		d := c.describeGroup("g", version)
		c.wantCode("describe", d.ErrorCode, nil)
		if ops := d.AuthorizedOperations; version >= 3 && ops != groupOperations {
			t.Errorf("describe v%d: operations %b", version, ops)
		}
		d = c.describeGroup("none", version)
		if d.State != "Dead" || version < 6 && d.ErrorCode != 0 {
			t.Errorf("describe v%d of no group: %+v", version, d)
		}
		if version >= 6 {
			c.wantCode("describe", d.ErrorCode, kafka.ErrGroupIDNotFound)
			if deref(d.ErrorMessage) != "Group none not found." {
				t.Errorf("message: %s", deref(d.ErrorMessage))
			}
		}
	})
}

func TestListGroupsAtEveryVersion(t *testing.T) {
	c := newGroupCluster(t, false)
	c.member("work", 9)
	c.commitOffset("simple", c.create("t", 1), 0, 7, 9)
	every(c, 16, func(version int16) {
		list := func(states, types []string) string {
			req := kmsg.NewPtrListGroupsRequest()
			req.StatesFilter, req.TypesFilter = states, types
			resp := call[*kmsg.ListGroupsResponse](c, version, req)
			c.wantCode("list", resp.ErrorCode, nil)
			out := ""
			for _, g := range resp.Groups {
				out += fmt.Sprintf("%s/%s/%s/%s ", g.Group, g.ProtocolType, g.GroupState, g.GroupType)
			}
			return out
		}
		want := "simple//Empty/classic work/consumer/Stable/classic "
		switch {
		case version < 4:
			want = "simple/// work/consumer// "
		case version < 5:
			want = "simple//Empty/ work/consumer/Stable/ "
		}
		if got := list(nil, nil); got != want {
			t.Errorf("list v%d: %s", version, got)
		}
		if version >= 5 {
			if got := list([]string{"stable"}, []string{"Classic"}); got != "work/consumer/Stable/classic " {
				t.Errorf("list by state and type: %s", got)
			}
			if got := list(nil, []string{"share"}); got != "" {
				t.Errorf("list by type: %s", got)
			}
		}
	})
}

func (c *cluster) commitOffset(name string, topic interface{}, partition int32, offset int64, version int16) int16 {
	c.t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = name, -1
	row := kmsg.NewOffsetCommitRequestTopic()
	row.Topic = "t"
	row.TopicID = c.Store.Image().Topic("t").ID
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, offset, 3, kmsg.StringPtr("m")
	row.Partitions = append(row.Partitions, p)
	req.Topics = append(req.Topics, row)
	resp := call[*kmsg.OffsetCommitResponse](c, version, req)
	return resp.Topics[0].Partitions[0].ErrorCode
}

func TestOffsetsAtEveryVersion(t *testing.T) {
	c := newGroupCluster(t, false)
	topic := c.create("t", 2)
	every(c, 8, func(version int16) {
		name := fmt.Sprint("commit", version)
		c.wantCode("commit", c.commitOffset(name, topic, 1, int64(version), version), nil)
		c.wantCode("commit", c.commitOffset(name, topic, 2, 1, version), kafka.ErrUnknownTopicOrPartition)
		wantEpoch := int32(-1)
		if version >= 6 {
			wantEpoch = 3
		}
		every(c, 9, func(fetch int16) {
			for _, all := range []bool{false, true} {
				if all && fetch < 2 {
					continue
				}
				rows := c.fetchOffsets(name, fetch, all)
				want := fmt.Sprintf("t-1@%d/%d/m/0 ", version, wantEpoch)
				if fetch < 5 {
					want = fmt.Sprintf("t-1@%d/-1/m/0 ", version)
				}
				if !all {
					want = "t-0@-1/-1//0 " + want
				}
				if rows != want {
					t.Errorf("commit v%d, fetch v%d, all %v: %s, want %s", version, fetch, all, rows, want)
				}
			}
		})
	})
}

// fetchOffsets asks for t-0 and t-1, or for all.
func (c *cluster) fetchOffsets(name string, version int16, all bool) string {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.RequireStable = name, true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = name
	if !all {
		one := kmsg.NewOffsetFetchRequestTopic()
		one.Topic, one.Partitions = "t", []int32{0, 1}
		req.Topics = append(req.Topics, one)
		row := kmsg.NewOffsetFetchRequestGroupTopic()
		row.Topic, row.TopicID, row.Partitions = "t", c.Store.Image().Topic("t").ID, []int32{0, 1}
		g.Topics = append(g.Topics, row)
	}
	req.Groups = append(req.Groups, g)
	resp := call[*kmsg.OffsetFetchResponse](c, version, req)
	c.wantCode("fetch", resp.ErrorCode, nil)
	out := ""
	if version < 8 {
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				out += fmt.Sprintf("%s-%d@%d/%d/%s/%d ", t.Topic, p.Partition, p.Offset, p.LeaderEpoch, deref(p.Metadata), p.ErrorCode)
			}
		}
		return out
	}
	c.wantCode("fetch", resp.Groups[0].ErrorCode, nil)
	for _, t := range resp.Groups[0].Topics {
		if version >= 10 {
			t.Topic = c.Store.Image().TopicByID(t.TopicID).Name
		}
		for _, p := range t.Partitions {
			out += fmt.Sprintf("%s-%d@%d/%d/%s/%d ", t.Topic, p.Partition, p.Offset, p.LeaderEpoch, deref(p.Metadata), p.ErrorCode)
		}
	}
	return out
}

func TestOffsetsOfUnknownTopics(t *testing.T) {
	c := newGroupCluster(t, false)
	every(c, 8, func(version int16) {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation = "g", -1
		row := kmsg.NewOffsetCommitRequestTopic()
		row.Topic, row.TopicID = "none", [16]byte{7}
		row.Partitions = append(row.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
		req.Topics = append(req.Topics, row)
		want := kafka.ErrUnknownTopicOrPartition
		if version >= 10 {
			want = kafka.ErrUnknownTopicID
		}
		resp := call[*kmsg.OffsetCommitResponse](c, version, req)
		c.wantCode("commit", resp.Topics[0].Partitions[0].ErrorCode, want)
	})
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = "g"
	row := kmsg.NewOffsetFetchRequestGroupTopic()
	row.TopicID, row.Partitions = [16]byte{7}, []int32{4}
	g.Topics = append(g.Topics, row)
	req.Groups = append(req.Groups, g)
	resp := call[*kmsg.OffsetFetchResponse](c, 10, req)
	p := resp.Groups[0].Topics[0].Partitions[0]
	c.wantCode("fetch", p.ErrorCode, kafka.ErrUnknownTopicID)
	if p.Offset != -1 || resp.Groups[0].Topics[0].TopicID != row.TopicID {
		t.Errorf("fetch: %+v", resp.Groups[0])
	}
}

// A topic that is created again does not inherit offsets.
func TestOffsetsOfARecreatedTopic(t *testing.T) {
	c := newGroupCluster(t, false)
	topic := c.create("t", 2)
	c.wantCode("commit", c.commitOffset("g", topic, 1, 5, 9), nil)
	if err := c.Store.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	c.create("t", 2)
	if got := c.fetchOffsets("g", 9, false); got != "t-0@-1/-1//0 t-1@-1/-1//0 " {
		t.Errorf("offsets: %s", got)
	}
}

func TestOffsetDelete(t *testing.T) {
	c := newGroupCluster(t, false)
	topic := c.create("t", 2)
	c.wantCode("commit", c.commitOffset("g", topic, 1, 5, 9), nil)
	del := func(name string) *kmsg.OffsetDeleteResponse {
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = name
		for _, topic := range []string{"none", "t"} {
			row := kmsg.NewOffsetDeleteRequestTopic()
			row.Topic = topic
			for _, p := range []int32{1, 9} {
				one := kmsg.NewOffsetDeleteRequestTopicPartition()
				one.Partition = p
				row.Partitions = append(row.Partitions, one)
			}
			req.Topics = append(req.Topics, row)
		}
		return call[*kmsg.OffsetDeleteResponse](c, 0, req)
	}
	c.wantCode("delete", del("other").ErrorCode, kafka.ErrGroupIDNotFound)
	c.wantCode("delete", del("").ErrorCode, kafka.ErrInvalidGroupID)
	resp := del("g")
	c.wantCode("delete", resp.ErrorCode, nil)
	got := fmt.Sprint(resp.Topics[0].Partitions[0].ErrorCode, resp.Topics[0].Partitions[1].ErrorCode,
		resp.Topics[1].Partitions[0].ErrorCode, resp.Topics[1].Partitions[1].ErrorCode)
	if got != "3 3 0 3" {
		t.Errorf("codes %s", got)
	}
	if got := c.fetchOffsets("g", 9, true); got != "" {
		t.Errorf("offsets after the deletion: %s", got)
	}
	c.member("m", 9)
	resp = del("m")
	c.wantCode("delete of a subscribed topic", resp.Topics[1].Partitions[0].ErrorCode, kafka.ErrGroupSubscribedToTopic)
}

func TestFindCoordinatorAtEveryVersion(t *testing.T) {
	c := newGroupCluster(t, true)
	every(c, 10, func(version int16) {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g", "h"}
		resp := call[*kmsg.FindCoordinatorResponse](c, version, req)
		rows := resp.Coordinators
		if version < 4 {
			rows = []kmsg.FindCoordinatorResponseCoordinator{{NodeID: resp.NodeID, Host: resp.Host, Port: resp.Port, ErrorCode: resp.ErrorCode}}
		} else if len(rows) != 2 || rows[0].Key != "g" || rows[1].Key != "h" {
			t.Errorf("v%d: %+v", version, rows)
		}
		for _, r := range rows {
			c.wantCode("find", r.ErrorCode, nil)
			if r.NodeID != 1 || r.Host != "10.1.2.3" || r.Port != 19092 {
				t.Errorf("v%d: %+v", version, r)
			}
		}
		if version == 0 {
			return
		}
		for _, typ := range []int8{1, 2, 3} {
			req.CoordinatorType = typ
			resp := call[*kmsg.FindCoordinatorResponse](c, version, req)
			code, node := resp.ErrorCode, resp.NodeID
			if version >= 4 {
				code, node = resp.Coordinators[0].ErrorCode, resp.Coordinators[0].NodeID
			}
			want := kafka.ErrInvalidRequest
			if typ == 1 {
				want = kafka.ErrTransactionalIDAuthorizationFailed
			}
			c.wantCode("find", code, want)
			if node != -1 {
				t.Errorf("node %d of an error", node)
			}
		}
	})
}

// Without the topic of the groups nobody is the coordinator, and every API says so where it can.
func TestNotCoordinator(t *testing.T) {
	c := newGroupCluster(t, true)
	c.create("t", 1)
	want := kafka.ErrNotCoordinator
	every(c, 11, func(v int16) {
		c.wantCode("join", call[*kmsg.JoinGroupResponse](c, v, joinRequest("g", "")).ErrorCode, want)
	})
	every(c, 14, func(v int16) {
		req := kmsg.NewPtrSyncGroupRequest()
		req.Group = "g"
		c.wantCode("sync", call[*kmsg.SyncGroupResponse](c, v, req).ErrorCode, want)
	})
	every(c, 12, func(v int16) {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group = "g"
		c.wantCode("heartbeat", call[*kmsg.HeartbeatResponse](c, v, req).ErrorCode, want)
	})
	every(c, 13, func(v int16) {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group = "g"
		c.wantCode("leave", call[*kmsg.LeaveGroupResponse](c, v, req).ErrorCode, want)
	})
	every(c, 8, func(v int16) { c.wantCode("commit", c.commitOffset("g", nil, 0, 1, v), want) })
	every(c, 9, func(v int16) {
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Group = "g"
		one := kmsg.NewOffsetFetchRequestTopic()
		one.Topic, one.Partitions = "t", []int32{0}
		req.Topics = append(req.Topics, one)
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = "g"
		req.Groups = append(req.Groups, g)
		resp := call[*kmsg.OffsetFetchResponse](c, v, req)
		switch {
		case v >= 8:
			c.wantCode("fetch", resp.Groups[0].ErrorCode, want)
		case v >= 2:
			c.wantCode("fetch", resp.ErrorCode, want)
		default:
			c.wantCode("fetch", resp.Topics[0].Partitions[0].ErrorCode, want)
		}
	})
	c.wantCode("describe", c.describeGroup("g", 6).ErrorCode, want)
	every(c, 16, func(v int16) {
		resp := call[*kmsg.ListGroupsResponse](c, v, kmsg.NewPtrListGroupsRequest())
		if resp.ErrorCode != 0 || len(resp.Groups) != 0 {
			t.Errorf("list: %+v", resp)
		}
	})
}

// A member's metadata lies in the request's frame, which is somebody else's once the reply has run.
func TestJoinGroupKeepsNothingOfTheFrame(t *testing.T) {
	c := newGroupCluster(t, false)
	frame := joinRequest("g", "").AppendTo(nil)
	frames := [2][]byte{bytes.Clone(frame), bytes.Clone(frame)}
	var replies []Reply
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, f := range frames {
		body := kmsg.NewPtrJoinGroupRequest()
		if err := body.ReadFrom(f); err != nil {
			t.Fatal(err)
		}
		replies = append(replies, c.Dispatch(ctx, &Request{Key: 11, Conn: c.conn, Body: body}))
		clear(f)
	}
	members := 0
	for _, reply := range replies {
		resp := reply(ctx).Message.(*kmsg.JoinGroupResponse)
		c.wantCode("join", resp.ErrorCode, nil)
		for _, m := range resp.Members {
			members++
			if !bytes.Equal(m.ProtocolMetadata, joinRequest("", "").Protocols[0].Metadata) {
				t.Errorf("metadata: %q", m.ProtocolMetadata)
			}
		}
	}
	if members != 2 {
		t.Errorf("the leader was told of %d members", members)
	}
}
