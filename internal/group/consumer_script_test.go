package group

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// runConsumer runs the commands for consumer groups.
func (s *script) runConsumer(d *datadriven.TestData, group string) bool {
	a := args{d}
	switch d.Cmd {
	case "topics": // topics t:4 u:2; the ID of a topic is its first letter, unless t:4:9 says 9
		s.setTopics(d)
	case "hb":
		s.consumerHeartbeat(a, group)
	case "describe-consumer":
		s.describeConsumer(s.m.ConsumerDescribe(group))
	case "fetch-as":
		s.result(s.m.ValidateFetch(group, a.opt("member"), int32(a.num("epoch", -1))))
	case "waits":
		v, _ := s.m.View(group, s.now)
		fmt.Fprintf(&s.out, "%s epoch=%d %s %q\n", v.State, v.Epoch, v.Protocol, v.WaitsFor)
	case "policy":
		s.policy(a)
	default:
		return false
	}
	return true
}

func (s *script) policy(a args) {
	old := s.limits.consumer("g")
	old.MaxSize = a.num("size", old.MaxSize)
	old.MigrationPolicy = a.str("migration", old.MigrationPolicy)
	if v := a.vals("assignors"); v != nil {
		old.Assignors = v
	}
	s.limits.Consumer = func(string) ConsumerLimits { return old }
}

func (s *script) setTopics(d *datadriven.TestData) {
	next := &fakeTopics{topics: map[string]fakeTopic{}}
	if s.topics != nil {
		next.offset = s.topics.offset + 1
	}
	for _, arg := range d.CmdArgs {
		f := strings.Split(arg.Key, ":")
		n, _ := strconv.Atoi(f[1])
		id := kafka.TopicID{f[0][0]}
		if len(f) > 2 {
			id[0] = f[2][0]
		}
		next.topics[f[0]] = fakeTopic{id, n}
	}
	s.topics = next
	s.m.TopicsChanged(nil)
}

// topicPartitions reads t-0 or t-0+t-1; the topic is an ID's first letter.
func topicPartitions(list []string) map[byte][]int32 {
	out := map[byte][]int32{}
	for _, x := range list {
		topic, p, ok := strings.Cut(x, "-")
		if !ok {
			continue
		}
		n, _ := strconv.Atoi(p)
		out[topic[0]] = append(out[topic[0]], int32(n))
	}
	return out
}

func (s *script) consumerHeartbeat(a args, group string) {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch = int16(a.num("v", 1)), group, a.str("member", ""), int32(a.num("epoch", 0))
	r.InstanceID, r.RackID, r.SubscribedTopicRegex, r.ServerAssignor = a.opt("instance"), a.opt("rack"), a.opt("regex"), a.opt("assignor")
	full := a.HasArg("full") || r.MemberEpoch == 0
	if full {
		r.RebalanceTimeoutMillis, r.Topics = 60_000, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if r.SubscribedTopicRegex == nil {
			r.SubscribedTopicNames = []string{"t"}
		}
	}
	r.RebalanceTimeoutMillis = int32(a.num("rebalance", int(r.RebalanceTimeoutMillis)))
	if a.HasArg("topics") {
		r.SubscribedTopicNames = append([]string{}, a.vals("topics")...)
	}
	if a.HasArg("no-topics") {
		r.SubscribedTopicNames = nil
	}
	if a.HasArg("owned") {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for topic, partitions := range topicPartitions(a.vals("owned")) {
			t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			t.TopicID[0], t.Partitions = topic, partitions
			r.Topics = append(r.Topics, t)
		}
	}
	if a.HasArg("not-owned") {
		r.Topics = nil
	}
	s.do(func(tx *coordinator.Tx) {
		resp, err := s.m.ConsumerHeartbeat(tx, &ConsumerHeartbeatRequest{
			ConsumerGroupHeartbeatRequest: r, ClientID: a.str("client", "c"), ClientHost: "/h",
		})
		if err != nil {
			s.result(err)
			return
		}
		fmt.Fprintf(&s.out, "%s epoch=%d", *resp.MemberID, resp.MemberEpoch)
		if resp.Assignment != nil {
			s.out.WriteString(" assigned")
			for _, t := range resp.Assignment.Topics {
				fmt.Fprintf(&s.out, " %c%v", t.TopicID[0], t.Partitions)
			}
		}
		s.out.WriteString("\n")
	})
}

func (s *script) describeConsumer(g kmsg.ConsumerGroupDescribeResponseGroup) {
	fmt.Fprintf(&s.out, "%s %s epoch=%d target=%d assignor=%s %s\n", errName(g.ErrorCode), g.State, g.Epoch, g.AssignmentEpoch, g.AssignorName,
		str(g.ErrorMessage))
	print := func(a kmsg.Assignment) (out string) {
		for _, t := range a.TopicPartitions {
			out += fmt.Sprintf(" %s%v", t.Topic, t.Partitions)
		}
		return out
	}
	for _, m := range g.Members {
		fmt.Fprintf(&s.out, "  %s instance=%s rack=%s epoch=%d %s%s type=%d topics=%v regex=%q assigned%s target%s\n", m.MemberID, str(m.InstanceID),
			str(m.RackID), m.MemberEpoch, m.ClientID, m.ClientHost, m.MemberType, m.SubscribedTopics, *m.SubscribedTopicRegex,
			print(m.Assignment), print(m.TargetAssignment))
	}
}

