package group

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// The record versions that are written; a key's version is its kind. All that Kafka ever wrote are read.
const (
	offsetKeyVersion0    = 0
	offsetKeyVersion     = 1
	groupKeyVersion      = 2
	groupValueVersion    = 3 // the highest that is not flexible, as Kafka writes it
	offsetValueVersion   = 4 // carries the topic ID in a tag
	offsetExpiresVersion = 1 // the only one with a time to expire at, for OffsetCommit v2 to v4 with a retention time
)

func groupKey(id string) []byte {
	key := kmsg.NewGroupMetadataKey()
	key.Version, key.Group = groupKeyVersion, id
	return key.AppendTo(nil)
}

// groupRecord is a group with its members and their assignments.
func groupRecord(g *classic) coordinator.Record {
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValueVersion
	v.ProtocolType, v.Generation, v.Protocol = g.protocolType, g.generation, g.protocol
	if g.leader != "" {
		v.Leader = &g.leader
	}
	v.CurrentStateTimestamp = g.stateSince
	for _, mb := range g.members {
		row := kmsg.NewGroupMetadataValueMember()
		row.MemberID, row.InstanceID, row.ClientID, row.ClientHost = mb.id, mb.instance, mb.clientID, mb.clientHost
		row.RebalanceTimeoutMillis, row.SessionTimeoutMillis = mb.rebalanceTimeout, mb.sessionTimeout
		if g.protocol != nil {
			row.Subscription = mb.metadata(*g.protocol)
		}
		row.Assignment = mb.assignment
		v.Members = append(v.Members, row)
	}
	return coordinator.Record{Key: groupKey(g.id), Value: v.AppendTo(nil)}
}

// emptyGroupRecord is a group that has nothing yet but its name.
func emptyGroupRecord(g *classic) coordinator.Record {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.CurrentStateTimestamp = groupValueVersion, g.stateSince
	return coordinator.Record{Key: groupKey(g.id), Value: v.AppendTo(nil)}
}

func groupTombstone(id string) coordinator.Record { return coordinator.Record{Key: groupKey(id)} }

func offsetKey(group, topic string, partition int32) []byte {
	key := kmsg.NewOffsetCommitKey()
	key.Version, key.Group, key.Topic, key.Partition = offsetKeyVersion, group, topic, partition
	return key.AppendTo(make([]byte, 0, 10+len(group)+len(topic)))
}

func offsetRecord(group, topic string, c *committed) coordinator.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.TopicID = offsetValueVersion, c.topicID
	if c.expireTime >= 0 {
		v.Version = offsetExpiresVersion
	}
	v.Offset, v.LeaderEpoch, v.Metadata = int64(c.offset), int32(c.leaderEpoch), c.metadata
	v.CommitTimestamp, v.ExpireTimestamp = c.commitTime, c.expireTime
	return coordinator.Record{
		Key:   offsetKey(group, topic, c.partition),
		Value: v.AppendTo(make([]byte, 0, 64+len(c.metadata))),
	}
}

func offsetTombstone(group, topic string, partition int32) coordinator.Record {
	return coordinator.Record{Key: offsetKey(group, topic, partition)}
}

// Replay folds one record of __consumer_offsets into the state.
func (m *Machine) Replay(rec coordinator.Replayed) error {
	if rec.Control {
		return nil // markers of transactions whose offsets were not taken in
	}
	if len(rec.Key) < 2 {
		return kafka.ErrInvalidRecord.With("a key of %d bytes", len(rec.Key))
	}
	switch kind := int16(binary.BigEndian.Uint16(rec.Key)); kind {
	case offsetKeyVersion0, offsetKeyVersion:
		return m.replayOffset(rec)
	case groupKeyVersion:
		return m.replayGroup(rec)
	case epochKind, partitionMetadataKind, memberKind, targetEpochKind, targetKind, positionKind, regexKind:
		return m.replayConsumer(kind, rec)
	default: // as Kafka does: what another version left behind
		m.logger.Warn("record of an unknown kind is ignored", "kind", kind, "offset", int64(rec.Offset))
		return nil
	}
}

func (m *Machine) replayOffset(rec coordinator.Replayed) error {
	key := kmsg.NewOffsetCommitKey()
	if err := key.ReadFrom(rec.Key); err != nil {
		return fmt.Errorf("key of a committed offset: %w", err)
	}
	if rec.Transactional {
		m.logger.Warn("offset committed in a transaction is ignored: transactions are not supported",
			"group", key.Group, "topic", key.Topic, "offset", int64(rec.Offset))
		return nil
	}
	if rec.Value == nil {
		m.deleteOffset(key.Group, key.Topic, key.Partition)
		return nil
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(rec.Value); err != nil {
		return fmt.Errorf("committed offset of group %s for %s-%d: %w", key.Group, key.Topic, key.Partition, err)
	}
	c := committed{
		partition: key.Partition, offset: kafka.Offset(v.Offset), leaderEpoch: kafka.NoLeaderEpoch, metadata: v.Metadata,
		commitTime: v.CommitTimestamp, expireTime: -1, topicID: v.TopicID,
	}
	if v.Version >= 3 {
		c.leaderEpoch = kafka.LeaderEpoch(v.LeaderEpoch)
	}
	if v.Version == offsetExpiresVersion {
		c.expireTime = v.ExpireTimestamp
	}
	if m.groups[key.Group] == nil {
		m.create(key.Group, c.commitTime).implied = true
	}
	m.putOffset(key.Group, key.Topic, c)
	return nil
}

func (m *Machine) replayGroup(rec coordinator.Replayed) error {
	key := kmsg.NewGroupMetadataKey()
	if err := key.ReadFrom(rec.Key); err != nil {
		return fmt.Errorf("key of a group: %w", err)
	}
	if rec.Value == nil {
		delete(m.groups, key.Group)
		return nil
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(rec.Value); err != nil {
		return fmt.Errorf("metadata of group %s: %w", key.Group, err)
	}
	g := newClassic(key.Group, v.CurrentStateTimestamp)
	g.protocolType, g.protocol, g.generation = v.ProtocolType, v.Protocol, v.Generation
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	name := ""
	if v.Protocol != nil {
		name = *v.Protocol
	}
	for i := range v.Members {
		row := &v.Members[i]
		if g.byID[row.MemberID] != nil { // nobody writes that; the first one counts
			continue
		}
		mb := &member{
			id: row.MemberID, instance: row.InstanceID, clientID: row.ClientID, clientHost: row.ClientHost,
			rebalanceTimeout: row.RebalanceTimeoutMillis, sessionTimeout: row.SessionTimeoutMillis,
			protocolType: v.ProtocolType, protocols: []protocol{{name, append([]byte(nil), row.Subscription...)}},
			assignment: append([]byte(nil), row.Assignment...),
		}
		if mb.rebalanceTimeout == -1 {
			mb.rebalanceTimeout = mb.sessionTimeout
		}
		g.add(mb)
		g.state = Stable
	}
	g.unled = v.Leader == nil
	if g.byID[g.leader] == nil {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
	g.subscribed = g.subscriptions()
	m.groups[key.Group] = g
	return nil
}
