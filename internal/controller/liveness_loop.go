package controller

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// confirmRetry is after what time a round of confirmation is taken for lost.
const confirmRetry = 300 * time.Millisecond

// Heartbeat takes a broker's heartbeat to the controller, wherever it is, and its answer back, once this node has applied what
// the answer rests on. It does not try again: NOT_CONTROLLER and REQUEST_TIMED_OUT say that the heartbeat may not have
// arrived, STALE_BROKER_EPOCH that another process has registered as the broker, BROKER_ID_NOT_REGISTERED that it was removed.
func (c *Controller) Heartbeat(ctx context.Context, hb metadata.Heartbeat) (metadata.HeartbeatAnswer, error) {
	if len(hb.Damaged) > metadata.DamagedPartitionsMax {
		hb.Damaged = hb.Damaged[:metadata.DamagedPartitionsMax]
	}
	a, outcome := c.try(ctx, Command{Command: hb})
	if outcome != done {
		return metadata.HeartbeatAnswer{}, a.Err
	}
	answer, ok := a.Value.(metadata.HeartbeatAnswer)
	if !ok && a.Err == nil {
		return metadata.HeartbeatAnswer{}, kafka.ErrUnknownServerError.With("the controller answered a heartbeat with %T", a.Value)
	}
	return answer, a.Err
}

// BrokerStatuses is what the controller knows of all brokers, sorted by ID: who is live, last heard, fenced since, why.
func (c *Controller) BrokerStatuses(ctx context.Context) ([]metadata.BrokerStatus, error) {
	value, err := c.run(ctx, metadata.DescribeBrokers{}, false)
	if err != nil {
		return nil, err
	}
	return value.([]metadata.BrokerStatus), nil
}

// SyncAge is how long the sync of the metadata WAL that runs takes already; 0 if none runs.
func (c *Controller) SyncAge() time.Duration { return c.loop.journal.syncAge() }

// PeerLost says that a process is dead, for certain: its connection closed and the redial was refused, or another incarnation
// answered. It is fenced at once if it is still the one that is registered. how is for a person. It does not block.
func (c *Controller) PeerLost(id kafka.BrokerID, incarnation [16]byte, how string) {
	c.inbox.post(func() {
		l := c.loop
		l.command(l.liveness.lost(l.o.Clock.Now(), l.newest(), id, incarnation, how))
	})
}

// PeerBack says that a process answers (again). It does not block.
func (c *Controller) PeerBack(id kafka.BrokerID, incarnation [16]byte) {
	c.inbox.post(func() { c.loop.liveness.back(id, incarnation) })
}

// beats are the heartbeats that wait for their answer: each for a round of confirmation that begins after it came, and for
// what it led to. A round is Raft's ReadIndex: a quorum still takes this node for the leader. Without it, a controller that
// is cut off would go on granting leases while another one fences.
type beats struct {
	early     []*call // came before this leader knew what is committed
	previous  uint64  // the Raft ID of who led before; 0 if it is not known
	judged    uint64  // the term in which this leader began to judge
	waiting   []*waitingBeat
	answers   []*waitingAnswer
	round     uint64 // the last one begun
	confirmed uint64
	began     time.Time // of the round under way
}

type waitingBeat struct {
	call  *call
	hb    metadata.Heartbeat
	round uint64 // that confirms it; 0 until it is begun
	// heard: it counts as a sign of life, and its answer may grant a lease.
	heard bool
}

// newest is the image with all proposals.
func (l *loop) newest() *metadata.Image {
	if l.commands.speculative != nil {
		return l.commands.speculative
	}
	return l.image
}

// judges tells whether this node leads, knows what is committed, and has begun to judge brokers by it.
func (l *loop) judges() bool {
	return l.leading != 0 && l.imageTerm == l.leading && l.beats.judged == l.leading
}

// beginToJudge does so as soon as this leader knows what is committed: silence counts from then on, who is known to be dead is
// fenced at once, and the heartbeats that came too early are taken in.
func (l *loop) beginToJudge() {
	if l.leading == 0 || l.imageTerm != l.leading || l.beats.judged == l.leading {
		return
	}
	l.beats.judged = l.leading
	was, heard := kafka.NoLeader, time.Time{}
	if l.beats.previous != raft.None {
		was = brokerOf(l.image, l.beats.previous)
	}
	if was != kafka.NoLeader && l.o.LastHeard != nil {
		heard = l.o.LastHeard(was)
	}
	l.liveness.elected(l.o.Clock.Now(), l.image, was, heard)
	l.judge(0)
	early := l.beats.early
	l.beats.early = nil
	for _, c := range early {
		l.takeBeat(c)
	}
}

