package group

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// SyncRequest is a SyncGroup request. The first Service.Sync takes what it needs out of it.
type SyncRequest struct {
	*kmsg.SyncGroupRequest
	assignments map[string][]byte
}

// Prepare copies what the machine keeps of the request, as long as the request's frame is valid: once, for it may be tried again later.
func (r *SyncRequest) Prepare() {
	if r.assignments != nil {
		return
	}
	r.assignments = make(map[string][]byte, len(r.GroupAssignment))
	for i := range r.GroupAssignment {
		r.assignments[r.GroupAssignment[i].MemberID] = bytes.Clone(r.GroupAssignment[i].MemberAssignment)
	}
	r.GroupAssignment = nil
}

func syncError(err *kafka.Error) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode, resp.MemberAssignment = err.Code, []byte{}
	return resp
}

// Sync hands out the assignments of a generation: p is answered when the leader has sent them.
func (m *Machine) Sync(tx *coordinator.Tx, r *SyncRequest, p *SyncPromise) {
	if c := m.consumers[r.Group]; c != nil {
		m.answerSyncConsumer(tx, c, r, p)
		return
	}
	g := m.groups[r.Group]
	if err := g.validateSync(r); err != nil {
		coordinator.Answer(tx, p, syncError(err))
		return
	}
	mb := g.byID[r.MemberID]
	switch g.state {
	case PreparingRebalance:
		coordinator.Answer(tx, p, syncError(kafka.ErrRebalanceInProgress))
	case Stable:
		m.synced(tx, g, mb)
		coordinator.Answer(tx, p, g.synced(mb))
	case CompletingRebalance:
		m.answerSync(tx, mb, syncError(kafka.ErrRebalanceInProgress))
		mb.sync = p
		m.synced(tx, g, mb)
		if g.leader == mb.id {
			m.assign(tx, g, r)
		}
	}
}

func (g *classic) validateSync(r *SyncRequest) *kafka.Error {
	switch {
	case r.Version >= 5 && (r.ProtocolType == nil || r.Protocol == nil):
		return kafka.ErrInconsistentGroupProtocol // mandatory from version 5 on (KIP-559)
	case g == nil || g.state == Empty:
		return kafka.ErrUnknownMemberID
	}
	if err := g.validate(r.MemberID, r.InstanceID); err != nil {
		return err
	}
	switch {
	case r.Generation != g.generation:
		return kafka.ErrIllegalGeneration
	case r.ProtocolType != nil && g.protocolType != "" && *r.ProtocolType != g.protocolType,
		r.Protocol != nil && g.protocol != nil && *r.Protocol != *g.protocol:
		return kafka.ErrInconsistentGroupProtocol
	}
	return nil
}

// synced says that the member has asked for its assignment.
func (m *Machine) synced(tx *coordinator.Tx, g *classic, mb *member) {
	delete(g.pendingSync, mb.id)
	if len(g.pendingSync) == 0 {
		tx.Cancel(syncKey(g.id))
	}
}

// assign takes the leader's assignment. The group is stable at once: those who see it are told when it is committed.
func (m *Machine) assign(tx *coordinator.Tx, g *classic, r *SyncRequest) {
	for _, mb := range g.members {
		mb.assignment = r.assignments[mb.id] // nobody else's: members without one get none
	}
	rec := groupRecord(g)
	if limit := m.limits().RecordMaxBytes; rec.Size() > limit {
		m.logger.Error("group's metadata is larger than a record may be: the members' assignments are refused",
			"group", g.id, "bytes", rec.Size(), "limit", limit, "members", len(g.members))
		m.resetAssignments(tx, g, kafka.ErrUnknownServerError)
		m.prepareRebalance(tx, g, cause{what: "the assignment could not be stored", reason: "it is larger than max.message.bytes allows"})
		return
	}
	tx.Append(rec)
	g.transition(Stable, tx.Millis())
	m.settled(g.id, g.generation, tx.Now)
	for _, mb := range g.members {
		if m.answerSync(tx, mb, g.synced(mb)) {
			m.resetSession(tx, g, mb)
		}
	}
}

// synced is the answer with a member's assignment.
func (g *classic) synced(mb *member) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ProtocolType, resp.Protocol = &g.protocolType, g.protocol
	resp.MemberAssignment = mb.assignment
	if resp.MemberAssignment == nil {
		resp.MemberAssignment = []byte{}
	}
	return resp
}
