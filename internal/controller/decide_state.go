package controller

import (
	"fmt"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// brokerState changes a broker's state and, with it in one entry, what it leads and where it is in sync. It stays inside the
// controller: liveness.go and FenceBroker make it.
type brokerState struct {
	id kafka.BrokerID
	// epoch is the registration that it is about; a later one is left alone. anyEpoch for whichever there is.
	epoch        kafka.BrokerEpoch
	fenced       change3
	shuttingDown change3
	slow         change3
	// damaged are replicas of the broker that leave ISR and ELR.
	damaged []kafka.TopicPartition
	reason  string
	// stopping says that a broker that is fenced had asked to shut down: nobody needs to be warned.
	stopping bool
}

const anyEpoch kafka.BrokerEpoch = -1

// change3 is what becomes of a flag.
type change3 int8

const (
	unchanged change3 = iota
	set
	unset
)

func (c change3) apply(flag *bool) {
	if c != unchanged {
		*flag = c == set
	}
}

// brokerState answers with whether it changes anything.
func (s state) brokerState(c brokerState) (decision, error) {
	b := s.image.Broker(c.id)
	if b == nil {
		return decision{}, kafka.ErrBrokerIDNotRegistered.With("Broker ID %d is not currently registered", c.id)
	}
	if c.epoch != anyEpoch && c.epoch != b.Epoch {
		return decision{}, kafka.ErrStaleBrokerEpoch.With("broker %d has epoch %d, not %d", c.id, b.Epoch, c.epoch)
	}
	next := *b
	c.fenced.apply(&next.Fenced)
	c.shuttingDown.apply(&next.InControlledShutdown)
	c.slow.apply(&next.Slow)
	if next.Fenced { // it says anew what it is when it comes back
		next.InControlledShutdown, next.Slow = false, false
	}
	record := &pb.Record{
		Reason: because(c.reason, fmt.Sprintf("broker %d %s", c.id, stateName(&next))),
		Kind: &pb.Record_BrokerFencing{BrokerFencing: &pb.BrokerFencing{
			Id: int32(c.id), Fenced: next.Fenced, InControlledShutdown: next.InControlledShutdown, Slow: next.Slow}},
	}
	different := next.Fenced != b.Fenced || next.InControlledShutdown != b.InControlledShutdown || next.Slow != b.Slow
	if different {
		s.image, _ = s.image.Apply(s.image.Offset()+1, &pb.Entry{Records: []*pb.Record{record}})
	}
	var d decision
	if different || next.InControlledShutdown {
		d.records = s.moved(&next, b.Fenced && !next.Fenced, record.GetReason())
	}
	d.records = append(d.records, s.dropDamaged(c.id, c.damaged, d.records)...)
	if different {
		d.records = append(d.records, record)
	}
	wrote := len(d.records) > 0
	d.answer = func(*metadata.Image) any { return wrote }
	return d, nil
}

func stateName(b *metadata.Broker) string {
	switch {
	case b.Fenced:
		return "fenced"
	case b.InControlledShutdown:
		return "shuts down"
	case b.Slow:
		return "has a slow disk"
	}
	return "unfenced"
}

// moved is what a broker's new state, which the image has already, makes of its partitions: it leaves the in-sync sets that
// it must leave, and leads what it may. A broker that returns is elected where there is no leader.
func (s state) moved(b *metadata.Broker, returns bool, reason string) []*pb.Record {
	leaves := b.Fenced || b.InControlledShutdown || b.Slow
	var records []*pb.Record
	for topic := range s.image.Topics() {
		for p := range topic.Partitions.All() {
			inSync := leaves && slices.Contains(p.ISR, b.ID)
			leaderless := returns && p.Leader == kafka.NoLeader && slices.Contains(p.Replicas, b.ID)
			if !inSync && !leaderless {
				continue
			}
			ch := change(topic, p, reason)
			if inSync {
				s.leaves(ch, b)
			}
			if p.Leader == b.ID || p.Leader == kafka.NoLeader {
				ch.elect(s)
			}
			if r := ch.record(s.image); r != nil {
				records = append(records, r)
			}
		}
	}
	return records
}

// leaves takes the broker out of the in-sync set. A slow one stays where acks=all would lack it: better late than refused.
func (s state) leaves(ch *partitionChange, b *metadata.Broker) {
	if b.Fenced || b.InControlledShutdown {
		ch.leave(b.ID)
	} else {
		ch.leaveIfEnough(s.image, b.ID)
	}
}

// dropDamaged takes damaged replicas out of ISR and ELR. The last member of an ISR stays, and leads if it does: what is whole
// of it can still be read, and is all that there is. Partitions that the records before change already are left for the
// next heartbeat: two changes of one partition in one decision would be computed on the same state.
func (s state) dropDamaged(id kafka.BrokerID, damaged []kafka.TopicPartition, before []*pb.Record) []*pb.Record {
	if len(damaged) == 0 {
		return nil
	}
	done := map[kafka.TopicPartition]bool{}
	for _, r := range before {
		if m := r.GetPartitionChanged(); m != nil {
			done[kafka.TopicPartition{Topic: kafka.TopicID(m.GetTopicId()), Partition: m.GetIndex()}] = true
		}
	}
	var records []*pb.Record
	for _, tp := range damaged {
		if !s.damageMatters(id, tp) || done[tp] {
			continue
		}
		done[tp] = true
		topic := s.image.TopicByID(tp.Topic)
		ch := change(topic, topic.Partitions.At(tp.Partition), fmt.Sprintf("the replica on broker %d is damaged", id))
		ch.lost = []kafka.BrokerID{id}
		s.replaceDamaged(ch, id)
		if r := ch.record(s.image); r != nil {
			records = append(records, r)
		}
	}
	return records
}

func (s state) replaceDamaged(ch *partitionChange, id kafka.BrokerID) {
	others := without(ch.next.ISR, id)
	if ch.fittest(s, others) != kafka.NoLeader {
		ch.next.ISR = others
	} else if eligible := ch.fittest(s, without(ch.old.ELR, id)); eligible != kafka.NoLeader && slices.Contains(ch.next.ISR, id) {
		ch.next.ISR = []kafka.BrokerID{eligible} // has all that was committed, and is whole
	}
	if ch.next.Leader == id || !slices.Contains(ch.next.ISR, ch.next.Leader) {
		ch.elect(s)
	}
}

// damageMatters tells whether a damaged replica still has a place that another could take.
func (s state) damageMatters(id kafka.BrokerID, tp kafka.TopicPartition) bool {
	p := s.image.Partition(tp)
	if p == nil || len(p.Replicas) == 1 {
		return false
	}
	return slices.Contains(p.ISR, id) && len(p.ISR)+len(p.ELR) > 1 || slices.Contains(p.ELR, id)
}