// printConsumerRecord is a record of a consumer group for people, read by replaying it.
func printConsumerRecord(rec coordinator.Record) string {
	kind := int16(binary.BigEndian.Uint16(rec.Key))
	key := fieldsOf(rec.Key[2:])
	group, name := key.String(), ""
	if len(key.Src) > 0 {
		name = " " + key.String()
	}
	what := map[int16]string{
		epochKind: "epoch", partitionMetadataKind: "topics", memberKind: "member", targetEpochKind: "target epoch", targetKind: "target",
		positionKind: "position", regexKind: "regex",
	}[kind] + " " + group + name
	if rec.Value == nil {
		return what + " tombstone"
	}
	g := newConsumerGroup(group)
	f := valueOf(rec.Value)
	name = strings.TrimSpace(name)
	apply := g.read(kind, name, f)
	if err := f.done(); err != nil {
		return what + ": " + err.Error()
	}
	apply()
	switch kind {
	case epochKind:
		return fmt.Sprintf("%s %d hashed=%v", what, g.epoch, g.hash != 0)
	case targetEpochKind:
		return fmt.Sprintf("%s %d", what, g.targetEpoch)
	case regexKind:
		r := g.regexes[name]
		return fmt.Sprintf("%s %v version=%d at=%d", what, r.topics, r.version, r.time)
	case targetKind:
		return what + printAssignment(heldAt(g.targets[name], 0), false)
	case positionKind:
		mb := g.members[name]
		return fmt.Sprintf("%s epoch=%d previous=%d %s assigned%s pending%s", what, mb.epoch, mb.previousEpoch,
			[]string{"STABLE", "UNREVOKED_PARTITIONS", "UNRELEASED_PARTITIONS"}[mb.state], printAssignment(mb.assigned, true), printAssignment(mb.pending, true))
	case memberKind:
		mb := g.members[name]
		out := fmt.Sprintf("%s instance=%s rack=%s client=%s%s topics=%v regex=%q rebalance=%d assignor=%s", what, str(mb.instance), str(mb.rack),
			mb.clientID, mb.clientHost, mb.topics, mb.regex, mb.rebalanceTimeout, str(mb.assignor))
		if mb.classic != nil {
			names := make([]string, 0, len(mb.classic.protocols))
			for _, p := range mb.classic.protocols {
				names = append(names, p.name)
			}
			out += fmt.Sprintf(" classic session=%d %s", mb.classic.sessionTimeout, strings.Join(names, ","))
		}
		return out
	}
	return what
}

func printAssignment(h held, epochs bool) (out string) {
	for _, t := range h {
		rows := make([]string, len(t.partitions))
		for i, p := range t.partitions {
			rows[i] = strconv.Itoa(int(p))
			if epochs {
				rows[i] += fmt.Sprintf("@%d", t.epochs[i])
			}
		}
		out += fmt.Sprintf(" %c%v", t.topic[0], rows)
	}
	return out
}

func isConsumerRecord(rec coordinator.Record) bool {
	kind := int16(binary.BigEndian.Uint16(rec.Key))
	return slices.Contains([]int16{epochKind, partitionMetadataKind, memberKind, targetEpochKind, targetKind, positionKind, regexKind}, kind)
}

// ownedSubscription is a subscription of version 3 that says what the member has, by topics' names.
func ownedSubscription(topics, owned []string) []byte {
	sub := kmsg.NewConsumerMemberMetadata()
	sub.Version, sub.Topics = 3, topics
	for topic, partitions := range topicPartitions(owned) {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = string(topic), partitions
		sub.OwnedPartitions = append(sub.OwnedPartitions, o)
	}
	return sub.AppendTo(nil)
}

// assignmentBytes is a consumer's assignment where it is written as @t-0+t-1, else the text itself.
func assignmentBytes(what string) []byte {
	list, ok := strings.CutPrefix(what, "@")
	if !ok {
		return []byte(what)
	}
	a := kmsg.NewConsumerMemberAssignment()
	for topic, partitions := range topicPartitions(strings.Split(list, "+")) {
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic, t.Partitions = string(topic), partitions
		a.Topics = append(a.Topics, t)
	}
	if strings.Contains(list, "!") { // what a custom assignor may add
		a.UserData = []byte("user")
	}
	return a.AppendTo(nil)
}

// printAssigned reads what assignmentBytes writes.
func printAssigned(b []byte) string {
	a := kmsg.NewConsumerMemberAssignment()
	if len(b) < 10 || a.ReadFrom(b) != nil || len(a.Topics) == 0 {
		return fmt.Sprintf("%q", b)
	}
	var rows []string
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			rows = append(rows, fmt.Sprintf("%s-%d", t.Topic, p))
		}
	}
	return fmt.Sprintf("v%d %s", a.Version, strings.Join(rows, " "))
}
