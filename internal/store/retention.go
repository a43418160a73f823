package store

import (
	"context"
	"errors"
	"time"

	"chronik/internal/kafka"
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
// below its high watermark.
func (s *Store) ApplyRetention() {
	for _, p := range s.Partitions() {
		select {
		case <-s.stop:
			return
		default:
		}
		if err := p.applyRetention(); err != nil && !errors.Is(err, kafka.ErrUnknownTopicOrPartition) {
			s.o.Logger.Warn("retention failed", "partition", p.name(), "error", err)
		}
	}
}

func (p *Partition) applyRetention() error {
	c := p.topic()
	if !c.CleanupPolicy.Delete || p.LogEnd() == p.LogStart() {
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
	return p.SetLogStart(context.Background(), start)
}
