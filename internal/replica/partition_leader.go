package replica

import (
	"context"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// apply makes the partition agree with the metadata: leader, epoch, replicas, in-sync set. It returns once that holds,
// which, for a new leader, includes that the start of its epoch is on the disk. Calls for one partition do not overlap.
func (p *Partition) apply(ctx context.Context, m *metadata.Partition) error {
	p.mu.Lock()
	if p.mu.gone != nil || m.PartitionEpoch < p.mu.epoch {
		p.mu.Unlock()
		return nil
	}
	leads := m.Leader == p.local
	if leads && p.mu.leader && m.LeaderEpoch == p.mu.leaderEpoch {
		p.describeLocked(m)
		p.advanceLocked()
		p.mu.Unlock()
		return nil
	}
	p.resignLocked(kafka.ErrNotLeaderOrFollower)
	p.mu.leaderEpoch = m.LeaderEpoch
	p.describeLocked(m)
	p.mu.progress.elect()
	p.mu.Unlock()
	if !leads {
		return nil
	}
	if err := p.disk.StartEpoch(ctx, m.LeaderEpoch); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.gone != nil {
		return nil
	}
	p.mu.leader = true
	p.mu.epochStart = p.disk.LogEnd() // nobody has appended yet: only a leader does
	p.mu.progress.reset(p.local, p.disk.DurableEnd())
	p.advanceLocked()
	p.signalLocked()
	return nil
}

// resignLocked ends leadership: what was appended in this epoch may or may not survive, so whoever waits for it is told
// that this is no longer the leader.
func (p *Partition) resignLocked(err error) {
	p.mu.leader = false
	p.mu.committed.fail(err)
	p.mu.durable.fail(err)
	p.signalLocked()
}

// leave ends all service for good: err is what everyone gets from now on.
func (p *Partition) leave(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.gone == nil {
		p.mu.gone = err
		p.resignLocked(err)
		p.mu.committed.close(err)
		p.mu.durable.close(err)
	}
}

// reconfigure takes over a changed topic configuration.
func (p *Partition) reconfigure(c config.Topic) {
	p.config.Store(&c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.progress.minInsync = int(c.MinInsyncReplicas)
	if p.mu.leader { // a smaller min.insync.replicas may release what waits
		p.advanceLocked()
	}
}
