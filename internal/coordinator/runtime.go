package coordinator

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
)

// Options are what a Runtime needs. All fields but the limits are required.
type Options[M Machine] struct {
	// Topic is the name of the internal topic, for messages.
	Topic string
	// New makes an empty machine for a partition.
	New    func(partition int32) M
	Open   Opener
	Clock  clock.Clock
	Logger *slog.Logger

	// QueueMax bounds the operations of one shard that are not answered yet; above it they are refused with
	// COORDINATOR_LOAD_IN_PROGRESS, which every client takes for "try again". Default 16,384.
	QueueMax int
	// BatchBytes returns the bound of one batch: what the topic's max.message.bytes allows, and no more than is good.
	// A single record that is larger is appended all the same, and fails. Default 512 KiB.
	BatchBytes func() int
	// BatchMax returns what a batch may have at most: one operation is not split below it, and so is in the log as a whole or
	// not at all. Default: as BatchBytes.
	BatchMax func() int
	// LoadsMax bounds the shards that replay their logs at the same time. Default 8.
	LoadsMax int
	// CommitTimeout returns how long an answer waits for the commit before it becomes an error
	// (offsets.commit.timeout.ms). Default 5 s.
	CommitTimeout func() time.Duration
}

// BatchBytesMax is as large as a batch need be: larger ones save nothing.
const BatchBytesMax = 512 << 10

// Runtime runs the shards of one internal topic that this node leads.
type Runtime[M Machine] struct {
	opts   Options[M]
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	loads  chan struct{} // held over a replay

	mu struct {
		sync.RWMutex
		shards  map[int32]*shard[M]
		elected chan struct{} // closed and replaced at each election
		closed  bool
	}
}

// New makes a runtime that leads nothing.
func New[M Machine](opts Options[M]) *Runtime[M] {
	if opts.QueueMax == 0 {
		opts.QueueMax = 16384
	}
	if opts.BatchBytes == nil {
		opts.BatchBytes = func() int { return BatchBytesMax }
	}
	if opts.BatchMax == nil {
		opts.BatchMax = opts.BatchBytes
	}
	if opts.LoadsMax == 0 {
		opts.LoadsMax = 8
	}
	if opts.CommitTimeout == nil {
		opts.CommitTimeout = func() time.Duration { return 5 * time.Second }
	}
	r := &Runtime[M]{opts: opts, loads: make(chan struct{}, opts.LoadsMax)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.mu.shards = make(map[int32]*shard[M])
	r.mu.elected = make(chan struct{})
	return r
}

// Elect says that this node leads the partition in the epoch: its shard loads. A shard of an older epoch goes. It is cheap
// where that is known.
func (r *Runtime[M]) Elect(partition int32, epoch kafka.LeaderEpoch) {
	if s := r.shard(partition); s != nil && s.epoch >= epoch {
		return
	}
	r.mu.Lock()
	old := r.mu.shards[partition]
	if r.mu.closed || old != nil && old.epoch >= epoch {
		r.mu.Unlock()
		return
	}
	s := newShard(r, partition, epoch)
	r.mu.shards[partition] = s
	close(r.mu.elected)
	r.mu.elected = make(chan struct{})
	r.wg.Add(1)
	r.mu.Unlock()
	var after <-chan struct{}
	if old != nil {
		old.stop()
		after = old.gone
	}
	go func() {
		defer r.wg.Done()
		if after != nil {
			<-after // one machine of a partition at a time
		}
		s.run()
	}()
}

func (r *Runtime[M]) shard(partition int32) *shard[M] {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.shards[partition]
}

// Resign says that this node leads the partition no longer, as of the epoch. It is cheap where that is known.
func (r *Runtime[M]) Resign(partition int32, epoch kafka.LeaderEpoch) {
	if s := r.shard(partition); s == nil || s.epoch > epoch {
		return
	}
	r.mu.Lock()
	s := r.mu.shards[partition]
	if s == nil || s.epoch > epoch {
		r.mu.Unlock()
		return
	}
	delete(r.mu.shards, partition)
	r.mu.Unlock()
	s.stop()
}

// WaitServing returns once the shard of the partition serves, or ctx ends.
func (r *Runtime[M]) WaitServing(ctx context.Context, partition int32) {
	for {
		r.mu.RLock()
		s, changed := r.mu.shards[partition], (<-chan struct{})(r.mu.elected)
		r.mu.RUnlock()
		if s != nil {
			s.mu.Lock()
			serves := s.mu.state == serving
			changed = s.mu.changed
			s.mu.Unlock()
			if serves {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Led are the partitions that this node leads, sorted; some may still load.
func (r *Runtime[M]) Led() []int32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.mu.shards))
}

// submit queues an operation, or fails it.
func (r *Runtime[M]) submit(partition int32, op operation[M]) {
	s := r.shard(partition)
	if s == nil {
		op.fail(Elsewhere("this node does not lead partition %d of %s", partition, r.opts.Topic))
		return
	}
	s.submit(op)
}

// Do queues an operation on the machine of a partition and returns the promise that the operation answers, or that it
// hands to the machine to be answered by a later one. Do does not wait; operations run in the order in which Do was
// called.
func Do[M Machine, R any](r *Runtime[M], partition int32, op func(m M, tx *Tx, p *Promise[R])) *Promise[R] {
	p := NewPromise[R]()
	r.submit(partition, operation[M]{run: func(m M, tx *Tx) { op(m, tx, p) }, fail: p.Fail})
	return p
}

// Tell queues an operation of the node's own, of what has happened elsewhere: however many others wait it runs, unless the shard does not
// serve. missed is called then: the state is loaded later than that, or not here.
func (r *Runtime[M]) Tell(partition int32, op func(m M, tx *Tx), missed func()) {
	r.submit(partition, operation[M]{run: op, fail: func(error) { missed() }, told: true})
}

// Close unloads every shard and returns when their goroutines have ended.
func (r *Runtime[M]) Close() {
	r.mu.Lock()
	r.mu.closed = true
	shards := slices.Collect(maps.Values(r.mu.shards))
	clear(r.mu.shards)
	r.mu.Unlock()
	r.cancel()
	for _, s := range shards {
		s.stop()
	}
	r.wg.Wait()
}
