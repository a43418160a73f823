package grouplog

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Log is one partition of __consumer_offsets, as far as it was read.
type Log struct {
	Groups map[string]*Group
	Gaps   int      // stretches that were compacted away before they were read
	Topic  [16]byte // ID of the topic that groups commit offsets of, where members have others too; zero where not
	Name   string   // of that topic
	next   int64
	left   string // the classic group that the record before took out of the log: it must have become a consumer group
	judge  func(group string) bool
	fail   func(format string, args ...any)
}

// New makes a log of which nothing was read. Groups for which judge is false are passed over; fail is called for each violation.
func New(judge func(group string) bool, fail func(format string, args ...any)) *Log {
	return &Log{Groups: map[string]*Group{}, judge: judge, fail: fail}
}

// Group is a group as of the record that was read last: a classic one while Classic, else one under KIP-848. It may change from one to
// the other and back; generations and epochs go on then, unless it was empty.
type Group struct {
	Sure       bool // nothing that matters was compacted away unread
	Classic    bool
	Migrations int                            // with members
	Generation int32                          // of the classic group, or the epoch
	Members    map[string]*Member             // classic: of that generation, by ID
	Owned      map[string]*Assignment         // KIP-848: by member ID
	Clients    map[string]string              // KIP-848: client IDs by member ID
	Offsets    map[int32]int64                // committed, by partition
	Given      map[int32]map[string][]int32   // classic: by generation and member ID
	Had        map[int32]map[string][][]int32 // KIP-848: by member epoch and member ID, one after the other

	instances map[string]string // KIP-848: by member ID
	owners    map[grant]string  // who ever was given a partition in a generation or epoch: the group.instance.id, or the member ID
}

// grant is that a partition was given to somebody in a generation, or epoch.
type grant struct {
	topic     [16]byte // zero for the one that offsets are committed of
	partition int32
	since     int32
}

// Member is a member of a classic group's generation.
type Member struct {
	ClientID   string
	Partitions []int32
}

// Assignment is what a member under KIP-848 has, or gives up and has not released.
type Assignment struct {
	Epoch      int32
	Partitions []int32
	Given      []int32         // of them those that it need not give up
	Since      map[int32]int32 // the epoch in which it got each
	Others     []Other         // of other topics than Log.Topic
}

// Other is a partition of another topic.
type Other struct {
	Topic     [16]byte
	Partition int32
	Since     int32
}

// Allows tells whether a commit under an epoch is one of who has the partition: that is so from the epoch in which the member
// got it (KIP-1251).
func (a *Assignment) Allows(partition, epoch int32) bool {
	since, has := a.Since[partition]
	return has && since <= epoch && epoch <= a.Epoch
}

func (a *Assignment) String() string {
	if a == nil {
		return "none"
	}
	return fmt.Sprintf("in epoch %d with partitions %v", a.Epoch, a.Partitions)
}

// Commit is a record with a committed offset; Offset is -1 for one that is gone.
type Commit struct {
	Group     string
	State     *Group // at that record
	At        int64  // its offset in the log
	Topic     string
	Partition int32
	Offset    int64
	Before    int64 // the offset that was committed before; -1 for none
	Metadata  string
}

// Record judges the next record, whose offset is at; the commit if it is one of a group that is judged.
func (l *Log) Record(at int64, key, value []byte) *Commit {
	if at != l.next {
		l.Gaps++
		for _, g := range l.Groups {
			g.Sure = false
			clear(g.Owned)
		}
	}
	gap := at != l.next
	l.next = at + 1
	if len(key) < 2 {
		l.fail("the key of record %d has %d bytes", at, len(key))
		return nil
	}
	kind := binary.BigEndian.Uint16(key)
	if left := l.left; left != "" && !gap && (kind < 3 || (&fields{rest: key[2:]}).short() != left) {
		l.fail("invariant 15: group %s is gone at offset %d of the coordinator's log, and nobody asked for that", left, at-1)
	}
	l.left = ""
	switch kind {
	case 0, 1:
		return l.offset(at, key, value)
	case 2:
		l.generation(at, key, value)
	case 3:
		l.epoch(at, key, value)
	case 5:
		l.member(at, key, value)
	case 8:
		l.assignment(at, key, value)
	}
	return nil
}

