package group

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"chronik/internal/coordinator"
	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// advance puts a member into the group as its heartbeat (or JoinGroup) says, gives the group a new target assignment if one is
// due, and moves the member towards its own. It returns the member as it was, or as it took another's place, and as it is.
func (m *Machine) advance(tx *coordinator.Tx, g *consumerGroup, j joining) (before, after *consumerMember) {
	before = j.old
	if before == nil {
		before = &consumerMember{id: j.next.id, rebalanceTimeout: -1}
	}
	if j.replaced != nil {
		before = m.replace(tx, g, j.replaced, j.next.id)
	}
	if j.next != j.old {
		g.put(j.next)
	}
	if !before.sameMetadata(j.next) {
		tx.Append(memberRecord(g.id, j.next))
	}
	resubscribed := !slices.Equal(before.topics, j.next.topics) || before.regex != j.next.regex
	m.subscribe(tx, g, before.regex, j.next.regex)
	if g.epoch == 0 || resubscribed {
		m.raise(tx, g, j.cause(resubscribed))
	} else if g.stale {
		m.refresh(tx, g, before)
	}
	if g.epoch > g.targetEpoch {
		m.retarget(tx, g)
	}
	if j.next.reconciledTo(g.targetEpoch) && !resubscribed {
		return before, j.next
	}
	s := subscriptions{g: g, topics: m.topics()}
	step := reconciliation{
		targetEpoch: g.targetEpoch, target: g.targets[j.next.id], subscribed: s.of(j.next), resubscribe: resubscribed,
		free:  func(tp kafka.TopicPartition) bool { return g.free(tp, j.next.id) },
		owned: j.owned, ownedKnown: j.known,
	}
	after = step.step(j.next)
	if !j.next.samePosition(after) {
		g.put(after)
		tx.Append(positionRecord(g.id, after))
		m.consumerSettled(tx, g)
	}
	return before, after
}

// cause says for the history why a heartbeat raises the group's epoch.
func (j *joining) cause(resubscribed bool) Rebalance {
	r := Rebalance{Cause: "member joined", Member: j.next.id, Client: j.next.client(), Reason: j.reason}
	switch {
	case j.replaced != nil:
		r.Cause = "static member was replaced by one that subscribes to something else"
	case j.old != nil && resubscribed:
		r.Cause = "member changed its subscription"
	}
	return r
}

func (mb *consumerMember) client() string { return clientOf(mb.clientID, mb.clientHost) }

// replace gives a static member's place, with all that it has and that is meant for it, to a new process with its
// group.instance.id, which begins at epoch 0. It returns the new member as the old one was.
func (m *Machine) replace(tx *coordinator.Tx, g *consumerGroup, old *consumerMember, id string) *consumerMember {
	next := *old
	next.id, next.epoch, next.previousEpoch = id, 0, 0
	target := g.targets[old.id]
	m.removeMember(tx, g, old)
	g.put(&next)
	g.targets[id] = target
	tx.Append(memberRecord(g.id, &next))
	tx.Append(targetRecord(g.id, id, target))
	tx.Append(positionRecord(g.id, &next))
	return &next
}

// sameMetadata tells whether two versions of a member say the same of themselves, so that no record is needed.
func (mb *consumerMember) sameMetadata(o *consumerMember) bool {
	if mb.id != o.id || !sameString(mb.instance, o.instance) || !sameString(mb.rack, o.rack) || !sameString(mb.assignor, o.assignor) ||
		mb.clientID != o.clientID || mb.clientHost != o.clientHost || mb.regex != o.regex || mb.rebalanceTimeout != o.rebalanceTimeout ||
		!slices.Equal(mb.topics, o.topics) || (mb.classic == nil) != (o.classic == nil) {
		return false
	}
	return mb.classic == nil || mb.classic.sessionTimeout == o.classic.sessionTimeout &&
		(&member{protocols: mb.classic.protocols}).matches(o.classic.protocols)
}

