package controller

import (
	"cmp"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// votersWanted is the quorum that a cluster grows to by itself once it has as many live brokers.
const votersWanted = 3

// caughtUpLag is how many entries a learner may lack to become a voter.
const caughtUpLag = 100

// membership is the loop's part for keeping Raft's membership in step with the image: every registered broker is at least
// a learner, and the voters are live disks.
type membership struct {
	proposed uint64 // the index of the last change; the next one waits until it is applied
	// With this image and this membership there was nothing to do.
	image     *metadata.Image
	confState *raftpb.ConfState
	due       bool            // a tick has passed since
	waits     bool            // for a learner to catch up, or a change to be made: look again with the next tick
	followed  *metadata.Image // that the Transport was told
}

// progressOf is what the leader knows of a member.
type progressOf struct {
	id              uint64
	match           uint64
	learner, active bool
	replicating     bool
}

// progress is what the leader knows of the members, by Raft ID.
func (l *loop) progress() []progressOf {
	var all []progressOf
	l.node.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		all = append(all, progressOf{id: id, match: pr.Match, learner: typ == raft.ProgressTypeLearner, active: pr.RecentActive,
			replicating: pr.State == tracker.StateReplicate})
	})
	slices.SortFunc(all, func(a, b progressOf) int { return cmp.Compare(a.id, b.id) })
	return all
}

// outside tells whether this node is no member: it is joining, or was removed.
func (l *loop) outside() bool {
	cs := l.confState
	return !slices.Contains(slices.Concat(cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing(), cs.GetLearnersNext()), l.id)
}

// follow tells the Transport of other brokers and voters.
func (l *loop) follow() {
	if l.o.Transport != nil && l.image.Offset() > 0 && (l.member.followed == nil || !l.member.followed.SameMembers(l.image)) {
		l.member.followed = l.image
		l.o.Transport.Follow(l.image)
	}
}

// reconcile proposes the next change of the membership, if there is one to make: one at a time.
func (l *loop) reconcile() {
	m := &l.member
	if !l.judges() || l.o.Transport == nil || uint64(l.image.Offset()) < m.proposed || !l.mayGrant() {
		return
	}
	if len(l.confState.GetVotersOutgoing()) > 0 {
		l.leaveJoint()
		return
	}
	same := m.image != nil && m.confState == l.confState && m.image.SameMembers(l.image)
	if same && (!m.waits || !m.due) {
		return
	}
	m.due = false
	caughtUp := map[uint64]bool{}
	for _, p := range l.progress() {
		caughtUp[p.id] = p.replicating && p.active && p.match+caughtUpLag >= l.lastIndex
	}
	plan := planMembership(l.image, l.confState, caughtUp)
	m.image, m.confState, m.waits = l.image, l.confState, plan.waits
	switch {
	case len(plan.changes) == 0:
	case plan.removes(l.id):
		m.waits = true
		l.giveUpLeadership(plan.reason)
	default:
		m.waits = true // for the change to be seen: it may come to nothing
		l.proposeMembership(plan)
	}
}

// leaveJoint has Raft leave a joint configuration. It does so itself with the next entry that is applied, but for one that comes
// while the leadership is being handed over; and there may be no other.
func (l *loop) leaveJoint() {
	if !l.member.due || uint64(l.image.Offset()) != l.lastIndex {
		return
	}
	l.member.due = false
	if err := l.node.ProposeConfChange(&raftpb.ConfChangeV2{}); err != nil {
		l.o.Logger.Debug("the joint configuration was not left", "error", err)
	}
	l.ready()
}

