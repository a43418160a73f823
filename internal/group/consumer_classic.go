package group

import (
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// Members of the classic protocol live in a consumer group while it migrates: their JoinGroup is the heartbeat that moves them
// towards their target, their generation is their member epoch, and SyncGroup only tells them what they have.

func rejoinKey(group, member string) coordinator.TimerKey {
	return coordinator.TimerKey{Kind: "rejoin", A: group, B: member}
}

func resyncKey(group, member string) coordinator.TimerKey {
	return coordinator.TimerKey{Kind: "resync", A: group, B: member}
}

// joinConsumer is JoinGroup of a member of the classic protocol to a consumer group that has members. It is answered at once.
func (m *Machine) joinConsumer(tx *coordinator.Tx, g *consumerGroup, r *JoinRequest) (*kmsg.JoinGroupResponse, error) {
	limits := m.limits()
	if limits.consumer(g.id).MigrationPolicy == migrateDisabled {
		m.logger.Info("a member of the classic protocol may not join a consumer group: migration is disabled (group.consumer.migration.policy)",
			"group", g.id, "client", r.ClientID)
		return nil, kafka.ErrInconsistentGroupProtocol
	}
	id, unknown := r.MemberID, r.MemberID == ""
	if unknown {
		id = r.ClientID + "-" + m.newID()
	}
	if len(g.members) >= limits.consumer(g.id).MaxSize && g.members[id] == nil {
		return nil, kafka.ErrGroupMaxSizeReached.With("consumer group %s has its maximum of %d members", g.id, len(g.members))
	}
	if !g.supportsClassic(r) {
		return nil, kafka.ErrInconsistentGroupProtocol
	}
	if unknown && r.InstanceID == nil && r.Version >= 4 { // KIP-394
		return joinError(id, kafka.ErrMemberIDRequired), nil
	}
	sub, ok := parseSubscription(r.protocols[0].metadata)
	if !ok {
		return nil, kafka.ErrInconsistentGroupProtocol.With("the subscription of member %s cannot be read", id)
	}
	j, err := m.joiningClassic(g, r, id, unknown, sub)
	if err != nil {
		return nil, err
	}
	if err := m.validateSubscription(g, &limits, j.next); err != nil {
		return nil, err
	}
	if current := g.members[staticID(g, r.InstanceID)]; current != nil && g.downgradableFor(current) {
		// The last member of the consumer protocol is replaced by one of the classic protocol.
		if resp := m.downgradeFor(tx, g, current, j); resp != nil {
			return resp, nil
		}
	}
	_, after := m.advance(tx, g, j)
	tx.Cancel(rejoinKey(g.id, id))
	m.consumerSession(tx, g, id, millis(r.SessionTimeoutMillis))
	m.fenceAfter(tx, resyncKey(g.id, id), g.id, id, millis(r.rebalanceTimeout()), "member did not sync in time", nil)
	return classicJoined(after), nil
}

func classicJoined(mb *consumerMember) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	protocolType := consumerProtocol
	resp.MemberID, resp.Generation = mb.id, mb.epoch
	resp.ProtocolType, resp.Protocol = &protocolType, &mb.classic.protocols[0].name
	return resp
}

func staticID(g *consumerGroup, instance *string) string {
	if instance == nil {
		return ""
	}
	return g.static[*instance]
}

// supportsClassic tells whether a member with the request's protocols fits the classic members of the group.
func (g *consumerGroup) supportsClassic(r *JoinRequest) bool {
	if r.ProtocolType != consumerProtocol || len(r.protocols) == 0 {
		return false
	}
	all := g.classicMembers()
	return slices.ContainsFunc(r.protocols, func(p protocol) bool {
		n := 0
		for _, mb := range g.members { // any order: they are counted
			if mb.classic != nil && slices.ContainsFunc(mb.classic.protocols, func(o protocol) bool { return o.name == p.name }) {
				n++
			}
		}
		return n == all
	})
}

