package stream

import (
	"runtime"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/peer"
	"chronik/internal/replica"
)

// flushBytes: so much is written to the connection without looking further.
const flushBytes = 256 << 10

// roomMin is the least room in a window that is worth a read, unless nothing is under way.
const roomMin = 4 << 10

// firstBytes is how much is read of a partition whose batches' size is not known yet: to see how far behind it is.
const firstBytes = 32 << 10

var appendHead [appendSize]byte

// send is the sender: it looks at the feeds that have something, reads what is new from the page cache and writes it.
func (o *outbound) send() {
	defer func() { _ = o.conn.Close() }() // ends the reader, and with it the connection
	for feeds := o.take(false); feeds != nil; feeds = o.take(true) {
		// Whoever is about to append does so first, and goes into the same frame. Where nobody is, this takes no time.
		runtime.Gosched()
		if !o.pass(feeds) {
			return
		}
	}
}

// pass sends what the feeds have, a frame each; false if the connection is over.
func (o *outbound) pass(feeds []*feed) bool {
	for _, f := range feeds {
		o.look(f)
		if o.conn.Buffered() >= flushBytes && !o.flush() {
			return false
		}
	}
	o.writeWatermarks()
	return o.flush()
}

// take waits for feeds to look at; again tells that the sender has sent what it took before. nil once the connection is
// closed.
func (o *outbound) take(again bool) []*feed {
	o.mu.Lock()
	defer o.mu.Unlock()
	if again {
		o.mu.sending = false
	}
	for !o.mu.wanted || o.mu.sending {
		if o.mu.closed {
			return nil
		}
		o.work.Wait()
	}
	if o.mu.closed {
		return nil
	}
	return o.takeLocked()
}

func (o *outbound) takeLocked() []*feed {
	o.mu.sending, o.mu.wanted, o.mu.held = true, false, 0
	feeds := o.mu.dirty
	clear(o.mu.spare)
	o.mu.dirty = o.mu.spare[:0]
	o.mu.spare = feeds // whoever took them is through with them when somebody takes again
	return feeds
}

const (
	// inlineBytes is what the socket's buffers hold in any case, so that the write does not wait.
	inlineBytes = 32 << 10
	// holdBytes are worth a write of their own at any time.
	holdBytes = 16 << 10
	// smallWrites of less are sent at once after an ack; more of them wait for the next one, or until they are holdBytes or
	// a holdShare of what is under way. What comes while the follower's disk is busy waits for the next group commit there
	// anyway.
	smallWrites = 4
	holdShare   = 4
)

// appended is told, by whoever appended, that the partition has so much more to send. If nothing at all is under way on this
// connection, so that the write cannot wait, and the sender sleeps, the caller sends: to wake the sender would take longer.
// Else the sender takes it along with what else comes meanwhile.
func (o *outbound) appended(f *feed, bytes int) {
	o.mu.Lock()
	if f.state != feedStreaming || f.starved || o.mu.closed {
		o.mu.Unlock()
		return
	}
	if bytes > inlineBytes || o.kind != peer.Hot || o.mu.sending || o.mu.inFlight > 0 || len(o.mu.dirty) > 0 {
		o.holdLocked(f, bytes)
		o.mu.Unlock()
		return
	}
	f.queued = true
	o.mu.dirty = append(o.mu.dirty, f)
	feeds := o.takeLocked()
	o.mu.Unlock()
	fine := o.pass(feeds)
	o.mu.Lock()
	o.mu.sending = false
	if o.mu.wanted {
		o.work.Signal()
	}
	o.mu.Unlock()
	if !fine {
		_ = o.conn.Close() // ends the reader, and with it the connection
	}
}

func (o *outbound) flush() bool {
	if o.conn.Buffered() == 0 {
		return true
	}
	if err := o.conn.Flush(); err != nil {
		return false
	}
	n := o.unsent
	o.unsent = 0
	o.s.stats.writes.Add(1)
	if n > 0 && n < holdBytes {
		o.mu.Lock()
		o.mu.small++
		o.mu.Unlock()
	}
	if o.kind == peer.CatchUp {
		return o.pace.wait(n, o.ended)
	}
	o.s.hot.Add(n)
	return true
}

