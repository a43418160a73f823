package metadata

import (
	"iter"
	"maps"
	"slices"

	"chronik/internal/kafka"
)

// Difference yields the events that lead from one image to a later one, for who meets a SnapshotInstalled: first what
// is gone, then brokers, configurations, and topics by name. They carry the later image's offset; what came and went in
// between is not there. Topics that the images share cost a comparison of pointers.
func Difference(before, after *Image) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		d := difference{before: before, after: after, yield: yield,
			meta: EventMeta{Offset: after.offset, Reason: "the difference of two images"}}
		_ = d.deletedTopics() && d.voters() && d.brokers() && d.configs() && d.topics()
	}
}

type difference struct {
	before, after *Image
	meta          EventMeta
	yield         func(Event) bool
}

func (d *difference) deletedTopics() bool {
	for topic := range d.before.Topics() {
		if d.after.TopicByID(topic.ID) == nil && !d.yield(TopicDeleted{d.meta, topic}) {
			return false
		}
	}
	return true
}

func (d *difference) voters() bool {
	return slices.Equal(d.before.voters, d.after.voters) || d.yield(VotersChanged{d.meta, d.after.voters})
}

func (d *difference) brokers() bool {
	for b := range d.before.Brokers() {
		if d.after.Broker(b.ID) == nil && !d.yield(BrokerRemoved{d.meta, b.ID}) {
			return false
		}
	}
	for b := range d.after.Brokers() {
		old := d.before.Broker(b.ID)
		ok := true
		switch {
		case old == b:
		case old == nil || old.Epoch != b.Epoch:
			ok = d.yield(BrokerRegistered{d.meta, b})
		default:
			for _, e := range brokerStateEvents(d.meta, old, b) {
				ok = ok && d.yield(e)
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

func (d *difference) configs() bool {
	resources := map[Resource]bool{}
	for r := range d.before.ConfiguredResources() {
		resources[r] = true
	}
	for r := range d.after.ConfiguredResources() {
		resources[r] = true
	}
	order := d.after.configs.compare
	for _, r := range slices.SortedFunc(maps.Keys(resources), order) {
		if !maps.Equal(d.before.Config(r), d.after.Config(r)) && !d.yield(ConfigChanged{d.meta, r}) {
			return false
		}
	}
	return true
}

func (d *difference) topics() bool {
	for topic := range d.after.Topics() {
		old := d.before.TopicByID(topic.ID)
		if old == topic {
			continue
		}
		if old == nil {
			if !d.yield(TopicCreated{d.meta, topic}) {
				return false
			}
			old = &Topic{Config: topic.Config}
		}
		if !maps.Equal(old.Config, topic.Config) &&
			!d.yield(ConfigChanged{d.meta, Resource{Type: TopicResource, Name: topic.Name}}) {
			return false
		}
		for p := range topic.Partitions.All() {
			if !d.partition(topic, old.Partitions.At(p.Index), p) {
				return false
			}
		}
	}
	return true
}

func (d *difference) partition(topic *Topic, old, p *Partition) bool {
	if old == p {
		return true
	}
	if old == nil {
		return d.yield(PartitionAssigned{d.meta, topic, p})
	}
	if !slices.Equal(old.Replicas, p.Replicas) && !d.yield(PartitionAssigned{d.meta, topic, p}) {
		return false
	}
	if (old.Leader != p.Leader || old.LeaderEpoch != p.LeaderEpoch) && !d.yield(PartitionLeaderChanged{d.meta, topic, p}) {
		return false
	}
	same := func(a, b []kafka.BrokerID) bool { return slices.Equal(a, b) }
	if same(old.ISR, p.ISR) && same(old.ELR, p.ELR) {
		return true
	}
	return d.yield(ISRUpdated{d.meta, topic, p})
}