// joiningClassic finds the member of a JoinGroup and what it says of itself now. Nothing is changed.
func (m *Machine) joiningClassic(g *consumerGroup, r *JoinRequest, id string, unknown bool, sub kmsg.ConsumerMemberMetadata) (joining, error) {
	j := joining{old: g.members[id], known: true, owned: m.ownedBy(sub), reason: r.reason()}
	if r.InstanceID != nil {
		current := g.members[g.static[*r.InstanceID]]
		switch {
		case !unknown:
			if err := g.validateStatic(current, id, *r.InstanceID); err != nil {
				return joining{}, err
			}
			j.old = current
		case current != nil:
			j.old, j.replaced = nil, current
		}
	}
	next := consumerMember{id: id, rebalanceTimeout: -1}
	switch {
	case j.old != nil:
		next = *j.old
	case j.replaced != nil:
		next = *j.replaced
		next.id, next.epoch, next.previousEpoch = id, 0, 0
	}
	if r.InstanceID != nil {
		next.instance = r.InstanceID
	}
	if sub.Rack != nil {
		next.rack = sub.Rack
	}
	if t := r.rebalanceTimeout(); t != -1 {
		next.rebalanceTimeout = t
	}
	next.topics, next.regex = g.share(sortedStrings(sub.Topics)), ""
	next.clientID, next.clientHost = r.ClientID, r.ClientHost
	next.classic = &classicMember{sessionTimeout: r.SessionTimeoutMillis, protocols: r.protocols}
	j.next = &next
	if j.old != nil && j.old.sameMetadata(j.next) {
		j.next = j.old
	}
	return j, nil
}

// ownedBy are the partitions that a classic member says it still has; those of topics that are gone do not count.
func (m *Machine) ownedBy(sub kmsg.ConsumerMemberMetadata) assign.Assignment {
	topics := m.topics()
	var out assign.Assignment
	for i := range sub.OwnedPartitions {
		if id, ok := topics.ID(sub.OwnedPartitions[i].Topic); ok {
			out = append(out, assign.TopicPartitions{Topic: id, Partitions: sub.OwnedPartitions[i].Partitions})
		}
	}
	return normalized(out)
}

func parseSubscription(metadata []byte) (kmsg.ConsumerMemberMetadata, bool) {
	sub := kmsg.NewConsumerMemberMetadata()
	err := sub.ReadFrom(metadata)
	return sub, err == nil
}

// find looks a member up by its ID, and by its group.instance.id if it has one.
func (g *consumerGroup) find(id string, instance *string) (*consumerMember, error) {
	mb := g.members[id]
	if instance != nil {
		mb = g.members[g.static[*instance]]
		if err := g.validateStatic(mb, id, *instance); err != nil {
			return nil, err
		}
	}
	if mb == nil {
		return nil, kafka.ErrUnknownMemberID.With("Member %s is not a member of group %s.", id, g.id)
	}
	return mb, nil
}

// classicIn finds a member of the classic protocol in a consumer group.
func (g *consumerGroup) classicIn(id string, instance *string) (*consumerMember, error) {
	mb, err := g.find(id, instance)
	if err == nil && mb.classic == nil {
		return nil, kafka.ErrUnknownMemberID.With("Member %s does not use the classic protocol.", id)
	}
	return mb, err
}

// syncConsumer is SyncGroup of a member of the classic protocol: it learns what it has.
func (m *Machine) syncConsumer(tx *coordinator.Tx, g *consumerGroup, r *SyncRequest) (*kmsg.SyncGroupResponse, error) {
	mb, err := g.classicIn(r.MemberID, r.InstanceID)
	if err != nil {
		return nil, err
	}
	name := mb.classic.protocols[0].name
	switch {
	case r.Generation != mb.epoch:
		return nil, kafka.ErrIllegalGeneration
	case r.ProtocolType != nil && *r.ProtocolType != consumerProtocol, r.Protocol != nil && *r.Protocol != name:
		return nil, kafka.ErrInconsistentGroupProtocol
	case g.epoch > mb.epoch && mb.state != memberUnrevoked:
		m.expectRejoin(tx, g, mb)
		return nil, kafka.ErrRebalanceInProgress
	}
	tx.Cancel(resyncKey(g.id, mb.id))
	m.consumerSession(tx, g, mb.id, millis(mb.classic.sessionTimeout))
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ProtocolType, resp.Protocol = r.ProtocolType, r.Protocol
	resp.MemberAssignment = m.classicAssignment(mb.assigned.assignment(), mb.classic.protocols[0].metadata)
	return resp, nil
}

// expectRejoin gives a classic member its rebalance timeout to join again, from when it was first told to.
func (m *Machine) expectRejoin(tx *coordinator.Tx, g *consumerGroup, mb *consumerMember) {
	if key := rejoinKey(g.id, mb.id); !tx.Scheduled(key) {
		m.fenceAfter(tx, key, g.id, mb.id, millis(mb.rebalanceTimeout), "member did not join again in time", nil)
	}
}

