package controller

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// fitness is how well a broker may lead: the lower the better.
type fitness int

const (
	fit          fitness = iota
	slow                 // its disk takes seconds for a sync
	shuttingDown         // it leads only what nobody else can
	damagedYet           // it leads and was found damaged: it stays while nobody else can, and is never elected
	unfit                // fenced, not registered, or its replica is damaged
)

func (s state) fitness(id kafka.BrokerID) fitness {
	b := s.image.Broker(id)
	switch {
	case b == nil || b.Fenced:
		return unfit
	case b.InControlledShutdown:
		return shuttingDown
	case b.Slow:
		return slow
	}
	return fit
}

// live tells whether the broker is registered and not fenced.
func (s state) live(id kafka.BrokerID) bool { return s.fitness(id) != unfit }

// damages are the replicas that brokers reported as damaged: by broker.
type damages map[kafka.BrokerID]map[kafka.TopicPartition]bool

func (d damages) has(id kafka.BrokerID, tp kafka.TopicPartition) bool { return d[id][tp] }

// fitnessFor is the broker's for one partition. A damaged replica is never elected (it would be taken for the truth), unless
// there never was another one; where it leads already and nobody can replace it, it goes on with what is whole.
func (c *partitionChange) fitnessFor(s state, id kafka.BrokerID) fitness {
	f := s.fitness(id)
	if f == unfit || len(c.next.Replicas) == 1 || !s.damaged.has(id, c.topic.TopicPartition(c.old.Index)) {
		return f
	}
	if id == c.old.Leader && id == c.next.Leader {
		return damagedYet
	}
	return unfit
}

// elect gives the partition the fittest leader out of the ISR: the one it has, if no other is fitter, else the first in order
// of preference. With no live replica in the ISR it is one of the ELR (KIP-966), which then is the whole ISR. With none the
// partition has no leader.
func (c *partitionChange) elect(s state) {
	if id := c.fittest(s, c.next.ISR); id != kafka.NoLeader {
		c.next.Leader = id
		return
	}
	eligible := slices.DeleteFunc(slices.Clone(c.old.ELR), func(id kafka.BrokerID) bool { return slices.Contains(c.lost, id) })
	c.next.Leader = c.fittest(s, eligible)
	if c.next.Leader != kafka.NoLeader {
		c.next.ISR = []kafka.BrokerID{c.next.Leader}
	}
}

func (c *partitionChange) fittest(s state, of []kafka.BrokerID) kafka.BrokerID {
	best, leader := unfit, kafka.NoLeader
	for _, id := range c.next.Replicas {
		if !slices.Contains(of, id) {
			continue
		}
		if f := c.fitnessFor(s, id); f < best || f == best && f != unfit && id == c.next.Leader {
			best, leader = f, id
		}
	}
	return leader
}

// leave takes a broker out of the ISR, but not the last member.
func (c *partitionChange) leave(id kafka.BrokerID) {
	if len(c.next.ISR) > 1 {
		c.next.ISR = without(c.next.ISR, id)
	}
}

// leaveIfEnough takes a broker out of the ISR where the others are enough for acks=all.
func (c *partitionChange) leaveIfEnough(img *metadata.Image, id kafka.BrokerID) {
	if len(c.next.ISR) > max(1, img.MinInsyncReplicas(c.topic, len(c.next.Replicas))) {
		c.leave(id)
	}
}
