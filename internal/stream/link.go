package stream

import (
	"slices"
	"sync"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/peer"
)

// link is the follower's side of one connection: the partitions that follow over it. It dials while it has any. One
// goroutine dials and writes (Follows, acks), one reads. Everything below work is guarded by source.mu.
type link struct {
	s    *Streams
	src  *source
	kind peer.Kind
	work *sync.Cond // the writer waits here

	partitions map[kafka.TopicPartition]*following
	sessions   map[sessionID]*following // on this connection
	follows    []*following             // to follow, in this order
	acks       []*following             // whose durable end is to be told
	stops      []sessionID              // which the leader may forget

	writing    bool // somebody writes: the writer, or the reader after a commit
	committing bool // the reader commits, and writes the acks itself

	held      partition // the reader's: appended to, and to be committed; nil if nothing is
	heldBytes int       // the reader's: so much
	heard     bool      // the reader's: a frame came
	committed writing   // the reader's

	running   bool // there is a goroutine
	conn      conn // nil while there is none
	broken    bool // conn is over
	reachable bool // the broker has just been reached: dial now
	closed    bool
	expired   bool // it has had no partitions for Limits.Linger
	timer     clock.Timer
	timerSet  bool
}

// runLocked sees to it that the link has a goroutine.
func (l *link) runLocked() {
	if l.running || l.closed {
		return
	}
	l.running = l.s.begin(l.run)
}

func (l *link) wantLocked(f *following) {
	if f.wanting || l.conn == nil { // once connected, all partitions follow
		return
	}
	f.wanting = true
	l.follows = append(l.follows, f)
	l.work.Signal()
}

func (l *link) ackLocked(f *following) {
	if f.acking {
		return
	}
	f.acking = true
	l.acks = append(l.acks, f)
	if len(l.acks) == 1 && !l.committing {
		l.work.Signal()
	}
}

// leaveLocked lets a partition go to the other link. An ack that waits here goes nowhere, and must not stand in the way of those
// there: the Follow there comes with one.
func (l *link) leaveLocked(f *following) {
	delete(l.partitions, f.id)
	if f.acking {
		f.acking = false
		l.acks = slices.DeleteFunc(l.acks, func(g *following) bool { return g == f })
	}
}

// closeLocked has the link end; its connection is for the caller to close.
func (l *link) closeLocked() conn {
	l.closed = true
	l.work.Broadcast()
	if l.timer != nil {
		l.timer.Stop()
	}
	return l.conn
}

// run dials for as long as there are partitions.
func (l *link) run() {
	failures := 0
	for l.wanted() {
		c, err := l.s.network.dial(l.s.ctx, l.src.leader, l.kind)
		if err != nil {
			if failures == 0 {
				l.s.log.Info("the leader of followed partitions cannot be reached; trying again", "broker", l.src.leader, "kind", l.kind, "error", err)
			}
			l.pause(l.s.backoff(failures))
			failures++
			continue
		}
		l.s.stats.connects.Add(1)
		if l.use(c) {
			failures = 0
			continue
		}
		l.pause(l.s.backoff(failures)) // it takes connections and ends them, as while it stops
		failures++
	}
}

// wanted tells whether the link has work; if not, its goroutine is to end.
func (l *link) wanted() bool {
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	l.running = !l.closed && len(l.partitions) > 0
	return l.running
}

// pause waits before the next attempt to dial, or until the broker is known to be there.
func (l *link) pause(d time.Duration) {
	over := false
	t := l.s.clock.AfterFunc(d, func() {
		l.src.mu.Lock()
		defer l.src.mu.Unlock()
		over = true
		l.work.Broadcast()
	})
	defer t.Stop()
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	for !over && !l.closed && !l.reachable {
		l.work.Wait()
	}
	l.reachable = false
}

// use lets all partitions follow over a new connection, until it ends or is no longer needed. It tells whether anything came.
func (l *link) use(c conn) bool {
	l.src.mu.Lock()
	if l.closed {
		l.src.mu.Unlock()
		_ = c.Close()
		return true
	}
	l.conn, l.broken, l.expired, l.writing, l.heard = c, false, false, false, false
	l.sessions = map[sessionID]*following{}
	for _, f := range l.partitions {
		if !f.mending && !f.retrySet {
			l.wantLocked(f)
		}
	}
	l.src.mu.Unlock()

	read := make(chan error, 1)
	go func() { read <- l.receive(c) }()
	err := l.write(c)
	_ = c.Close()
	if e := <-read; err == nil {
		err = e
	}
	l.src.mu.Lock()
	idle := len(l.partitions) == 0
	closed := l.closed
	for _, f := range l.sessions {
		f.session = 0
	}
	for _, f := range l.follows {
		f.wanting = false
	}
	for _, f := range l.acks {
		f.acking = false
	}
	clear(l.follows)
	clear(l.acks)
	l.conn, l.sessions, l.follows, l.acks, l.stops = nil, nil, l.follows[:0], l.acks[:0], l.stops[:0]
	l.src.mu.Unlock()
	if !idle && !closed {
		l.s.log.Info("the connection to the leader of followed partitions ended; dialling again", "broker", l.src.leader, "kind", l.kind, "error", err)
	}
	return l.heard || idle
}

