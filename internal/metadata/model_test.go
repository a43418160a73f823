package metadata

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
)

// model folds records the naive way: mutable maps, nothing shared.
type model struct {
	offset  int64
	nextID  int64
	topics  map[string]*modelTopic // by the ID's bytes
	brokers map[int32]string
	configs map[string]map[string]string
}

type modelTopic struct {
	name       string
	config     map[string]string
	partitions []modelPartition
}

type modelPartition struct {
	replicas, isr, elr []int32
	leader             int32
	leaderEpoch, epoch int32
	history            []string
}

func (m *model) apply(offset int64, e *pb.Entry) {
	m.offset = offset
	for _, r := range e.GetRecords() {
		m.record(e, r)
	}
}

func (p *modelPartition) note(offset int64, e *pb.Entry, r *pb.Record) {
	p.history = append(p.history, fmt.Sprint(offset, e.GetTimeMs(), r.GetReason(), p.leader, p.leaderEpoch, p.isr))
	if len(p.history) > 8 {
		p.history = p.history[1:]
	}
}

func (m *model) record(e *pb.Entry, r *pb.Record) {
	whole := func(w *pb.Partition) modelPartition {
		p := modelPartition{replicas: w.Replicas, isr: w.Isr, elr: w.Elr, leader: w.LeaderPlusOne - 1, leaderEpoch: w.LeaderEpoch, epoch: w.PartitionEpoch}
		p.note(m.offset, e, r)
		return p
	}
	switch {
	case r.GetTopicCreated() != nil:
		c := r.GetTopicCreated()
		for _, t := range m.topics {
			if t.name == c.Name {
				return
			}
		}
		if m.topics[string(c.Id)] != nil {
			return
		}
		t := &modelTopic{name: c.Name, config: map[string]string{}}
		for _, kv := range c.Config {
			t.config[kv.Key] = kv.Value
		}
		for _, w := range c.Partitions {
			t.partitions = append(t.partitions, whole(w))
		}
		m.topics[string(c.Id)] = t
	case r.GetTopicDeleted() != nil:
		delete(m.topics, string(r.GetTopicDeleted().Id))
	case r.GetPartitionChanged() != nil:
		c := r.GetPartitionChanged()
		t := m.topics[string(c.TopicId)]
		switch {
		case t == nil:
		case c.Whole != nil && int(c.Index) == len(t.partitions):
			t.partitions = append(t.partitions, whole(c.Whole))
		case c.Whole == nil && int(c.Index) < len(t.partitions):
			p := &t.partitions[c.Index]
			if c.Replicas != nil {
				p.replicas = c.Replicas.Ids
			}
			if c.Isr != nil {
				p.isr = c.Isr.Ids
			}
			if c.Elr != nil {
				p.elr = c.Elr.Ids
			}
			if c.LeaderPlusOne != nil {
				p.leader = *c.LeaderPlusOne - 1
			}
			if c.NextLeaderEpoch {
				p.leaderEpoch++
			}
			p.epoch++
			p.history = slices.Clone(p.history)
			p.note(m.offset, e, r)
		}
	case r.GetLeaderEpochsRaised() != nil:
		for _, t := range m.topics {
			for i := range t.partitions {
				if p := &t.partitions[i]; p.leader == r.GetLeaderEpochsRaised().Broker {
					p.leaderEpoch++
					p.epoch++
					p.history = slices.Clone(p.history)
					p.note(m.offset, e, r)
				}
			}
		}
	case r.GetConfigChanged() != nil:
		c := r.GetConfigChanged()
		key := fmt.Sprint(c.ResourceType, "/", c.ResourceName)
		config := m.configs[key]
		if c.ResourceType == 2 {
			config = nil
			for _, t := range m.topics {
				if t.name == c.ResourceName {
					config = t.config
				}
			}
			if config == nil {
				return
			}
		} else if config == nil {
			config = map[string]string{}
			m.configs[key] = config
		}
		for _, k := range c.Removed {
			delete(config, k)
		}
		for _, kv := range c.Set {
			config[kv.Key] = kv.Value
		}
	case r.GetBrokerRegistered() != nil:
		b := r.GetBrokerRegistered()
		m.brokers[b.Id] = fmt.Sprint(m.offset, b.Rack, b.Fenced, e.GetTimeMs(), b.Incarnation[0])
	case r.GetBrokerRemoved() != nil:
		delete(m.brokers, r.GetBrokerRemoved().Id)
	case r.GetProducerIdsAllocated() != nil:
		m.nextID = max(m.nextID, r.GetProducerIdsAllocated().Next)
	}
}

