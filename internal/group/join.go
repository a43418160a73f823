package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// JoinRequest is a JoinGroup request and who sent it. The first Service.Join takes what it needs out of it.
type JoinRequest struct {
	*kmsg.JoinGroupRequest
	ClientID   string
	ClientHost string // as Kafka writes it: "/127.0.0.1"

	protocols []protocol
}

// Prepare copies what the machine keeps of the request, as long as the request's frame is valid: once, for it may be tried again later.
func (r *JoinRequest) Prepare() {
	if r.Protocols != nil {
		r.protocols, r.Protocols = copyProtocols(r.Protocols), nil
	}
}

// protocolsMax is how many times over what a record may have a member's protocols may take together: one of them will be stored, but all are
// kept.
const protocolsMax = 4

// storable tells whether a group with such a member could be stored, whatever protocol is chosen.
func (r *JoinRequest) storable(recordMax int) bool {
	return r.bytes() <= protocolsMax*recordMax &&
		!slices.ContainsFunc(r.protocols, func(p protocol) bool { return len(p.metadata) > recordMax })
}

func (r *JoinRequest) bytes() (n int) {
	for i := range r.protocols {
		n += len(r.protocols[i].name) + len(r.protocols[i].metadata)
	}
	return n
}

func (r *JoinRequest) rebalanceTimeout() int32 {
	if r.Version == 0 {
		return r.SessionTimeoutMillis
	}
	return r.RebalanceTimeoutMillis
}

func (r *JoinRequest) reason() string {
	if r.Reason == nil || *r.Reason == "" {
		return ""
	}
	return *r.Reason
}

func joinError(memberID string, err *kafka.Error) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.MemberID, resp.ErrorCode = memberID, err.Code
	return resp
}

// Join takes a member into a group, or back into it; p is answered when the rebalance that this begins is through.
func (m *Machine) Join(tx *coordinator.Tx, r *JoinRequest, p *JoinPromise) {
	limits := m.limits()
	session := time.Duration(r.SessionTimeoutMillis) * time.Millisecond
	if session < limits.MinSessionTimeout || session > limits.MaxSessionTimeout {
		coordinator.Answer(tx, p, joinError(r.MemberID, kafka.ErrInvalidSessionTimeout))
		return
	}
	if !r.storable(limits.RecordMaxBytes) {
		m.logger.Info("a client that wants to join a group says more than can be stored", "group", r.Group, "client", clientOf(r.ClientID, r.ClientHost),
			"protocols", len(r.protocols), "bytes", r.bytes(), "topic", kafka.OffsetsTopic, "recordBytesMax", limits.RecordMaxBytes)
		coordinator.Answer(tx, p, joinError(r.MemberID, kafka.ErrInvalidRequest))
		return
	}
	if c := m.consumers[r.Group]; c != nil && (len(c.members) > 0 || r.MemberID != "") {
		m.answerJoinConsumer(tx, c, r, p)
		return
	} else if c != nil { // an empty group may be of either kind
		m.removeConsumer(tx, c)
	}
	g, created := m.groups[r.Group], false
	if g == nil {
		if r.MemberID != "" {
			coordinator.Answer(tx, p, joinError(r.MemberID, kafka.ErrUnknownMemberID))
			return
		}
		g, created = m.create(r.Group, tx.Millis()), true
	}
	before := tx.Appended()
	switch {
	case !g.accepts(r.MemberID, limits.MaxSize):
		m.drop(tx, g, r.MemberID)
		coordinator.Answer(tx, p, joinError("", kafka.ErrGroupMaxSizeReached))
		m.completeIfJoined(tx, g) // nobody waits for it any more
	case r.MemberID == "":
		m.joinNew(tx, g, r, p)
	default:
		m.joinExisting(tx, g, r, p)
	}
	if created && tx.Appended() == before {
		tx.Append(emptyGroupRecord(g))
	}
}

// accepts says whether group.max.size leaves room for a member. While a rebalance gathers, those who wait count and not
// the members, so that a group that has become too large loses those who come last.
func (g *classic) accepts(memberID string, maxSize int) bool {
	mb := g.byID[memberID]
	switch g.state {
	case PreparingRebalance:
		return mb != nil && mb.join != nil || g.awaiting < maxSize
	case CompletingRebalance, Stable:
		return mb != nil || len(g.members) < maxSize
	}
	return true
}

