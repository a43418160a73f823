package controller

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// setPartitionLeader elects. Answers are those of Kafka's ElectLeaders: the preferred replica (the first) that cannot lead is
// PREFERRED_LEADER_NOT_AVAILABLE; where nobody can, it is ELIGIBLE_LEADERS_NOT_AVAILABLE; an unclean election, or one that
// leaves the choice to the controller, is ELECTION_NOT_NEEDED while there is a leader.
func (s state) setPartitionLeader(c metadata.SetPartitionLeader) (decision, error) {
	topic, p, err := s.find(c.Partition)
	if err != nil {
		return decision{}, err
	}
	if err := checkBase(topic, p, c.Base); err != nil {
		return decision{}, err
	}
	ch := change(topic, p, because(c.Reason, "leader elected"))
	if c.Leader == kafka.NoLeader {
		err = s.electAny(ch, c.Unclean)
	} else {
		err = s.electNamed(ch, c.Leader, c.Unclean)
	}
	if err != nil {
		return decision{}, err
	}
	return s.partitionDecision(ch), nil
}

// electAny leaves the choice to the controller. An unclean election takes whom it can get, but whole replicas first.
func (s state) electAny(ch *partitionChange, unclean bool) error {
	topic, p := ch.topic, ch.old
	if p.Leader != kafka.NoLeader {
		return kafka.ErrElectionNotNeeded.With("partition %s-%d: its leader %d is live", topic.Name, p.Index, p.Leader)
	}
	ch.elect(s)
	if ch.next.Leader != kafka.NoLeader {
		return nil
	}
	if !unclean {
		return kafka.ErrEligibleLeadersNotAvailable.With("partition %s-%d: none of its in-sync replicas %v and eligible leaders %v can lead",
			topic.Name, p.Index, p.ISR, p.ELR)
	}
	leader := ch.fittest(s, p.Replicas)
	for _, id := range p.Replicas {
		if leader == kafka.NoLeader && s.live(id) {
			leader = id
		}
	}
	if leader == kafka.NoLeader {
		return kafka.ErrEligibleLeadersNotAvailable.With("partition %s-%d: none of its replicas %v is live", topic.Name, p.Index, p.Replicas)
	}
	ch.electUnclean(leader)
	return nil
}

// electUnclean makes a leader of a replica that may lack committed records. Nobody else stays eligible: what they hold beyond
// its log is no longer committed.
func (c *partitionChange) electUnclean(leader kafka.BrokerID) {
	c.next.Leader = leader
	c.next.ISR = []kafka.BrokerID{leader}
	c.lost = c.old.Replicas
	c.reason += " (unclean: committed records may be lost)"
}

func (s state) electNamed(ch *partitionChange, leader kafka.BrokerID, unclean bool) error {
	topic, p := ch.topic, ch.old
	f := ch.fitnessFor(s, leader)
	unavailable := kafka.ErrEligibleLeadersNotAvailable
	if leader == p.Replicas[0] {
		unavailable = kafka.ErrPreferredLeaderNotAvailable
	}
	refuse := func(e *kafka.Error, format string, args ...any) error {
		return e.With("partition %s-%d: "+format, append([]any{topic.Name, p.Index}, args...)...)
	}
	switch {
	case !slices.Contains(p.Replicas, leader):
		return refuse(kafka.ErrInvalidRequest, "broker %d is not one of its replicas %v", leader, p.Replicas)
	case leader == p.Leader:
		return refuse(kafka.ErrElectionNotNeeded, "broker %d leads it already", leader)
	case !s.live(leader):
		return refuse(unavailable, "broker %d is fenced or not registered", leader)
	case unclean && (f == unfit || !slices.Contains(p.ISR, leader) && !slices.Contains(p.ELR, leader)):
		ch.electUnclean(leader)
		return nil
	case unclean && slices.Contains(p.ELR, leader): // has all that is committed
		ch.next.ISR = []kafka.BrokerID{leader}
	case unclean:
	case f == unfit:
		return refuse(unavailable, "the replica on broker %d is damaged; an unclean election must be asked for by name", leader)
	case f == shuttingDown:
		return refuse(unavailable, "broker %d shuts down", leader)
	case f == slow:
		return refuse(unavailable, "broker %d has a slow disk", leader)
	case slices.Contains(p.ISR, leader):
	case slices.Contains(p.ELR, leader) && !s.anyLive(p.ISR):
		ch.next.ISR = []kafka.BrokerID{leader}
	default:
		return refuse(unavailable, "broker %d is not in the in-sync set %v; an unclean election must be asked for by name", leader, p.ISR)
	}
	ch.next.Leader = leader
	return nil
}