func sameString(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// raise begins another epoch of the group.
func (m *Machine) raise(tx *coordinator.Tx, g *consumerGroup, why Rebalance) {
	if g.stale {
		m.resolveAll(tx, g)
	}
	g.epoch++
	g.hash, g.stale = m.metadataHash(g), false
	tx.Append(epochRecord(g))
	m.dropLegacy(tx, g)
	why.Time, why.Epoch = tx.Now, g.epoch
	m.caused(g.id, why)
	m.logger.Debug("consumer group has a new epoch", "group", g.id, "epoch", g.epoch, "cause", why.Cause, "member", why.Member)
}

// refresh looks at the subscribed topics again, and begins another epoch if they have changed.
func (m *Machine) refresh(tx *coordinator.Tx, g *consumerGroup, by *consumerMember) {
	changed := m.resolveAll(tx, g)
	if hash := m.metadataHash(g); hash == g.hash && changed == "" {
		g.stale = false
		return
	}
	if changed == "" {
		changed = "a subscribed topic was created or deleted, has more partitions, or its replicas are in other racks"
	}
	m.raise(tx, g, Rebalance{Cause: "topics changed", Reason: changed})
}

// dropLegacy removes the record of the subscribed topics that Kafka wrote before 4.1; the hash has taken its place.
func (m *Machine) dropLegacy(tx *coordinator.Tx, g *consumerGroup) {
	if g.legacy {
		g.legacy = false
		tx.Append(partitionMetadataTombstone(g.id))
	}
}

// consumerSettled notes in the history that a rebalance is over.
func (m *Machine) consumerSettled(tx *coordinator.Tx, g *consumerGroup) {
	rows := m.history[g.id]
	if len(rows) > 0 && rows[len(rows)-1].Took == 0 && g.settled() {
		m.settled(g.id, g.epoch, tx.Now)
	}
}

// retarget computes the target assignment for the group's epoch. What changes is written.
func (m *Machine) retarget(tx *coordinator.Tx, g *consumerGroup) {
	limits := m.limits()
	c := limits.consumer(g.id)
	name := g.assignor(c.Assignors[0])
	assignor := assign.ByName(name)
	if assignor == nil || !slices.Contains(c.Assignors, name) { // the configuration does not allow it any more
		assignor = assign.ByName(c.Assignors[0])
	}
	in := m.assignInput(g)
	out := assignor.Assign(in)
	for i := range in.Members {
		id := in.Members[i].ID
		old, known := g.targets[id]
		if known && old.Equal(out[i]) {
			continue
		}
		rec := targetRecord(g.id, id, out[i])
		if rec.Size() > limits.RecordMaxBytes/targetShare {
			m.logger.Error("a member's partitions are more than a record may hold: it keeps those that it was given before", "group", g.id,
				"member", id, "partitions", out[i].Len(), "topic", kafka.OffsetsTopic, "recordBytesMax", limits.RecordMaxBytes)
			continue
		}
		g.targets[id] = out[i]
		tx.Append(rec)
	}
	g.targetEpoch = g.epoch
	tx.Append(targetEpochRecord(g))
}

// targetShare is the part of a record's largest size that a target may take: a member's position has epochs beside the
// partitions, and may hold those of two targets.
const targetShare = 5

// assignInput is all that the assignor looks at.
func (m *Machine) assignInput(g *consumerGroup) assign.Input {
	s := subscriptions{g: g, topics: m.topics()}
	in := assign.Input{Members: make([]assign.Member, 0, len(g.order))}
	for _, id := range g.order {
		mb := g.members[id]
		row := assign.Member{ID: id, Instance: mb.instance, Topics: s.of(mb), Target: g.targets[id]}
		if mb.rack != nil {
			row.Rack = *mb.rack
		}
		in.Members = append(in.Members, row)
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.seen), assign.Compare) {
		_, partitions, racks, _ := s.topics.Topic(s.seen[id])
		in.Topics = append(in.Topics, assign.Topic{ID: id, Partitions: partitions, Racks: racks})
	}
	return in
}

// subscriptions resolves what members subscribe to; members with the same subscription share the answer.
type subscriptions struct {
	g      *consumerGroup
	topics Topics
	shared map[list][]kafka.TopicID
	known  map[string][]kafka.TopicID
	seen   map[kafka.TopicID]string // all topics of any answer
}

// list is a subscription whose topics are in one slice with those of others; see consumerGroup.share.
type list struct {
	regex  string
	topics *string
	n      int
}

func listOf(mb *consumerMember) list {
	l := list{regex: mb.regex, n: len(mb.topics)}
	if l.n > 0 {
		l.topics = &mb.topics[0]
	}
	return l
}

// of are the IDs of the topics that a member subscribes to and that exist, ascending.
func (s *subscriptions) of(mb *consumerMember) []kafka.TopicID {
	same := listOf(mb)
	if ids, ok := s.shared[same]; ok {
		return ids
	}
	key := mb.regex + "\x00" + strings.Join(mb.topics, "\x00")
	if ids, ok := s.known[key]; ok {
		s.shared[same] = ids
		return ids
	}
	if s.known == nil {
		s.known, s.shared, s.seen = map[string][]kafka.TopicID{}, map[list][]kafka.TopicID{}, map[kafka.TopicID]string{}
	}
	var ids []kafka.TopicID
	for _, names := range [...][]string{mb.topics, s.g.regexes[mb.regex].topics} {
		for _, name := range names {
			if id, ok := s.topics.ID(name); ok {
				ids = append(ids, id)
				s.seen[id] = name
			}
		}
	}
	slices.SortFunc(ids, assign.Compare)
	ids = slices.Compact(ids)
	s.known[key], s.shared[same] = ids, ids
	return ids
}

// metadataHash is of all that assignments depend on beside the members: the subscribed topics that exist, their IDs,
// partitions and racks. 0 if there are none. (Its values are not those of Kafka, which nobody but a coordinator compares.)
func (m *Machine) metadataHash(g *consumerGroup) int64 {
	s := subscriptions{g: g, topics: m.topics()}
	for _, id := range g.order {
		s.of(g.members[id])
	}
	if len(s.seen) == 0 {
		return 0
	}
	h := fnv.New64a()
	var buf []byte
	for _, id := range slices.SortedFunc(maps.Keys(s.seen), assign.Compare) {
		_, partitions, racks, _ := s.topics.Topic(s.seen[id])
		buf = append(append(buf[:0], id[:]...), s.seen[id]...)
		buf = binary.BigEndian.AppendUint32(append(buf, 0), uint32(partitions))
		for _, row := range racks {
			buf = binary.BigEndian.AppendUint32(buf, uint32(len(row)))
			for _, rack := range row {
				buf = append(append(buf, rack...), 0)
			}
		}
		_, _ = h.Write(buf)
	}
	return int64(h.Sum64())
}
