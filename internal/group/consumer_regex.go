package group

import (
	"maps"
	"slices"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// resolvedRegex are the topics that a regular expression of a group's members stands for. It is immutable.
type resolvedRegex struct {
	topics  []string // sorted
	version int64    // of the metadata
	time    int64    // milliseconds
}

// subscribe follows a member's change of its regular expression: the one that nobody uses any more goes, and a new one is
// resolved at once. (Kafka does it in the background, and assigns its topics a little later.)
func (m *Machine) subscribe(tx *coordinator.Tx, g *consumerGroup, old, next string) {
	if old == next {
		return
	}
	m.dropRegex(tx, g, old)
	if _, known := g.regexes[next]; next != "" && !known {
		m.resolve(tx, g, next)
	}
}

// dropRegex forgets a regular expression if no member uses it.
func (m *Machine) dropRegex(tx *coordinator.Tx, g *consumerGroup, pattern string) {
	if _, known := g.regexes[pattern]; !known {
		return
	}
	for _, mb := range g.members { // any order: one is enough
		if mb.regex == pattern {
			return
		}
	}
	delete(g.regexes, pattern)
	tx.Append(regexTombstone(g.id, pattern))
}

// resolve finds the topics of a regular expression and tells whether they are others than before.
func (m *Machine) resolve(tx *coordinator.Tx, g *consumerGroup, pattern string) bool {
	topics := m.topics()
	old, known := g.regexes[pattern]
	r := resolvedRegex{topics: m.patterns.Resolve(pattern, topics), version: int64(topics.Offset()), time: tx.Millis()}
	if known && slices.Equal(old.topics, r.topics) {
		return false
	}
	rec := regexRecord(g.id, pattern, r)
	if limit := m.limits().RecordMaxBytes; rec.Size() > limit {
		m.logger.Error("the topics of a regular expression are more than a record may hold: those found before are kept", "group", g.id,
			"expression", pattern, "topics", len(r.topics), "topic", kafka.OffsetsTopic, "recordBytesMax", limit)
		return false
	}
	g.regexes[pattern] = r
	tx.Append(rec)
	return true
}

// resolveAll resolves all regular expressions of the group again and tells what has changed; "" if nothing.
func (m *Machine) resolveAll(tx *coordinator.Tx, g *consumerGroup) string {
	changed, patterns := "", map[string]struct{}{}
	for _, mb := range g.members { // any order: a set
		if mb.regex != "" {
			patterns[mb.regex] = struct{}{}
		}
	}
	for _, pattern := range slices.Sorted(maps.Keys(patterns)) {
		if m.resolve(tx, g, pattern) {
			changed = "the topics that match " + pattern
		}
	}
	return changed
}
