package coordinator

import (
	"errors"
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// flightMax is how many batches may be on their way to their commit. Operations that come meanwhile gather in the next one, so
// that a slow disk makes large batches; with only one on its way each would wait for the disk twice.
const flightMax = 4

// serve runs operations until the log fails or the shard is stopped.
func (s *shard[M]) serve(m M) error {
	unwatch := s.log.Watch(s.wake)
	defer unwatch()
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		offsets, err := s.log.Offsets()
		if err != nil {
			return err
		}
		s.settle(offsets.HighWatermark)
		s.forgive()
		s.runTimers(m)
		s.runQueue(m)
		if len(s.flight) < flightMax && len(s.open.records) > 0 && !s.refused.again.After(s.rt.opts.Clock.Now()) {
			if err := s.flush(); err != nil {
				return err
			}
			continue // a log that is durable at once has moved the watermark already
		}
		s.arm()
		<-s.wake
	}
}

// lateMin is how late the loop has to be before it counts, and how long it then waits for what has come meanwhile.
const lateMin = time.Second

// forgive adds to all timers how long operations could not run: because nothing was committed and the open batch was full, or because this
// process stood still. Nobody may be blamed for a silence in which he was not heard.
func (s *shard[M]) forgive() {
	now := s.rt.opts.Clock.Now()
	since := s.blocked
	if since.IsZero() {
		since = s.armed // when it would have run at the latest
	}
	switch {
	case s.full():
		if s.blocked.IsZero() {
			s.blocked = now
		}
		return
	case !since.IsZero() && now.Sub(since) >= lateMin:
		s.timers.delay(now.Sub(since) + lateMin)
		s.armed = time.Time{}
	}
	s.blocked = time.Time{}
}

// full says that no more operations may join the open batch.
func (s *shard[M]) full() bool { return s.open.bytes >= s.rt.opts.BatchBytes() }

// runQueue runs what is queued, until the open batch is full.
func (s *shard[M]) runQueue(m M) {
	if s.full() {
		return
	}
	s.mu.Lock()
	queue := s.mu.queue
	s.mu.queue = s.spare
	s.mu.pending += len(queue)
	s.mu.Unlock()
	done := 0
	for done < len(queue) && !s.full() {
		s.perform(m, queue[done])
		done++
	}
	if rest := queue[done:]; len(rest) > 0 {
		s.mu.Lock()
		s.mu.pending -= len(rest)
		s.mu.queue = append(append(make([]operation[M], 0, len(rest)+len(s.mu.queue)), rest...), s.mu.queue...)
		s.mu.Unlock()
		s.spare = nil
		return
	}
	clear(queue)
	s.spare = queue[:0]
}

func (s *shard[M]) runTimers(m M) {
	for now := s.rt.opts.Clock.Now(); !s.full(); {
		op := s.timers.Due(now)
		if op == nil {
			return
		}
		s.mu.Lock()
		s.mu.pending++
		s.mu.Unlock()
		s.perform(m, operation[M]{run: func(_ M, tx *Tx) { op(tx) }})
	}
}

// perform runs one operation and parks its answers with the newest records that it can have seen.
func (s *shard[M]) perform(m M, op operation[M]) {
	tx := Tx{Now: s.rt.opts.Clock.Now(), timers: s.timers}
	op.run(m, &tx)
	switch {
	case len(tx.records) > 0 || len(s.open.records) > 0:
		if len(tx.records) > 0 {
			s.open.records = append(s.open.records, tx.records)
			for _, r := range tx.records {
				s.open.bytes += recordBytes(r)
			}
		}
		s.open.answers = append(s.open.answers, tx.answers...)
		s.open.ops++
	case len(s.flight) > 0:
		last := &s.flight[len(s.flight)-1]
		last.answers = append(last.answers, tx.answers...)
		last.ops++
	case !s.log.Held():
		s.expire(&batch{answers: tx.answers, ops: 1}, kafka.ErrNotCoordinator.With(
			"this node has not heard of the controller for long: another may lead partition %d of %s", s.partition, s.rt.opts.Topic))
	default:
		s.deliver(tx.answers, 1)
	}
}

func (s *shard[M]) deliver(answers []settler, ops int) {
	for _, a := range answers {
		a.settle()
	}
	s.mu.Lock()
	s.mu.pending = max(0, s.mu.pending-ops)
	s.mu.Unlock()
}