func (l *Log) group(id string) *Group {
	g := l.Groups[id]
	if g == nil {
		g = &Group{Sure: l.Gaps == 0, Members: map[string]*Member{}, Owned: map[string]*Assignment{}, Clients: map[string]string{}, Offsets: map[int32]int64{}, Given: map[int32]map[string][]int32{}, Had: map[int32]map[string][][]int32{}, instances: map[string]string{}, owners: map[grant]string{}}
		l.Groups[id] = g
	}
	return g
}

func (l *Log) offset(at int64, key, value []byte) *Commit {
	k, v := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
	if err := k.ReadFrom(key); err != nil {
		l.fail("the key of record %d: %v", at, err)
		return nil
	}
	if !l.judge(k.Group) {
		return nil
	}
	c := &Commit{Group: k.Group, State: l.group(k.Group), At: at, Topic: k.Topic, Partition: k.Partition, Offset: -1, Before: -1}
	if before, ok := c.State.Offsets[k.Partition]; ok {
		c.Before = before
	}
	if value == nil {
		delete(c.State.Offsets, k.Partition)
		return c
	}
	if err := v.ReadFrom(value); err != nil {
		l.fail("the committed offset of record %d: %v", at, err)
		return nil
	}
	c.Offset, c.Metadata = v.Offset, v.Metadata
	c.State.Offsets[k.Partition] = v.Offset
	return c
}

// generation judges the record of a classic group: one owner for each partition, and generations grow (16).
func (l *Log) generation(at int64, key, value []byte) {
	k, v := kmsg.NewGroupMetadataKey(), kmsg.NewGroupMetadataValue()
	if err := k.ReadFrom(key); err != nil {
		l.fail("the key of record %d: %v", at, err)
		return
	}
	if !l.judge(k.Group) {
		return
	}
	g := l.group(k.Group)
	if value == nil {
		l.leaveClassic(g, k.Group)
		return
	}
	if err := v.ReadFrom(value); err != nil {
		l.fail("group %s at offset %d of the coordinator's log: %v", k.Group, at, err)
		return
	}
	if v.Generation < g.Generation {
		l.fail("invariant 16: group %s goes back from generation %d to %d at offset %d of the coordinator's log", k.Group, g.Generation, v.Generation, at)
	}
	if len(g.Owned) > 0 {
		g.Migrations++
	}
	g.Sure, g.Classic, g.Generation = true, true, v.Generation
	clear(g.Members)
	owners := map[int32]string{}
	for _, row := range v.Members {
		owned, err := Assigned(row.Assignment, l.Name)
		if err != nil {
			l.fail("the assignment of %s in group %s at offset %d of the coordinator's log: %v", row.MemberID, k.Group, at, err)
		}
		for _, p := range owned {
			if owners[p] != "" {
				l.fail("invariant 16: generation %d of group %s gives partition %d to %s and %s", v.Generation, k.Group, p, owners[p], row.MemberID)
			}
			owners[p] = row.MemberID
		}
		g.Members[row.MemberID] = &Member{row.ClientID, owned}
		if g.Given[v.Generation] == nil {
			g.Given[v.Generation] = map[string][]int32{}
		}
		g.Given[v.Generation][row.MemberID] = owned
		owner := row.MemberID
		if row.InstanceID != nil {
			owner = *row.InstanceID
		}
		for _, p := range owned {
			l.grant(at, k.Group, g, grant{partition: p, since: v.Generation}, owner)
		}
	}
}

// grant judges that somebody has a partition since a generation or epoch: nobody else was given it in the same one (16), whatever kind of
// group it was then. A static member's successor is the same owner; the epoch 0 stands for whatever such a successor finds.
func (l *Log) grant(at int64, group string, g *Group, what grant, owner string) {
	if what.since <= 0 {
		return
	}
	if before, ok := g.owners[what]; ok && before != owner {
		l.fail("invariant 16: at offset %d of the coordinator's log %s of group %s has partition %d of %x since epoch %d, and %s had it in that epoch", at, owner,
			group, what.partition, what.topic, what.since, before)
	}
	g.owners[what] = owner
}