// holdLocked queues a feed; the sender looks at it now unless it has made several small writes since the last ack and little
// is to be sent.
func (o *outbound) holdLocked(f *feed, bytes int) {
	o.mu.held += bytes
	if o.mu.small < smallWrites || int64(o.mu.held) >= min(holdBytes, o.mu.inFlight/holdShare) {
		o.queueLocked(f)
		return
	}
	if !f.queued {
		f.queued = true
		o.mu.dirty = append(o.mu.dirty, f)
	}
}

// look sends one frame of what a feed has, if it has something and there is room.
func (o *outbound) look(f *feed) {
	room, due, ok := o.prepare(f)
	if !ok {
		return
	}
	b := o.conn.BeginFrame(frameAppend)
	head := len(b)
	b = append(b, appendHead[:]...)
	batches := len(b)
	got, err := f.p.read(f.session, b, f.next, room)
	if err != nil {
		o.conn.CancelFrame(b)
		o.lost(f, err)
		return
	}
	r := &f.request
	bytes := int64(len(got.Records) - batches)
	switch {
	case got.Gaps:
		o.conn.CancelFrame(b)
		o.stretch(f, &got, got.Records[batches:])
	case bytes == 0:
		o.conn.CancelFrame(b)
		o.nothing(f, &got, due)
		return
	default:
		b = got.Records
		appended{
			session: r.session, leaderEpoch: r.leaderEpoch, base: f.next,
			highWatermark: got.HighWatermark, logStart: got.LogStart,
		}.put(b[head:])
		o.conn.EndFrame(b)
	}
	first := f.perOffset == 0
	if bytes > 0 {
		f.perOffset = float64(bytes) / float64(got.Next-f.next)
	}
	f.next, f.highWatermark, f.logStart = got.Next, got.HighWatermark, got.LogStart
	o.unsent += bytes
	o.s.stats.framesSent.Add(1)
	o.s.stats.bytesSent.Add(bytes)
	o.sent(f, bytes, got.LogEnd, first)
}

// stretch sends what compaction left, in a frame of its own.
func (o *outbound) stretch(f *feed, got *replica.Stretch, batches []byte) {
	batches = append(o.gapped[:0], batches...) // they lie where the frame is to be
	o.gapped = batches
	r := &f.request
	o.conn.EndFrame(stretch{
		session: r.session, leaderEpoch: r.leaderEpoch, highWatermark: got.HighWatermark, logStart: got.LogStart,
		Stretch: log.Stretch{From: f.next, Next: got.Next, Epochs: got.Epochs, Deletes: got.Deletes, Batches: batches},
	}.appendTo(o.conn.BeginFrame(frameStretch)))
}

// prepare looks whether there is something to do for a feed, and how many bytes it may send.
func (o *outbound) prepare(f *feed) (room int, due, ok bool) {
	o.mu.Lock()
	f.queued = false
	switch f.state {
	case feedAnswering:
		d := f.reply
		o.mu.Unlock()
		o.writeReply(f, d)
		return 0, false, false
	case feedStreaming:
	default:
		o.mu.Unlock()
		return 0, false, false
	}
	defer o.mu.Unlock()
	l := &o.s.o.Limits
	own, all := l.PartitionWindow-f.window.bytes, l.StreamWindow-o.mu.inFlight
	switch {
	case own < roomMin && f.window.bytes > 0:
		f.starved = true
		return 0, false, false
	case all < roomMin && o.mu.inFlight > 0:
		f.queued = true // as good as
		o.mu.waiting = append(o.mu.waiting, f)
		return 0, false, false
	}
	frame := l.FrameBytes
	switch {
	case f.perOffset == 0:
		frame = min(frame, firstBytes)
	case o.kind == peer.CatchUp:
		frame *= 4
	}
	due, f.due = f.due, false
	f.lagging = false
	return int(min(int64(frame), own, all)), due, true
}