// proposeMembership proposes a change; the entry carries the record of the new voters.
func (l *loop) proposeMembership(plan membershipPlan) {
	change := &raftpb.ConfChangeV2{Changes: plan.changes}
	c := &l.commands
	if c.speculative == nil {
		if len(c.proposals) > 0 {
			return // the speculative image is not known; later
		}
		c.speculative = l.image
	}
	p := &proposal{index: l.lastIndex + 1, term: l.leading, base: c.speculative}
	var entry *pb.Entry
	if plan.voters != nil {
		entry = &pb.Entry{Term: l.leading, TimeMs: l.o.Clock.Now().UnixMilli(), Records: []*pb.Record{{
			Reason: plan.reason,
			Kind:   &pb.Record_VotersChanged{VotersChanged: &pb.VotersChanged{Voters: metadata.VoterMessages(plan.voters)}},
		}}}
		data, err := metadata.EncodeEntry(entry)
		if err != nil {
			l.o.Logger.Error("a change of the quorum cannot be encoded", "error", err)
			return
		}
		change.Context = data
	}
	p.image, p.events = p.base.Apply(metadata.Offset(p.index), entry)
	l.o.Logger.Info("the metadata's quorum changes", "reason", plan.reason)
	if err := l.node.ProposeConfChange(change); err != nil {
		l.o.Logger.Debug("a change of the quorum was not proposed", "error", err)
		c.speculative = nil
		return
	}
	c.proposals = append(c.proposals, p)
	c.speculative = p.image
	l.member.proposed = p.index
	l.ready()
}

// membershipPlan is one change to make; without changes there is nothing to do now.
type membershipPlan struct {
	changes []*raftpb.ConfChangeSingle
	voters  []metadata.Voter // after it; nil if they stay
	reason  string
	waits   bool // there is more to do once a learner has caught up
}

func (p membershipPlan) removes(id uint64) bool {
	return slices.ContainsFunc(p.changes, func(c *raftpb.ConfChangeSingle) bool {
		return c.GetType() == raftpb.ConfChangeRemoveNode && c.GetNodeId() == id
	})
}

// planMembership is pure. caughtUp tells which members have nearly all of the log and answer.
func planMembership(img *metadata.Image, cs *raftpb.ConfState, caughtUp map[uint64]bool) membershipPlan {
	p := planner{img: img, cs: cs, caughtUp: caughtUp, registered: map[uint64]*metadata.Broker{}}
	live := 0
	for b := range img.Brokers() {
		p.registered[RaftID(b.Directory)] = b
		if !b.Fenced {
			live++
		}
	}
	for _, step := range []func() bool{p.learners, p.replacement, func() bool { return p.growth(live) }} {
		if step() {
			break
		}
	}
	return p.plan
}

type planner struct {
	img        *metadata.Image
	cs         *raftpb.ConfState
	caughtUp   map[uint64]bool
	registered map[uint64]*metadata.Broker // by Raft ID
	plan       membershipPlan
}

func (p *planner) change(kind raftpb.ConfChangeType, id uint64) {
	p.plan.changes = append(p.plan.changes, &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: &id})
}

// learners removes the disks that nobody is registered with any more and adds those that are.
func (p *planner) learners() bool {
	for _, id := range slices.Sorted(slices.Values(p.cs.GetLearners())) {
		if p.registered[id] == nil {
			p.change(raftpb.ConfChangeRemoveNode, id)
			p.plan.reason = fmt.Sprintf("no broker is registered with the data directory of learner %x any more", id)
			return true
		}
	}
	for b := range p.img.Brokers() {
		id := RaftID(b.Directory)
		if b.ClusterAddress == "" || slices.Contains(p.cs.GetVoters(), id) || slices.Contains(p.cs.GetLearners(), id) {
			continue
		}
		p.change(raftpb.ConfChangeAddLearnerNode, id)
		p.plan.reason = fmt.Sprintf("broker %d registered", b.ID)
		return true
	}
	return false
}

// candidates are the learners that may become voters now, by broker ID; some others may later.
func (p *planner) candidates() []*metadata.Broker {
	var list []*metadata.Broker
	for b := range p.img.Brokers() {
		id := RaftID(b.Directory)
		switch {
		case !slices.Contains(p.cs.GetLearners(), id):
		case b.Fenced || !p.caughtUp[id]: // a broker without a fence has noted which cluster it belongs to: its metadata are not lost unseen
			p.plan.waits = true
		default:
			list = append(list, b)
		}
	}
	return list
}

