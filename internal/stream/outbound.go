package stream

import (
	"fmt"
	"sync"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/peer"
	"chronik/internal/replica"
)

// outbound is the leader's side of a connection: what its peer follows over it. One goroutine reads Follows and acks, one
// sends; neither waits for the other.
type outbound struct {
	s        *Streams
	conn     conn
	follower kafka.BrokerID
	kind     peer.Kind

	mu struct {
		sync.Mutex
		sessions map[sessionID]*feed
		dirty    []*feed // to be looked at by the sender, in this order
		wanted   bool    // the sender is to look at them now; else they wait for an ack, or for more
		held     int     // bytes appended that wait so
		small    int     // small writes since the last Ack frame
		spare    []*feed // for the next dirty
		waiting  []*feed // for room in the stream's window
		parked   []*feed // by the time they are given up
		lagging  []*feed // whose watermark waits for a batch
		pending  int     // Follows without an answer
		inFlight int64   // bytes sent and not acknowledged
		closed   bool
		sending  bool // somebody does the sender's work: the sender, or whoever has appended

		lagTimer, parkTimer       clock.Timer
		lagTimerSet, parkTimerSet bool
	}
	work   *sync.Cond    // the sender waits here
	ended  chan struct{} // closed with the connection
	pace   pace
	marks  []watermark // the sender's scratch
	gapped []byte      // room for batches with gaps; the sender's
	unsent int64       // bytes of batches in the connection's buffer; the sender's
}

// serve is the life of a connection that a follower has dialled.
func (s *Streams) serve(c conn) {
	<-s.started
	o := &outbound{s: s, conn: c, follower: c.Peer().Broker, kind: c.Kind(), ended: make(chan struct{})}
	o.work = sync.NewCond(&o.mu.Mutex)
	o.mu.sessions = map[sessionID]*feed{}
	o.pace = s.newPace()
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return
	}
	s.mu.outbounds[o] = struct{}{}
	s.done.Go(o.send)
	s.done.Add(1)
	s.mu.Unlock()
	defer s.done.Done()
	err := o.receive()
	o.shut()
	s.mu.Lock()
	delete(s.mu.outbounds, o)
	closed := s.mu.closed
	s.mu.Unlock()
	if !closed {
		s.log.Info("a follower's connection ended", "broker", o.follower, "kind", o.kind, "error", err)
	}
}

// shut ends the connection and all its feeds.
func (o *outbound) shut() {
	o.mu.Lock()
	if o.mu.closed {
		o.mu.Unlock()
		return
	}
	o.mu.closed = true
	close(o.ended)
	for _, t := range []clock.Timer{o.mu.lagTimer, o.mu.parkTimer} {
		if t != nil {
			t.Stop()
		}
	}
	feeds := make([]*feed, 0, len(o.mu.sessions))
	for _, f := range o.mu.sessions {
		feeds = append(feeds, f)
	}
	o.mu.dirty, o.mu.waiting, o.mu.parked, o.mu.lagging = nil, nil, nil, nil
	o.work.Broadcast()
	o.mu.Unlock()
	_ = o.conn.Close() // the connection is over, whatever it says
	for _, f := range feeds {
		o.end(f)
	}
}

// end ends a feed: nothing is sent to it or counted from it any more.
func (o *outbound) end(f *feed) {
	o.mu.Lock()
	if f.state == feedEnded {
		o.mu.Unlock()
		return
	}
	if f.state == feedAdmitting || f.state == feedParked {
		o.mu.pending--
	}
	f.state = feedEnded
	if o.mu.sessions[f.request.session] == f {
		delete(o.mu.sessions, f.request.session)
	}
	o.freeLocked(f, f.window.bytes)
	f.window = window{}
	session := f.session
	o.mu.Unlock()
	o.s.unlist(f)
	if session != nil {
		session.Close()
	}
}

// receive reads what the follower says.
func (o *outbound) receive() error {
	for {
		frame, err := o.conn.ReadFrame()
		if err != nil {
			return err
		}
		switch frame.Type {
		case frameAck:
			err = o.acks(frame.Body)
		case frameFollow:
			err = o.follows(frame.Body)
		case frameStop:
			err = o.stops(frame.Body)
		default:
			err = fmt.Errorf("a follower sent a frame of type %d", frame.Type)
		}
		if err != nil {
			o.s.log.Error("a follower's connection is closed: it does not keep to the protocol", "broker", o.follower, "error", err)
			return err
		}
	}
}

