package replica

import (
	"context"
	"errors"
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// proposal is the one outstanding change of the in-sync set. Its members count (progress.proposed) until the image shows a
// newer state of the partition, or the first attempt was refused for good: never because of a timeout.
type proposal struct {
	command metadata.UpdateISR
	since   time.Time
	running bool      // an attempt is under way
	unknown bool      // an attempt's outcome is not known: only the image can tell
	retry   time.Time // the next attempt
}

const (
	// proposalTimeout bounds one attempt.
	proposalTimeout = 10 * time.Second
	// proposalRetry is between attempts, and after one that was refused.
	proposalRetry = 500 * time.Millisecond
)

// look is called several times in lagMax for each partition.
func (p *Partition) look(now time.Time) {
	start := p.disk.LogStart()
	p.mu.Lock()
	if !p.mu.leader || len(p.mu.progress.replicas) < 2 {
		p.mu.Unlock()
		return
	}
	replaced := p.endReplacedLocked()
	p.mu.progress.look(now, p.disk.LogEnd())
	p.reviewLocked()
	raised := start > p.mu.toldStart
	p.mu.toldStart = max(start, p.mu.toldStart)
	p.mu.Unlock()
	if raised || replaced { // retention tells nobody
		p.tellStreams()
	}
}

// endReplacedLocked ends sessions of brokers that have registered again since their Follow: in the in-sync set they count only
// with their present broker epoch (KIP-903), so they are to follow anew. Where that is another process, this one's connection is
// about to end anyway; where it is the same, which was removed from the cluster in between, nothing else would tell it.
func (p *Partition) endReplacedLocked() (ended bool) {
	for i := 0; i < len(p.mu.sessions); {
		s := p.mu.sessions[i]
		if b := p.node.registered(s.follower); b == nil || s.brokerEpoch >= b.Epoch {
			i++
			continue
		}
		p.endSessionLocked(s.follower)
		ended = true
	}
	return ended
}

// reviewLocked proposes another in-sync set if there is to be one, or tries again what is outstanding.
func (p *Partition) reviewLocked() {
	if !p.mu.leader || p.mu.resigning {
		return
	}
	now := p.node.clock.Now()
	if pr := p.mu.proposal; pr != nil {
		if !pr.running && !now.Before(pr.retry) {
			p.tryLocked(pr)
		}
		return
	}
	if now.Before(p.mu.notBefore) {
		return
	}
	isr, reason := p.mu.progress.wanted(now, p.takenLocked)
	if isr == nil || !slices.Contains(isr, p.node.broker) {
		return
	}
	pr := &proposal{since: now, command: metadata.UpdateISR{
		Partition: p.id, LeaderEpoch: p.mu.leaderEpoch, Base: p.mu.epoch, ISR: p.membersLocked(isr), Reason: reason,
	}}
	p.mu.proposal, p.mu.progress.proposed = pr, isr
	p.tryLocked(pr)
}

func (p *Partition) tryLocked(pr *proposal) {
	if pr.unknown {
		// Asked for the set that there is, on the same base: whichever of the two wins, the partition epoch moves on, and
		// the image settles it.
		pr.command.ISR = p.membersLocked(p.mu.progress.committed)
		pr.command.Reason = "in-sync set confirmed by the leader: the answer to its last proposal was lost"
	}
	pr.running = true
	p.node.background.add(p, jobPropose)
}

// takenLocked tells whether the controller would take a broker into the in-sync set, as far as this node's image tells.
func (p *Partition) takenLocked(b kafka.BrokerID) bool {
	s, broker := p.sessionLocked(b), p.node.registered(b)
	return s != nil && broker != nil && broker.Epoch == s.brokerEpoch &&
		!broker.Fenced && !broker.InControlledShutdown && !broker.Slow
}

// membersLocked names the members with their broker epochs: that of the Follow which made one known to be caught up
// (KIP-903). Where a member has not followed yet it stays, and the compare-and-set on the partition epoch is enough.
func (p *Partition) membersLocked(isr []kafka.BrokerID) []metadata.ISRMember {
	members := make([]metadata.ISRMember, len(isr))
	for i, b := range isr {
		m := metadata.ISRMember{Broker: b, Epoch: -1}
		if broker := p.node.registered(b); broker != nil {
			m.Epoch = broker.Epoch
		}
		switch s := p.sessionLocked(b); {
		case b == p.node.broker && p.node.brokerEpoch != nil:
			m.Epoch = p.node.brokerEpoch()
		case s != nil:
			m.Epoch = s.brokerEpoch
		}
		members[i] = m
	}
	return members
}

// propose makes one attempt.
func (p *Partition) propose(ctx context.Context) {
	p.mu.Lock()
	pr := p.mu.proposal
	if pr == nil || !pr.running {
		p.mu.Unlock()
		return
	}
	command := pr.command
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, proposalTimeout)
	defer cancel()
	_, err := p.node.metadata.UpdateISR(ctx, command)
	p.answered(pr, err)
}

// answered takes note of what became of an attempt.
func (p *Partition) answered(pr *proposal, err error) {
	p.mu.Lock()
	if p.mu.proposal != pr {
		p.mu.Unlock()
		return
	}
	now, moved := p.node.clock.Now(), false
	pr.running = false
	switch {
	case err == nil: // the image has it, and is about to be applied here
		pr.unknown, pr.retry = true, now.Add(proposalTimeout)
	case refused(err) && !pr.unknown:
		p.mu.proposal, p.mu.progress.proposed = nil, nil
		p.mu.notBefore = now.Add(proposalRetry)
		moved = p.mu.leader && p.advanceLocked()
	default:
		pr.unknown, pr.retry = true, now.Add(proposalRetry)
	}
	p.mu.Unlock()
	if moved {
		p.tellWatermark()
	}
	if err != nil {
		p.node.log.Info("a change of an in-sync set was not made", "topic", p.topic, "partition", p.id.Partition,
			"proposed", pr.command.ISR, "reason", pr.command.Reason, "error", err)
	}
}

// refused tells whether the controller has decided that a proposal is nothing. A stale base is none of these: it may be
// this very proposal that made it stale.
func refused(err error) bool {
	return errors.Is(err, kafka.ErrIneligibleReplica) || errors.Is(err, kafka.ErrInvalidRequest) || errors.Is(err, kafka.ErrFencedLeaderEpoch)
}
