package broker

import (
	"slices"

	"chronik/internal/admin"
	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/replica"
)

// adminCluster is what the HTTP API asks.
type adminCluster struct {
	*controller.Controller
	self     kafka.BrokerID
	replicas *replica.Manager // nil while they are being opened
}

// asCluster is nil until the metadata are open. It may be called at any time.
func (b *Broker) asCluster() admin.Cluster {
	c := b.openController.Load()
	if c == nil {
		return nil
	}
	return adminCluster{c, kafka.BrokerID(b.cfg.NodeID), b.opened.Load()}
}

func (c adminCluster) Self() kafka.BrokerID { return c.self }

// Quorum knows how far this node has applied the metadata; the others tell that themselves.
func (c adminCluster) Quorum() admin.Quorum {
	img, status := c.Image(), c.Status()
	q := admin.Quorum{Controller: status.Leader, Term: status.Term, Applied: map[kafka.BrokerID]metadata.Offset{c.self: img.Offset()}}
	for _, v := range img.Voters() {
		q.Voters = append(q.Voters, v.ID)
	}
	if len(q.Voters) == 0 { // a node that is alone
		q.Voters = []kafka.BrokerID{c.self}
	}
	slices.Sort(q.Voters)
	for broker := range img.Brokers() {
		if !slices.Contains(q.Voters, broker.ID) {
			q.Learners = append(q.Learners, broker.ID)
		}
	}
	return q
}

func (c adminCluster) Replica(tp kafka.TopicPartition) (admin.Replica, bool) {
	if c.replicas == nil {
		return admin.Replica{}, false
	}
	p, err := c.replicas.Partition(tp)
	if err != nil {
		return admin.Replica{}, false
	}
	v := p.Status()
	r := admin.Replica{
		Leads: v.Leads, LeaderEpoch: v.LeaderEpoch, LogStart: v.LogStart, LogEnd: v.LogEnd, Durable: v.Durable,
		HighWatermark: v.HighWatermark, Damaged: len(v.Damaged), Lease: v.Held,
	}
	if v.Proposal != nil {
		r.Proposed, r.ProposedWhy = v.Proposal.ISR, v.Proposal.Reason
	}
	for _, f := range v.Followers {
		r.Followers = append(r.Followers, admin.Follower{Broker: f.Broker, Connected: f.Connected, Since: f.Since, Durable: f.Durable, Lagging: f.Lagging})
	}
	return r, true
}
