package controller

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/peer"
)

// campaignsMax is how often a voter campaigns of its own accord before it leaves that to Raft's timeouts.
const campaignsMax = 20

// election is the loop's part for having a controller sooner than Raft's timeouts allow: after a start, and when the process
// of the leader is known to be dead. The voters campaign in turn, the lowest live broker first; pre-votes make that
// harmless where there is a leader after all.
type election struct {
	dead  map[uint64]death // by Raft ID
	left  int              // campaigns
	timer clock.Timer
	// A candidate whose votes are under way is left alone for patience, which doubles: two candidates that share the votes
	// of a term, one of three voters being dead, would else wait for Raft's timeout; a slow disk must not be hurried for ever.
	since    time.Time
	patience time.Duration
}

// death is what is known of a process that is dead.
type death struct {
	incarnation [16]byte
	at          time.Time
}

// isDead tells whether the process that a Raft ID had last is known to be dead.
func (e *election) isDead(id uint64) bool {
	_, dead := e.dead[id]
	return dead
}

// late tells whether a message comes from a process that has just died: it was on its way, and would make its sender the
// leader again that this node has forgotten. After an election timeout the proof is no longer taken for more than it may be.
func (l *loop) late(from uint64, incarnation [16]byte) bool {
	d, dead := l.election.dead[from]
	return dead && d.incarnation == incarnation && l.o.Clock.Now().Sub(d.at) < electionTicks*l.o.tick
}

// peerEvent takes in what happened to the connection to a peer. It does not block.
func (c *Controller) peerEvent(e peer.Event) {
	switch {
	case e.Proof() && e.Replaced != nil:
		c.PeerLost(e.Broker, e.Identity.Incarnation, fmt.Sprintf("its connection closed, and another process answers at %s", e.Identity.Address))
	case e.Proof():
		c.PeerLost(e.Broker, e.Identity.Incarnation, fmt.Sprintf("its connection closed, and %s refuses connections", e.Identity.Address))
	case e.Kind == peer.Up:
		c.PeerBack(e.Broker, e.Identity.Incarnation)
	}
	c.inbox.post(func() { c.loop.peerEvent(e) })
}

func (l *loop) peerEvent(e peer.Event) {
	id := RaftID(e.Identity.Directory)
	switch {
	case e.Identity.Directory == [16]byte{} || l.err != nil:
	case e.Proof():
		if l.election.dead == nil {
			l.election.dead = map[uint64]death{}
		}
		l.election.dead[id] = death{e.Identity.Incarnation, l.o.Clock.Now()}
		if l.known == id {
			l.o.Logger.Info("the controller's process is dead", "broker", e.Broker)
			_ = l.node.ForgetLeader() // cannot fail
			l.observe()
		}
		l.hasten()
	case e.Kind == peer.Up:
		delete(l.election.dead, id)
		if l.known == raft.None {
			l.hasten()
		}
	}
}

// hasten begins to campaign, when it is this voter's turn.
func (l *loop) hasten() {
	rank, _ := l.rank()
	if rank < 0 || l.known != raft.None {
		return
	}
	l.election.left, l.election.patience = campaignsMax, 0
	l.armCampaign(time.Duration(rank) * l.o.tick / 2)
}

// insist is for who has lost its leader by a timeout and campaigns: should the votes be shared, it does not wait for another
// timeout.
func (l *loop) insist() {
	rank, live := l.rank()
	if rank < 0 || l.election.left > 0 {
		return
	}
	l.election.left, l.election.patience = campaignsMax, 0
	l.armCampaign(time.Duration(live+rank) * l.o.tick / 2)
}

func (l *loop) armCampaign(wait time.Duration) {
	if l.election.timer != nil {
		l.election.timer.Stop()
		l.election.timer = nil
	}
	if wait == 0 {
		l.campaign()
		return
	}
	l.election.timer = l.o.Clock.AfterFunc(wait, func() { l.inbox.post(l.campaign) })
}

// campaign asks for votes until there is a leader.
func (l *loop) campaign() {
	e := &l.election
	rank, live := l.rank()
	if l.known != raft.None || l.err != nil || rank < 0 || e.left == 0 {
		e.left = 0
		return
	}
	e.left--
	now := l.o.Clock.Now()
	wait := time.Duration(live)*l.o.tick/2 + time.Duration(rank)*l.o.tick/10
	if l.node.BasicStatus().RaftState != raft.StateCandidate || now.Sub(e.since) >= e.patience {
		if l.node.BasicStatus().RaftState == raft.StateCandidate {
			e.patience = 2 * max(e.patience, wait)
		}
		e.since = now
		_ = l.node.Campaign() // Raft logs why it does not
	}
	l.armCampaign(wait)
}

// rank is this node's place, by broker ID, among the voters that are not known to be dead; negative if it does not vote.
func (l *loop) rank() (rank, live int) {
	type voter struct {
		id     uint64
		broker kafka.BrokerID
	}
	var voters []voter
	for _, id := range l.confState.GetVoters() {
		if id == l.id || !l.election.isDead(id) {
			voters = append(voters, voter{id, brokerOf(l.image, id)})
		}
	}
	slices.SortFunc(voters, func(a, b voter) int { return cmp.Or(cmp.Compare(a.broker, b.broker), cmp.Compare(a.id, b.id)) })
	return slices.IndexFunc(voters, func(v voter) bool { return v.id == l.id }), len(voters)
}

func (e *election) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// brokerOf is the broker with that Raft ID; NoLeader if none is known.
func brokerOf(img *metadata.Image, id uint64) kafka.BrokerID {
	for b := range img.Brokers() {
		if RaftID(b.Directory) == id {
			return b.ID
		}
	}
	for _, v := range img.Voters() {
		if RaftID(v.Directory) == id {
			return v.ID
		}
	}
	return kafka.NoLeader
}