func (m *model) dump() string {
	var lines []string
	partitions := 0
	for id, t := range m.topics {
		lines = append(lines, fmt.Sprintf("topic %s %x %v", t.name, id, t.config))
		for i, p := range t.partitions {
			partitions++
			lines = append(lines, fmt.Sprintf("topic %s %d %v %v %v %d %d %d %v", t.name, i, p.replicas, p.isr, p.elr, p.leader, p.leaderEpoch, p.epoch, p.history))
		}
	}
	for id, b := range m.brokers {
		lines = append(lines, fmt.Sprintf("broker %d %s", id, b))
	}
	for r, c := range m.configs {
		if len(c) > 0 {
			lines = append(lines, fmt.Sprintf("config %s %v", r, c))
		}
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d %d %d %d\n%s", m.offset, m.nextID, len(m.topics), partitions, strings.Join(lines, "\n"))
}

// dumpImage is the same text, by the image's public face.
func dumpImage(img *Image) string {
	var lines []string
	config := func(c map[string]string) map[string]string {
		if c == nil {
			return map[string]string{}
		}
		return c
	}
	for t := range img.Topics() {
		if img.Topic(t.Name) != t || img.TopicByID(t.ID) != t {
			return "topic " + t.Name + " is not found by name or ID"
		}
		lines = append(lines, fmt.Sprintf("topic %s %x %v", t.Name, t.ID[:], config(t.Config)))
		for p := range t.Partitions.All() {
			var history []string
			for _, c := range p.History {
				history = append(history, fmt.Sprint(c.Offset, c.Time.UnixMilli(), c.Reason, c.Leader, c.LeaderEpoch, c.ISR))
			}
			lines = append(lines, fmt.Sprintf("topic %s %d %v %v %v %d %d %d %v", t.Name, p.Index, p.Replicas, p.ISR, p.ELR, p.Leader, p.LeaderEpoch, p.PartitionEpoch, history))
			if img.Partition(t.TopicPartition(p.Index)) != p {
				return "a partition of " + t.Name + " is not found"
			}
		}
	}
	for b := range img.Brokers() {
		lines = append(lines, fmt.Sprintf("broker %d %s", b.ID, fmt.Sprint(int64(b.Epoch), b.Rack, b.Fenced, b.Since.UnixMilli(), b.Incarnation[0])))
	}
	for r := range img.ConfiguredResources() {
		lines = append(lines, fmt.Sprintf("config %d/%s %v", r.Type, r.Name, config(img.Config(r))))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d %d %d %d\n%s", img.Offset(), img.NextProducerID(), img.TopicCount(), img.PartitionCount(), strings.Join(lines, "\n"))
}

func randomEntry(rng *rand.Rand) *pb.Entry {
	e := &pb.Entry{Term: 1, TimeMs: rng.Int64N(1 << 40)}
	for range 1 + rng.IntN(4) {
		e.Records = append(e.Records, randomRecord(rng))
	}
	return e
}

func randomRecord(rng *rand.Rand) *pb.Record {
	id := make([]byte, 16)
	id[0] = byte(rng.IntN(12))
	name := fmt.Sprintf("t%c%d", "._-"[rng.IntN(3)], rng.IntN(8))
	list := func() []int32 {
		var l []int32
		for b := range int32(4) {
			if rng.IntN(2) == 0 {
				l = append(l, b)
			}
		}
		return l
	}
	whole := func() *pb.Partition {
		return &pb.Partition{Replicas: list(), Isr: list(), Elr: list(), LeaderPlusOne: rng.Int32N(5), LeaderEpoch: rng.Int32N(9), PartitionEpoch: rng.Int32N(9)}
	}
	r := &pb.Record{Reason: fmt.Sprint("reason ", rng.IntN(5))}
	switch rng.IntN(13) {
	case 12:
		r.Kind = &pb.Record_LeaderEpochsRaised{LeaderEpochsRaised: &pb.LeaderEpochsRaised{Broker: rng.Int32N(5)}}
	case 0, 1:
		c := &pb.TopicCreated{Name: name, Id: id, Internal: rng.IntN(2) == 0}
		for range rng.IntN(70) {
			c.Partitions = append(c.Partitions, whole())
		}
		if rng.IntN(2) == 0 {
			c.Config = []*pb.ConfigEntry{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}
		}
		r.Kind = &pb.Record_TopicCreated{TopicCreated: c}
	case 2:
		r.Kind = &pb.Record_TopicDeleted{TopicDeleted: &pb.TopicDeleted{Id: id}}
	case 3, 4, 5, 6:
		c := &pb.PartitionChanged{TopicId: id, Index: rng.Int32N(70), NextLeaderEpoch: rng.IntN(2) == 0}
		if rng.IntN(2) == 0 {
			plusOne := rng.Int32N(5)
			c.LeaderPlusOne = &plusOne
		}
		if rng.IntN(2) == 0 {
			c.Isr = &pb.BrokerList{Ids: list()}
		}
		if rng.IntN(3) == 0 {
			c.Elr = &pb.BrokerList{Ids: list()}
		}
		if rng.IntN(5) == 0 {
			c.Replicas = &pb.BrokerList{Ids: list()}
		}
		if rng.IntN(4) == 0 {
			c.Whole = whole()
		}
		r.Kind = &pb.Record_PartitionChanged{PartitionChanged: c}
	case 7, 8:
		c := &pb.ConfigChanged{ResourceType: []int32{2, 4, 32}[rng.IntN(3)], ResourceName: name}
		for _, k := range []string{"a", "b", "c"} {
			switch rng.IntN(3) {
			case 0:
				c.Set = append(c.Set, &pb.ConfigEntry{Key: k, Value: fmt.Sprint(rng.IntN(3))})
			case 1:
				c.Removed = append(c.Removed, k)
			}
		}
		r.Kind = &pb.Record_ConfigChanged{ConfigChanged: c}
	case 9:
		r.Kind = &pb.Record_BrokerRegistered{BrokerRegistered: &pb.BrokerRegistered{Id: rng.Int32N(5), Rack: fmt.Sprint(rng.IntN(3)),
			Incarnation: bytes.Repeat([]byte{byte(rng.IntN(250))}, 16), Directory: bytes.Repeat([]byte{1}, 16),
			Endpoints: []*pb.Endpoint{{Listener: "PLAINTEXT", Host: "h", Port: 9092}}}}
	case 10:
		r.Kind = &pb.Record_BrokerRemoved{BrokerRemoved: &pb.BrokerRemoved{Id: rng.Int32N(5)}}
	case 11:
		r.Kind = &pb.Record_ProducerIdsAllocated{ProducerIdsAllocated: &pb.ProducerIDsAllocated{Next: rng.Int64N(1 << 30)}}
	}
	return r
}

// TestImageModel folds random records into images and into the model, and checks that older images stay what they were, that a
// snapshot taken at any point reads back the same, byte for byte, and that the fold goes on alike from it.
func TestImageModel(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := &model{topics: map[string]*modelTopic{}, brokers: map[int32]string{}, configs: map[string]map[string]string{}}
		img := Empty()
		restored := img // follows img, through snapshots
		old := map[*Image][]byte{}
		for offset := int64(1); offset <= 150; offset++ {
			e := randomEntry(rng)
			data, err := EncodeEntry(e)
			if err != nil {
				t.Fatal(err)
			}
			if e, err = DecodeEntry(data); err != nil {
				t.Fatal(err)
			}
			img, _ = img.Apply(Offset(offset), e)
			restored, _ = restored.Apply(Offset(offset), e)
			m.apply(offset, e)
			if rng.IntN(10) == 0 {
				if got, want := dumpImage(img), m.dump(); got != want {
					t.Fatalf("seed %d, offset %d: image\n%s\nmodel\n%s", seed, offset, got, want)
				}
				snapshot := img.EncodeSnapshot()
				if restored, err = DecodeSnapshot(restored.EncodeSnapshot()); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(restored.EncodeSnapshot(), snapshot) {
					t.Fatalf("seed %d, offset %d: the image from snapshot and log differs from that of the log", seed, offset)
				}
				old[img] = snapshot
			}
		}
		for img, snapshot := range old {
			if !bytes.Equal(img.EncodeSnapshot(), snapshot) {
				t.Fatalf("seed %d: the image of offset %d changed after it was made", seed, img.Offset())
			}
		}
		img.names.check(t)
		img.topics.check(t)
	}
}

// TestDifferenceModel rebuilds images from differences alone.
func TestDifferenceModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		before := Empty()
		known := map[kafka.TopicID]map[int32]*Partition{}
		brokers := map[kafka.BrokerID]*Broker{}
		configs := map[Resource]map[string]string{}
		img := before
		for offset := Offset(1); offset <= 200; offset++ {
			img, _ = img.Apply(offset, randomEntry(rng))
			if rng.IntN(20) > 0 {
				continue
			}
			for event := range Difference(before, img) {
				switch e := event.(type) {
				case TopicDeleted:
					delete(known, e.Topic.ID)
				case TopicCreated:
					known[e.Topic.ID] = map[int32]*Partition{}
				case PartitionAssigned:
					known[e.Topic.ID][e.Partition.Index] = e.Partition
				case PartitionLeaderChanged:
					known[e.Topic.ID][e.Partition.Index] = e.Partition
				case ISRUpdated:
					known[e.Topic.ID][e.Partition.Index] = e.Partition
				case BrokerRegistered:
					brokers[e.Broker.ID] = e.Broker
				case BrokerRemoved:
					delete(brokers, e.ID)
				case ConfigChanged:
					configs[e.Resource] = maps.Clone(img.Config(e.Resource))
				}
			}
			before = img
			checkKnown(t, img, known, brokers, configs)
		}
	}
}

