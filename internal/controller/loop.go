package controller

import (
	"time"

	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/clock"
	"chronik/internal/metadata"
)

// Raft's times: the election timeout is electionTicks ticks, to twice that.
const (
	tickInterval   = 100 * time.Millisecond
	electionTicks  = 10
	heartbeatTicks = 2
)

// loop owns the Raft node and all that depends on it. Only its goroutine touches the fields; others post to the inbox.
type loop struct {
	o       *Options
	id      uint64 // Raft ID
	bus     *metadata.Bus
	inbox   *inbox
	journal journal
	storage *storage
	node    *raft.RawNode
	lead    func(raftID, term uint64) // tells the outside who leads
	tick    clock.Timer

	image      *metadata.Image // all that is applied
	imageTerm  uint64          // the Raft term of the last applied entry
	confState  *raftpb.ConfState
	hardState  *raftpb.HardState // the newest, written or not
	lastIndex  uint64            // of the last entry handed to the journal
	known      uint64            // the leader's Raft ID as told to the outside
	knownTerm  uint64            // likewise
	leaderSeen time.Time         // the last time that a leader was known, or the start
	// leaderHeard is when something last came from the leader that is known, or it became known.
	leaderHeard time.Time
	leading     uint64 // the term in which this node leads; 0 if it does not
	err         error  // set once the journal or the log cannot be used

	writes    []write // handed to the journal, oldest first
	written   int64   // how many payloads were
	appending int     // Raft appends among writes

	commands commands
	barrier  barrier
	liveness liveness
	beats    beats
	ticked   time.Time // the last tick
	led      uint64    // the last leader's Raft ID that was another node's
	judged   uint64    // the term in which this node, leading, has judged the brokers first
	snapshot snapshotting
	election election
	member   membership
	transfer transfer
}

// write is something to do once a number of payloads are durable.
type write struct {
	upTo int64
	done func()
}

// run is the loop. It ends when the inbox is closed.
func (l *loop) run() {
	l.armTick()
	l.step()
	var events []func()
	for open := true; open; {
		events, open = l.inbox.take(events)
		for i, event := range events {
			events[i] = nil
			event()
		}
		if open {
			l.step()
		}
	}
	l.tick.Stop()
	l.election.stop()
	l.barrier.stop(errClosing)
	l.snapshot.stop()
	l.refuseBeats(errClosing)
	l.commands.refuse(errClosing)
}

// step brings Raft, the waiting commands and the barriers to rest.
func (l *loop) step() {
	if l.err != nil {
		l.refuseBeats(errFailed(l.err))
		l.commands.refuse(errFailed(l.err))
		l.barrier.stop(errFailed(l.err))
		return
	}
	l.ready()
	if l.judges() && l.judged != l.leading { // who is known to be dead is not led by for another tick
		l.judged = l.leading
		l.judge(0)
	}
	l.beginToJudge()
	if l.decide() {
		l.ready()
	}
	l.reconcile()
	l.follow()
	l.transferred()
	l.serveBeats()
	l.serveBarriers()
	l.considerSnapshot()
}

func (l *loop) armTick() {
	l.ticked = l.o.Clock.Now()
	l.tick = l.o.Clock.AfterFunc(l.o.tick, func() { l.inbox.post(l.onTick) })
}

// onTick measures how late the loop is: so much of the silence of others is its own deafness.
func (l *loop) onTick() {
	now := l.o.Clock.Now()
	late := max(0, now.Sub(l.ticked)-l.o.tick)
	l.ticked = now
	l.node.Tick()
	l.member.due = true
	l.barrier.prune()
	l.forgetSilent(late)
	l.judge(late)
	l.tick.Reset(l.o.tick)
}

// forgetSilent forgets a leader that says nothing. Raft does so where a node votes; one that does not would wait for it for ever,
// though it may have been removed, and another be elected, without its hearing of either.
func (l *loop) forgetSilent(late time.Duration) {
	now := l.o.Clock.Now()
	if l.leaderHeard = l.leaderHeard.Add(late); l.leaderHeard.After(now) {
		l.leaderHeard = now
	}
	if l.known == raft.None || l.known == l.id || now.Sub(l.leaderHeard) <= 2*electionTicks*l.o.tick {
		return
	}
	l.o.Logger.Info("nothing was heard of the controller", "broker", brokerOf(l.image, l.known), "for", now.Sub(l.leaderHeard).Round(time.Millisecond))
	_ = l.node.ForgetLeader() // cannot fail
	l.observe()
}

// fail ends the node's part: nothing that is under way is known to have happened.
func (l *loop) fail(err error) {
	if l.err != nil {
		return
	}
	l.err = err
	l.o.Logger.Error("the metadata of this node cannot be kept any more; the process must stop", "dir", l.o.Dir, "error", err)
	l.loseProposals()
	l.o.Fatal(err)
}

// write hands a payload to the journal; done runs in the loop once it is durable.
func (l *loop) write(payload []byte, done func()) position {
	at, err := l.journal.write(payload)
	if err != nil {
		l.fail(err)
		return position{}
	}
	l.written++
	l.writes = append(l.writes, write{upTo: l.written, done: done})
	return position{at: at, size: int64(len(payload))}
}

// after runs done once all that was written so far is durable; at once if it is.
func (l *loop) after(done func()) {
	if len(l.writes) == 0 {
		done()
		return
	}
	l.writes = append(l.writes, write{upTo: l.written, done: done})
}

// durable is the journal's report that so many payloads are durable.
func (l *loop) durable(count int64) {
	for len(l.writes) > 0 && l.writes[0].upTo <= count && l.err == nil {
		done := l.writes[0].done
		l.writes[0] = write{}
		l.writes = l.writes[1:]
		done()
	}
}