// writing is what the writer takes at a time.
type writing struct {
	follows []*following
	acks    []*following
	stops   []sessionID
}

// write sends Follows and acks until the connection ends or is idle.
func (l *link) write(c conn) error {
	var w writing
	for again := false; l.take(&w, again); again = true {
		for _, id := range w.stops {
			c.EndFrame(appendStop(c.BeginFrame(frameStop), id))
		}
		for _, f := range w.follows {
			l.writeFollow(c, f)
		}
		l.writeAcks(c, w.acks)
		if c.Buffered() == 0 {
			continue
		}
		if err := c.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// take waits for something to write; false once the connection is over. again tells that the writer has written what it took
// before.
func (l *link) take(w *writing, again bool) bool {
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	if again {
		l.writing = false
	}
	for ; ; l.work.Wait() {
		if l.broken || l.closed {
			return false
		}
		if l.writing { // the reader, who signals
			continue
		}
		if len(l.follows)+len(l.acks)+len(l.stops) > 0 {
			break
		}
		if len(l.partitions) == 0 {
			if l.expired {
				return false
			}
			l.armLocked()
		}
	}
	l.writing = true
	w.follows, l.follows = l.follows, w.follows[:0]
	w.stops, l.stops = l.stops, w.stops[:0]
	for _, f := range w.follows {
		f.wanting = false
	}
	l.takeAcksLocked(w)
	return true
}

func (l *link) takeAcksLocked(w *writing) {
	w.acks, l.acks = l.acks, w.acks[:0]
	for _, f := range w.acks {
		f.acking = false
	}
}

// armLocked closes the connection once it has had no partition for a while.
func (l *link) armLocked() {
	if l.timerSet {
		return
	}
	l.timerSet = true
	fire := func() {
		l.src.mu.Lock()
		defer l.src.mu.Unlock()
		l.timerSet = false
		if len(l.partitions) == 0 {
			l.expired = true
			l.work.Signal()
		}
	}
	if l.timer == nil {
		l.timer = l.s.clock.AfterFunc(l.s.o.Limits.Linger, fire)
	} else {
		l.timer.Reset(l.s.o.Limits.Linger)
	}
}

// writeFollow begins a session where the partition's log ends now, and tells what of it is on the disk.
func (l *link) writeFollow(c conn, f *following) {
	at, err := f.p.FollowPosition(f.epoch)
	l.src.mu.Lock()
	if f.gone || f.link != l || f.session != 0 || f.mending {
		l.src.mu.Unlock()
		return
	}
	if err != nil && !over(err) { // its disk failed
		l.src.retryLaterLocked(f)
		l.src.mu.Unlock()
		return
	}
	if err != nil { // it follows in another epoch by now, or not at all, and has told or is about to
		l.src.mu.Unlock()
		l.s.forget(f)
		return
	}
	id := sessionID(l.s.session.Add(1))
	f.session = id
	l.sessions[id] = f
	l.src.mu.Unlock()
	l.s.stats.follows.Add(1)
	c.EndFrame(follow{
		session: id, id: f.id, leaderEpoch: f.epoch, logEnd: at.LogEnd, lastEpoch: at.LastEpoch, brokerEpoch: l.s.o.BrokerEpoch(),
	}.appendTo(c.BeginFrame(frameFollow)))
	// Asked only now that there is a session: what has become durable since the position was taken was told to nobody, and
	// nobody would tell it again.
	if durable, logStart, err := f.p.AckPosition(f.epoch); err == nil {
		c.EndFrame(ack{id, f.epoch, durable, logStart}.appendTo(c.BeginFrame(frameAck)))
	}
}

// writeAcks tells what is on the disk now: one frame for all.
func (l *link) writeAcks(c conn, acks []*following) {
	if len(acks) == 0 {
		return
	}
	b := c.BeginFrame(frameAck)
	empty := len(b)
	for _, f := range acks {
		l.src.mu.Lock()
		id := f.session
		if f.link != l {
			id = 0
		}
		l.src.mu.Unlock()
		if id == 0 {
			continue
		}
		durable, logStart, err := f.p.AckPosition(f.epoch)
		if err != nil { // it follows in another epoch by now
			continue
		}
		b = ack{id, f.epoch, durable, logStart}.appendTo(b)
	}
	clear(acks)
	if len(b) == empty {
		c.CancelFrame(b)
		return
	}
	c.EndFrame(b)
	l.s.stats.acksSent.Add(1)
}
