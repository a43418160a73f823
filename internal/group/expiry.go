package group

import (
	"slices"
	"strings"
	"time"

	"chronik/internal/coordinator"
)

// Committed offsets expire as KIP-211 has it. What counts is since when nobody uses them:
//
//   - of a group without members, since it became empty;
//   - of a topic that a stable group with members does not subscribe to (any more), since the commit;
//   - of a consumer that commits without being a group's member, since the commit.
//
// A commit of version 2 to 4 with a retention time has its own moment instead. While a classic group rebalances nothing of
// it expires. A group without members and offsets goes, with a tombstone of its own.

// expiryStep bounds the tombstones of one operation: others wait meanwhile.
const expiryStep = 1000

var expiryKey = coordinator.TimerKey{Kind: "expiry"}

// expirer is what expiry asks of a group.
type expirer interface {
	// expiryBase is since when a committed offset counts as unused, in milliseconds; false if it does not expire now.
	expiryBase(c *committed) (since int64, ok bool)
	// subscribesTo tells whether offsets of the topic are in use.
	subscribesTo(topic string) bool
	// removable tells whether nothing is lost with the group once it has no offsets.
	removable() bool
}

func (g *classic) expiryBase(c *committed) (since int64, ok bool) {
	switch {
	case g.protocolType == "": // it only keeps offsets here
		return c.commitTime, true
	case g.state == Empty && g.stateSince >= 0:
		return g.stateSince, true
	case g.state == Empty, g.state == Stable && g.isConsumer() && g.subscribed != nil:
		return c.commitTime, true
	}
	return 0, false
}

// removable is false while a member that was given its ID is to come back with it.
func (g *classic) removable() bool { return g.state == Empty && len(g.pendingJoin) == 0 }

// scheduleExpiry looks for what has expired, now and then.
func (m *Machine) scheduleExpiry(tx *coordinator.Tx) {
	if every := m.limits().OffsetsRetentionCheck; every > 0 {
		tx.After(expiryKey, every, func(tx *coordinator.Tx) { m.expire(tx, "") })
	}
}

// expire looks at the groups whose IDs follow after, and goes on in another operation where there is much to do.
func (m *Machine) expire(tx *coordinator.Tx, after string) {
	for _, id := range m.groupIDs() {
		if id <= after && after != "" {
			continue
		}
		m.expireGroup(tx, id)
		if tx.Appended() >= expiryStep {
			tx.After(expiryKey, 0, func(tx *coordinator.Tx) { m.expire(tx, id) })
			return
		}
	}
	m.scheduleExpiry(tx)
}

func (m *Machine) expireGroup(tx *coordinator.Tx, id string) {
	g := m.expirerOf(id)
	if g == nil {
		return
	}
	now, retention := tx.Millis(), m.limits().OffsetsRetention.Milliseconds()
	n := m.dropOffsets(tx, id, func(topic string, c *committed) bool {
		since, ok := g.expiryBase(c)
		switch {
		case !ok || g.subscribesTo(topic):
			return false
		case c.expireTime >= 0:
			return now >= c.expireTime
		}
		return now-since >= retention
	})
	if n > 0 {
		m.logger.Info("committed offsets have expired", "group", id, "partitions", n, "retention", time.Duration(retention)*time.Millisecond)
	}
	if m.offsets[id] == nil && g.removable() {
		m.removeGroup(tx, id)
	}
}

// groupIDs are the IDs of all groups, sorted.
func (m *Machine) groupIDs() []string {
	return slices.SortedFunc(func(yield func(string) bool) {
		for id := range m.groups {
			if !yield(id) {
				return
			}
		}
		for id := range m.consumers {
			if !yield(id) {
				return
			}
		}
	}, strings.Compare)
}

// expirerOf is a group of either kind; nil if there is none.
func (m *Machine) expirerOf(id string) expirer {
	if g := m.groups[id]; g != nil {
		return g
	}
	if g := m.consumers[id]; g != nil {
		return g
	}
	return nil
}

// removeGroup forgets a group without members, with its tombstone.
func (m *Machine) removeGroup(tx *coordinator.Tx, id string) {
	if g := m.consumers[id]; g != nil {
		m.removeConsumer(tx, g)
	} else {
		delete(m.groups, id)
		delete(m.history, id)
		tx.Append(groupTombstone(id))
	}
	m.logger.Debug("group is removed: it has neither members nor offsets", "group", id)
}