// replacement gives the place of a voter whose disk is gone to a learner: that of the same broker, if it can, else another's, but
// to none that has a place of its own to take. The place of a broker that was removed, or votes with its new disk already, is given
// up where nobody can take it.
func (p *planner) replacement() bool {
	gone := p.gone()
	for _, v := range gone {
		var to *metadata.Broker
		for _, b := range p.candidates() {
			own := slices.ContainsFunc(gone, func(o metadata.Voter) bool { return o.ID == b.ID })
			if b.ID == v.ID || to == nil && !own {
				to = b
			}
		}
		same := p.img.Broker(v.ID)
		left := same == nil || slices.Contains(p.cs.GetVoters(), RaftID(same.Directory))
		switch {
		case to != nil && (left || to == same || !p.comes(same)):
			p.change(raftpb.ConfChangeAddNode, RaftID(to.Directory))
			p.plan.reason = fmt.Sprintf("broker %d takes the place of broker %d, whose disk is gone", to.ID, v.ID)
		case same == nil && len(p.cs.GetVoters()) > 1:
			p.plan.reason = fmt.Sprintf("broker %d was removed from the cluster", v.ID)
		case left && len(p.cs.GetVoters()) > 1:
			p.plan.reason = fmt.Sprintf("broker %d votes with another disk", v.ID)
		default:
			continue
		}
		p.change(raftpb.ConfChangeRemoveNode, RaftID(v.Directory))
		p.after(to, v)
		return true
	}
	return p.unknown()
}

// gone are the voters whose disk nobody is registered with.
func (p *planner) gone() []metadata.Voter {
	return slices.DeleteFunc(p.voters(), func(v metadata.Voter) bool { return p.registered[RaftID(v.Directory)] != nil })
}

// unknown removes a voter of Raft's that the image knows nothing of.
func (p *planner) unknown() bool {
	known := map[uint64]bool{}
	for _, v := range p.voters() {
		known[RaftID(v.Directory)] = true
	}
	for _, id := range slices.Sorted(slices.Values(p.cs.GetVoters())) {
		if known[id] || len(p.cs.GetVoters()) == 1 {
			continue
		}
		p.change(raftpb.ConfChangeRemoveNode, id)
		p.plan.reason = fmt.Sprintf("nobody knows whose disk voter %x was", id)
		p.after(nil, metadata.Voter{ID: kafka.NoLeader})
		return true
	}
	return false
}

// comes tells whether the broker is on its way to take its own place again.
func (p *planner) comes(b *metadata.Broker) bool { return b != nil && !b.Fenced }

// growth makes learners voters while there are fewer than three, once three brokers are live: two voters are no better than
// one.
func (p *planner) growth(live int) bool {
	missing := votersWanted - len(p.cs.GetVoters())
	if missing <= 0 || live < votersWanted {
		return false
	}
	candidates := p.candidates()
	if len(candidates) < missing {
		return false
	}
	for _, b := range candidates[:missing] {
		p.change(raftpb.ConfChangeAddNode, RaftID(b.Directory))
	}
	p.plan.reason = fmt.Sprintf("%d brokers are live", live)
	p.after(nil, metadata.Voter{ID: kafka.NoLeader}, candidates[:missing]...)
	return true
}

// voters are those of Raft as brokers, by ID, but for those that the image does not know.
func (p *planner) voters() []metadata.Voter {
	known := map[uint64]metadata.Voter{}
	for _, v := range p.img.Voters() {
		known[RaftID(v.Directory)] = v
	}
	for id, b := range p.registered {
		known[id] = voterOf(b)
	}
	var voters []metadata.Voter
	for _, id := range p.cs.GetVoters() {
		if v, ok := known[id]; ok {
			voters = append(voters, v)
		}
	}
	slices.SortFunc(voters, func(a, b metadata.Voter) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), slices.Compare(a.Directory[:], b.Directory[:]))
	})
	return voters
}

func voterOf(b *metadata.Broker) metadata.Voter {
	return metadata.Voter{ID: b.ID, Directory: b.Directory, Address: b.ClusterAddress}
}

// after sets the voters as they are after the change.
func (p *planner) after(in *metadata.Broker, out metadata.Voter, more ...*metadata.Broker) {
	voters := slices.DeleteFunc(p.voters(), func(v metadata.Voter) bool { return v.Directory == out.Directory })
	if in != nil {
		more = append(more, in)
	}
	for _, b := range more {
		voters = append(voters, voterOf(b))
	}
	slices.SortFunc(voters, func(a, b metadata.Voter) int { return cmp.Compare(a.ID, b.ID) })
	p.plan.voters = slices.CompactFunc(voters, func(a, b metadata.Voter) bool { return a.ID == b.ID })
}
