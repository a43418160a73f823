package metadata

import (
	"maps"
	"slices"
	"time"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
)

// deletedLength is how many IDs of deleted topics an image remembers.
const deletedLength = 256

// historyLength is how many changes a partition's history keeps.
const historyLength = 8

// Apply folds the entry at an offset and returns the image after it with its events, in order. It cannot fail: a record
// that names what is not there is ignored, on every node alike. The entry must come from DecodeEntry or be made by
// the controller. A nil entry (Raft's own) only moves the offset.
func (img *Image) Apply(offset Offset, e *pb.Entry) (*Image, []Event) {
	next := *img
	next.offset = offset
	f := fold{img: &next, time: timeOf(e.GetTimeMs())}
	for _, r := range e.GetRecords() {
		f.record(r)
	}
	return &next, f.events
}

// fold is one Apply under way; img is its own until it returns.
type fold struct {
	img    *Image
	time   time.Time
	events []Event
}

func (f *fold) record(r *pb.Record) {
	meta := EventMeta{Offset: f.img.offset, Reason: r.GetReason()}
	switch k := r.GetKind().(type) {
	case *pb.Record_ClusterFormed:
		f.clusterFormed(meta, k.ClusterFormed)
	case *pb.Record_VotersChanged:
		f.img.voters = votersOf(k.VotersChanged.GetVoters())
		f.events = append(f.events, VotersChanged{meta, f.img.voters})
	case *pb.Record_TopicCreated:
		f.topicCreated(meta, k.TopicCreated)
	case *pb.Record_TopicDeleted:
		f.topicDeleted(meta, kafka.TopicID(k.TopicDeleted.GetId()))
	case *pb.Record_PartitionChanged:
		f.partitionChanged(meta, k.PartitionChanged)
	case *pb.Record_LeaderEpochsRaised:
		f.leaderEpochsRaised(meta, kafka.BrokerID(k.LeaderEpochsRaised.GetBroker()))
	case *pb.Record_ConfigChanged:
		f.configChanged(meta, k.ConfigChanged)
	case *pb.Record_BrokerRegistered:
		b := brokerOf(k.BrokerRegistered, kafka.BrokerEpoch(f.img.offset), f.time)
		b.StateOffset, b.Reason = f.img.offset, r.GetReason()
		f.img.brokers = f.img.brokers.with(b.ID, b)
		f.events = append(f.events, BrokerRegistered{meta, b})
	case *pb.Record_BrokerFencing:
		f.brokerFencing(meta, k.BrokerFencing)
	case *pb.Record_BrokerRemoved:
		id := kafka.BrokerID(k.BrokerRemoved.GetId())
		if f.img.Broker(id) != nil {
			f.img.brokers = f.img.brokers.without(id)
			f.events = append(f.events, BrokerRemoved{meta, id})
		}
	case *pb.Record_ProducerIdsAllocated:
		f.img.nextProducerID = max(f.img.nextProducerID, kafka.ProducerID(k.ProducerIdsAllocated.GetNext()))
	}
}

// clusterFormed makes each voter a fenced broker: defaults and placement follow the size of the cluster from its first
// moment, and no default changes when the last of them has come up.
func (f *fold) clusterFormed(meta EventMeta, m *pb.ClusterFormed) {
	f.img.clusterID = m.GetClusterId()
	f.img.formation = votersOf(m.GetVoters())
	f.img.voters = f.img.formation
	for _, v := range f.img.formation {
		b := &Broker{ID: v.ID, Directory: v.Directory, ClusterAddress: v.Address, Fenced: true, Since: f.time,
			StateOffset: f.img.offset, Reason: meta.Reason}
		f.img.brokers = f.img.brokers.with(b.ID, b)
		f.events = append(f.events, BrokerRegistered{meta, b})
	}
}

