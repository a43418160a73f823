package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/store"
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
		return Appended{}, p.appendError(epoch, err)
	}
	if p.streamed.Load() { // before this node's disk has it
		p.node.streams.Appended(p, len(batches))
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
	case !p.mu.leader, p.mu.resigning, r.LeaderEpoch != kafka.NoLeaderEpoch && r.LeaderEpoch != p.mu.leaderEpoch:
		return 0, kafka.ErrNotLeaderOrFollower
	case r.Acks == AcksAll && p.mu.progress.underMinInsync():
		return 0, kafka.ErrNotEnoughReplicas.With("%s-%d has %d replicas in sync and needs %d (min.insync.replicas)",
			p.topic, p.id.Partition, len(p.mu.progress.committed), p.mu.progress.effectiveMinInsync())
	}
	return p.mu.leaderEpoch, nil
}

// appendError judges why the disk refused. An append that failed after its space was reserved ends leadership: another
// replica's disk may do better, and no offset is given to other bytes in the same epoch.
func (p *Partition) appendError(epoch kafka.LeaderEpoch, err error) error {
	if !errors.Is(err, store.ErrAppendFailed) {
		return diskError(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.leader && p.mu.leaderEpoch == epoch && !p.mu.resigning && len(p.mu.progress.committed) > 1 {
		p.mu.resigning = true
		p.node.background.add(p, jobResign)
	}
	return err
}

// resignLeadership asks for another leader out of the in-sync set.
func (p *Partition) resignLeadership(ctx context.Context) {
	p.mu.Lock()
	c := metadata.SetPartitionLeader{Partition: p.id, Leader: kafka.NoLeader, Base: p.mu.epoch, Reason: fmt.Sprintf("the disk of broker %d refused an append", p.node.broker)}
	epoch := p.mu.leaderEpoch
	for _, b := range p.mu.progress.replicas {
		if broker := p.node.registered(b); b != p.node.broker && slices.Contains(p.mu.progress.committed, b) && broker != nil && !broker.Fenced {
			c.Leader = b
			break
		}
	}
	p.mu.Unlock()
	err := error(kafka.ErrPreferredLeaderNotAvailable.With("no other replica is in sync and live"))
	if c.Leader != kafka.NoLeader {
		ctx, cancel := context.WithTimeout(ctx, proposalTimeout)
		defer cancel()
		err = p.node.metadata.SetPartitionLeader(ctx, c)
	}
	if err == nil {
		return
	}
	p.node.log.Error("a leader whose disk refused an append could not resign; it goes on", "topic", p.topic, "partition", p.id.Partition, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.leaderEpoch == epoch {
		p.mu.resigning = false
	}
}

// WaitCommitted returns once every in-sync replica has everything below end, appended in the given leader epoch, on its
// disk. NOT_LEADER_OR_FOLLOWER if this node stops leading in that epoch first: whether the records survive is unknown.
func (p *Partition) WaitCommitted(ctx context.Context, epoch kafka.LeaderEpoch, end kafka.Offset) error {
	return p.wait(ctx, AcksAll, epoch, end, time.Time{}, false)
}

// WaitDurable returns once this node has everything below end on its disk (acks=1).
func (p *Partition) WaitDurable(ctx context.Context, epoch kafka.LeaderEpoch, end kafka.Offset) error {
	return p.wait(ctx, AcksLeader, epoch, end, time.Time{}, false)
}

// Wait waits for an append as its acknowledgement level asks, until the deadline at most: REQUEST_TIMED_OUT then, and the
// records may still become committed.
func (p *Partition) Wait(ctx context.Context, acks Acks, a Appended, deadline time.Time) error {
	if acks == AcksNone {
		return nil
	}
	return p.wait(ctx, acks, a.LeaderEpoch, a.EndOffset, deadline, acks == AcksAll)
}

// wait waits without a limit if deadline is zero. With enough it ends, too, when the in-sync set becomes too small.
func (p *Partition) wait(ctx context.Context, acks Acks, epoch kafka.LeaderEpoch, end kafka.Offset, deadline time.Time, enough bool) error {
	p.mu.Lock()
	queue, reached := &p.mu.committed, p.mu.progress.highWatermark
	if acks == AcksLeader {
		queue, reached = &p.mu.durable, p.mu.progress.endOf(p.node.broker)
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
		return p.afterWait(acks, nil)
	case enough && p.mu.progress.underMinInsync():
		err := p.notEnoughLocked()
		p.mu.Unlock()
		return err
	}
	w := queue.add(end)
	w.enough = enough
	if !deadline.IsZero() {
		p.armLocked(queue, w, deadline)
	}
	p.mu.Unlock()

	var err error
	answered := false
	select {
	case err = <-w.done:
		answered = true
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !answered && !queue.remove(w) {
		err = <-w.done // it was answered just now; done has capacity, nobody blocks
	}
	queue.release(w)
	return p.afterWait(acks, err)
}

// afterWait checks the lease as the answer leaves: without it another leader may be at work, and what only this disk has
// is not to be acknowledged. What is committed is, whoever leads.
func (p *Partition) afterWait(acks Acks, err error) error {
	if err == nil && acks == AcksLeader && !p.node.leased() {
		return p.leaseError()
	}
	return err
}

// failUnderMinInsyncLocked ends the waits of producers that have to wait for replicas which are no longer there. The
// records may become committed later: their producers send them again.
func (p *Partition) failUnderMinInsyncLocked() {
	if p.mu.committed.len() > 0 && p.mu.progress.underMinInsync() {
		p.mu.committed.failEnough(p.notEnoughLocked())
	}
}

func (p *Partition) notEnoughLocked() error {
	return kafka.ErrNotEnoughReplicasAfterAppend.With("%s-%d has %d replicas in sync and needs %d (min.insync.replicas)",
		p.topic, p.id.Partition, len(p.mu.progress.committed), p.mu.progress.effectiveMinInsync())
}

// armLocked sees to it that the waiter's timer fires no later than the deadline.
func (p *Partition) armLocked(queue *waitQueue, w *waiter, deadline time.Time) {
	w.deadline = deadline
	if !w.firing.IsZero() && !w.firing.After(deadline) {
		return
	}
	w.firing = deadline
	left := deadline.Sub(p.node.clock.Now())
	if w.timer == nil {
		w.timer = p.node.clock.AfterFunc(left, func() { p.expire(queue, w) })
	} else {
		w.timer.Reset(left)
	}
}

// expire is a waiter's timer: whoever waits longer than his deadline is answered, for whoever has time left it is set
// again.
func (p *Partition) expire(queue *waitQueue, w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.firing = time.Time{}
	switch {
	case w.deadline.IsZero():
	case p.node.clock.Now().Before(w.deadline):
		p.armLocked(queue, w, w.deadline)
	case queue.remove(w):
		w.done <- kafka.ErrRequestTimedOut
	}
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
		reached = p.mu.progress.endOf(p.node.broker)
	}
	return p.mu.gone == nil && p.mu.leader && p.mu.leaderEpoch == a.LeaderEpoch && reached >= a.EndOffset &&
		(acks != AcksLeader || p.node.leased())
}
