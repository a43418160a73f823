package group

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kbin"

	"chronik/internal/coordinator"
	"chronik/internal/group/assign"
)

// The kinds of the records of consumer groups: the versions of their keys. Their values have version 0, in Kafka's flexible
// encoding; docs/format/consumer-offsets.md has them all.
const (
	epochKind             = 3
	partitionMetadataKind = 4 // up to Kafka 4.0
	memberKind            = 5
	targetEpochKind       = 6
	targetKind            = 7
	positionKind          = 8
	regexKind             = 16
)

func kindKey(kind int16, names ...string) []byte {
	key := kbin.AppendInt16(nil, kind)
	for _, name := range names {
		key = kbin.AppendString(key, name)
	}
	return key
}

func tombstone(kind int16, names ...string) coordinator.Record {
	return coordinator.Record{Key: kindKey(kind, names...)}
}

func epochTombstone(group string) coordinator.Record { return tombstone(epochKind, group) }
func partitionMetadataTombstone(group string) coordinator.Record {
	return tombstone(partitionMetadataKind, group)
}
func memberTombstone(group, member string) coordinator.Record {
	return tombstone(memberKind, group, member)
}
func targetEpochTombstone(group string) coordinator.Record { return tombstone(targetEpochKind, group) }
func targetTombstone(group, member string) coordinator.Record {
	return tombstone(targetKind, group, member)
}
func positionTombstone(group, member string) coordinator.Record {
	return tombstone(positionKind, group, member)
}
func regexTombstone(group, pattern string) coordinator.Record {
	return tombstone(regexKind, group, pattern)
}

// value begins a value of version 0.
func value() []byte { return kbin.AppendInt16(nil, 0) }

func noTags(b []byte) []byte { return append(b, 0) }

// tag appends a tagged field's number, size and content.
func tag(b []byte, number uint32, content []byte) []byte {
	b = kbin.AppendUvarint(b, number)
	b = kbin.AppendUvarint(b, uint32(len(content)))
	return append(b, content...)
}

// tagMetadataHash is a tag of ConsumerGroupMetadataValue (KIP-1101).
const tagMetadataHash = 0

// epochRecord is the group's epoch with the hash of its topics.
func epochRecord(g *consumerGroup) coordinator.Record {
	v := kbin.AppendInt32(value(), g.epoch)
	if g.hash == 0 {
		return coordinator.Record{Key: kindKey(epochKind, g.id), Value: noTags(v)}
	}
	v = tag(kbin.AppendUvarint(v, 1), tagMetadataHash, kbin.AppendInt64(nil, g.hash))
	return coordinator.Record{Key: kindKey(epochKind, g.id), Value: v}
}

// tagClassic is a tag of ConsumerGroupMemberMetadataValue.
const tagClassic = 0

// memberRecord is what a member says of itself.
func memberRecord(group string, mb *consumerMember) coordinator.Record {
	v := kbin.AppendCompactNullableString(value(), mb.instance)
	v = kbin.AppendCompactNullableString(v, mb.rack)
	v = kbin.AppendCompactString(v, mb.clientID)
	v = kbin.AppendCompactString(v, mb.clientHost)
	v = appendStrings(v, mb.topics)
	v = kbin.AppendCompactNullableString(v, &mb.regex)
	v = kbin.AppendInt32(v, mb.rebalanceTimeout)
	v = kbin.AppendCompactNullableString(v, mb.assignor)
	if mb.classic == nil {
		return coordinator.Record{Key: kindKey(memberKind, group, mb.id), Value: noTags(v)}
	}
	c := kbin.AppendUvarint(nil, 1) // nullable structs say in a byte whether they are there
	c = kbin.AppendInt32(c, mb.classic.sessionTimeout)
	c = kbin.AppendCompactArrayLen(c, len(mb.classic.protocols))
	for _, p := range mb.classic.protocols {
		c = noTags(kbin.AppendCompactBytes(kbin.AppendCompactString(c, p.name), p.metadata))
	}
	v = tag(kbin.AppendUvarint(v, 1), tagClassic, noTags(c))
	return coordinator.Record{Key: kindKey(memberKind, group, mb.id), Value: v}
}

