package replica

import (
	"context"
	"slices"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// apply makes the partition agree with the metadata: leader, epoch, replicas, in-sync set. It returns once that holds,
// which, for a new leader, includes that the start of its epoch is on the disk, and for a follower that no append of an
// older epoch comes any more. Calls for one partition do not overlap.
func (p *Partition) apply(ctx context.Context, m *metadata.Partition) error {
	p.mu.Lock()
	if p.mu.gone != nil || m.PartitionEpoch < p.mu.epoch || m.LeaderEpoch < p.mu.leaderEpoch {
		p.mu.Unlock()
		return nil
	}
	leads, settled := m.Leader == p.node.broker, m.LeaderEpoch == p.mu.leaderEpoch && m.Leader == p.mu.leaderID
	if settled && (leads && p.mu.leader || !leads && p.mu.follower == (m.Leader != kafka.NoLeader)) {
		p.redescribe(m)
		return nil
	}
	p.resignLocked(kafka.ErrNotLeaderOrFollower)
	p.mu.leaderEpoch = m.LeaderEpoch
	p.describeLocked(m)
	p.mu.progress.elect()
	p.mu.proposal = nil
	p.mu.followed = followed{highWatermark: p.mu.progress.highWatermark}
	p.mu.Unlock()
	p.tellStreams() // the sessions of the old epoch end
	p.streamed.Store(false)
	if m.Leader == p.node.broker || m.Leader == kafka.NoLeader {
		p.node.streams.Stop(p)
	}
	select {
	case p.ordered <- struct{}{}: // what an older leader had begun here ends first
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.ordered }()
	switch m.Leader {
	case p.node.broker:
		return p.lead(ctx, m)
	case kafka.NoLeader:
		p.disk.Follow(m.LeaderEpoch)
		return nil
	}
	p.startFollowing(m)
	p.repairIfDamaged()
	return nil
}

// redescribe is apply where leadership stays what it was. It is called with mu locked, and unlocks it.
func (p *Partition) redescribe(m *metadata.Partition) {
	reassigned := p.mu.meta == nil || !slices.Equal(p.mu.meta.Replicas, m.Replicas)
	p.describeLocked(m)
	led, moved := p.mu.leader, false
	if led {
		moved = p.advanceLocked()
		p.failUnderMinInsyncLocked()
		p.reviewLocked()
		p.signalLocked() // DeleteRecords may have waited for who is in sync no more
	}
	epoch := p.mu.leaderEpoch
	p.mu.Unlock()
	if moved {
		p.tellWatermark()
	}
	if led && reassigned {
		p.node.streams.Lead(p, epoch)
	}
	if !led {
		p.repairIfDamaged()
	}
}

// lead begins a leader epoch. The caller holds the ordered slot.
func (p *Partition) lead(ctx context.Context, m *metadata.Partition) error {
	if err := p.disk.StartEpoch(ctx, m.LeaderEpoch); err != nil {
		return err
	}
	p.mu.Lock()
	if p.mu.gone != nil || m.LeaderEpoch < p.mu.deposed {
		p.mu.Unlock()
		return nil
	}
	p.mu.leader = true
	whole := p.refilledLocked()
	p.mu.progress.begin(p.node.clock.Now(), p.disk.LogEnd()) // nobody has appended yet: only a leader does
	p.mu.progress.reset(p.node.broker, p.disk.DurableEnd())
	p.advanceLocked()
	p.signalLocked()
	p.mu.Unlock()
	if whole {
		p.wholeAgain()
	}
	p.node.streams.Lead(p, m.LeaderEpoch)
	return nil
}

// depose is told of metadata before they are applied: the manager may be held up by another partition's disk, or this one's. What
// is known to be over is over for clients at once.
func (p *Partition) depose(m *metadata.Partition) {
	p.mu.Lock()
	over := p.mu.gone == nil && m.LeaderEpoch > p.mu.leaderEpoch
	if over {
		p.mu.deposed = max(p.mu.deposed, m.LeaderEpoch)
	}
	led := over && p.mu.leader
	if led {
		p.resignLocked(kafka.ErrNotLeaderOrFollower)
	}
	p.mu.Unlock()
	if led {
		p.tellStreams() // the sessions have ended
	}
}

// resignLocked ends leadership: what was appended in this epoch may or may not survive, so whoever waits for it is told
// that this is no longer the leader.
func (p *Partition) resignLocked(err error) {
	p.mu.leader, p.mu.follower, p.mu.resigning = false, false, false
	p.mu.sessions = nil
	p.mu.committed.fail(err)
	p.mu.durable.fail(err)
	p.signalLocked()
}

// leave ends all service for good: err is what everyone gets from now on.
func (p *Partition) leave(err error) {
	p.mu.Lock()
	first := p.mu.gone == nil
	if first {
		p.mu.gone = err
		p.resignLocked(err)
		p.mu.committed.close(err)
		p.mu.durable.close(err)
	}
	p.mu.Unlock()
	if first {
		p.tellStreams()
		p.node.streams.Stop(p)
	}
}

// reconfigure takes over a changed topic configuration.
func (p *Partition) reconfigure(c config.Topic) {
	p.config.Store(&c)
	p.mu.Lock()
	p.mu.progress.minInsync = int(c.MinInsyncReplicas)
	moved := p.mu.leader && p.advanceLocked() // a smaller min.insync.replicas may release what waits
	if p.mu.leader {
		p.failUnderMinInsyncLocked()
	}
	p.mu.Unlock()
	if moved {
		p.tellWatermark()
	}
}
