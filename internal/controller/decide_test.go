package controller

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// world drives decide from a data file: each command is decided on the image so far, its records are printed and applied.
//
// The commands: register, unregister, fence, unfence, state, create (one topic a line), delete, add-partitions, config, isr,
// assign, elect, balance, widen, producer-ids, limits, damaged, leased, show. Topic IDs are given as numbers, partitions of state and
// damaged as topic/partition.
type world struct {
	s state
}

func TestDecide(t *testing.T) {
	datadriven.Walk(t, "testdata/decide", func(t *testing.T, path string) {
		w := &world{s: state{image: metadata.Empty(), defaults: Defaults{Partitions: 1},
			limits: Limits{PartitionsPerRequest: 10_000, Partitions: 200_000}}}
		datadriven.RunTest(t, path, w.run)
	})
}

func topicID(n int) (id kafka.TopicID) {
	id[0], id[15] = byte(n), 0xff
	return id
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	var command any
	validateOnly := d.HasArg("validate")
	switch d.Cmd {
	case "show":
		return w.show()
	case "limits":
		d.MaybeScanArgs(t, "request", &w.s.limits.PartitionsPerRequest)
		d.MaybeScanArgs(t, "cluster", &w.s.limits.Partitions)
		return ""
	case "damaged", "leased":
		return w.heard(t, d)
	case "create":
		command = createTopics{topics: parseTopics(t, d)}
	default:
		command = w.parse(t, d)
	}
	before := w.s.image
	dec, err := decide(w.s, command)
	if again, _ := decide(w.s, command); fmt.Sprint(recordLines(again.records)) != fmt.Sprint(recordLines(dec.records)) {
		t.Fatalf("%s: deciding twice gives other records", d.Pos)
	}
	if w.s.image != before {
		t.Fatalf("%s: decide changed its input", d.Pos)
	}
	if err != nil {
		return err.Error() + "\n"
	}
	e := &pb.Entry{Records: dec.records}
	if data, err := metadata.EncodeEntry(e); err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	} else if _, err := metadata.DecodeEntry(data); err != nil {
		t.Fatalf("%s: %v", d.Pos, err)
	}
	after, _ := w.s.image.Apply(w.s.image.Offset()+1, e)
	out := recordLines(dec.records)
	if dec.answer != nil {
		out = append(out, answerLines(dec.answer(after))...)
	}
	if !validateOnly {
		w.s.image = after
	}
	w.check(t, d)
	if len(out) == 0 {
		return "no records\n"
	}
	return strings.Join(out, "\n") + "\n"
}

// check holds what must be so whatever was decided.
func (w *world) check(t *testing.T, d *datadriven.TestData) {
	for topic := range w.s.image.Topics() {
		for p := range topic.Partitions.All() {
			in := func(ids, of []kafka.BrokerID) bool {
				return !slices.ContainsFunc(ids, func(id kafka.BrokerID) bool { return !slices.Contains(of, id) })
			}
			overlap := slices.ContainsFunc(p.ELR, func(id kafka.BrokerID) bool { return slices.Contains(p.ISR, id) })
			if !in(p.ISR, p.Replicas) || !in(p.ELR, p.Replicas) || overlap || !slices.IsSorted(p.ISR) || !slices.IsSorted(p.ELR) {
				t.Fatalf("%s: %s-%d: %+v", d.Pos, topic.Name, p.Index, p)
			}
			if p.Leader != kafka.NoLeader && (!slices.Contains(p.ISR, p.Leader) || !w.s.live(p.Leader)) {
				t.Fatalf("%s: %s-%d: the leader %d is fenced or out of sync: %+v", d.Pos, topic.Name, p.Index, p.Leader, p)
			}
			if len(p.ELR) > 0 && len(p.ISR) >= w.s.image.MinInsyncReplicas(topic, len(p.Replicas)) {
				t.Fatalf("%s: %s-%d: eligible leaders beside a full ISR: %+v", d.Pos, topic.Name, p.Index, p)
			}
		}
	}
}