// sent takes note of a frame: what is under way, whether there is more, and whether it should go another way.
func (o *outbound) sent(f *feed, bytes int64, logEnd kafka.Offset, first bool) {
	behind := f.behind(logEnd)
	o.mu.Lock()
	if f.state == feedEnded {
		o.mu.Unlock()
		return
	}
	f.sent = f.next
	f.window.sent(f.next, bytes)
	o.mu.inFlight += bytes
	l := &o.s.o.Limits
	full := first || l.PartitionWindow-f.window.bytes < roomMin || l.StreamWindow-o.mu.inFlight < roomMin
	moves := o.kind == peer.Hot && full && behind > l.CatchUpBytes || o.kind == peer.CatchUp && behind < l.CatchUpBytes/8
	if moves {
		o.movedLocked(f)
	} else if logEnd > f.next {
		o.queueLocked(f)
	}
	o.mu.Unlock()
	if moves {
		o.move(f)
	}
}

// nothing deals with a feed that has no records to send.
func (o *outbound) nothing(f *feed, got *replica.Stretch, due bool) {
	if o.kind == peer.CatchUp {
		o.mu.Lock()
		moves := f.state == feedStreaming
		if moves {
			o.movedLocked(f)
		}
		o.mu.Unlock()
		if moves {
			o.move(f)
		}
		return
	}
	switch {
	case got.LogStart != f.logStart, due && got.HighWatermark != f.highWatermark:
		f.highWatermark, f.logStart = got.HighWatermark, got.LogStart
		o.marks = append(o.marks, watermark{f.request.session, f.request.leaderEpoch, got.HighWatermark, got.LogStart})
	case got.HighWatermark != f.highWatermark:
		o.watermark(f)
	}
}

func (o *outbound) writeWatermarks() {
	if len(o.marks) == 0 {
		return
	}
	b := o.conn.BeginFrame(frameWatermark)
	for _, m := range o.marks {
		b = m.appendTo(b)
	}
	o.conn.EndFrame(b)
	o.marks = o.marks[:0]
	o.s.stats.framesSent.Add(1)
}

// movedLocked ends sending here. The follower acknowledges no more in this session once it has heard of it, so the windows
// do not wait for that.
func (o *outbound) movedLocked(f *feed) {
	f.state = feedMoved
	bytes := f.window.bytes
	f.window = window{}
	o.freeLocked(f, bytes)
}

// move has the follower follow on the other connection, from where its log then ends.
func (o *outbound) move(f *feed) {
	to := peer.CatchUp
	if o.kind == peer.CatchUp {
		to = peer.Hot
	}
	o.s.stats.moves.Add(1)
	o.conn.EndFrame(move{f.request.session, to}.appendTo(o.conn.BeginFrame(frameMove)))
}

// lost is for a feed that cannot be read any more: this node leads no longer in its epoch, or its disk failed.
func (o *outbound) lost(f *feed, err error) {
	o.writeReply(f, decision{FollowDecision: replica.FollowDecision{Action: replica.FollowRefuse, LeaderEpoch: kafka.NoLeaderEpoch, Err: err}})
}

// watermark is told that nothing but the high watermark moved.
func (o *outbound) watermark(f *feed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.state != feedStreaming || f.lagging || o.mu.closed {
		return
	}
	f.lagging = true
	if !f.listed {
		f.listed = true
		o.mu.lagging = append(o.mu.lagging, f)
	}
	o.armLaggingLocked()
}

func (o *outbound) armLaggingLocked() {
	if o.mu.lagTimerSet {
		return
	}
	o.mu.lagTimerSet = true
	if o.mu.lagTimer == nil {
		o.mu.lagTimer = o.s.clock.AfterFunc(o.s.o.Limits.WatermarkDelay, o.sendLagging)
	} else {
		o.mu.lagTimer.Reset(o.s.o.Limits.WatermarkDelay)
	}
}

// sendLagging has the watermarks sent that no batch has carried.
func (o *outbound) sendLagging() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.lagTimerSet = false
	for _, f := range o.mu.lagging {
		f.listed = false
		if f.lagging && f.state == feedStreaming {
			f.due = true
			o.queueLocked(f)
		}
	}
	clear(o.mu.lagging)
	o.mu.lagging = o.mu.lagging[:0]
}
