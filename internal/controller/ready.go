package controller

import (
	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// ready does what Raft asks for until it asks for nothing.
func (l *loop) ready() {
	for l.err == nil && l.node.HasReady() {
		rd := l.node.Ready()
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				l.storageAppend(m)
			case raft.LocalApplyThread:
				l.storageApply(m)
			default:
				l.send(m)
			}
		}
		for _, rs := range rd.ReadStates {
			if !l.confirmedRound(rs) {
				l.barrier.readable(rs)
			}
		}
		l.observe()
	}
}

// observe notices who leads, and in which term.
func (l *loop) observe() {
	status := l.node.BasicStatus()
	leading := uint64(0)
	if status.RaftState == raft.StateLeader {
		leading = status.GetTerm()
	}
	if leading != l.leading {
		if l.leading != 0 {
			l.o.Logger.Info("no longer the controller", "term", l.leading)
			l.loseProposals()
		}
		if leading != 0 {
			l.o.Logger.Info("elected as controller", "term", leading)
		}
		l.leading = leading
		l.electedOrDeposed(l.led)
	}
	if status.Lead != raft.None && status.Lead != status.ID {
		l.led = status.Lead
	}
	if status.Lead != raft.None || l.known != raft.None {
		l.leaderSeen = l.o.Clock.Now()
	}
	lost := status.Lead == raft.None && l.known != raft.None && status.RaftState != raft.StateFollower
	if status.Lead != l.known || status.GetTerm() != l.knownTerm {
		l.known, l.knownTerm, l.leaderHeard = status.Lead, status.GetTerm(), l.o.Clock.Now()
		l.lead(status.Lead, status.GetTerm())
	}
	if lost {
		l.insist()
	}
}

func (l *loop) send(m *raftpb.Message) {
	if l.o.Transport == nil {
		return
	}
	data, err := proto.Marshal(m)
	if err != nil {
		l.o.Logger.Error("a Raft message cannot be encoded and is dropped", "type", m.GetType(), "error", err)
		return
	}
	to := m.GetTo()
	if m.GetType() != raftpb.MsgSnap {
		if !l.o.Transport.Send(to, data) {
			l.node.ReportUnreachable(to)
		}
		return
	}
	l.o.Transport.SendSnapshot(to, data, func(ok bool) {
		status := raft.SnapshotFailure
		if ok {
			status = raft.SnapshotFinish
		}
		l.inbox.post(func() { l.node.ReportSnapshot(to, status) })
	})
}

// respond delivers what Raft attached to a storage message, to this node and to others.
func (l *loop) respond(responses []*raftpb.Message) {
	for _, m := range responses {
		if m.GetTo() != l.node.BasicStatus().ID {
			l.send(m)
		} else if err := l.node.Step(m); err != nil {
			l.fail(err)
		}
	}
}

// storageAppend makes a hard state, entries and a snapshot durable, and answers when they are. A new commit index alone
// is no reason to write: it goes with the next payload, and an older one is no harm after a crash.
func (l *loop) storageAppend(m *raftpb.Message) {
	mustWrite := len(m.GetEntries()) > 0
	if m.GetTerm() != 0 {
		hardState := &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
		mustWrite = mustWrite || hardState.GetTerm() != l.hardState.GetTerm() || hardState.GetVote() != l.hardState.GetVote()
		l.hardState = hardState
	}
	if m.GetSnapshot() != nil {
		l.installSnapshot(m.GetSnapshot())
	}
	hardState, entries, responses := l.hardState, m.GetEntries(), m.GetResponses()
	if n := len(entries); n > 0 {
		l.lastIndex = entries[n-1].GetIndex()
	}
	done := func() {
		l.appending--
		if err := l.storage.SetHardState(hardState); err != nil {
			l.fail(err)
		}
		if err := l.storage.Append(entries); err != nil {
			l.fail(err)
		}
		l.respond(responses)
	}
	l.appending++
	if !mustWrite {
		l.after(done)
		return
	}
	payload, err := appendAppend(nil, hardState, entries)
	if err != nil {
		l.fail(err)
		return
	}
	at := l.write(payload, done)
	at.last = l.lastIndex
	l.snapshot.appended(at)
}

// storageApply folds committed entries into the image.
func (l *loop) storageApply(m *raftpb.Message) {
	for _, e := range m.GetEntries() {
		if !l.apply(e) {
			return
		}
	}
	l.respond(m.GetResponses())
}

// apply publishes the image after an entry and answers what waited for it. It returns false if the node cannot go on.
func (l *loop) apply(e *raftpb.Entry) bool {
	var batch metadata.Batch
	offset := metadata.Offset(e.GetIndex())
	switch {
	case e.GetType() != raftpb.EntryNormal:
		entry, err := l.applyConfChange(e)
		if err != nil {
			l.fail(err)
			return false
		}
		var ours bool
		if batch, ours = l.folded(e); !ours {
			batch.Image, batch.Events = l.image.Apply(offset, entry)
		}
	case len(e.GetData()) == 0: // a new leader's
		batch.Image, _ = l.image.Apply(offset, nil)
	default:
		var ours bool
		if batch, ours = l.folded(e); ours {
			break
		}
		entry, err := metadata.DecodeEntry(e.GetData())
		if err != nil {
			l.fail(err)
			return false
		}
		if entry.GetTerm() != e.GetTerm() {
			entry = nil // decided on an image that never came to be
		}
		batch.Image, batch.Events = l.image.Apply(offset, entry)
	}
	l.image, l.imageTerm = batch.Image, e.GetTerm()
	l.bus.Publish(batch)
	l.applied(e.GetIndex(), e.GetTerm())
	return true
}

// applyConfChange changes the membership and returns the records that the entry carries.
func (l *loop) applyConfChange(e *raftpb.Entry) (*pb.Entry, error) {
	change, entry, err := decodeConfChange(e)
	if err != nil {
		return nil, err
	}
	l.confState = l.node.ApplyConfChange(change)
	return entry, nil
}

// decodeConfChange reads a change of the membership, and the records that go with it. They hold whatever the term, as the
// change does.
func decodeConfChange(e *raftpb.Entry) (raftpb.ConfChangeI, *pb.Entry, error) {
	if e.GetType() == raftpb.EntryConfChange {
		cc := &raftpb.ConfChange{}
		return cc, nil, proto.Unmarshal(e.GetData(), cc)
	}
	cc := &raftpb.ConfChangeV2{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		return nil, nil, err
	}
	if len(cc.GetContext()) == 0 {
		return cc, nil, nil
	}
	entry, err := metadata.DecodeEntry(cc.GetContext())
	return cc, entry, err
}
