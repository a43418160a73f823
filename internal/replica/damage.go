package replica

import (
	"context"
	"slices"

	"chronik/internal/kafka"
)

// A replica that holds damaged bytes must not be elected, and is made whole from its leader: it is reported
// ([Manager.Damaged]), the controller takes it out of the in-sync set, then it is cut below the damage and follows again
// from there. It is reported until it has again what it had: until then the leader may take it for what it was, perhaps in a
// proposal that is under way, and the controller, which knows better, does not let it in.

// onDamaged is called by the store when it has found bytes that are not as they were written.
func (p *Partition) onDamaged() {
	p.damaged.Store(true)
	p.node.damageChanged()
	p.node.background.add(p, jobRepair)
}

// repair cuts a damaged replica below the damage, if nobody relies on it: it follows a leader, and is neither in the
// in-sync set nor eligible to lead.
func (p *Partition) repair(ctx context.Context) {
	p.mu.Lock()
	ready, epoch, leader := p.expendableLocked(), p.mu.leaderEpoch, p.mu.leaderID
	p.mu.Unlock()
	if !ready || p.order(epoch) != nil {
		return
	}
	defer func() { <-p.ordered }()
	p.mu.Lock()
	ready = p.expendableLocked()
	p.mu.Unlock()
	damage := p.disk.Damaged()
	if !ready || len(damage) == 0 {
		return
	}
	to := damage[0].First
	for _, d := range damage {
		to = min(to, d.First)
	}
	had := p.disk.DurableEnd()
	err := p.disk.Truncate(ctx, to)
	if err != nil {
		if ctx.Err() == nil {
			p.node.log.Error("a damaged replica could not be cut below the damage", "topic", p.topic, "partition", p.id.Partition, "offset", int64(to), "error", err)
		}
		return
	}
	p.wasCut()
	p.mu.Lock()
	p.mu.refill = refill{active: true, epoch: epoch, target: had}
	p.mu.Unlock()
	p.node.log.Info("a damaged replica was cut below the damage and is filled again by its leader", "topic", p.topic, "partition", p.id.Partition,
		"offset", int64(p.disk.LogEnd()), "leader", leader)
	p.node.streams.Follow(p, leader, epoch)
}

// refill is a replica that was cut below damage: it is whole once its disk has what it had acknowledged, or once another
// leader epoch makes what it said then count nothing.
type refill struct {
	active bool
	epoch  kafka.LeaderEpoch
	target kafka.Offset
}

// refilledLocked ends a refill that is complete. If so the caller calls wholeAgain once it has let go of mu.
func (p *Partition) refilledLocked() bool {
	r := &p.mu.refill
	if !r.active || r.epoch == p.mu.leaderEpoch && p.mu.progress.endOf(p.node.broker) < r.target {
		return false
	}
	r.active = false
	return true
}

func (p *Partition) wholeAgain() {
	p.damaged.Store(len(p.disk.Damaged()) > 0)
	p.node.damageChanged()
}

func (p *Partition) expendableLocked() bool {
	return p.mu.follower && !p.mu.progress.inISR(p.node.broker) && !slices.Contains(p.mu.meta.ELR, p.node.broker)
}

// repairIfDamaged is called where the metadata may have made a replica expendable.
func (p *Partition) repairIfDamaged() {
	if p.damaged.Load() {
		p.node.background.add(p, jobRepair)
	}
}

// scrub looks for the damage that a read came upon.
func (p *Partition) scrub() {
	if err := p.disk.Scrub(); err != nil {
		p.node.log.Warn("a partition with a damaged batch could not be read through", "topic", p.topic, "partition", p.id.Partition, "error", err)
	}
}

// Damaged lists the replicas of this node that hold bytes which are not as they were written, sorted. It never blocks.
// Options.DamageChanged tells when it is another.
func (m *Manager) Damaged() []kafka.TopicPartition {
	var ids []kafka.TopicPartition
	for _, p := range m.all() {
		if p.damaged.Load() {
			ids = append(ids, p.id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}
