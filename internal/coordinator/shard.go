package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
)

// shard is the coordinator of one partition in one leader epoch. Its loop goroutine owns everything but mu.
type shard[M Machine] struct {
	rt        *Runtime[M]
	partition int32
	epoch     kafka.LeaderEpoch
	ctx       context.Context
	cancel    context.CancelFunc
	wake      chan struct{} // signalled by submit, the log's watch, the clock and stop; signals collapse
	gone      chan struct{} // closed when the loop has ended

	mu struct {
		sync.Mutex
		state   shardState
		changed chan struct{} // closed and replaced when state changes
		queue   []operation[M]
		pending int // operations taken from the queue whose answers have not left
	}

	// Of the loop.
	log     Log
	timers  *Timers
	alarm   clock.Timer
	armed   time.Time // what alarm is set to; zero if it is not
	blocked time.Time // since when the open batch is full; zero if it is not
	open    batch     // gathers while others are in flight
	flight  []batch   // appended, in order, not known to be committed
	refused refusal   // of the last append of open
	end     kafka.Offset
	spare   []operation[M]
	buf     []byte
	builder *record.Builder
}

type shardState int8

const (
	loading shardState = iota
	serving
	stopped
)

// operation is what others want of the machine.
type operation[M Machine] struct {
	run  func(m M, tx *Tx)
	fail func(error)
	told bool // it is of the node's own, which would not say it again
}

// batch is operations that are appended together, and the answers that wait for them.
type batch struct {
	records  [][]Record // by operation
	bytes    int
	answers  []settler
	ops      int
	end      kafka.Offset // once appended
	deadline time.Time    // when the answers become errors
}

func newShard[M Machine](r *Runtime[M], partition int32, epoch kafka.LeaderEpoch) *shard[M] {
	s := &shard[M]{
		rt: r, partition: partition, epoch: epoch, wake: make(chan struct{}, 1), gone: make(chan struct{}),
		builder: record.NewBuilder(),
	}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	s.mu.changed = make(chan struct{})
	return s
}

func (s *shard[M]) becomeLocked(state shardState) {
	s.mu.state = state
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
}

func (s *shard[M]) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// stop makes the loop end; everything that waits is told NOT_COORDINATOR.
func (s *shard[M]) stop() {
	s.cancel()
	s.signal()
}

func (s *shard[M]) submit(op operation[M]) {
	s.mu.Lock()
	switch {
	case s.mu.state == loading:
		s.mu.Unlock()
		op.fail(kafka.ErrCoordinatorLoadInProgress.With("partition %d of %s is being loaded", s.partition, s.rt.opts.Topic))
	case s.mu.state == stopped:
		s.mu.Unlock()
		op.fail(s.resigned())
	case !op.told && len(s.mu.queue)+s.mu.pending >= s.rt.opts.QueueMax:
		s.mu.Unlock()
		op.fail(kafka.ErrCoordinatorLoadInProgress.With("%d operations wait for partition %d of %s: try again later",
			s.rt.opts.QueueMax, s.partition, s.rt.opts.Topic))
	default:
		s.mu.queue = append(s.mu.queue, op)
		s.mu.Unlock()
		s.signal()
	}
}

func (s *shard[M]) resigned() error {
	return kafka.ErrNotCoordinator.With("this node has stopped to lead partition %d of %s", s.partition, s.rt.opts.Topic)
}

// run is the loop goroutine: load, serve, and again after an error, until the shard is stopped.
func (s *shard[M]) run() {
	defer close(s.gone)
	defer s.cancel()
	log := s.rt.opts.Logger.With("topic", s.rt.opts.Topic, "partition", s.partition, "leaderEpoch", int32(s.epoch))
	const backoffMin, backoffMax = 20 * time.Millisecond, time.Second
	backoff := backoffMin
	for s.ctx.Err() == nil {
		m, err := s.load()
		if err == nil {
			log.Debug("coordinator serves", "end", int64(s.end))
			began := s.rt.opts.Clock.Now()
			err = s.serve(m)
			s.unload(m, err)
			if s.rt.opts.Clock.Now().Sub(began) > backoffMax {
				backoff = backoffMin // a log that takes nothing is not read over and over
			}
		}
		if s.ctx.Err() != nil {
			break
		}
		level := slog.LevelWarn
		if errors.Is(ResponseError(err), kafka.ErrNotCoordinator) {
			level = slog.LevelDebug // the events that say so are on their way
		}
		log.Log(s.ctx, level, "coordinator loads again", "error", err, "in", backoff)
		s.pause(backoff)
		backoff = min(2*backoff, backoffMax)
	}
	s.mu.Lock()
	s.becomeLocked(stopped)
	s.mu.Unlock()
	for _, op := range s.takeQueue() {
		op.fail(s.resigned())
	}
}

// pause waits, unless the shard is stopped.
func (s *shard[M]) pause(d time.Duration) {
	t := s.rt.opts.Clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
	case <-s.ctx.Done():
	}
}

// unload ends a machine and fails all that waits.
func (s *shard[M]) unload(m M, err error) {
	next := loading
	if s.ctx.Err() != nil {
		next, err = stopped, s.resigned()
	}
	err = ResponseError(err)
	s.mu.Lock()
	s.becomeLocked(next)
	queue := s.mu.queue
	s.mu.queue, s.mu.pending = nil, 0
	s.mu.Unlock()
	for _, b := range append(s.flight, s.open) {
		for _, a := range b.answers {
			a.fail(err)
		}
	}
	s.flight, s.open = nil, batch{}
	m.Unloaded(err)
	for _, op := range queue {
		op.fail(err)
	}
	if s.alarm != nil {
		s.alarm.Stop()
	}
	s.armed, s.blocked, s.refused, s.timers, s.log = time.Time{}, time.Time{}, refusal{}, nil, nil
}
