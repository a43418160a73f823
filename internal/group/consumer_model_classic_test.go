package group

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// stepClassic: a consumer of the classic protocol that gives up everything before it joins again (range).
func (w *model) stepClassic(a *actor, lost bool) {
	switch {
	case a.join != nil && a.join.Done():
		w.joinedClassic(a, lost)
	case a.sync != nil && a.sync.Done():
		w.syncedClassic(a, lost)
	case a.join != nil || a.sync != nil:
	case a.epoch == 0:
		w.joinClassic(a)
	case a.seen != w.topics.offset: // it looks at the topics by itself, and joins again if there are more partitions
		a.abandon()
	default:
		hb := kmsg.NewPtrHeartbeatRequest()
		hb.Group, hb.MemberID, hb.InstanceID, hb.Generation = "g", a.memberID, a.instance, a.epoch
		var err error
		w.do(func(tx *coordinator.Tx) { err = w.m.Heartbeat(tx, hb) })
		w.t.Logf("%v %s classic heartbeat %d owned %v: %v, lost %v", w.now.UnixMilli(), a.memberID, a.epoch, a.owned, err, lost)
		if lost {
			return
		}
		w.sure = len(w.log)
		switch kafka.CodeOf(err) {
		case 0:
		case kafka.ErrRebalanceInProgress.Code:
			a.abandon()
		default:
			a.abandon()
			a.memberID = ""
		}
	}
}

func (w *model) joinClassic(a *actor) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.ProtocolType = 9, "g", a.memberID, a.instance, "consumer"
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 10_000, 20_000
	sub := kmsg.NewConsumerMemberMetadata()
	sub.Version, sub.Topics = 3, a.topics
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", sub.AppendTo(nil)
	r.Protocols = append(r.Protocols, p)
	req := &JoinRequest{JoinGroupRequest: r, ClientID: a.name, ClientHost: "/h"}
	req.Prepare()
	a.join, a.seen = coordinator.NewPromise[*kmsg.JoinGroupResponse](), w.topics.offset
	w.do(func(tx *coordinator.Tx) { w.m.Join(tx, req, a.join) })
}

func (w *model) joinedClassic(a *actor, lost bool) {
	resp, err := a.join.Wait(context.Background())
	a.join = nil
	w.t.Logf("%v %s joined: %+v %v, lost %v", w.now.UnixMilli(), a.name, resp, err, lost)
	switch {
	case lost || err != nil:
		return
	case resp.ErrorCode == kafka.ErrMemberIDRequired.Code:
		a.memberID = resp.MemberID
	case resp.ErrorCode == kafka.ErrRebalanceInProgress.Code:
	case resp.ErrorCode != 0:
		a.memberID = ""
	default:
		a.memberID, a.epoch = resp.MemberID, resp.Generation
		s := kmsg.NewPtrSyncGroupRequest()
		s.Version, s.Group, s.MemberID, s.InstanceID, s.Generation = 5, "g", a.memberID, a.instance, a.epoch
		s.ProtocolType, s.Protocol = resp.ProtocolType, resp.Protocol
		if resp.LeaderID == a.memberID && !resp.SkipAssignment {
			w.leaderAssigns(s, resp)
		}
		req := &SyncRequest{SyncGroupRequest: s}
		req.Prepare()
		a.sync = coordinator.NewPromise[*kmsg.SyncGroupResponse]()
		w.do(func(tx *coordinator.Tx) { w.m.Sync(tx, req, a.sync) })
	}
	w.sure = len(w.log)
}

// leaderAssigns deals the partitions out among those who subscribe.
func (w *model) leaderAssigns(s *kmsg.SyncGroupRequest, resp *kmsg.JoinGroupResponse) {
	given := map[string]map[string][]int32{}
	for _, topic := range w.topics.Names() {
		var members []string
		for _, mb := range resp.Members {
			sub := kmsg.NewConsumerMemberMetadata()
			if sub.ReadFrom(mb.ProtocolMetadata) == nil && slices.Contains(sub.Topics, topic) {
				members = append(members, mb.MemberID)
			}
		}
		for p := range w.topics.topics[topic].partitions {
			if len(members) > 0 {
				to := members[p%len(members)]
				if given[to] == nil {
					given[to] = map[string][]int32{}
				}
				given[to][topic] = append(given[to][topic], int32(p))
			}
		}
	}
	for _, mb := range resp.Members {
		a := kmsg.NewConsumerMemberAssignment()
		for _, topic := range slices.Sorted(maps.Keys(given[mb.MemberID])) {
			t := kmsg.NewConsumerMemberAssignmentTopic()
			t.Topic, t.Partitions = topic, given[mb.MemberID][topic]
			a.Topics = append(a.Topics, t)
		}
		row := kmsg.NewSyncGroupRequestGroupAssignment()
		row.MemberID, row.MemberAssignment = mb.MemberID, a.AppendTo(nil)
		s.GroupAssignment = append(s.GroupAssignment, row)
	}
}

func (w *model) syncedClassic(a *actor, lost bool) {
	resp, err := a.sync.Wait(context.Background())
	a.sync = nil
	w.t.Logf("%v %s synced in %d: %+v %v, lost %v", w.now.UnixMilli(), a.memberID, a.epoch, resp, err, lost)
	if lost {
		a.abandon()
		return
	}
	w.sure = len(w.log)
	if err != nil || resp.ErrorCode != 0 {
		rebalance := err == nil && resp.ErrorCode == kafka.ErrRebalanceInProgress.Code
		a.abandon()
		if !rebalance {
			a.memberID = ""
		}
		return
	}
	assigned := kmsg.NewConsumerMemberAssignment()
	if len(resp.MemberAssignment) > 0 {
		if err := assigned.ReadFrom(resp.MemberAssignment); err != nil {
			w.t.Fatal(err)
		}
	}
	a.wanted = parts{}
	for _, t := range assigned.Topics {
		for _, p := range t.Partitions {
			if id, ok := w.topics.ID(t.Topic); ok {
				a.wanted[kafka.TopicPartition{Topic: id, Partition: p}] = true
			}
		}
	}
	// A SyncGroup answer that was on its way while the group went on does not count: its generation is over.
	if g := w.m.groups["g"]; g != nil && g.generation == a.epoch || w.m.consumers["g"] != nil {
		a.reconcile()
	}
}