func appendStrings(b []byte, list []string) []byte {
	b = kbin.AppendCompactArrayLen(b, len(list))
	for _, s := range list {
		b = kbin.AppendCompactString(b, s)
	}
	return b
}

func appendInts(b []byte, list []int32) []byte {
	b = kbin.AppendCompactArrayLen(b, len(list))
	for _, i := range list {
		b = kbin.AppendInt32(b, i)
	}
	return b
}

// targetEpochRecord is the group epoch that the target assignment is for.
func targetEpochRecord(g *consumerGroup) coordinator.Record {
	return coordinator.Record{Key: kindKey(targetEpochKind, g.id), Value: noTags(kbin.AppendInt32(value(), g.targetEpoch))}
}

// targetRecord is a member's part of the target assignment.
func targetRecord(group, member string, a assign.Assignment) coordinator.Record {
	v := kbin.AppendCompactArrayLen(value(), len(a))
	for i := range a {
		v = noTags(appendInts(kbin.AppendUuid(v, a[i].Topic), a[i].Partitions))
	}
	return coordinator.Record{Key: kindKey(targetKind, group, member), Value: noTags(v)}
}

// tagEpochs is a tag of the partitions in ConsumerGroupCurrentMemberAssignmentValue (KIP-1251).
const tagEpochs = 0

// positionRecord is where a member stands: its epoch, what it has, and what it has to give up.
func positionRecord(group string, mb *consumerMember) coordinator.Record {
	v := kbin.AppendInt32(value(), mb.epoch)
	v = kbin.AppendInt32(v, mb.previousEpoch)
	v = kbin.AppendInt8(v, int8(mb.state))
	v = appendHeld(v, mb.assigned)
	v = appendHeld(v, mb.pending)
	return coordinator.Record{Key: kindKey(positionKind, group, mb.id), Value: noTags(v)}
}

func appendHeld(v []byte, h held) []byte {
	v = kbin.AppendCompactArrayLen(v, len(h))
	for i := range h {
		v = appendInts(kbin.AppendUuid(v, h[i].topic), h[i].partitions)
		v = tag(kbin.AppendUvarint(v, 1), tagEpochs, appendInts(nil, h[i].epochs))
	}
	return v
}

// regexRecord are the topics of a regular expression.
func regexRecord(group, pattern string, r resolvedRegex) coordinator.Record {
	v := appendStrings(value(), r.topics)
	v = kbin.AppendInt64(v, r.version)
	v = kbin.AppendInt64(v, r.time)
	return coordinator.Record{Key: kindKey(regexKind, group, pattern), Value: noTags(v)}
}

// records are all of a group, for one that another has become.
func (g *consumerGroup) records(tx *coordinator.Tx) {
	for _, id := range g.order {
		tx.Append(memberRecord(g.id, g.members[id]))
	}
	tx.Append(epochRecord(g))
	for _, id := range g.order {
		tx.Append(targetRecord(g.id, id, g.targets[id]))
	}
	tx.Append(targetEpochRecord(g))
	for _, id := range g.order {
		tx.Append(positionRecord(g.id, g.members[id]))
	}
}

// tombstones take all of a group out of the log; those of its members first.
func (g *consumerGroup) tombstones(tx *coordinator.Tx) {
	for _, id := range g.order {
		tx.Append(positionTombstone(g.id, id))
	}
	for _, id := range g.order {
		tx.Append(targetTombstone(g.id, id))
	}
	tx.Append(targetEpochTombstone(g.id))
	for _, id := range g.order {
		tx.Append(memberTombstone(g.id, id))
	}
	for _, pattern := range slices.Sorted(maps.Keys(g.regexes)) {
		tx.Append(regexTombstone(g.id, pattern))
	}
	if g.legacy {
		tx.Append(partitionMetadataTombstone(g.id))
	}
	tx.Append(epochTombstone(g.id))
}