// leaveClassic is that the record of a classic group is gone: the group is one under KIP-848 from now on. An empty one begins anew.
func (l *Log) leaveClassic(g *Group, id string) {
	if g.Classic && len(g.Members) > 0 {
		g.Migrations++
	}
	if len(g.Owned) == 0 {
		if g.Sure && len(g.Members) > 0 {
			l.fail("invariant 15: the members of group %s, %v, are lost", id, slices.Sorted(maps.Keys(g.Members)))
		}
		g.restart()
		l.left = id
	}
	g.Classic = false
	clear(g.Members)
}

// restart forgets the generations of a group that is made anew.
func (g *Group) restart() {
	g.Generation = 0
	clear(g.owners)
}

// epoch judges the epoch of a consumer group: it grows (16).
func (l *Log) epoch(at int64, key, value []byte) {
	id, epoch, err := readEpoch(key, value)
	if err != nil {
		l.fail("record %d: %v", at, err)
		return
	}
	if !l.judge(id) {
		return
	}
	g := l.group(id)
	if value == nil {
		clear(g.Owned)
		if !g.Classic {
			g.restart()
		}
		return
	}
	if epoch < g.Generation {
		l.fail("invariant 16: group %s goes back from epoch %d to %d at offset %d of the coordinator's log", id, g.Generation, epoch, at)
	}
	g.Generation = epoch
}

// Assigned reads a member's assignment of the protocol type "consumer": the partitions of a topic, or of all where that is empty. An empty
// assignment is none.
func Assigned(assignment []byte, topic string) ([]int32, error) {
	if len(assignment) == 0 {
		return nil, nil
	}
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(assignment); err != nil {
		return nil, err
	}
	var partitions []int32
	for _, t := range a.Topics {
		if topic == "" || t.Topic == topic {
			partitions = append(partitions, t.Partitions...)
		}
	}
	slices.Sort(partitions)
	return partitions, nil
}

// member remembers the client ID of a member of a consumer group.
func (l *Log) member(at int64, key, value []byte) {
	group, member, instance, client, err := readMember(key, value)
	if err != nil {
		l.fail("record %d: %v", at, err)
		return
	}
	if l.judge(group) && value != nil {
		g := l.group(group)
		g.Clients[member], g.instances[member] = client, instance
	}
}

// assignment judges what a member under KIP-848 has: nobody else has it, or has yet to release it; its epoch grows (16).
func (l *Log) assignment(at int64, key, value []byte) {
	group, member, now, err := readAssignment(key, value, l.Topic)
	if err != nil {
		l.fail("record %d: %v", at, err)
		return
	}
	if !l.judge(group) {
		return
	}
	g := l.group(group)
	if now == nil {
		delete(g.Owned, member)
		return
	}
	if before := g.Owned[member]; before != nil && now.Epoch > 0 && now.Epoch < before.Epoch {
		l.fail("invariant 16: member %s of group %s goes back from epoch %d to %d at offset %d of the coordinator's log", member, group, before.Epoch, now.Epoch, at)
	}
	for _, other := range slices.Sorted(maps.Keys(g.Owned)) {
		for _, p := range g.Owned[other].Partitions {
			if other != member && slices.Contains(now.Partitions, p) {
				l.fail("invariant 16: at offset %d of the coordinator's log member %s of group %s has partition %d, and %s is %v", at, member, group, p, other, g.Owned[other])
			}
		}
		for _, o := range g.Owned[other].Others {
			if other != member && slices.ContainsFunc(now.Others, func(n Other) bool { return n.Topic == o.Topic && n.Partition == o.Partition }) {
				l.fail("invariant 16: at offset %d of the coordinator's log member %s of group %s has partition %d of topic %x, and so has %s", at, member, group, o.Partition, o.Topic, other)
			}
		}
	}
	g.Owned[member] = now
	owner := g.instances[member]
	if owner == "" {
		owner = member
	}
	for _, p := range now.Partitions {
		l.grant(at, group, g, grant{partition: p, since: now.Since[p]}, owner)
	}
	for _, o := range now.Others {
		l.grant(at, group, g, grant{o.Topic, o.Partition, o.Since}, owner)
	}
	if g.Had[now.Epoch] == nil {
		g.Had[now.Epoch] = map[string][][]int32{}
	}
	g.Had[now.Epoch][member] = append(g.Had[now.Epoch][member], now.Given)
}
