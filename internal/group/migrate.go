package group

import (
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// In the log one kind of group takes the other's place in one batch, unless they are too large for that. Then a failover may leave only
// what was written first, so the records of the classic group decide: they go last when it becomes a consumer group, and come first when
// a consumer group becomes one. A coordinator that finds both takes the classic group, with all its members, and takes the other's
// records out of the log (see loadConsumers).

// The policies of group.consumer.migration.policy.
const (
	migrateBoth      = "bidirectional"
	migrateUpgrade   = "upgrade"
	migrateDowngrade = "downgrade"
	migrateDisabled  = "disabled"
)

// upgraded makes a consumer group of a classic one that a member of the consumer protocol wants to join: of an empty one a new
// one, and of one whose members are consumers one with the same members, who keep what their leader has given them. Nothing
// changes before upgrade is called. GROUP_ID_NOT_FOUND if that cannot be.
func (m *Machine) upgraded(old *classic, limits *Limits, c *ConsumerLimits) (*consumerGroup, func(*coordinator.Tx), error) {
	g := newConsumerGroup(old.id)
	if len(old.members) > 0 {
		refuse := func(why string) error {
			m.logger.Info("classic group is not made a consumer group: "+why, "group", old.id)
			return kafka.ErrGroupIDNotFound.With("Cannot upgrade classic group %s to consumer group because %s.", old.id, why)
		}
		switch {
		case c.MigrationPolicy != migrateBoth && c.MigrationPolicy != migrateUpgrade:
			return nil, nil, refuse("online upgrade is disabled (group.consumer.migration.policy)")
		case !old.isConsumer():
			return nil, nil, refuse("the group does not use the consumer embedded protocol")
		case len(old.members) > c.MaxSize:
			return nil, nil, refuse("the group size exceeds the consumer group maximum size")
		}
		g.epoch, g.targetEpoch = old.generation, old.generation
		for _, mb := range old.members {
			next, why := m.upgradedMember(g, old, mb)
			if why != "" {
				return nil, nil, refuse(why)
			}
			g.put(next)
			g.targets[next.id] = next.assigned.assignment()
			if size := max(memberRecord(g.id, next).Size(), positionRecord(g.id, next).Size()); size > limits.RecordMaxBytes {
				return nil, nil, refuse(fmt.Sprintf("a record of member %s would take %d bytes, and may have %d", next.id, size, limits.RecordMaxBytes))
			}
		}
	}
	for range g.settleOwners() { // a leader that gave a partition to two: nobody keeps it
		return nil, nil, kafka.ErrGroupIDNotFound.With("Cannot upgrade classic group %s to consumer group because its leader has given a "+
			"partition to two members.", old.id)
	}
	return g, func(tx *coordinator.Tx) { m.upgrade(tx, old, g) }, nil
}

// upgradedMember is a classic member as a consumer group keeps it; why says what stands against it.
func (m *Machine) upgradedMember(g *consumerGroup, old *classic, mb *member) (next *consumerMember, why string) {
	const malformed = "the embedded consumer protocol is malformed"
	if len(mb.protocols) == 0 {
		return nil, malformed
	}
	metadata := mb.protocols[0].metadata
	if old.protocol != nil {
		metadata = mb.metadata(*old.protocol)
	}
	sub, ok := parseSubscription(metadata)
	if !ok {
		return nil, malformed
	}
	a := kmsg.NewConsumerMemberAssignment()
	if len(mb.assignment) > 0 && a.ReadFrom(mb.assignment) != nil {
		return nil, malformed
	}
	if len(a.UserData) > 0 {
		return nil, "an unsupported custom assignor is in use (its assignments have user data). Switch to a default assignor first"
	}
	topics := m.topics()
	var assigned assign.Assignment
	for i := range a.Topics {
		if id, ok := topics.ID(a.Topics[i].Topic); ok {
			assigned = append(assigned, assign.TopicPartitions{Topic: id, Partitions: a.Topics[i].Partitions})
		}
	}
	return &consumerMember{
		id: mb.id, instance: mb.instance, rack: sub.Rack, clientID: mb.clientID, clientHost: mb.clientHost,
		topics: g.share(sortedStrings(sub.Topics)), rebalanceTimeout: mb.rebalanceTimeout,
		classic: &classicMember{sessionTimeout: mb.sessionTimeout, protocols: mb.protocols},
		epoch:   old.generation, previousEpoch: old.generation, assigned: heldAt(normalized(assigned), old.generation),
	}, ""
}

// upgrade puts the consumer group into the place of the classic one. Whoever waits for a rebalance is told that another began.
func (m *Machine) upgrade(tx *coordinator.Tx, old *classic, g *consumerGroup) {
	for _, mb := range old.members {
		m.answerJoin(tx, old, mb, joinError(mb.id, kafka.ErrRebalanceInProgress))
		m.answerSync(tx, mb, syncError(kafka.ErrRebalanceInProgress))
		m.consumerSession(tx, g, mb.id, millis(mb.sessionTimeout))
	}
	for id := range old.pendingJoin { // any order: only timers go
		tx.Cancel(sessionKey(old.id, id))
	}
	tx.Cancel(joinKey(old.id))
	tx.Cancel(syncKey(old.id))
	delete(m.groups, old.id)
	m.consumers[g.id] = g
	if len(g.members) > 0 {
		if old.state == Stable { // else partitions may have no owner: without the hash the group begins another epoch, at any coordinator
			g.hash = m.metadataHash(g)
		}
		g.records(tx)
	}
	tx.Append(groupTombstone(old.id))
	if len(g.members) > 0 {
		m.logger.Info("classic group has become a consumer group", "group", g.id, "members", len(g.members), "epoch", g.epoch)
	}
}

// downgradable tells whether the group is a classic one without these members: all others use the classic protocol.
func (g *consumerGroup) downgradable(gone []*consumerMember) bool {
	staying, classic := len(g.members)-len(gone), g.classicMembers()
	for _, mb := range gone {
		if mb.classic != nil {
			classic--
		}
	}
	return staying > 0 && classic == staying && g.classicMembers() < len(g.members)
}

// downgradableFor is downgradable for a static member that one of the classic protocol replaces.
func (g *consumerGroup) downgradableFor(replaced *consumerMember) bool {
	return replaced.classic == nil && g.classicMembers() == len(g.members)-1
}

// mayDowngrade decides whether a consumer group becomes the classic group that was made of its members.
func (m *Machine) mayDowngrade(next *classic) bool {
	limits := m.limits()
	policy, size := limits.consumer(next.id).MigrationPolicy, groupRecord(next).Size()
	ok := (policy == migrateBoth || policy == migrateDowngrade) && len(next.members) <= limits.MaxSize && size <= limits.RecordMaxBytes
	if !ok {
		m.logger.Info("consumer group stays one though only classic members are left", "group", next.id, "members", len(next.members),
			"group.consumer.migration.policy", policy, "group.max.size", limits.MaxSize, "recordBytes", size, "recordBytesMax", limits.RecordMaxBytes)
	}
	return ok
}

// downgrade makes a classic group of those who stay, and lets it rebalance; false if it may not, and nothing has changed.
func (m *Machine) downgrade(tx *coordinator.Tx, g *consumerGroup, gone []*consumerMember, why Rebalance) bool {
	var staying []*consumerMember
	for _, id := range g.order {
		if mb := g.members[id]; !slices.Contains(gone, mb) {
			staying = append(staying, mb)
		}
	}
	next := m.downgraded(tx, g, staying, g.targets)
	if !m.mayDowngrade(next) {
		return false
	}
	m.putDowngraded(tx, g, next, true)
	m.caused(g.id, why)
	m.prepareRebalance(tx, next, cause{})
	return true
}

// downgradeFor is downgrade where a static member of the classic protocol replaces the last one of the consumer protocol. The
// group only rebalances if the new one subscribes to something else. nil if it may not.
func (m *Machine) downgradeFor(tx *coordinator.Tx, g *consumerGroup, replaced *consumerMember, j joining) *kmsg.JoinGroupResponse {
	targets := maps.Clone(g.targets)
	targets[j.next.id] = g.targets[replaced.id]
	var staying []*consumerMember
	for _, id := range g.order {
		mb := g.members[id]
		if mb == replaced {
			mb = j.next
		}
		staying = append(staying, mb)
	}
	next := m.downgraded(tx, g, staying, targets)
	if !m.mayDowngrade(next) {
		return nil
	}
	resubscribed := !slices.Equal(replaced.topics, j.next.topics) || replaced.regex != ""
	m.putDowngraded(tx, g, next, resubscribed)
	resp := classicJoined(j.next)
	resp.Generation = next.generation
	if resubscribed {
		why := j.cause(true)
		why.Time, why.Epoch = tx.Now, next.generation
		m.caused(g.id, why)
		m.prepareRebalance(tx, next, cause{})
	}
	return resp
}

// downgraded is a stable classic group with these members, and what the target assignment means for each.
func (m *Machine) downgraded(tx *coordinator.Tx, g *consumerGroup, staying []*consumerMember, targets map[string]assign.Assignment) *classic {
	next := newClassic(g.id, tx.Millis())
	next.state, next.previous = Stable, Empty
	for _, mb := range staying {
		next.add(&member{
			id: mb.id, instance: mb.instance, clientID: mb.clientID, clientHost: mb.clientHost,
			rebalanceTimeout: mb.rebalanceTimeout, sessionTimeout: mb.classic.sessionTimeout,
			protocolType: consumerProtocol, protocols: mb.classic.protocols,
		})
	}
	name := next.selectProtocol()
	next.generation, next.protocol = g.epoch, &name
	for _, mb := range next.members {
		mb.assignment = m.classicAssignment(targets[mb.id], mb.metadata(name))
	}
	next.subscribed = next.subscriptions()
	return next
}

// putDowngraded puts a classic group into the place of the consumer group. If it is to rebalance, the record names no leader: should
// another coordinator load it before the members have joined again, it lets them (see Loaded), since nobody else knows that partitions
// have no owner.
func (m *Machine) putDowngraded(tx *coordinator.Tx, g *consumerGroup, next *classic, rebalances bool) {
	leader := next.leader
	if rebalances {
		next.leader = ""
	}
	tx.Append(groupRecord(next))
	next.leader = leader
	g.tombstones(tx)
	for _, id := range g.order {
		for _, key := range [...]coordinator.TimerKey{sessionKey(g.id, id), revokeKey(g.id, id), rejoinKey(g.id, id), resyncKey(g.id, id)} {
			tx.Cancel(key)
		}
	}
	delete(m.consumers, g.id)
	m.groups[g.id] = next
	for _, mb := range next.members {
		m.resetSession(tx, next, mb)
	}
	m.logger.Info("consumer group has become a classic group", "group", g.id, "members", len(next.members), "generation", next.generation)
}