// classicAssignment is an assignment as members of the classic protocol read it, in the version of their subscription.
func (m *Machine) classicAssignment(assigned assign.Assignment, subscription []byte) []byte {
	topics := m.topics()
	a := kmsg.NewConsumerMemberAssignment()
	if len(subscription) >= 2 {
		a.Version = min(max(int16(binary.BigEndian.Uint16(subscription)), 0), assignmentVersionMax)
	}
	for i := range assigned {
		name, ok := topics.ByID(assigned[i].Topic)
		if !ok {
			continue
		}
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic, t.Partitions = name, assigned[i].Partitions
		a.Topics = append(a.Topics, t)
	}
	return a.AppendTo(nil)
}

// assignmentVersionMax is the highest version of Kafka's ConsumerProtocolAssignment.
const assignmentVersionMax = 3

// heartbeatConsumer is Heartbeat of a member of the classic protocol: REBALANCE_IN_PROGRESS where joining again gets it on.
func (m *Machine) heartbeatConsumer(tx *coordinator.Tx, g *consumerGroup, r *kmsg.HeartbeatRequest) error {
	mb, err := g.classicIn(r.MemberID, r.InstanceID)
	if err != nil {
		return err
	}
	if r.Generation != mb.epoch {
		return kafka.ErrIllegalGeneration.With("member %s of group %s is in epoch %d", mb.id, g.id, mb.epoch)
	}
	m.consumerSession(tx, g, mb.id, millis(mb.classic.sessionTimeout))
	if mb.epoch < g.epoch || mb.state == memberUnrevoked || mb.state == memberUnreleased && !g.waits(mb) {
		m.expectRejoin(tx, g, mb)
		return kafka.ErrRebalanceInProgress
	}
	return nil
}

// waits tells whether a partition that is meant for the member is still another's.
func (g *consumerGroup) waits(mb *consumerMember) bool {
	for _, t := range g.targets[mb.id] {
		for _, p := range t.Partitions {
			if !mb.assigned.has(t.Topic, p) && !g.free(kafka.TopicPartition{Topic: t.Topic, Partition: p}, mb.id) {
				return true
			}
		}
	}
	return false
}

// leaveConsumer is LeaveGroup: of members of the classic protocol, or of any that an administrator removes (as in Kafka 4.3).
func (m *Machine) leaveConsumer(tx *coordinator.Tx, g *consumerGroup, leaving []kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember {
	rows := make([]kmsg.LeaveGroupResponseMember, 0, len(leaving))
	var gone []*consumerMember
	why, reason := "member left", ""
	for i := range leaving {
		row := kmsg.NewLeaveGroupResponseMember()
		row.MemberID, row.InstanceID = leaving[i].MemberID, leaving[i].InstanceID
		id := row.MemberID
		if id == "" { // an administrator's way
			id = staticID(g, row.InstanceID)
		}
		mb, err := g.find(id, row.InstanceID)
		if err != nil {
			row.ErrorCode = kafka.CodeOf(err)
		} else {
			if row.MemberID == "" {
				why = "member was removed by an administrator"
			}
			if leaving[i].Reason != nil {
				reason = *leaving[i].Reason
			}
			if !slices.Contains(gone, mb) {
				gone = append(gone, mb)
			}
		}
		rows = append(rows, row)
	}
	m.fence(tx, g, gone, why, reason)
	return rows
}

// answerJoinConsumer answers JoinGroup to a consumer group.
func (m *Machine) answerJoinConsumer(tx *coordinator.Tx, g *consumerGroup, r *JoinRequest, p *JoinPromise) {
	if len(g.members) == 0 { // nobody is in it, so the one who says that it is a member is not
		coordinator.Answer(tx, p, joinError(r.MemberID, kafka.ErrUnknownMemberID))
		return
	}
	resp, err := m.joinConsumer(tx, g, r)
	if err != nil {
		resp = joinError("", &kafka.Error{Code: kafka.CodeOf(err)})
	}
	coordinator.Answer(tx, p, resp)
}

// answerSyncConsumer answers SyncGroup to a consumer group.
func (m *Machine) answerSyncConsumer(tx *coordinator.Tx, g *consumerGroup, r *SyncRequest, p *SyncPromise) {
	if r.Version >= 5 && (r.ProtocolType == nil || r.Protocol == nil) { // KIP-559
		coordinator.Answer(tx, p, syncError(kafka.ErrInconsistentGroupProtocol))
		return
	}
	resp, err := m.syncConsumer(tx, g, r)
	if err != nil {
		resp = syncError(&kafka.Error{Code: kafka.CodeOf(err)})
	}
	coordinator.Answer(tx, p, resp)
}