// flush appends the open batch. If too few replicas are in sync it stays open, and is tried again.
func (s *shard[M]) flush() error {
	b := s.open
	s.open = batch{}
	s.flight = append(s.flight, b) // before the append: if it fails, these answers fail with the others
	now := s.rt.opts.Clock.Now()
	var err error
	if s.buf, err = encodeBatches(s.buf[:0], s.builder, b.records, now.UnixMilli(), s.rt.opts.BatchBytes(), s.rt.opts.BatchMax()); err != nil {
		return err
	}
	end, err := s.log.Append(s.buf)
	if errors.Is(err, kafka.ErrNotEnoughReplicas) && s.hold(now) {
		s.flight, s.open = s.flight[:len(s.flight)-1], b
		return nil
	}
	if err != nil {
		return err
	}
	s.refused = refusal{}
	if cap(s.buf) > 4*BatchBytesMax {
		s.buf, s.builder = nil, record.NewBuilder()
	}
	last := &s.flight[len(s.flight)-1]
	last.records, last.end, last.deadline = nil, end, now.Add(s.rt.opts.CommitTimeout())
	s.end = end
	return nil
}

// refusal is that the log takes nothing, because too few replicas are in sync: nothing was appended, so the state is still what the
// log will say once it takes the open batch, and need not be read from it again. Zero where the log takes what comes.
type refusal struct {
	again time.Time     // when to try next
	wait  time.Duration // from the try before
	until time.Time     // when to give up
}

// The open batch is tried again soon, for an in-sync set that shrinks or begins to grow is back in a moment.
const againMin, againMax = 5 * time.Millisecond, 80 * time.Millisecond

// hold says when to append the open batch again; false once its answers have waited for as long as they may.
func (s *shard[M]) hold(now time.Time) bool {
	if r := &s.refused; r.until.IsZero() {
		*r = refusal{now.Add(againMin), againMin, now.Add(s.rt.opts.CommitTimeout())}
	} else {
		r.wait = min(2*r.wait, againMax)
		r.again = now.Add(r.wait)
	}
	return s.refused.until.After(now)
}

// settle lets the answers go that wait for what is committed now, and fails those that have waited too long: whether
// what they saw will be committed is then not known.
func (s *shard[M]) settle(highWatermark kafka.Offset) {
	for len(s.flight) > 0 && s.flight[0].end <= highWatermark {
		s.deliver(s.flight[0].answers, s.flight[0].ops)
		s.flight[0] = batch{}
		s.flight = s.flight[1:]
	}
	if len(s.flight) == 0 {
		s.flight = nil
		return
	}
	if now := s.rt.opts.Clock.Now(); !s.flight[0].deadline.After(now) {
		err := kafka.ErrCoordinatorNotAvailable.With("partition %d of %s did not commit in time", s.partition, s.rt.opts.Topic)
		for i := range s.flight {
			s.expire(&s.flight[i], err)
		}
		s.expire(&s.open, err)
		if s.full() {
			s.refuseQueue(err)
		}
		s.flight[0].deadline = now.Add(s.rt.opts.CommitTimeout())
	}
}

// refuseQueue fails what is queued, but for what the node has to say itself.
func (s *shard[M]) refuseQueue(err error) {
	queue := s.takeQueue()
	for _, op := range queue {
		if !op.told {
			op.fail(err)
		}
	}
	queue = slices.DeleteFunc(queue, func(op operation[M]) bool { return !op.told })
	s.mu.Lock()
	s.mu.queue = append(queue, s.mu.queue...)
	s.mu.Unlock()
}

// takeQueue empties the queue.
func (s *shard[M]) takeQueue() []operation[M] {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.mu.queue
	s.mu.queue = nil
	return queue
}

func (s *shard[M]) expire(b *batch, err error) {
	for _, a := range b.answers {
		a.fail(err)
	}
	s.deliver(nil, b.ops)
	b.answers, b.ops = nil, 0
}

// arm sets the alarm to the next timer or deadline.
func (s *shard[M]) arm() {
	next, ok := s.timers.Next()
	ok = ok && !s.full() // or it would be due now, and again, and could not run
	if len(s.flight) > 0 && (!ok || s.flight[0].deadline.Before(next)) {
		next, ok = s.flight[0].deadline, true
	}
	if again := s.refused.again; !again.IsZero() && (!ok || again.Before(next)) {
		next, ok = again, true
	}
	if !ok {
		s.armed = time.Time{}
		return
	}
	now := s.rt.opts.Clock.Now()
	if s.armed.After(now) && !s.armed.After(next) {
		return // where it fires early it is set again: cheaper than moving it with every heartbeat
	}
	s.armed = next
	d := max(next.Sub(now), 0)
	if s.alarm == nil {
		s.alarm = s.rt.opts.Clock.AfterFunc(d, s.signal)
	} else {
		s.alarm.Reset(d)
	}
}