func (f *fold) topicCreated(meta EventMeta, m *pb.TopicCreated) {
	topic := &Topic{
		Name:         m.GetName(),
		ID:           kafka.TopicID(m.GetId()),
		Internal:     m.GetInternal(),
		Config:       configOf(m.GetConfig()),
		ConfigOffset: f.img.offset,
	}
	if f.img.Topic(topic.Name) != nil || f.img.TopicByID(topic.ID) != nil {
		return
	}
	partitions := make([]*Partition, len(m.GetPartitions()))
	for i, whole := range m.GetPartitions() {
		partitions[i] = f.recorded(meta, partitionOf(int32(i), whole), nil)
	}
	topic.Partitions = PartitionsOf(partitions...)
	f.img.addTopic(topic)
	f.events = slices.Grow(f.events, 1+len(partitions))
	f.events = append(f.events, TopicCreated{meta, topic})
	for _, p := range partitions {
		f.events = append(f.events, PartitionAssigned{meta, topic, p})
	}
}

func (img *Image) addTopic(topic *Topic) {
	img.topics = img.topics.with(topic.ID, topic)
	img.names = img.names.with(topic.Name, topic.ID)
	img.partitionCount += topic.Partitions.Len()
	if unified, has := unify(topic.Name); has {
		img.unified = img.unified.with(unified, topic.Name)
	}
}

func (f *fold) topicDeleted(meta EventMeta, id kafka.TopicID) {
	topic := f.img.TopicByID(id)
	if topic == nil {
		return
	}
	f.img.topics = f.img.topics.without(id)
	f.img.names = f.img.names.without(topic.Name)
	f.img.partitionCount -= topic.Partitions.Len()
	deleted := f.img.deleted
	if len(deleted) >= deletedLength {
		deleted = deleted[len(deleted)-deletedLength+1:]
	}
	f.img.deleted = append(slices.Clone(deleted), id)
	if unified, has := unify(topic.Name); has {
		f.img.unified = f.img.unified.without(unified)
	}
	f.events = append(f.events, TopicDeleted{meta, topic})
}

func (f *fold) partitionChanged(meta EventMeta, m *pb.PartitionChanged) {
	topic := f.img.TopicByID(kafka.TopicID(m.GetTopicId()))
	if topic == nil {
		return
	}
	old := topic.Partitions.At(m.GetIndex())
	switch {
	case old == nil && m.GetWhole() != nil && int(m.GetIndex()) == topic.Partitions.Len():
		p := f.recorded(meta, partitionOf(m.GetIndex(), m.GetWhole()), nil)
		topic = f.replace(topic, p)
		f.img.partitionCount++
		f.events = append(f.events, PartitionAssigned{meta, topic, p})
	case old != nil && m.GetWhole() == nil:
		p := f.recorded(meta, changed(old, m), old.History)
		topic = f.replace(topic, p)
		if m.GetReplicas() != nil {
			f.events = append(f.events, PartitionAssigned{meta, topic, p})
		}
		if p.Leader != old.Leader || p.LeaderEpoch != old.LeaderEpoch {
			f.events = append(f.events, PartitionLeaderChanged{meta, topic, p})
		}
		if m.GetIsr() != nil || m.GetElr() != nil {
			f.events = append(f.events, ISRUpdated{meta, topic, p})
		}
	}
}

func changed(old *Partition, m *pb.PartitionChanged) *Partition {
	p := *old
	if m.GetReplicas() != nil {
		p.Replicas = BrokerIDs(m.GetReplicas().GetIds())
	}
	if m.GetIsr() != nil {
		p.ISR = BrokerIDs(m.GetIsr().GetIds())
	}
	if m.GetElr() != nil {
		p.ELR = BrokerIDs(m.GetElr().GetIds())
	}
	if m.LeaderPlusOne != nil {
		p.Leader = kafka.BrokerID(m.GetLeaderPlusOne() - 1)
	}
	if m.GetNextLeaderEpoch() {
		p.LeaderEpoch++
	}
	p.PartitionEpoch++
	return &p
}

