package group

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// Heartbeat keeps a member's session alive. REBALANCE_IN_PROGRESS tells it to join again.
func (m *Machine) Heartbeat(tx *coordinator.Tx, r *kmsg.HeartbeatRequest) error {
	if c := m.consumers[r.Group]; c != nil {
		return m.heartbeatConsumer(tx, c, r)
	}
	g := m.groups[r.Group]
	if g == nil {
		return kafka.ErrUnknownMemberID.With("there is no group %s", r.Group)
	}
	if err := g.validate(r.MemberID, r.InstanceID); err != nil {
		return err
	}
	if r.Generation != g.generation {
		return kafka.ErrIllegalGeneration.With("group %s is in generation %d", g.id, g.generation)
	}
	m.resetSession(tx, g, g.byID[r.MemberID])
	if g.state == PreparingRebalance {
		return kafka.ErrRebalanceInProgress
	}
	return nil
}

// Leave takes members out of a group, each by its ID, or by its group.instance.id alone (an administrator's way).
func (m *Machine) Leave(tx *coordinator.Tx, r *kmsg.LeaveGroupRequest) ([]kmsg.LeaveGroupResponseMember, error) {
	g := m.groups[r.Group]
	leaving := r.Members
	if r.Version < 3 {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = r.MemberID
		leaving = []kmsg.LeaveGroupRequestMember{one}
	}
	if c := m.consumers[r.Group]; c != nil {
		return m.leaveConsumer(tx, c, leaving), nil
	}
	rows, left := make([]kmsg.LeaveGroupResponseMember, 0, len(leaving)), false
	for i := range leaving {
		row := kmsg.NewLeaveGroupResponseMember()
		row.MemberID, row.InstanceID = leaving[i].MemberID, leaving[i].InstanceID
		if err := m.leave(tx, g, &leaving[i]); err != nil {
			row.ErrorCode = err.Code
		} else {
			left = true
		}
		rows = append(rows, row)
	}
	if !left {
		return rows, nil
	}
	switch g.state {
	case Stable, CompletingRebalance:
		m.prepareRebalance(tx, g, cause{})
	case PreparingRebalance:
		m.completeIfJoined(tx, g)
	}
	return rows, nil
}

func (m *Machine) leave(tx *coordinator.Tx, g *classic, r *kmsg.LeaveGroupRequestMember) *kafka.Error {
	if g == nil {
		return kafka.ErrUnknownMemberID
	}
	id := r.MemberID
	if id == "" {
		if r.InstanceID == nil {
			return kafka.ErrUnknownMemberID
		}
		current, ok := g.static[*r.InstanceID]
		if !ok {
			return kafka.ErrUnknownMemberID
		}
		id = current
	} else if _, pending := g.pendingJoin[id]; !pending {
		if err := g.validate(id, r.InstanceID); err != nil {
			return err
		}
	}
	reason := ""
	if r.Reason != nil {
		reason = *r.Reason
	}
	m.debug(g, "member leaves", "member", id, "reason", reason)
	if mb := g.byID[id]; mb != nil {
		what := "member left"
		if r.MemberID == "" {
			what = "member was removed by an administrator"
		}
		m.note(tx, g, mb.causes(what, reason))
	}
	m.drop(tx, g, id)
	return nil
}
