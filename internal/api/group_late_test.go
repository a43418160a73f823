package api

import (
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator/coordtest"
	"chronik/internal/group"
	"chronik/internal/kafka"
)

// Clients learn from another node who coordinates their group: one that has not heard of it makes sure before it says that
// it does not. With no controller to be had it says so, on which every client looks for the coordinator again.
func TestGroupsAreNotCoordinatedElsewhereBeforeABarrier(t *testing.T) {
	synctest.Test(t, groupsBehind)
}

func groupsBehind(t *testing.T) {
	c := newCluster(t, "group.initial.rebalance.delay.ms=1", "offsets.topic.num.partitions=1")
	real, old := c.Store, c.Store.Image()
	logs := &coordtest.Logs{}
	store := &lagging{Store: real, old: old}
	serve := func() {
		c.Groups = group.NewService(group.Options{NodeID: 1, Store: c.Store, Open: logs.Open, Config: c.Config, Clock: c.Clock, Logger: c.Logger})
		c.Groups.Start()
		t.Cleanup(c.Groups.Close)
	}
	serve()
	c.findGroup("g")
	c.member("g", 9)
	c.Groups.Close()
	c.Store = store
	store.fresh.Store(true)
	serve()
	synctest.Wait() // it coordinates, though the image that it looks at will be an old one
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID = "g", "nobody"
	heartbeat := kmsg.NewPtrHeartbeatRequest()
	heartbeat.Group, heartbeat.MemberID = "g", "nobody"
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = "g", "nobody"
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.MemberID, commit.Generation = "h", "", -1
	row := kmsg.NewOffsetCommitRequestTopic()
	row.Topic = kafka.OffsetsTopic
	row.Partitions = append(row.Partitions, kmsg.NewOffsetCommitRequestTopicPartition())
	commit.Topics = append(commit.Topics, row)
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group = "h"
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{"g"}
	remove := kmsg.NewPtrDeleteGroupsRequest()
	remove.Groups = []string{"g"}
	forget := kmsg.NewPtrOffsetDeleteRequest()
	forget.Group = "g"
	for _, tc := range []struct {
		name string
		want *kafka.Error
		got  func() int16
	}{
		{"join", nil, func() int16 { return call[*kmsg.JoinGroupResponse](c, 3, joinRequest("i", "")).ErrorCode }},
		{"sync", kafka.ErrUnknownMemberID, func() int16 { return call[*kmsg.SyncGroupResponse](c, 3, sync).ErrorCode }},
		{"heartbeat", kafka.ErrUnknownMemberID, func() int16 { return call[*kmsg.HeartbeatResponse](c, 3, heartbeat).ErrorCode }},
		{"leave", kafka.ErrUnknownMemberID, func() int16 { return call[*kmsg.LeaveGroupResponse](c, 2, leave).ErrorCode }},
		{"commit", nil, func() int16 { return call[*kmsg.OffsetCommitResponse](c, 8, commit).Topics[0].Partitions[0].ErrorCode }},
		{"fetch", nil, func() int16 { return call[*kmsg.OffsetFetchResponse](c, 5, fetch).ErrorCode }},
		{"describe", nil, func() int16 { return call[*kmsg.DescribeGroupsResponse](c, 5, describe).Groups[0].ErrorCode }},
		{"delete", kafka.ErrNonEmptyGroup, func() int16 { return call[*kmsg.DeleteGroupsResponse](c, 2, remove).Groups[0].ErrorCode }},
		{"delete offsets", nil, func() int16 { return call[*kmsg.OffsetDeleteResponse](c, 0, forget).ErrorCode }},
	} {
		store.fresh.Store(false)
		c.wantCode(tc.name, tc.got(), tc.want)
		store.fresh.Store(false)
		c.Store = alone{store}
		want := kafka.ErrNotCoordinator
		if tc.name == "commit" { // to a topic that this node does not know of either
			want = kafka.ErrCoordinatorLoadInProgress
		}
		c.wantCode(tc.name+" without a controller", tc.got(), want)
		c.Store = store
	}
}
