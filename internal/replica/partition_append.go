package replica

import (
	"context"
	"time"

	"chronik/internal/kafka"
)

// Append appends as the leader, in the order of the calls, and does not wait for the disk. The error is a *kafka.Error
// (or a *record.BatchError, which wraps one): NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS for AcksAll, and what is wrong
// with the batches. Nothing was appended then.
func (p *Partition) Append(r AppendRequest) (Appended, error) {
	epoch, err := p.admit(r)
	if err != nil {
		return Appended{}, err
	}
	batches, err := p.prepare(r)
	if err != nil {
		return Appended{}, err
	}
	res, err := p.disk.Append(batches, epoch, r.Origin)
	if err != nil {
		return Appended{}, diskError(err)
	}
	return Appended{
		BaseOffset:  res.BaseOffset,
		EndOffset:   res.EndOffset(),
		LeaderEpoch: epoch,
		AppendTime:  res.LogAppendTime,
		LogStart:    res.LogStart,
		Duplicate:   res.Duplicate,
	}, nil
}

// admit decides whether the append may be tried at all, and in which epoch. Leadership may end right after: the store
// refuses an epoch that is not its last one.
func (p *Partition) admit(r AppendRequest) (kafka.LeaderEpoch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.mu.gone != nil:
		return 0, p.mu.gone
	case !p.mu.leader, r.LeaderEpoch != kafka.NoLeaderEpoch && r.LeaderEpoch != p.mu.leaderEpoch:
		return 0, kafka.ErrNotLeaderOrFollower
	case r.Acks == AcksAll && p.mu.progress.underMinInsync():
		return 0, kafka.ErrNotEnoughReplicas.With("%s-%d has %d replicas in sync and needs %d (min.insync.replicas)",
			p.topic, p.id.Partition, len(p.mu.progress.committed), p.mu.progress.effectiveMinInsync())
	}
	return p.mu.leaderEpoch, nil
}

// WaitCommitted returns once every in-sync replica has everything below end, appended in the given leader epoch, on its
// disk. NOT_LEADER_OR_FOLLOWER if this node stops leading in that epoch first: whether the records survive is unknown.
func (p *Partition) WaitCommitted(ctx context.Context, epoch kafka.LeaderEpoch, end kafka.Offset) error {
	return p.wait(ctx, AcksAll, epoch, end, 0)
}

// WaitDurable returns once this node has everything below end on its disk (acks=1).
func (p *Partition) WaitDurable(ctx context.Context, epoch kafka.LeaderEpoch, end kafka.Offset) error {
	return p.wait(ctx, AcksLeader, epoch, end, 0)
}

// Wait waits for an append as its acknowledgement level asks, for at most the timeout: REQUEST_TIMED_OUT then, and the
// records may still become committed.
func (p *Partition) Wait(ctx context.Context, acks Acks, a Appended, timeout time.Duration) error {
	if acks == AcksNone {
		return nil
	}
	return p.wait(ctx, acks, a.LeaderEpoch, a.EndOffset, max(timeout, 1))
}

// wait waits without a limit if timeout is 0.
func (p *Partition) wait(ctx context.Context, acks Acks, epoch kafka.LeaderEpoch, end kafka.Offset, timeout time.Duration) error {
	p.mu.Lock()
	queue, reached := &p.mu.committed, p.mu.progress.highWatermark
	if acks == AcksLeader {
		queue, reached = &p.mu.durable, p.mu.progress.endOf(p.local)
	}
	switch {
	case p.mu.gone != nil:
		err := p.mu.gone
		p.mu.Unlock()
		return err
	case !p.mu.leader || p.mu.leaderEpoch != epoch:
		p.mu.Unlock()
		return kafka.ErrNotLeaderOrFollower
	case reached >= end:
		p.mu.Unlock()
		return nil
	}
	w := queue.add(end)
	p.mu.Unlock()

	var expired <-chan time.Time
	if timeout > 0 {
		if w.timer == nil {
			w.timer = p.clock.NewTimer(timeout)
		} else {
			w.timer.Reset(timeout)
		}
		expired = w.timer.C()
	}
	var err error
	answered := false
	select {
	case err = <-w.done:
		answered = true
	case <-ctx.Done():
		err = ctx.Err()
	case <-expired:
		err = kafka.ErrRequestTimedOut
	}
	if timeout > 0 {
		w.timer.Stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !answered && !queue.remove(w) {
		err = <-w.done // it was answered just now; done has capacity, nobody blocks
	}
	queue.release(w)
	return err
}

// Acknowledged tells whether Wait would return at once, with success.
func (p *Partition) Acknowledged(acks Acks, a Appended) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	reached := p.mu.progress.highWatermark
	switch acks {
	case AcksNone:
		return true
	case AcksLeader:
		reached = p.mu.progress.endOf(p.local)
	}
	return p.mu.gone == nil && p.mu.leader && p.mu.leaderEpoch == a.LeaderEpoch && reached >= a.EndOffset
}