func parseTopics(t *testing.T, d *datadriven.TestData) []metadata.CreateTopic {
	var topics []metadata.CreateTopic
	for line := range strings.Lines(d.Input) {
		c := metadata.CreateTopic{Partitions: -1, ReplicationFactor: -1}
		for i, field := range strings.Fields(line) {
			key, value, _ := strings.Cut(field, "=")
			switch {
			case i == 0:
				c.Name = strings.Trim(field, `"`)
			case key == "id":
				c.ID = topicID(number(t, value))
			case key == "partitions":
				c.Partitions = int32(number(t, value))
			case key == "rf":
				c.ReplicationFactor = int16(number(t, value))
			case key == "assignment":
				c.Assignment = [][]kafka.BrokerID{}
				for part := range strings.SplitSeq(value, ";") {
					c.Assignment = append(c.Assignment, brokers(t, part))
				}
			case key == "internal":
				c.Internal = true
			default:
				if c.Config == nil {
					c.Config = map[string]string{}
				}
				c.Config[key] = value
			}
		}
		topics = append(topics, c)
	}
	return topics
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func brokers(t *testing.T, s string) (ids []kafka.BrokerID) {
	for part := range strings.SplitSeq(s, ",") {
		if part != "" {
			ids = append(ids, kafka.BrokerID(number(t, part)))
		}
	}
	return ids
}

func (w *world) parse(t *testing.T, d *datadriven.TestData) any {
	var broker, id, partition, base, leaderEpoch, count, incarnation int
	var rack, text, topic, isr, key, value, remove string
	directory := -1
	for name, into := range map[string]*int{"broker": &broker, "id": &id, "partition": &partition, "leader-epoch": &leaderEpoch,
		"count": &count, "inc": &incarnation, "dir": &directory} {
		d.MaybeScanArgs(t, name, into)
	}
	for name, into := range map[string]*string{"rack": &rack, "topic": &topic, "isr": &isr, "key": &key, "value": &value,
		"remove": &remove, "replicas": &text, "assignment": &text, "settled": &text} {
		d.MaybeScanArgs(t, name, into)
	}
	if directory < 0 {
		directory = broker
	}
	tp := kafka.TopicPartition{Topic: topicID(id), Partition: int32(partition)}
	if !d.MaybeScanArgs(t, "base", &base) {
		if p := w.s.image.Partition(tp); p != nil {
			base = int(p.PartitionEpoch)
		}
	}
	switch d.Cmd {
	case "register":
		return metadata.RegisterBroker{ID: kafka.BrokerID(broker), Incarnation: [16]byte{byte(incarnation)},
			Directory: [16]byte{byte(directory)}, Rack: rack, Unclean: d.HasArg("unclean")}
	case "unregister":
		return unregisterBroker{kafka.BrokerID(broker)}
	case "fence", "unfence":
		return fenceBroker{id: kafka.BrokerID(broker), fenced: d.Cmd == "fence"}
	case "delete":
		return deleteTopic{id: topicID(id)}
	case "add-partitions":
		c := metadata.CreatePartitions{Topic: topic, Count: int32(count)}
		if d.HasArg("assignment") {
			for part := range strings.SplitSeq(text, ";") {
				c.Assignment = append(c.Assignment, brokers(t, part))
			}
		}
		return c
	case "config":
		return parseConfig(t, d, topic, key, value, remove, base)
	case "isr":
		c := metadata.UpdateISR{Partition: tp, LeaderEpoch: kafka.LeaderEpoch(leaderEpoch), Base: kafka.PartitionEpoch(base)}
		for part := range strings.SplitSeq(isr, ",") {
			member, epoch, given := strings.Cut(part, "@")
			m := metadata.ISRMember{Broker: kafka.BrokerID(number(t, member))}
			if given {
				m.Epoch = kafka.BrokerEpoch(number(t, epoch))
			} else if b := w.s.image.Broker(m.Broker); b != nil {
				m.Epoch = b.Epoch
			}
			c.ISR = append(c.ISR, m)
		}
		return c
	case "assign":
		return metadata.AssignPartition{Partition: tp, Replicas: brokers(t, text), Base: kafka.PartitionEpoch(base)}
	case "elect":
		leader := kafka.BrokerID(broker)
		if !d.HasArg("broker") {
			leader = kafka.NoLeader
		}
		return metadata.SetPartitionLeader{Partition: tp, Leader: leader, Base: kafka.PartitionEpoch(base), Unclean: d.HasArg("unclean")}
	case "producer-ids":
		return allocateProducerIDs{}
	case "state":
		return parseState(t, d, kafka.BrokerID(broker))
	case "balance":
		return balanceLeaders{settled: brokers(t, text), max: count}
	case "widen":
		return widenTopics{settled: brokers(t, text), max: count}
	}
	t.Fatalf("%s: no command %s", d.Pos, d.Cmd)
	return nil
}

// heard sets what heartbeats have told.
func (w *world) heard(t *testing.T, d *datadriven.TestData) string {
	var broker int
	d.ScanArgs(t, "broker", &broker)
	id := kafka.BrokerID(broker)
	if d.Cmd == "leased" {
		w.s.leased = map[kafka.BrokerID]bool{id: !d.HasArg("no")}
		return ""
	}
	all := damages{id: {}}
	for of, partitions := range w.s.damaged {
		if of != id {
			all[of] = partitions
		}
	}
	for _, tp := range partitions(t, d, "partitions") {
		all[id][tp] = true
	}
	w.s.damaged = all
	return ""
}

// partitions reads topic/partition,…
func partitions(t *testing.T, d *datadriven.TestData, name string) (all []kafka.TopicPartition) {
	var text string
	d.MaybeScanArgs(t, name, &text)
	for part := range strings.SplitSeq(text, ",") {
		if topic, index, ok := strings.Cut(part, "/"); ok {
			all = append(all, kafka.TopicPartition{Topic: topicID(number(t, topic)), Partition: int32(number(t, index))})
		}
	}
	return all
}

func parseState(t *testing.T, d *datadriven.TestData, id kafka.BrokerID) brokerState {
	c := brokerState{id: id, epoch: anyEpoch, damaged: partitions(t, d, "damaged")}
	var epoch int
	if d.MaybeScanArgs(t, "epoch", &epoch) {
		c.epoch = kafka.BrokerEpoch(epoch)
	}
	for name, into := range map[string]*change3{"fenced": &c.fenced, "shutting-down": &c.shuttingDown, "slow": &c.slow} {
		var text string
		if d.MaybeScanArgs(t, name, &text) {
			*into = map[string]change3{"set": set, "unset": unset}[text]
		}
	}
	return c
}

func parseConfig(t *testing.T, d *datadriven.TestData, topic, key, value, remove string, base int) any {
	c := metadata.SetConfig{Resource: metadata.Resource{Type: metadata.TopicResource, Name: topic}, Values: map[string]*string{},
		Replace: d.HasArg("replace"), Base: metadata.Offset(base)}
	for name, typ := range map[string]metadata.ResourceType{"brokers": metadata.BrokerResource, "group": metadata.GroupResource} {
		if d.HasArg(name) {
			c.Resource = metadata.Resource{Type: typ}
			for _, arg := range d.CmdArgs {
				if arg.Key == name && len(arg.Vals) > 0 {
					c.Resource.Name = arg.Vals[0]
				}
			}
		}
	}
	if d.HasArg("type") {
		var n int
		d.ScanArgs(t, "type", &n)
		c.Resource.Type = metadata.ResourceType(n)
	}
	if d.HasArg("key") {
		c.Values[key] = &value
	}
	if remove != "" {
		c.Values[remove] = nil
	}
	return c
}

func recordLines(records []*pb.Record) []string {
	var lines []string
	for _, r := range records {
		lines = append(lines, recordLine(r)+" # "+r.GetReason())
	}
	return lines
}

func recordLine(r *pb.Record) string {
	switch k := r.GetKind().(type) {
	case *pb.Record_TopicCreated:
		line := fmt.Sprintf("topic-created %s id=%d", k.TopicCreated.GetName(), k.TopicCreated.GetId()[0])
		for _, c := range k.TopicCreated.GetConfig() {
			line += fmt.Sprintf(" %s=%s", c.GetKey(), c.GetValue())
		}
		for i, p := range k.TopicCreated.GetPartitions() {
			line += fmt.Sprintf("\n  %d: %s", i, partitionLine(p))
		}
		return line
	case *pb.Record_TopicDeleted:
		return fmt.Sprintf("topic-deleted id=%d", k.TopicDeleted.GetId()[0])
	case *pb.Record_PartitionChanged:
		m := k.PartitionChanged
		line := fmt.Sprintf("partition-changed id=%d partition=%d", m.GetTopicId()[0], m.GetIndex())
		if m.GetWhole() != nil {
			line += " new " + partitionLine(m.GetWhole())
		}
		if m.GetReplicas() != nil {
			line += fmt.Sprint(" replicas=", m.GetReplicas().GetIds())
		}
		if m.GetIsr() != nil {
			line += fmt.Sprint(" isr=", m.GetIsr().GetIds())
		}
		if m.GetElr() != nil {
			line += fmt.Sprint(" elr=", m.GetElr().GetIds())
		}
		if m.LeaderPlusOne != nil {
			line += fmt.Sprint(" leader=", m.GetLeaderPlusOne()-1)
		}
		if m.GetNextLeaderEpoch() {
			line += " next-leader-epoch"
		}
		return line
	case *pb.Record_ConfigChanged:
		line := fmt.Sprintf("config-changed type=%d name=%s", k.ConfigChanged.GetResourceType(), k.ConfigChanged.GetResourceName())
		for _, c := range k.ConfigChanged.GetSet() {
			line += fmt.Sprintf(" %s=%s", c.GetKey(), c.GetValue())
		}
		for _, key := range k.ConfigChanged.GetRemoved() {
			line += " -" + key
		}
		return line
	case *pb.Record_BrokerRegistered:
		return fmt.Sprintf("broker-registered %d rack=%q fenced=%v", k.BrokerRegistered.GetId(), k.BrokerRegistered.GetRack(), k.BrokerRegistered.GetFenced())
	case *pb.Record_BrokerFencing:
		return fmt.Sprintf("broker-fencing %d fenced=%v shutting-down=%v slow=%v", k.BrokerFencing.GetId(), k.BrokerFencing.GetFenced(),
			k.BrokerFencing.GetInControlledShutdown(), k.BrokerFencing.GetSlow())
	case *pb.Record_BrokerRemoved:
		return fmt.Sprintf("broker-removed %d", k.BrokerRemoved.GetId())
	case *pb.Record_LeaderEpochsRaised:
		return fmt.Sprintf("leader-epochs-raised broker=%d", k.LeaderEpochsRaised.GetBroker())
	case *pb.Record_ProducerIdsAllocated:
		return fmt.Sprintf("producer-ids-allocated next=%d", k.ProducerIdsAllocated.GetNext())
	}
	return fmt.Sprintf("%v", r)
}

func partitionLine(p *pb.Partition) string {
	return fmt.Sprintf("replicas=%v isr=%v leader=%d", p.GetReplicas(), p.GetIsr(), p.GetLeaderPlusOne()-1)
}

func answerLines(answer any) []string {
	results, ok := answer.([]metadata.CreateTopicResult)
	if !ok {
		return []string{fmt.Sprintf("answer %v", answer)}
	}
	var lines []string
	for _, r := range results {
		if r.Err != nil {
			lines = append(lines, r.Err.Error())
		} else {
			lines = append(lines, fmt.Sprintf("answer %s id=%d partitions=%d", r.Topic.Name, r.Topic.ID[0], r.Topic.Partitions.Len()))
		}
	}
	return lines
}

func (w *world) show() string {
	var out strings.Builder
	for topic := range w.s.image.Topics() {
		for p := range topic.Partitions.All() {
			fmt.Fprintf(&out, "%s-%d replicas=%v isr=%v elr=%v leader=%d leader-epoch=%d partition-epoch=%d\n",
				topic.Name, p.Index, p.Replicas, p.ISR, p.ELR, p.Leader, p.LeaderEpoch, p.PartitionEpoch)
		}
	}
	return out.String()
}