func checkKnown(t *testing.T, img *Image, known map[kafka.TopicID]map[int32]*Partition, brokers map[kafka.BrokerID]*Broker, configs map[Resource]map[string]string) {
	t.Helper()
	if len(known) != img.TopicCount() || len(brokers) != img.BrokerCount() {
		t.Fatalf("offset %d: %d topics and %d brokers, want %d and %d", img.Offset(), len(known), len(brokers), img.TopicCount(), img.BrokerCount())
	}
	for topic := range img.Topics() {
		for p := range topic.Partitions.All() {
			k := known[topic.ID][p.Index]
			if k == nil || k.Leader != p.Leader || k.LeaderEpoch != p.LeaderEpoch || !slices.Equal(k.ISR, p.ISR) || !slices.Equal(k.Replicas, p.Replicas) {
				t.Fatalf("offset %d: partition %s-%d is known as %+v, it is %+v", img.Offset(), topic.Name, p.Index, k, p)
			}
		}
	}
	for b := range img.Brokers() {
		if brokers[b.ID].Epoch != b.Epoch {
			t.Fatalf("offset %d: broker %d is known with epoch %d, it is %d", img.Offset(), b.ID, brokers[b.ID].Epoch, b.Epoch)
		}
	}
	for r := range img.ConfiguredResources() {
		if !maps.Equal(configs[r], img.Config(r)) {
			t.Fatalf("offset %d: configuration %v is known as %v, it is %v", img.Offset(), r, configs[r], img.Config(r))
		}
	}
}
