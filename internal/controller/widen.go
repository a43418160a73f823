package controller

import (
	"fmt"
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// Internal topics are made when they are first needed, often on the one node that there is. As brokers join, their partitions get
// the replicas that they would have been made with; they never lose one for that, so that a broker that comes and goes moves
// nothing.

// widenMax is how many partitions one step changes: new replicas have to be filled.
const widenMax = 64

// widenTopics gives the partitions of internal topics the replicas that they lack, on brokers that have been live for a while.
type widenTopics struct {
	settled []kafka.BrokerID
	max     int // partitions to change
}

// internalTopics are those that the brokers make for themselves.
var internalTopics = []string{kafka.OffsetsTopic, kafka.TransactionStateTopic, kafka.ShareGroupStateTopic}

// replicationFactorOf is what an internal topic is to have.
func (s state) replicationFactorOf(topic string) int {
	if topic == kafka.OffsetsTopic && s.defaults.OffsetsReplicationFactor > 0 {
		return int(s.defaults.OffsetsReplicationFactor)
	}
	if n := s.defaults.ReplicationFactor; n > 0 {
		return int(n)
	}
	return int(s.image.DefaultReplicationFactor())
}

// widenTopics answers with how many partitions it changes; max of them means that there may be more.
func (s state) widenTopics(c widenTopics) decision {
	var d decision
	for _, name := range internalTopics {
		topic := s.image.Topic(name)
		if topic == nil || !topic.Internal {
			continue
		}
		for p := range topic.Partitions.All() {
			if len(d.records) >= c.max {
				break
			}
			if r := s.widen(topic, p, c.settled); r != nil {
				d.records = append(d.records, r)
			}
		}
	}
	d.answer = countOf(d.records)
	return d
}

// widen is the record that gives a partition its missing replicas; nil if it lacks none, or nothing can be done now. Replicas on
// brokers that were removed are replaced.
func (s state) widen(topic *metadata.Topic, p *metadata.Partition, settled []kafka.BrokerID) *pb.Record {
	if p.Leader == kafka.NoLeader {
		return nil
	}
	var kept []kafka.BrokerID
	for _, id := range p.Replicas {
		if s.image.Broker(id) != nil || slices.Contains(p.ISR, id) || slices.Contains(p.ELR, id) {
			kept = append(kept, id)
		}
	}
	want := s.replicationFactorOf(topic.Name)
	if len(kept) >= want {
		return nil
	}
	next := s.chosen(topic, p.Index, kept, settled, want)
	if len(next) <= len(kept) {
		return nil
	}
	ch := change(topic, p, fmt.Sprintf("replicas added as brokers joined: %d of %d", len(next), want))
	ch.next.Replicas = next
	ch.elect(s) // among those in sync; new ones follow first
	return ch.record(s.image)
}

// chosen adds brokers to those that a partition keeps, in the order in which a new partition would prefer them. Which of them
// comes first, and so leads once all are in sync, shifts with the partition.
func (s state) chosen(topic *metadata.Topic, index int32, kept, settled []kafka.BrokerID, want int) []kafka.BrokerID {
	next := slices.Clone(kept)
	preferred, err := s.place(topic.ID, int(index), 1, min(want, s.image.BrokerCount()))
	if err != nil {
		return kept
	}
	candidates := preferred[0]
	for _, b := range s.ring() {
		if !slices.Contains(candidates, b.ID) {
			candidates = append(candidates, b.ID)
		}
	}
	for _, id := range candidates {
		if len(next) < want && !slices.Contains(next, id) && slices.Contains(settled, id) && s.fitness(id) == fit {
			next = append(next, id)
		}
	}
	if first := slices.Index(next, preferred[0][0]); first > 0 {
		next[0], next[first] = next[first], next[0]
	}
	return next
}

// widening is when liveness last looked for internal topics that lack replicas, and whether a step is under way.
type widening struct {
	looked  time.Time
	running bool
}

// widen begins a round when it is due, if an internal topic lacks replicas.
func (v *liveness) widen(commands []any, now time.Time, img *metadata.Image) []any {
	if v.widening.running || now.Sub(v.widening.looked) < v.o.WidenInterval {
		return commands
	}
	v.widening.looked = now
	if !slices.ContainsFunc(internalTopics, func(name string) bool { return img.Topic(name) != nil }) {
		return commands
	}
	settled := v.settled(now, img)
	if len(settled) < 2 { // nobody to widen to
		return commands
	}
	v.widening.running = true
	return append(commands, widenTopics{settled: settled, max: widenMax})
}

// widened is the end of one step.
func (v *liveness) widened(now time.Time) {
	v.widening.running, v.widening.looked = false, now
}
