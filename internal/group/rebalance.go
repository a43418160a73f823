package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

func sessionKey(group, member string) coordinator.TimerKey {
	return coordinator.TimerKey{Kind: "session", A: group, B: member}
}
func joinKey(group string) coordinator.TimerKey { return coordinator.TimerKey{Kind: "join", A: group} }
func syncKey(group string) coordinator.TimerKey { return coordinator.TimerKey{Kind: "sync", A: group} }

func millis(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

// rebalanceOrComplete begins a rebalance, or goes on with the one that gathers.
func (m *Machine) rebalanceOrComplete(tx *coordinator.Tx, g *classic, why cause) {
	if g.state != PreparingRebalance {
		m.prepareRebalance(tx, g, why)
		return
	}
	m.note(tx, g, why)
	m.completeIfJoined(tx, g)
}

// completeIfJoined ends the gathering if nobody is missing, unless it is the first of a group, which lasts its time.
func (m *Machine) completeIfJoined(tx *coordinator.Tx, g *classic) {
	if g.state == PreparingRebalance && g.previous != Empty && g.allJoined() {
		m.completeJoin(tx, g)
	}
}

// prepareRebalance makes every member join again.
func (m *Machine) prepareRebalance(tx *coordinator.Tx, g *classic, why cause) {
	m.note(tx, g, why)
	if g.state == CompletingRebalance {
		m.resetAssignments(tx, g, kafka.ErrRebalanceInProgress)
	}
	clear(g.pendingSync)
	tx.Cancel(syncKey(g.id))
	initial := g.state == Empty
	g.transition(PreparingRebalance, tx.Millis())
	m.debug(g, "group prepares to rebalance", "cause", why)
	switch {
	case initial: // more members of a new group will come in a moment
		delay := m.limits().InitialRebalanceDelay
		remaining := max(millis(g.rebalanceTimeout())-delay, 0)
		m.delayInitial(tx, g, delay, remaining)
	case g.allJoined():
		m.completeJoin(tx, g)
	default:
		m.completeLater(tx, g)
	}
}

func (m *Machine) delayInitial(tx *coordinator.Tx, g *classic, delay, remaining time.Duration) {
	tx.After(joinKey(g.id), delay, func(tx *coordinator.Tx) {
		if m.groups[g.id] != g || g.state != PreparingRebalance {
			return
		}
		if g.newMember && remaining > 0 {
			g.newMember = false
			m.delayInitial(tx, g, min(m.limits().InitialRebalanceDelay, remaining), max(remaining-delay, 0))
			return
		}
		m.completeJoin(tx, g)
	})
}

func (m *Machine) completeLater(tx *coordinator.Tx, g *classic) {
	tx.After(joinKey(g.id), millis(g.rebalanceTimeout()), func(tx *coordinator.Tx) {
		if m.groups[g.id] == g && g.state == PreparingRebalance {
			m.completeJoin(tx, g)
		}
	})
}

// completeJoin ends the gathering: dynamic members that did not come are out, and the others get the next generation.
func (m *Machine) completeJoin(tx *coordinator.Tx, g *classic) {
	tx.Cancel(joinKey(g.id))
	m.dropLate(tx, g, "member did not join again in time", func(mb *member) bool { return mb.join == nil && mb.instance == nil })
	if !g.electJoined() && len(g.members) > 0 {
		// Only static members are left, and none came: their sessions end it.
		m.completeLater(tx, g)
		return
	}
	g.nextGeneration(tx.Millis())
	if g.state == Empty {
		m.debug(g, "group is empty")
		m.settled(g.id, g.generation, tx.Now)
		tx.Append(groupRecord(g))
		return
	}
	m.debug(g, "group has a generation", "members", len(g.members), "leader", g.leader, "protocol", *g.protocol)
	for _, mb := range g.members {
		m.answerJoin(tx, g, mb, g.joined(mb, g.leader == mb.id))
		m.resetSession(tx, g, mb)
		mb.isNew = false
		g.pendingSync[mb.id] = struct{}{}
	}
	m.expectSync(tx, g)
}

// expectSync removes, after the rebalance timeout, the members that did not ask for their assignment.
func (m *Machine) expectSync(tx *coordinator.Tx, g *classic) {
	generation := g.generation
	tx.After(syncKey(g.id), millis(g.rebalanceTimeout()), func(tx *coordinator.Tx) {
		if m.groups[g.id] != g || g.generation != generation || len(g.pendingSync) == 0 ||
			g.state != CompletingRebalance && g.state != Stable {
			return
		}
		m.dropLate(tx, g, "member did not sync in time", func(mb *member) bool {
			_, late := g.pendingSync[mb.id]
			return late
		})
		m.prepareRebalance(tx, g, cause{})
	})
}

// dropLate removes the members that did not do in time what the group waits for.
func (m *Machine) dropLate(tx *coordinator.Tx, g *classic, what string, late func(*member) bool) {
	var members []*member
	for _, mb := range g.members {
		if late(mb) {
			members = append(members, mb)
		}
	}
	if len(members) == 0 {
		return
	}
	ids := make([]string, len(members))
	for i, mb := range members {
		ids[i] = mb.id
		m.drop(tx, g, mb.id)
	}
	why := several(what, members)
	m.note(tx, g, why)
	m.notice(g, why.what, "members", ids)
}

// drop removes a member with its session and whatever it waits for.
func (m *Machine) drop(tx *coordinator.Tx, g *classic, id string) {
	if mb := g.byID[id]; mb != nil {
		// UNKNOWN_MEMBER_ID: if it is still there it joins anew.
		m.answerJoin(tx, g, mb, joinError("", kafka.ErrUnknownMemberID))
		m.answerSync(tx, mb, syncError(kafka.ErrUnknownMemberID))
	}
	tx.Cancel(sessionKey(g.id, id))
	g.remove(id)
}

// resetSession starts a member's session timeout anew.
func (m *Machine) resetSession(tx *coordinator.Tx, g *classic, mb *member) {
	m.session(tx, g, mb.id, millis(mb.sessionTimeout))
}

func (m *Machine) session(tx *coordinator.Tx, g *classic, id string, d time.Duration) {
	tx.After(sessionKey(g.id, id), d, func(tx *coordinator.Tx) { m.expireSession(tx, g, id) })
}

func (m *Machine) expireSession(tx *coordinator.Tx, g *classic, id string) {
	if m.groups[g.id] != g {
		return
	}
	if _, pending := g.pendingJoin[id]; pending {
		g.remove(id)
		m.afterRemoval(tx, g, cause{})
		return
	}
	mb := g.byID[id]
	if mb == nil || mb.heartbeatSatisfied() {
		return
	}
	m.notice(g, "member's session has ended", "member", id)
	m.drop(tx, g, id)
	m.afterRemoval(tx, g, mb.causes("session expired", "no heartbeat for "+millis(mb.sessionTimeout).String()))
}

// afterRemoval rebalances what a removed member leaves behind; without a cause, where no member but a pending one left.
func (m *Machine) afterRemoval(tx *coordinator.Tx, g *classic, why cause) {
	switch {
	case g.state == PreparingRebalance:
		m.note(tx, g, why)
		if g.allJoined() {
			m.completeJoin(tx, g)
		}
	case why.what != "" && (g.state == Stable || g.state == CompletingRebalance):
		m.prepareRebalance(tx, g, why)
	}
}

// resetAssignments takes everybody's assignment away and tells those who wait for theirs.
func (m *Machine) resetAssignments(tx *coordinator.Tx, g *classic, err *kafka.Error) {
	for _, mb := range g.members {
		mb.assignment = nil
	}
	for _, mb := range g.members {
		if m.answerSync(tx, mb, syncError(err)) {
			m.resetSession(tx, g, mb)
		}
	}
}

// answerSync answers a parked SyncGroup; false if there is none.
func (m *Machine) answerSync(tx *coordinator.Tx, mb *member, resp *kmsg.SyncGroupResponse) bool {
	if mb.sync == nil {
		return false
	}
	coordinator.Answer(tx, mb.sync, resp)
	mb.sync = nil
	return true
}
