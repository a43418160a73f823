package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

func revokeKey(group, member string) coordinator.TimerKey {
	return coordinator.TimerKey{Kind: "revoke", A: group, B: member}
}

// consumerLeave takes a member out for good, or lets a static one be away for a while: it keeps what it has, for the process
// that comes with its group.instance.id before its session ends.
func (m *Machine) consumerLeave(tx *coordinator.Tx, r *ConsumerHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	g := m.consumers[r.Group]
	if g == nil {
		return nil, m.notConsumer(r.Group)
	}
	mb := g.members[r.MemberID]
	if r.InstanceID != nil {
		mb = g.members[g.static[*r.InstanceID]]
		if err := g.validateStatic(mb, r.MemberID, *r.InstanceID); err != nil {
			return nil, err
		}
	}
	if mb == nil {
		return nil, kafka.ErrUnknownMemberID.With("Member %s is not a member of group %s.", r.MemberID, r.Group)
	}
	if r.MemberEpoch == epochStaticLeave {
		away := *mb
		away.epoch, away.pending = epochStaticLeave, nil
		away.assigned = heldAt(mb.assigned.assignment(), 0) // whoever comes may commit what it finds, whatever its epoch
		g.put(&away)
		tx.Append(positionRecord(g.id, &away))
		tx.Cancel(revokeKey(g.id, mb.id))
	} else {
		m.fence(tx, g, []*consumerMember{mb}, "member left", "")
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &mb.id, r.MemberEpoch
	return resp, nil
}

// notConsumer says why there is no consumer group with the ID.
func (m *Machine) notConsumer(id string) *kafka.Error {
	if m.groups[id] != nil {
		return kafka.ErrGroupIDNotFound.With("Group %s is not a consumer group.", id)
	}
	return kafka.ErrGroupIDNotFound.With("Group %s not found.", id)
}

// fence takes members out, which makes the group a classic one where only members of the classic protocol are left.
func (m *Machine) fence(tx *coordinator.Tx, g *consumerGroup, gone []*consumerMember, why, reason string) {
	if len(gone) == 0 {
		return
	}
	cause := Rebalance{Time: tx.Now, Cause: why, Member: gone[0].id, Client: gone[0].client(), Reason: reason}
	m.logger.Debug("members leave the consumer group", "group", g.id, "epoch", g.epoch, "member", gone[0].id, "members", len(gone), "cause", why)
	if g.downgradable(gone) && m.downgrade(tx, g, gone, cause) {
		return
	}
	for _, mb := range gone {
		m.forgetMember(tx, g, mb)
	}
	// The epoch first: where all are more than a batch, and only this is left after a failover, the group goes on from there.
	m.raise(tx, g, cause)
	for _, mb := range gone {
		tombstones(tx, g, mb)
		m.dropRegex(tx, g, mb.regex)
	}
	if len(g.members) == 0 {
		m.settled(g.id, g.epoch, tx.Now)
	}
}

// removeMember takes a member out.
func (m *Machine) removeMember(tx *coordinator.Tx, g *consumerGroup, mb *consumerMember) {
	tombstones(tx, g, mb)
	m.forgetMember(tx, g, mb)
}

// tombstones take a member out of the log.
func tombstones(tx *coordinator.Tx, g *consumerGroup, mb *consumerMember) {
	tx.Append(positionTombstone(g.id, mb.id))
	tx.Append(targetTombstone(g.id, mb.id))
	tx.Append(memberTombstone(g.id, mb.id))
}

// forgetMember takes a member out, with its timers, but not out of the log.
func (m *Machine) forgetMember(tx *coordinator.Tx, g *consumerGroup, mb *consumerMember) {
	for _, key := range [...]coordinator.TimerKey{
		sessionKey(g.id, mb.id), revokeKey(g.id, mb.id), rejoinKey(g.id, mb.id), resyncKey(g.id, mb.id),
	} {
		tx.Cancel(key)
	}
	g.remove(mb.id)
}

// consumerSession starts a member's session anew.
func (m *Machine) consumerSession(tx *coordinator.Tx, g *consumerGroup, member string, timeout time.Duration) {
	m.fenceAfter(tx, sessionKey(g.id, member), g.id, member, timeout, "session expired", nil)
}

// watchRevocation gives a member that has to give up partitions its rebalance timeout to do so.
func (m *Machine) watchRevocation(tx *coordinator.Tx, g *consumerGroup, before, after *consumerMember) {
	switch {
	case after.classic != nil, before.samePosition(after):
	case after.state != memberUnrevoked:
		tx.Cancel(revokeKey(g.id, after.id))
	default:
		epoch := after.epoch
		m.fenceAfter(tx, revokeKey(g.id, after.id), g.id, after.id, millis(after.rebalanceTimeout), "member did not give up partitions in time",
			func(mb *consumerMember) bool { return mb.epoch == epoch })
	}
}

// fenceAfter takes a member out when the time has passed and, unless still is nil, it says so.
func (m *Machine) fenceAfter(tx *coordinator.Tx, key coordinator.TimerKey, group, member string, d time.Duration, why string,
	still func(*consumerMember) bool) {
	tx.After(key, d, func(tx *coordinator.Tx) {
		g := m.consumers[group]
		if g == nil || g.members[member] == nil || still != nil && !still(g.members[member]) {
			return
		}
		mb := g.members[member]
		m.logger.Info(why, "group", group, "groupEpoch", g.epoch, "member", member, "memberEpoch", mb.epoch, "client", mb.client(), "after", d)
		m.fence(tx, g, []*consumerMember{mb}, why, "")
	})
}

// loadConsumers starts the timers of the members that the log told of, and looks at what it says.
func (m *Machine) loadConsumers(tx *coordinator.Tx) {
	limits := m.limits()
	for _, id := range m.consumerIDs() {
		g := m.consumers[id]
		if old := m.groups[id]; old != nil && len(old.members) == 0 {
			delete(m.groups, id) // it only stood for the offsets
		} else if old != nil {
			m.logger.Info("the log has a classic group, and what is left of a consumer group of its name: the classic one counts", "group", id)
			g.tombstones(tx) // or they would come back once the group becomes a consumer group
			delete(m.consumers, id)
			continue
		}
		for _, tp := range g.settleOwners() {
			m.logger.Error("a partition has two owners in the log of its group", "group", id, "partition", tp.String())
		}
		g.stale = true
		session := limits.consumer(id).SessionTimeout
		for _, member := range slices.Clone(g.order) {
			mb := g.members[member]
			if mb.classic != nil {
				m.consumerSession(tx, g, member, millis(mb.classic.sessionTimeout))
				continue
			}
			m.consumerSession(tx, g, member, session)
			m.watchRevocation(tx, g, &consumerMember{}, mb)
		}
	}
}
