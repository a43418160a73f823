package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/sim/grouplog"
)

// classicMember speaks JoinGroup, SyncGroup and Heartbeat; the leader makes a range assignment, and all give up what they own
// before they join again.
type classicMember struct {
	*membership
}

func (m *classicMember) interval() time.Duration { return memberHeartbeat }

func (m *classicMember) instanceID() *string {
	if m.instance == "" {
		return nil
	}
	return &m.instance
}

// disowns: in a group under KIP-848 a generation that lies behind is good for what the member has had since then (KIP-1251).
func (m *classicMember) disowns(partition int32) bool {
	return m.group.kind == classicGroup || !slices.Contains(m.owned, partition)
}

const assignorName = "range"

// join takes part in a generation: JoinGroup, SyncGroup, and where the group is.
func (m *classicMember) join() bool {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID, req.ProtocolType = 9, m.group.name, m.id, m.instanceID(), "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(memberSession.Milliseconds()), int32(memberRebalance.Milliseconds())
	subscription := kmsg.NewConsumerMemberMetadata()
	subscription.Topics = []string{topic}
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = assignorName, subscription.AppendTo(nil)
	req.Protocols = append(req.Protocols, p)
	resp, err := m.ask(req, memberRebalance+callLimit)
	if err != nil {
		return false
	}
	joined := resp.(*kmsg.JoinGroupResponse)
	switch joined.ErrorCode {
	case 0:
		m.id = joined.MemberID
		return m.sync(joined)
	case 79: // MEMBER_ID_REQUIRED
		m.id = joined.MemberID
	default:
		m.told("JoinGroup", joined.ErrorCode)
	}
	return false
}

func (m *classicMember) sync(joined *kmsg.JoinGroupResponse) bool {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Version, req.Group, req.Generation, req.MemberID, req.InstanceID = 5, m.group.name, joined.Generation, m.id, m.instanceID()
	req.ProtocolType, req.Protocol = joined.ProtocolType, joined.Protocol
	if joined.LeaderID == m.id && !joined.SkipAssignment {
		req.GroupAssignment = m.assign(joined.Members)
	}
	resp, err := m.ask(req, memberRebalance+callLimit)
	if err != nil {
		return false
	}
	synced := resp.(*kmsg.SyncGroupResponse)
	if synced.ErrorCode != 0 {
		m.told("SyncGroup", synced.ErrorCode)
		return false
	}
	owned, err := grouplog.Assigned(synced.MemberAssignment, "")
	if err != nil {
		m.fail("%s cannot read its assignment: %v", m.membership, err)
	}
	owner := m.id
	if m.instance != "" {
		owner = m.instance
	}
	m.group.sync(owner, m.id, joined.Generation, owned)
	m.trace.note("%s owns %v in generation %d", m.membership, owned, joined.Generation)
	begin := map[int32]int64{}
	if len(owned) > 0 {
		var code int16
		if begin, code = m.positions(owned); code != 0 {
			return false // it joins again, and is told the same, or of another generation
		}
	}
	m.become(joined.Generation)
	m.own(owned, begin)
	return true
}

// assign gives each member a stretch of the partitions, as the assignor "range" does.
func (m *classicMember) assign(members []kmsg.JoinGroupResponseMember) []kmsg.SyncGroupRequestGroupAssignment {
	key := func(row kmsg.JoinGroupResponseMember) string {
		if row.InstanceID != nil {
			return *row.InstanceID
		}
		return "~" + row.MemberID
	}
	slices.SortFunc(members, func(a, b kmsg.JoinGroupResponseMember) int { return strings.Compare(key(a), key(b)) })
	var rows []kmsg.SyncGroupRequestGroupAssignment
	next := int32(0)
	for i, one := range members {
		share := m.plan.partitions / len(members)
		if i < m.plan.partitions%len(members) {
			share++
		}
		a := kmsg.NewConsumerMemberAssignment()
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic = topic
		for range share {
			t.Partitions = append(t.Partitions, next)
			next++
		}
		a.Topics = append(a.Topics, t)
		row := kmsg.NewSyncGroupRequestGroupAssignment()
		row.MemberID, row.MemberAssignment = one.MemberID, a.AppendTo(nil)
		rows = append(rows, row)
	}
	return rows
}

func (m *classicMember) heartbeat() {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Version, req.Group, req.Generation, req.MemberID, req.InstanceID = 4, m.group.name, m.epoch, m.id, m.instanceID()
	resp, err := m.ask(req, callLimit)
	if err != nil {
		return
	}
	if code := resp.(*kmsg.HeartbeatResponse).ErrorCode; code != 0 {
		m.told("Heartbeat", code)
	}
}

// told does what an error of the coordinator asks for.
func (m *classicMember) told(what string, code int16) {
	err := kerr.ErrorForCode(code)
	m.trace.note("%s: %s: %v", m.membership, what, err)
	m.judge(code)
	switch code {
	case 27: // REBALANCE_IN_PROGRESS: commit, give everything up, join again
		if m.epoch > 0 && len(m.owned) > 0 {
			m.commit()
		}
		m.lose(err)
	case 22: // ILLEGAL_GENERATION
		m.lose(err)
	case 25: // UNKNOWN_MEMBER_ID
		m.lose(err)
		m.id = ""
	case 82: // FENCED_INSTANCE_ID
		m.lose(err)
		m.fenced = true
	}
}

func (m *classicMember) leave() {
	if m.instance != "" { // it comes back
		return
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Version, req.Group = 5, m.group.name
	row := kmsg.NewLeaveGroupRequestMember()
	row.MemberID = m.id
	req.Members = append(req.Members, row)
	_, _ = m.ask(req, callLimit)
}