// takeBeat takes in a heartbeat at the leader. A process has one that waits.
func (l *loop) takeBeat(c *call) {
	hb := c.command.(metadata.Heartbeat)
	hb.Damaged = hb.Damaged[:min(len(hb.Damaged), metadata.DamagedPartitionsMax)]
	w := &waitingBeat{call: c, hb: hb}
	var commands []any
	if !c.validateOnly {
		var err error
		commands, err = l.liveness.beat(l.o.Clock.Now(), l.newest(), hb)
		w.heard = err == nil
	}
	for i, o := range l.beats.waiting {
		if o.hb.Broker == hb.Broker && o.hb.Incarnation == hb.Incarnation {
			o.call.answer(result{err: kafka.ErrRequestTimedOut.With("a later heartbeat of broker %d came", hb.Broker)})
			l.beats.waiting = append(l.beats.waiting[:i:i], l.beats.waiting[i+1:]...)
			break
		}
	}
	l.beats.waiting = append(l.beats.waiting, w)
	l.command(commands)
}

// beatAnswer is the answer to a heartbeat, with a quorum behind it. An error names no offset: who was removed could not get that far.
//
// One that came by way of another node, from a broker that hears nothing of a controller, asks whether it was removed without
// having learned of it. It is told that, and nothing else: who cannot be reached must not count as alive.
func (l *loop) beatAnswer(w *waitingBeat) result {
	answer, err := l.liveness.answer(l.image, l.newest(), w.hb)
	if err == nil && !w.heard {
		err = kafka.ErrNotController.With("broker %d is registered, and has to be heard by the controller itself", w.hb.Broker)
	}
	if err != nil {
		return result{err: err}
	}
	answer.Term = l.leading
	return result{value: answer, offset: answer.Offset}
}

// command has the leader decide what liveness asks for, before anything else that waits.
func (l *loop) command(commands []any) {
	if len(commands) == 0 {
		return
	}
	var first []*call
	for _, c := range commands {
		first = append(first, &call{ctx: context.Background(), command: c, local: true, notify: func(r result) { l.commanded(c, r) }})
	}
	l.commands.queue = slices.Concat(first, l.commands.queue)
}

// commanded is the end of a command of liveness.
func (l *loop) commanded(command any, r result) {
	switch c := command.(type) {
	case brokerState:
		wrote, _ := r.value.(bool)
		l.liveness.done(c, wrote, r.offset, r.err)
		l.logState(c, wrote)
	case balanceLeaders:
		changed, _ := r.value.(int)
		l.liveness.rebalanced(l.o.Clock.Now(), changed, r.err)
	case widenTopics:
		l.liveness.widened(l.o.Clock.Now())
		if n, _ := r.value.(int); n > 0 {
			l.o.Logger.Info("internal topics got more replicas", "partitions", n, "brokers", c.settled)
		}
	}
	if r.err != nil {
		l.o.Logger.Debug("a change of a broker's state did not happen", "error", r.err)
	}
}

// logState tells a person what became of a broker.
func (l *loop) logState(c brokerState, wrote bool) {
	switch {
	case !wrote:
	case c.fenced == set:
		level := slog.LevelWarn
		if c.stopping {
			level = slog.LevelInfo
		}
		l.o.Logger.Log(context.Background(), level, "broker fenced; its partitions are led by others, where they can be", "broker", c.id, "reason", c.reason)
	case len(c.damaged) > 0 && c.fenced == unchanged:
		l.o.Logger.Warn("damaged replicas lose their places", "broker", c.id, "replicas", len(c.damaged), "state", c.reason)
	case c.slow == set:
		l.o.Logger.Warn("broker with a slow disk; others lead its partitions, where they can", "broker", c.id, "reason", c.reason)
	default:
		l.o.Logger.Info("broker changed its state", "broker", c.id, "reason", c.reason)
	}
}

// confirmedRound is Raft's answer to a round; false if it is not one of these.
func (l *loop) confirmedRound(rs raft.ReadState) bool {
	if len(rs.RequestCtx) != 9 || rs.RequestCtx[0] != 'h' {
		return false
	}
	l.beats.confirmed = max(l.beats.confirmed, binary.BigEndian.Uint64(rs.RequestCtx[1:]))
	return true
}

