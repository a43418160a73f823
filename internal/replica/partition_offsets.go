package replica

import (
	"context"

	"chronik/internal/kafka"
)

// The timestamps of ListOffsets that stand for a place instead of a time.
const (
	TimestampLatest                int64 = -1
	TimestampEarliest              int64 = -2
	TimestampMax                   int64 = -3 // the record with the largest timestamp (KIP-734)
	TimestampEarliestLocal         int64 = -4 // KIP-405
	TimestampLatestTiered          int64 = -5 // KIP-1005
	TimestampEarliestPendingUpload int64 = -6 // KIP-1023
)

// nothingFound is the answer of a search that found nothing.
var nothingFound = TimestampOffset{Timestamp: -1, Offset: kafka.NoOffset, LeaderEpoch: kafka.NoLeaderEpoch}

// OffsetForTimestamp answers ListOffsets for one partition: the first record whose timestamp is at least the one given,
// or the place that a negative one stands for. Nothing beyond what the isolation shows is found; ReadToEnd, for a
// replica's own question, shows all. OFFSET_NOT_AVAILABLE after an election, until the high watermark has reached the
// start of the epoch (KIP-207).
func (p *Partition) OffsetForTimestamp(timestamp int64, isolation Isolation, epoch kafka.LeaderEpoch) (TimestampOffset, error) {
	s, epochStart, err := p.snapshot(epoch)
	if err != nil {
		return nothingFound, err
	}
	limit := s.HighWatermark
	switch isolation {
	case ReadCommitted:
		limit = s.LastStable
	case ReadToEnd:
		limit = s.LogEnd
	}
	var lagging error
	if isolation != ReadToEnd && epochStart > s.HighWatermark {
		lagging = kafka.ErrOffsetNotAvailable.With("%s-%d: the high watermark %d has not reached the start %d of leader epoch %d yet",
			p.topic, p.id.Partition, s.HighWatermark, epochStart, s.LeaderEpoch)
	}
	switch timestamp {
	case TimestampLatest:
		if lagging != nil {
			return nothingFound, lagging
		}
		return TimestampOffset{-1, limit, s.LeaderEpoch}, nil
	case TimestampEarliest, TimestampEarliestLocal:
		return TimestampOffset{-1, s.LogStart, p.disk.EpochForOffset(s.LogStart)}, nil
	case TimestampLatestTiered, TimestampEarliestPendingUpload: // nothing is tiered
		return nothingFound, nil
	}
	return p.searchTimestamp(timestamp, limit, lagging)
}

func (p *Partition) searchTimestamp(timestamp int64, limit kafka.Offset, lagging error) (TimestampOffset, error) {
	search := func() (found TimestampOffset, ok bool, err error) {
		if timestamp == TimestampMax {
			f, ok, err := p.disk.MaxTimestamp()
			return TimestampOffset{f.Timestamp, f.Offset, f.Epoch}, ok, err
		}
		f, ok, err := p.disk.OffsetForTimestamp(timestamp, p.disk.LogEnd())
		return TimestampOffset{f.Timestamp, f.Offset, f.Epoch}, ok, err
	}
	found, ok, err := search()
	switch {
	case err != nil:
		return nothingFound, err
	case !ok:
		return nothingFound, lagging
	case found.Offset >= limit:
		return nothingFound, lagging
	}
	return found, nil
}

// EndOffsetForEpoch is the end of the largest leader epoch that is not above the one asked for (KIP-101, KIP-279), with
// NoLeaderEpoch and NoOffset if none is known.
func (p *Partition) EndOffsetForEpoch(asked, current kafka.LeaderEpoch) (EpochEnd, error) {
	s, err := p.Snapshot(current)
	if err != nil {
		return EpochEnd{}, err
	}
	return p.endOffsetForEpoch(asked, s), nil
}

func (p *Partition) endOffsetForEpoch(asked kafka.LeaderEpoch, s Snapshot) EpochEnd {
	if asked == s.LeaderEpoch { // the present epoch has no end yet
		return EpochEnd{asked, s.LogEnd}
	}
	found := p.disk.EndOffsetForEpoch(asked)
	return EpochEnd{found.Epoch, found.Offset}
}

// DeleteBelowHighWatermark, as the offset of DeleteRecords, stands for the high watermark.
const DeleteBelowHighWatermark kafka.Offset = -1

// DeleteRecords raises the log's start to the offset, durably, and returns the low watermark once it has reached the offset:
// the lowest log start of the in-sync replicas, so that the records do not come back with another leader. One that does not
// follow just now is waited for, until it does or is in sync no more. OFFSET_OUT_OF_RANGE above the high watermark; POLICY_VIOLATION where the topic is only compacted; REQUEST_TIMED_OUT if
// the context ends while followers are waited for: they will delete too.
func (p *Partition) DeleteRecords(ctx context.Context, offset kafka.Offset) (kafka.Offset, error) {
	p.mu.Lock()
	err := p.checkLeaderLocked(kafka.NoLeaderEpoch)
	highWatermark := p.mu.progress.highWatermark
	p.mu.Unlock()
	if err != nil {
		return kafka.NoOffset, err
	}
	if policy := p.Config().CleanupPolicy; policy.Compact && !policy.Delete {
		return kafka.NoOffset, kafka.ErrPolicyViolation.With("%s is compacted: its cleanup.policy does not delete", p.topic)
	}
	if offset == DeleteBelowHighWatermark {
		offset = highWatermark
	}
	if offset < 0 || offset > highWatermark {
		return kafka.NoOffset, kafka.ErrOffsetOutOfRange.With("%s-%d: %d is not between 0 and the high watermark %d",
			p.topic, p.id.Partition, offset, highWatermark)
	}
	if offset > p.disk.LogStart() {
		if err := p.disk.SetLogStart(ctx, offset); err != nil {
			return kafka.NoOffset, err
		}
		p.mu.Lock()
		p.signalLocked()
		p.mu.Unlock()
		p.tellStreams()
	}
	return p.awaitLowWatermark(ctx, offset)
}

func (p *Partition) awaitLowWatermark(ctx context.Context, offset kafka.Offset) (kafka.Offset, error) {
	moved := make(chan struct{}, 1)
	p.Watch(moved)
	defer p.Unwatch(moved)
	for {
		p.mu.Lock()
		err := p.checkLeaderLocked(kafka.NoLeaderEpoch)
		low := p.lowWatermarkLocked()
		p.mu.Unlock()
		if err != nil {
			return kafka.NoOffset, err
		}
		if low >= offset {
			return low, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return kafka.NoOffset, kafka.ErrRequestTimedOut.With("%s-%d: records up to %d are deleted here and not yet on every in-sync replica",
				p.topic, p.id.Partition, offset)
		}
	}
}

func (p *Partition) lowWatermarkLocked() kafka.Offset {
	low := p.disk.LogStart()
	for _, b := range p.mu.progress.replicas {
		switch s := p.sessionLocked(b); {
		case b == p.node.broker || !p.mu.progress.inMaximalISR(b):
		case s == nil:
			return kafka.NoOffset
		default:
			low = min(low, s.logStart)
		}
	}
	return low
}