// pendingMax bounds the member IDs that were given out and not come back, in one group; over it, members try again.
const pendingMax = 10_000

func (m *Machine) joinNew(tx *coordinator.Tx, g *classic, r *JoinRequest, p *JoinPromise) {
	if !g.supports(r.ProtocolType, r.protocols) {
		coordinator.Answer(tx, p, joinError("", kafka.ErrInconsistentGroupProtocol))
		return
	}
	if r.InstanceID != nil {
		id := *r.InstanceID + "-" + m.newID()
		if old, ok := g.static[*r.InstanceID]; ok {
			m.debug(g, "static member is replaced", "instance", *r.InstanceID, "old", old, "member", id)
			m.replaceStatic(tx, g, r, g.byID[old], id, p)
			return
		}
		m.addMember(tx, g, r, id, p)
		return
	}
	id := r.ClientID + "-" + m.newID()
	if r.Version >= 4 { // KIP-394: the member must come again with its ID, so that a lost answer leaves no member behind
		if len(g.pendingJoin) >= pendingMax {
			coordinator.Answer(tx, p, joinError("", kafka.ErrCoordinatorLoadInProgress))
			return
		}
		g.pendingJoin[id] = struct{}{}
		m.session(tx, g, id, time.Duration(r.SessionTimeoutMillis)*time.Millisecond)
		coordinator.Answer(tx, p, joinError(id, kafka.ErrMemberIDRequired))
		return
	}
	m.addMember(tx, g, r, id, p)
}

func (m *Machine) joinExisting(tx *coordinator.Tx, g *classic, r *JoinRequest, p *JoinPromise) {
	refuse := func(err *kafka.Error) { coordinator.Answer(tx, p, joinError(r.MemberID, err)) }
	if !g.supports(r.ProtocolType, r.protocols) {
		refuse(kafka.ErrInconsistentGroupProtocol)
		return
	}
	if _, pending := g.pendingJoin[r.MemberID]; pending {
		if r.InstanceID != nil { // only dynamic members are pending
			refuse(kafka.ErrUnknownMemberID)
			return
		}
		m.addMember(tx, g, r, r.MemberID, p)
		return
	}
	if err := g.validate(r.MemberID, r.InstanceID); err != nil {
		refuse(err)
		return
	}
	mb := g.byID[r.MemberID]
	switch {
	case g.state == PreparingRebalance:
		m.updateMember(tx, g, r, mb, p, "") // because the group rebalances
	case g.state == CompletingRebalance && !mb.matches(r.protocols):
		m.updateMember(tx, g, r, mb, p, "member changed its subscription")
	case g.state == CompletingRebalance: // the answer to its JoinGroup was lost
		coordinator.Answer(tx, p, g.joined(mb, g.leader == mb.id))
	case g.state == Stable && g.leader == mb.id: // what the assignment depends on has changed, such as a topic
		m.updateMember(tx, g, r, mb, p, "leader joined again")
	case g.state == Stable && !mb.matches(r.protocols):
		m.updateMember(tx, g, r, mb, p, "member changed its subscription")
	case g.state == Stable:
		coordinator.Answer(tx, p, g.joined(mb, false))
	default:
		refuse(kafka.ErrUnknownMemberID)
	}
}

// joined is the answer to a JoinGroup that is through; withMembers for the one who makes the assignment.
func (g *classic) joined(mb *member, withMembers bool) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.MemberID = mb.id
	resp.Generation = g.generation
	resp.Protocol = g.protocol
	resp.ProtocolType = &g.protocolType
	resp.LeaderID = g.leader
	if withMembers {
		for _, o := range g.members {
			row := kmsg.NewJoinGroupResponseMember()
			row.MemberID, row.InstanceID = o.id, o.instance
			row.ProtocolMetadata = o.metadata(*g.protocol)
			resp.Members = append(resp.Members, row)
		}
	}
	return resp
}