// serveBeats begins a round if one is needed and answers what is confirmed.
func (l *loop) serveBeats() {
	b := &l.beats
	if !l.judges() || len(b.waiting)+len(b.answers) == 0 {
		return
	}
	now := l.o.Clock.Now()
	idle := b.confirmed == b.round || now.Sub(b.began) >= confirmRetry
	needed := false
	for _, w := range b.waiting {
		needed = needed || w.round == 0 || w.round > b.confirmed
	}
	for _, w := range b.answers {
		needed = needed || w.round == 0 || w.round > b.confirmed
	}
	if idle && needed {
		b.round++
		b.began = now
		for _, w := range b.waiting {
			if w.round == 0 {
				w.round = b.round
			}
		}
		for _, w := range b.answers {
			if w.round == 0 {
				w.round = b.round
			}
		}
		l.node.ReadIndex(binary.BigEndian.AppendUint64([]byte{'h'}, b.round))
		l.ready()
	}
	l.answerBeats()
	l.giveAnswers()
}

func (l *loop) answerBeats() {
	b := &l.beats
	rest := b.waiting[:0]
	for _, w := range b.waiting {
		p := l.liveness.pulses[w.hb.Broker]
		switch {
		case w.call.ctx.Err() != nil: // nobody waits
		case w.round == 0 || w.round > b.confirmed || p != nil && p.changing > 0 || !l.mayGrant():
			rest = append(rest, w)
		default:
			w.call.answer(l.beatAnswer(w))
		}
	}
	clear(b.waiting[len(rest):])
	b.waiting = rest
}

// mayGrant is false while leadership is handed to another node: from then on nobody knows how long this one leads.
func (l *loop) mayGrant() bool { return l.node.BasicStatus().LeadTransferee == raft.None }

// electedOrDeposed follows this node's leadership. previous is the Raft ID of who led before; 0 if it is not known.
func (l *loop) electedOrDeposed(previous uint64) {
	l.takeBack()
	l.refuseBeats(kafka.ErrNotController.With("the controller lost its leadership"))
	l.beats = beats{round: l.beats.round, confirmed: l.beats.round, previous: previous}
	l.liveness.deposed()
	l.member = membership{followed: l.member.followed} // what was proposed may be lost
	if l.leading == 0 {
		return
	}
	l.commands.queue = slices.DeleteFunc(l.commands.queue, func(c *call) bool {
		_, ok := c.command.(metadata.Heartbeat)
		if ok {
			l.beats.early = append(l.beats.early, c)
		}
		return ok
	})
}

// judge runs with each tick. A controller with a slow disk decides nothing while it waits for it: another is to lead, first.
func (l *loop) judge(late time.Duration) {
	if l.leading == 0 {
		return
	}
	now := l.o.Clock.Now()
	if age := l.journal.syncAge(); l.liveness.handOver(now, l.newest(), l.o.NodeID, age) && l.mayGrant() {
		l.giveUpLeadership(fmt.Sprintf("a sync of this node's disk takes %v already", age.Round(time.Millisecond)))
	}
	if l.judges() {
		l.command(l.liveness.tick(now, l.newest(), late))
	}
}

// receive takes a call in. A heartbeat does not wait for the disk, as commands do.
func (l *loop) receive(c *call) {
	_, beat := c.command.(metadata.Heartbeat)
	switch {
	case beat && l.err == nil && l.judges():
		l.takeBeat(c)
	case beat && l.err == nil && l.leading != 0:
		l.beats.early = append(l.beats.early, c)
	default:
		l.commands.queue = append(l.commands.queue, c)
	}
}

func (l *loop) refuseBeats(err error) {
	for _, c := range l.beats.early {
		c.answer(result{err: err})
	}
	l.beats.early = nil
	for _, w := range l.beats.waiting {
		w.call.answer(result{err: err})
	}
	l.beats.waiting = nil
	for _, w := range l.beats.answers {
		w.call.answer(result{err: err})
	}
	l.beats.answers = nil
}

// decideOn decides a command on an image, with what heartbeats have told.
func (l *loop) decideOn(img *metadata.Image, command any) (decision, error) {
	now := l.o.Clock.Now()
	if _, ok := command.(metadata.DescribeBrokers); ok {
		statuses := l.liveness.statuses(now, img)
		return decision{answer: func(*metadata.Image) any { return statuses }}, nil
	}
	s := state{image: img, defaults: l.o.Defaults, limits: l.o.Limits, damaged: l.liveness.damaged()}
	if _, ok := command.(metadata.RegisterBroker); ok {
		s.leased = l.liveness.leased(now)
	}
	return decide(s, command)
}