// leaderEpochsRaised rebuilds the topics in question, each at once.
func (f *fold) leaderEpochsRaised(meta EventMeta, leader kafka.BrokerID) {
	for topic := range f.img.Topics() {
		var partitions []*Partition
		var raised []int32
		for p := range topic.Partitions.All() {
			if p.Leader == leader {
				next := *p
				next.LeaderEpoch++
				next.PartitionEpoch++
				raised = append(raised, p.Index)
				p = f.recorded(meta, &next, p.History)
			}
			partitions = append(partitions, p)
		}
		if len(raised) == 0 {
			continue
		}
		next := *topic
		next.Partitions = PartitionsOf(partitions...)
		f.img.topics = f.img.topics.with(next.ID, &next)
		for _, index := range raised {
			f.events = append(f.events, PartitionLeaderChanged{meta, &next, partitions[index]})
		}
	}
}

// recorded adds the partition's state to its history and returns it.
func (f *fold) recorded(meta EventMeta, p *Partition, before []Change) *Partition {
	if len(before) >= historyLength {
		before = before[len(before)-historyLength+1:]
	}
	p.History = append(make([]Change, 0, len(before)+1), before...)
	p.History = append(p.History, Change{
		Offset:      f.img.offset,
		Time:        f.time,
		Reason:      meta.Reason,
		Leader:      p.Leader,
		LeaderEpoch: p.LeaderEpoch,
		ISR:         p.ISR,
	})
	return p
}

// replace puts a partition into its topic and the topic into the image.
func (f *fold) replace(topic *Topic, p *Partition) *Topic {
	next := *topic
	next.Partitions = Partitions{topic.Partitions.v.with(int(p.Index), p)}
	f.img.topics = f.img.topics.with(next.ID, &next)
	return &next
}

func (f *fold) configChanged(meta EventMeta, m *pb.ConfigChanged) {
	r := Resource{Type: ResourceType(m.GetResourceType()), Name: m.GetResourceName()}
	values := maps.Clone(f.img.Config(r))
	if values == nil {
		values = map[string]string{}
	}
	for _, key := range m.GetRemoved() {
		delete(values, key)
	}
	for _, e := range m.GetSet() {
		values[e.GetKey()] = e.GetValue()
	}
	if len(values) == 0 {
		values = nil
	}
	switch {
	case r.Type == TopicResource:
		topic := f.img.Topic(r.Name)
		if topic == nil {
			return
		}
		next := *topic
		next.Config, next.ConfigOffset = values, f.img.offset
		f.img.topics = f.img.topics.with(next.ID, &next)
	case values == nil:
		f.img.configs = f.img.configs.without(r)
		f.img.configsEmptied = f.img.offset
	default:
		f.img.configs = f.img.configs.with(r, &resourceConfig{values: values, offset: f.img.offset})
	}
	f.events = append(f.events, ConfigChanged{meta, r})
}

func (f *fold) brokerFencing(meta EventMeta, m *pb.BrokerFencing) {
	old := f.img.Broker(kafka.BrokerID(m.GetId()))
	if old == nil {
		return
	}
	b := *old
	b.Fenced, b.InControlledShutdown, b.Slow = m.GetFenced(), m.GetInControlledShutdown(), m.GetSlow()
	if b.Fenced == old.Fenced && b.InControlledShutdown == old.InControlledShutdown && b.Slow == old.Slow {
		return
	}
	b.Since, b.StateOffset, b.Reason = f.time, f.img.offset, meta.Reason
	f.img.brokers = f.img.brokers.with(b.ID, &b)
	f.events = append(f.events, brokerStateEvents(meta, old, &b)...)
}

// brokerStateEvents are the events of a change of state.
func brokerStateEvents(meta EventMeta, old, b *Broker) []Event {
	var events []Event
	if b.InControlledShutdown != old.InControlledShutdown || b.Slow != old.Slow {
		events = append(events, BrokerStateChanged{meta, b})
	}
	switch {
	case b.Fenced && !old.Fenced:
		events = append(events, BrokerFenced{meta, b})
	case !b.Fenced && old.Fenced:
		events = append(events, BrokerUnfenced{meta, b})
	}
	return events
}
