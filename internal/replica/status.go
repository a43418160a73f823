package replica

import (
	"fmt"
	"strings"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/log"
)

// Status is a partition as this node sees it, for people: what it has, and what it waits for.
type Status struct {
	Leads         bool // in LeaderEpoch, and its start is durable
	Follows       bool // Leader, in LeaderEpoch
	Leader        kafka.BrokerID
	LeaderEpoch   kafka.LeaderEpoch
	LogStart      kafka.Offset
	LogEnd        kafka.Offset
	Durable       kafka.Offset // on this node's disk
	HighWatermark kafka.Offset
	Held          bool // the lease: see Options.Lease
	Damaged       []log.Damage

	// Of a leader only:
	ISR       []kafka.BrokerID // as applied here, sorted
	Proposal  *ProposalStatus  // nil if none is outstanding
	Followers []FollowerStatus // all other replicas, sorted
	// Waiting tells why the high watermark is not at the log's end; "" if it is.
	Waiting string
}

// ProposalStatus is a change of the in-sync set that the controller has not decided on, as far as this node knows.
type ProposalStatus struct {
	ISR     []kafka.BrokerID
	Reason  string
	Since   time.Time
	Unknown bool // an answer was lost: the members count until the metadata tell
}

// FollowerStatus is what a leader knows of another replica.
type FollowerStatus struct {
	Broker    kafka.BrokerID
	InSync    bool
	Connected bool         // it follows, in the leader's epoch
	Since     time.Time    // it does, or does not
	Durable   kafka.Offset // acknowledged in this epoch; NoOffset if it has said nothing yet
	LogStart  kafka.Offset // NoOffset if it has not told
	// CaughtUp is when it was last known to have all that the leader had, give or take a tenth of LagMax; zero if never.
	CaughtUp time.Time
	// Lagging tells why it may not be in the in-sync set; "" if it may.
	Lagging string
}

// Status looks.
func (p *Partition) Status() Status {
	damaged := p.disk.Damaged()
	now, held := p.node.clock.Now(), p.node.leased()
	p.mu.Lock()
	defer p.mu.Unlock()
	o, pr := p.offsetsLocked(), &p.mu.progress
	s := Status{
		Leads: p.mu.leader, Follows: p.mu.follower, Leader: p.mu.leaderID, LeaderEpoch: o.LeaderEpoch,
		LogStart: o.LogStart, LogEnd: o.LogEnd, Durable: p.disk.DurableEnd(), HighWatermark: o.HighWatermark,
		Held: held, Damaged: damaged,
	}
	if !s.Leads {
		return s
	}
	s.ISR = append(s.ISR, pr.committed...)
	if p.mu.proposal != nil {
		s.Proposal = &ProposalStatus{ISR: append([]kafka.BrokerID(nil), pr.proposed...), Reason: p.mu.proposal.command.Reason,
			Since: p.mu.proposal.since, Unknown: p.mu.proposal.unknown}
	}
	for _, e := range pr.ends {
		if e.broker == p.node.broker {
			continue
		}
		f := FollowerStatus{Broker: e.broker, InSync: pr.inISR(e.broker), Connected: e.streamed, Since: e.since, Durable: e.end,
			LogStart: kafka.NoOffset, CaughtUp: e.caughtUp, Lagging: pr.lagging(e.broker, now)}
		if session := p.sessionLocked(e.broker); session != nil {
			f.LogStart = session.logStart
		}
		s.Followers = append(s.Followers, f)
	}
	s.Waiting = pr.waiting(o.LogEnd)
	return s
}

// waiting tells why the watermark stands; "" if it is at the log's end.
func (p *progress) waiting(logEnd kafka.Offset) string {
	if p.highWatermark >= logEnd {
		return ""
	}
	if p.underMinInsync() {
		return fmt.Sprintf("%d replicas are in sync, %d have to be (min.insync.replicas)", len(p.committed), p.effectiveMinInsync())
	}
	var holding []string
	for i := range p.ends {
		e := &p.ends[i]
		if e.end > p.highWatermark || !p.inMaximalISR(e.broker) {
			continue
		}
		switch {
		case e.broker == p.local:
			holding = append(holding, fmt.Sprintf("the disk of broker %d, which has offsets up to %d", e.broker, e.end))
		case e.end == kafka.NoOffset && !e.streamed:
			holding = append(holding, fmt.Sprintf("broker %d, which has not followed yet in this leader epoch", e.broker))
		case e.end == kafka.NoOffset:
			holding = append(holding, fmt.Sprintf("broker %d, which follows and has acknowledged nothing yet", e.broker))
		case !e.streamed:
			holding = append(holding, fmt.Sprintf("broker %d, which follows no more and acknowledged offsets up to %d", e.broker, e.end))
		default:
			holding = append(holding, fmt.Sprintf("broker %d, which has acknowledged offsets up to %d", e.broker, e.end))
		}
	}
	return "waits for " + strings.Join(holding, " and ")
}
