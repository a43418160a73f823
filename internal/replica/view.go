package replica

import (
	"slices"
	"time"

	"chronik/internal/kafka"
)

// View is a partition as this node sees it, for people: what it has, and what it knows of the others if it leads.
type View struct {
	Leads         bool
	LeaderEpoch   kafka.LeaderEpoch
	LogStart      kafka.Offset
	LogEnd        kafka.Offset
	Durable       kafka.Offset
	HighWatermark kafka.Offset
	Lease         bool
	Proposed      []kafka.BrokerID // an in-sync set that is asked for and not decided; nil if there is none
	ProposedWhy   string
	Followers     []FollowerView // of a leader: all other replicas, sorted
}

// FollowerView is what a leader knows of another replica.
type FollowerView struct {
	Broker   kafka.BrokerID
	Streamed bool         // it follows in the leader's epoch
	Since    time.Time    // it does, or does not
	Durable  kafka.Offset // kafka.NoOffset until it has told
	Lagging  string       // why it does not count as caught up; "" if it does
}

// View copies a few fields; it waits for nothing.
func (p *Partition) View() View {
	lease := p.node.leased()
	now := p.node.clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.offsetsLocked()
	v := View{
		Leads: p.mu.leader, LeaderEpoch: s.LeaderEpoch, LogStart: s.LogStart, LogEnd: s.LogEnd, Durable: p.disk.DurableEnd(),
		HighWatermark: s.HighWatermark, Lease: lease,
	}
	if !v.Leads {
		return v
	}
	if pr := p.mu.proposal; pr != nil {
		v.Proposed, v.ProposedWhy = slices.Clone(p.mu.progress.proposed), pr.command.Reason
	}
	for _, r := range p.mu.progress.ends {
		if r.broker != p.node.broker {
			v.Followers = append(v.Followers, FollowerView{Broker: r.broker, Streamed: r.streamed, Since: r.since, Durable: r.end,
				Lagging: p.mu.progress.lagging(r.broker, now)})
		}
	}
	return v
}