func (o *outbound) follows(body []byte) error {
	m, err := decodeFollow(body)
	if err != nil {
		return err
	}
	f := &feed{o: o, request: m, highWatermark: kafka.NoOffset, logStart: kafka.NoOffset}
	o.s.stats.follows.Add(1)
	o.mu.Lock()
	if o.mu.closed {
		o.mu.Unlock()
		return nil
	}
	if o.mu.sessions[m.session] != nil {
		o.mu.Unlock()
		return fmt.Errorf("session %d was begun twice", m.session)
	}
	o.mu.sessions[m.session] = f
	if o.mu.pending >= o.s.o.Limits.Parked {
		f.state = feedAnswering
		f.reply = refusal(kafka.ErrThrottlingQuotaExceeded.With("%d Follows wait for an answer already", o.mu.pending))
		o.queueLocked(f)
		o.mu.Unlock()
		return nil
	}
	o.mu.pending++
	o.mu.Unlock()
	o.s.admit(f)
	return nil
}

func refusal(err *kafka.Error) decision {
	return decision{FollowDecision: replica.FollowDecision{Action: replica.FollowRefuse, LeaderEpoch: kafka.NoLeaderEpoch, Err: err}}
}

func (o *outbound) stops(body []byte) error {
	id, err := decodeStop(body)
	if err != nil {
		return err
	}
	o.mu.Lock()
	f := o.mu.sessions[id]
	o.mu.Unlock()
	if f != nil {
		o.end(f)
	}
	return nil
}

// acks hands acknowledgements to the sessions that they name, if those are still theirs.
func (o *outbound) acks(body []byte) error {
	if err := checkAcks(body); err != nil {
		return err
	}
	o.s.stats.acksReceived.Add(1)
	o.mu.Lock()
	o.mu.small = 0
	o.wakeLocked()
	o.mu.Unlock()
	var m ack
	for len(body) > 0 {
		m, body = nextAck(body)
		o.mu.Lock()
		f := o.mu.sessions[m.session]
		if f == nil || f.request.leaderEpoch != m.leaderEpoch {
			o.mu.Unlock()
			continue // of a session that is over
		}
		if f.state == feedAdmitting || f.state == feedParked {
			f.early = m
			o.mu.Unlock()
			continue
		}
		session := f.session
		f.acked = max(f.acked, m.durable)
		if o.freeLocked(f, f.window.acked(m.durable)); f.starved && f.state == feedStreaming {
			f.starved = false
			o.queueLocked(f)
		}
		o.mu.Unlock()
		if session == nil { // it was refused
			continue
		}
		if err := session.Acked(m.durable, m.logStart); err != nil {
			return fmt.Errorf("partition %s: %w", f.request.id, err)
		}
	}
	return nil
}

// freeLocked gives room in the stream's window back.
func (o *outbound) freeLocked(f *feed, bytes int64) {
	if bytes == 0 {
		return
	}
	o.mu.inFlight -= bytes
	if o.mu.inFlight == 0 {
		o.wakeLocked() // no ack would
	}
	if o.s.o.Limits.StreamWindow-o.mu.inFlight >= roomMin && len(o.mu.waiting) > 0 {
		for _, g := range o.mu.waiting {
			g.queued = false
			o.queueLocked(g)
		}
		clear(o.mu.waiting)
		o.mu.waiting = o.mu.waiting[:0]
	}
}

// queueLocked has the sender look at the feed.
func (o *outbound) queueLocked(f *feed) {
	if o.mu.closed {
		return
	}
	if f.queued {
		o.wakeLocked() // it may be held
		return
	}
	f.queued = true
	o.mu.dirty = append(o.mu.dirty, f)
	o.wakeLocked()
}

// wakeLocked has the sender look at what is dirty, held or not.
func (o *outbound) wakeLocked() {
	if len(o.mu.dirty) == 0 || o.mu.wanted {
		return
	}
	o.mu.wanted = true
	if !o.mu.sending { // whoever sends looks again when he is through
		o.work.Signal()
	}
}

// changed is told that the partition has something to send.
func (o *outbound) changed(f *feed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.state == feedStreaming && !f.starved {
		o.queueLocked(f)
	}
}
