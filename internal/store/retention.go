package store

import (
	"context"
	"errors"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/log"
)

func (s *Store) retentionInterval() time.Duration {
	if d := s.o.Config.RetentionCheckInterval; d > 0 {
		return d
	}
	return defaultRetentionInterval
}

func (s *Store) retentionLoop() {
	defer s.background.Done()
	t := s.o.Clock.NewTicker(s.retentionInterval())
	defer t.Stop()
	for {
		select {
		case <-t.C():
		case <-s.stop:
			return
		}
		s.ApplyRetention()
	}
}

// ApplyRetention removes what retention.ms and retention.bytes let go, of every partition with cleanup.policy=delete,
// below its high watermark; a follower's log starts where its leader's does. It also forgets producers that have been silent
// for long (producer.id.expiration.ms) where the partition is led: a follower learns from the leader's log which it knows.
func (s *Store) ApplyRetention() {
	for _, p := range s.Partitions() {
		select {
		case <-s.stop:
			return
		default:
		}
		if p.leads.Load() {
			p.ExpireProducers()
		}
		if err := p.applyRetention(); err != nil && !errors.Is(err, kafka.ErrUnknownTopicOrPartition) {
			s.o.Logger.Warn("retention failed", "partition", p.name(), "error", err)
		}
	}
}

func (p *Partition) applyRetention() error {
	c := p.topic()
	if !c.CleanupPolicy.Delete || p.LogEnd() == p.LogStart() || p.follows.Load() {
		return nil
	}
	l, err := p.opened()
	if err != nil {
		return err
	}
	start, err := l.RetentionStart(p.s.o.Clock.Now(), millis(c.RetentionMillis), c.RetentionBytes, kafka.Offset(p.hw.Load()))
	if err != nil || start <= p.LogStart() {
		return err
	}
	if start == l.LogEnd() {
		// All of it is too old: the segment that is appended to goes too, once there is a new one.
		if err := p.roll(l); err != nil {
			return err
		}
	}
	return p.SetLogStart(context.Background(), start)
}

func (p *Partition) roll(l *log.Log) error {
	p.lockAppend()
	defer p.unlockAppend()
	if err := p.usable(); err != nil {
		return err
	}
	defer p.markDirty()
	return l.Roll()
}