func (m *Machine) addMember(tx *coordinator.Tx, g *classic, r *JoinRequest, id string, p *JoinPromise) {
	mb := &member{
		id: id, instance: r.InstanceID, clientID: r.ClientID, clientHost: r.ClientHost,
		rebalanceTimeout: r.rebalanceTimeout(), sessionTimeout: r.SessionTimeoutMillis,
		protocolType: r.ProtocolType, protocols: r.protocols, join: p, isNew: true,
	}
	if g.state == PreparingRebalance && g.previous == Empty {
		g.newMember = true
	}
	g.add(mb)
	// It has no ID to send heartbeats with, and whether its connection still lives nobody can tell: should it try again
	// and again during a long rebalance, the members that it leaves behind go after a while.
	m.session(tx, g, id, newMemberJoinTimeout)
	m.rebalanceOrComplete(tx, g, mb.causes("member joined", r.reason()))
}

func (m *Machine) updateMember(tx *coordinator.Tx, g *classic, r *JoinRequest, mb *member, p *JoinPromise, why string) {
	m.setMember(tx, g, r, mb, p)
	m.rebalanceOrComplete(tx, g, mb.causes(why, r.reason()))
}

// setMember takes over what a member says of itself now, and parks its promise.
func (m *Machine) setMember(tx *coordinator.Tx, g *classic, r *JoinRequest, mb *member, p *JoinPromise) {
	g.countProtocols(mb, -1)
	mb.protocols = r.protocols
	g.countProtocols(mb, 1)
	mb.rebalanceTimeout, mb.sessionTimeout = r.rebalanceTimeout(), r.SessionTimeoutMillis
	m.answerJoin(tx, g, mb, joinError(mb.id, kafka.ErrRebalanceInProgress))
	mb.join = p
	g.awaiting++
}

// answerJoin answers a parked JoinGroup, if there is one.
func (m *Machine) answerJoin(tx *coordinator.Tx, g *classic, mb *member, resp *kmsg.JoinGroupResponse) {
	if mb.join == nil {
		return
	}
	coordinator.Answer(tx, mb.join, resp)
	mb.join = nil
	g.awaiting--
}

// replaceStatic gives the place of a static member to a new process with its group.instance.id (KIP-345). Where the
// group is stable and would choose the same protocol, nothing but the member ID changes: no rebalance.
func (m *Machine) replaceStatic(tx *coordinator.Tx, g *classic, r *JoinRequest, mb *member, id string, p *JoinPromise) {
	oldLeader := g.leader
	m.answerJoin(tx, g, mb, joinError(mb.id, kafka.ErrFencedInstanceID))
	m.answerSync(tx, mb, syncError(kafka.ErrFencedInstanceID))
	tx.Cancel(sessionKey(g.id, mb.id))
	delete(g.byID, mb.id)
	delete(g.pendingSync, mb.id)
	if g.leader == mb.id {
		g.leader = id
	}
	mb.id, mb.isNew = id, false // client ID and host stay those of its first join, as in Kafka
	g.byID[id], g.static[*mb.instance] = mb, id
	m.setMember(tx, g, r, mb, p)
	m.resetSession(tx, g, mb)
	switch g.state {
	case Stable:
		if g.protocol == nil || g.selectProtocol() != *g.protocol {
			m.rebalanceOrComplete(tx, g, mb.causes("static member was replaced and the protocol changes", r.reason()))
			return
		}
		rec := groupRecord(g)
		if rec.Size() > m.limits().RecordMaxBytes {
			m.rebalanceOrComplete(tx, g, mb.causes("static member was replaced and the group cannot be stored with it", r.reason()))
			return
		}
		tx.Append(rec)
		resp := g.joined(mb, false)
		if r.Version >= 9 { // KIP-814: the leader learns of the members and makes no assignment
			resp = g.joined(mb, g.leader == id)
			resp.SkipAssignment = g.leader == id
		} else {
			// An older client that is told that it leads would make an assignment: the old leader's ID says it does not.
			resp.LeaderID = oldLeader
		}
		m.answerJoin(tx, g, mb, resp)
	case CompletingRebalance:
		// The leader may know it by its old ID, and so give the new one nothing.
		m.prepareRebalance(tx, g, mb.causes("static member was replaced", r.reason()))
	default:
		m.completeIfJoined(tx, g)
	}
}
