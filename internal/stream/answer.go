package stream

import (
	"errors"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// How a Follow gets its answer: at once, or, if it is newer than what this node knows, when leadership begins here.

// answer asks the partition and acts on what it says. It runs on the partition's admitter.
func (o *outbound) answer(f *feed) {
	for {
		o.mu.Lock()
		if f.state == feedEnded {
			o.mu.Unlock()
			o.s.unlist(f) // it may have ended before it was enlisted
			return
		}
		if f.state == feedParked {
			f.state = feedAdmitting
		}
		f.again = false
		o.mu.Unlock()

		p, d := o.s.decide(f)
		switch d.Action {
		case replica.FollowStream:
			o.stream(f, p, d)
			return
		case replica.FollowPark:
			if o.park(f) {
				return
			}
		default:
			o.reply(f, d)
			return
		}
	}
}

// stream begins to send. What the follower acknowledged before it had a session counts first.
func (o *outbound) stream(f *feed, p partition, d decision) {
	o.mu.Lock()
	f.session = d.session
	f.p = p
	f.next, f.sent, f.acked = d.From, d.From, kafka.NoOffset
	for f.state != feedEnded && f.early.session != 0 {
		early := f.early
		f.early = ack{}
		f.acked = max(f.acked, early.durable)
		o.mu.Unlock()
		if err := d.session.Acked(early.durable, early.logStart); err != nil {
			o.s.log.Error("a follower's connection is closed: its first ack is impossible", "partition", f.request.id, "broker", o.follower, "error", err)
			o.shut()
		}
		o.mu.Lock()
	}
	if f.state == feedEnded { // it ended when it had no session yet
		o.mu.Unlock()
		o.s.unlist(f)
		d.session.Close()
		return
	}
	f.state = feedStreaming
	f.due = true
	o.mu.pending--
	o.queueLocked(f)
	o.mu.Unlock()
	o.s.log.Debug("a follower is streamed to", "partition", f.request.id, "broker", o.follower, "kind", o.kind, "from", d.From, "leader epoch", f.request.leaderEpoch)
}

// reply has the sender answer with something else than a stream.
func (o *outbound) reply(f *feed, d decision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.state != feedAdmitting && f.state != feedParked {
		return
	}
	o.mu.pending--
	f.state = feedAnswering
	f.reply = d
	o.queueLocked(f)
}

// park lets the Follow wait; false if it is to be asked again at once.
func (o *outbound) park(f *feed) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case f.state == feedEnded:
		return true
	case f.again:
		return false
	}
	o.s.stats.parked.Add(1)
	f.state = feedParked
	if f.until.IsZero() {
		f.until = o.s.clock.Now().Add(o.s.o.Limits.ParkedFor)
		o.mu.parked = append(o.mu.parked, f)
		o.armParkedLocked()
	}
	return true
}

// tryAgain is told that leadership began here.
func (o *outbound) tryAgain(f *feed) {
	o.mu.Lock()
	parked := f.state == feedParked
	if parked {
		f.state = feedAdmitting
	}
	f.again = true
	o.mu.Unlock()
	if parked {
		o.s.admit(f)
	}
}

func (o *outbound) armParkedLocked() {
	if o.mu.parkTimerSet || len(o.mu.parked) == 0 || o.mu.closed {
		return
	}
	o.mu.parkTimerSet = true
	left := o.mu.parked[0].until.Sub(o.s.clock.Now())
	if o.mu.parkTimer == nil {
		o.mu.parkTimer = o.s.clock.AfterFunc(left, o.expireParked)
	} else {
		o.mu.parkTimer.Reset(left)
	}
}

// expireParked refuses what has waited for long enough. The follower comes again.
func (o *outbound) expireParked() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.parkTimerSet = false
	if o.mu.closed {
		return
	}
	now := o.s.clock.Now()
	for len(o.mu.parked) > 0 && !o.mu.parked[0].until.After(now) {
		f := o.mu.parked[0]
		o.mu.parked[0] = nil
		o.mu.parked = o.mu.parked[1:]
		switch f.state {
		case feedAdmitting: // it is being asked about again
			f.until = time.Time{}
		case feedParked:
			o.mu.pending--
			f.state = feedAnswering
			f.reply = refusal(kafka.ErrUnknownLeaderEpoch.With("the metadata of this node does not have it as leader of partition %s in epoch %d",
				f.request.id, f.request.leaderEpoch))
			o.queueLocked(f)
		}
	}
	o.armParkedLocked()
}

// writeReply writes what a Follow is answered with, and ends the feed.
func (o *outbound) writeReply(f *feed, d decision) {
	r := f.request
	switch d.Action {
	case replica.FollowTruncate:
		o.s.stats.truncates.Add(1)
		o.conn.EndFrame(truncate{r.session, r.leaderEpoch, d.Truncate}.appendTo(o.conn.BeginFrame(frameTruncate)))
	case replica.FollowReset:
		o.s.stats.resets.Add(1)
		o.conn.EndFrame(reset{r.session, r.leaderEpoch, d.Reset}.appendTo(o.conn.BeginFrame(frameReset)))
	default:
		o.s.stats.refusals.Add(1)
		m := refuse{session: r.session, leaderEpoch: d.LeaderEpoch, code: kafka.CodeOf(d.Err)}
		var protocol *kafka.Error
		if errors.As(d.Err, &protocol) {
			m.text = protocol.Msg
		} else if d.Err != nil {
			m.text = d.Err.Error()
		}
		o.conn.EndFrame(m.appendTo(o.conn.BeginFrame(frameRefuse)))
	}
	o.end(f)
}
