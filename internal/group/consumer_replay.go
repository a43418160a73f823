package group

import (
	"bytes"
	"fmt"
	"slices"

	"chronik/internal/coordinator"
)

// replayConsumer folds a record of a consumer group into the state. Compaction takes away records between others, so that
// nothing may be expected of the order but that the last record of each key counts, and that tombstones say what is gone.
func (m *Machine) replayConsumer(kind int16, rec coordinator.Replayed) error {
	key := fieldsOf(rec.Key[2:])
	group, name := key.String(), ""
	switch kind {
	case memberKind, targetKind, positionKind, regexKind:
		name = key.String()
	}
	if err := key.done(); err != nil {
		return fmt.Errorf("key of kind %d: %w", kind, err)
	}
	g := m.consumers[group]
	if rec.Value == nil {
		if g != nil {
			m.replayTombstone(g, kind, name)
		}
		return nil
	}
	if g == nil {
		g = newConsumerGroup(group)
		g.owners = nil // until all is read
		m.consumers[group] = g
	}
	f := valueOf(rec.Value)
	apply := g.read(kind, name, f)
	if err := f.done(); err != nil {
		return fmt.Errorf("record of kind %d of consumer group %s (%q): %w", kind, group, name, err)
	}
	apply()
	return nil
}

// read reads a value, and returns what it does to the group; only to be called if all could be read.
func (g *consumerGroup) read(kind int16, name string, f *fields) func() {
	switch kind {
	case epochKind:
		return g.readEpoch(f)
	case memberKind:
		return g.readMember(name, f)
	case targetEpochKind:
		epoch := f.Int32()
		f.tags(nil)
		return func() { g.targetEpoch = epoch }
	case targetKind:
		a := f.assignment()
		f.tags(nil)
		return func() { g.targets[name] = a }
	case positionKind:
		return g.readPosition(name, f)
	case regexKind:
		r := resolvedRegex{topics: sortedStrings(f.strings()), version: f.Int64(), time: f.Int64()}
		f.tags(nil)
		return func() { g.regexes[name] = r }
	default: // partitionMetadataKind: its topics are looked up anew
		f.Src = nil
		return func() { g.legacy = true }
	}
}

func (g *consumerGroup) readEpoch(f *fields) func() {
	epoch, hash := f.Int32(), int64(0)
	f.tags(func(number uint32, content *fields) {
		if number == tagMetadataHash {
			hash = content.Int64()
		}
	})
	return func() { g.epoch, g.hash = epoch, hash }
}

func (g *consumerGroup) readMember(id string, f *fields) func() {
	instance, rack := f.CompactNullableString(), f.CompactNullableString()
	clientID, clientHost := f.CompactString(), f.CompactString()
	topics := sortedStrings(f.strings())
	pattern := f.CompactNullableString()
	rebalance, assignor := f.Int32(), f.CompactNullableString()
	var classic *classicMember
	f.tags(func(number uint32, content *fields) {
		if number != tagClassic || content.Int8() < 0 {
			return
		}
		classic = &classicMember{sessionTimeout: content.Int32()}
		content.items(func() {
			classic.protocols = append(classic.protocols, protocol{content.CompactString(), bytes.Clone(content.CompactBytes())})
			content.tags(nil)
		})
	})
	return func() {
		mb := g.replayed(id)
		mb.instance, mb.rack, mb.clientID, mb.clientHost, mb.topics = instance, rack, clientID, clientHost, g.share(topics)
		mb.rebalanceTimeout, mb.assignor, mb.classic, mb.regex = rebalance, assignor, classic, ""
		if pattern != nil {
			mb.regex = *pattern
		}
		g.put(mb)
	}
}

func (g *consumerGroup) readPosition(id string, f *fields) func() {
	epoch, previous, state := f.Int32(), f.Int32(), memberState(f.Int8())
	assigned, pending := f.held(epoch), f.held(epoch)
	f.tags(nil)
	if state < memberStable || state > memberUnreleased {
		state = memberUnknown
	}
	return func() {
		mb := g.replayed(id)
		mb.epoch, mb.previousEpoch, mb.state, mb.assigned, mb.pending = epoch, previous, state, assigned, pending
		g.put(mb)
	}
}

// replayed is a copy of the member to be put back, or a new one.
func (g *consumerGroup) replayed(id string) *consumerMember {
	mb := consumerMember{id: id, rebalanceTimeout: -1}
	if old := g.members[id]; old != nil {
		mb = *old
	}
	return &mb
}

func (m *Machine) replayTombstone(g *consumerGroup, kind int16, name string) {
	switch kind {
	case epochKind:
		delete(m.consumers, g.id)
	case partitionMetadataKind:
		g.legacy = false
	case memberKind:
		target, known := g.targets[name]
		g.remove(name)
		if known { // another record's matter
			g.targets[name] = target
		}
	case targetEpochKind:
		g.targetEpoch = -1
	case targetKind:
		delete(g.targets, name)
	case positionKind:
		if mb := g.members[name]; mb != nil {
			mb = g.replayed(name)
			mb.epoch, mb.previousEpoch, mb.state, mb.assigned, mb.pending = 0, 0, memberStable, nil, nil
			g.put(mb)
		}
	case regexKind:
		delete(g.regexes, name)
	}
}

// sweep forgets, after a replay, what stands for members that the log does not know as such, and groups of which it has nothing but
// that: where a group's or member's removal and the compaction of the log met, single records may be left.
func (m *Machine) sweep() {
	for id, g := range m.groups { // any order: each group by itself
		if g.implied && m.offsets[id] == nil { // the offsets are gone that it stood for
			delete(m.groups, id)
		}
	}
	for id, g := range m.consumers { // any order: each group by itself
		for member := range g.targets {
			if g.members[member] == nil {
				delete(g.targets, member)
			}
		}
		if g.epoch == 0 && len(g.members) == 0 {
			delete(m.consumers, id)
		}
	}
}

// consumerIDs are the consumer groups' IDs, sorted.
func (m *Machine) consumerIDs() []string {
	ids := make([]string, 0, len(m.consumers))
	for id := range m.consumers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
