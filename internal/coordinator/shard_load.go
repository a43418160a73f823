package coordinator

import (
	"fmt"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// loadBytes is how much of the log is read at once.
const loadBytes = 1 << 20

// load replays the log into a new machine: to the end offset, and then waits until the watermark has reached it, for
// what is not committed may still be lost. Operations are refused meanwhile.
func (s *shard[M]) load() (m M, err error) {
	s.log, err = s.rt.opts.Open(s.ctx, s.partition, s.epoch)
	if err != nil {
		return m, fmt.Errorf("open partition %d of %s: %w", s.partition, s.rt.opts.Topic, err)
	}
	unwatch := s.log.Watch(s.wake)
	defer unwatch()
	offsets, err := s.log.Offsets()
	if err != nil {
		return m, err
	}
	m = s.rt.opts.New(s.partition)
	if err := s.replay(m, offsets.Start, offsets.End); err != nil {
		m.Unloaded(err)
		return m, err
	}
	for offsets.HighWatermark < offsets.End {
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			m.Unloaded(s.resigned())
			return m, s.ctx.Err()
		}
		now, err := s.log.Offsets()
		if err != nil {
			m.Unloaded(ResponseError(err))
			return m, err
		}
		offsets.HighWatermark = now.HighWatermark
	}
	s.end, s.timers = offsets.End, NewTimers()
	s.perform(m, operation[M]{run: func(m M, tx *Tx) { m.Loaded(tx) }})
	s.mu.Lock()
	s.becomeLocked(serving)
	s.mu.Unlock()
	return m, nil
}

func (s *shard[M]) replay(m M, from, end kafka.Offset) error {
	if from == end {
		return nil
	}
	select {
	case s.rt.loads <- struct{}{}:
		defer func() { <-s.rt.loads }()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	var buf []byte
	var codecs record.Codecs
	for from < end {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		var err error
		if buf, err = s.log.Read(buf[:0], from, loadBytes); err != nil {
			return fmt.Errorf("read partition %d of %s from offset %d: %w", s.partition, s.rt.opts.Topic, from, err)
		}
		if len(buf) == 0 {
			return nil // compaction left nothing up to the end
		}
		next, err := replayBatches(&codecs, buf, from, m.Replay)
		if err != nil {
			return fmt.Errorf("replay partition %d of %s from offset %d: %w", s.partition, s.rt.opts.Topic, from, err)
		}
		if next <= from {
			return fmt.Errorf("replay partition %d of %s: no batch at offset %d below the end offset %d",
				s.partition, s.rt.opts.Topic, from, end)
		}
		from = next
	}
	return nil
}
