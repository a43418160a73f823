package store

import (
	"chronik/internal/kafka"
	"chronik/internal/log"
)

// What the log answers, with the log opened if it was not yet. See package log for each.

// Read finds batches for sendfile; see log.Log.Read. limit is at most the high watermark: what lies above may be cut.
func (p *Partition) Read(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (log.Slice, error) {
	l, err := p.opened()
	if err != nil {
		return log.Slice{}, storageError(err)
	}
	p.wasFetched()
	return l.Read(from, maxBytes, limit, atLeastOne)
}

// ReadCopy appends batches to dst, also such as may still be truncated; see log.Log.ReadCopy.
func (p *Partition) ReadCopy(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) ([]byte, error) {
	l, err := p.opened()
	if err != nil {
		return dst, storageError(err)
	}
	return l.ReadCopy(dst, from, maxBytes, limit, atLeastOne)
}

// ReadStretch is ReadCopy, and tells where to go on; see log.Log.ReadStretch.
func (p *Partition) ReadStretch(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) ([]byte, kafka.Offset, error) {
	l, err := p.opened()
	if err != nil {
		return dst, from, storageError(err)
	}
	return l.ReadStretch(dst, from, maxBytes, limit, atLeastOne)
}

// EpochsIn are the leader epochs that begin in [from, to), ascending.
func (p *Partition) EpochsIn(from, to kafka.Offset) ([]log.EpochOffset, error) {
	l, err := p.opened()
	if err != nil {
		return nil, storageError(err)
	}
	return l.EpochsIn(from, to), nil
}

// CheckStretch checks the bytes that hold a range of offsets against their checksums; see log.Log.CheckStretch.
func (p *Partition) CheckStretch(from, to kafka.Offset) error {
	l, err := p.opened()
	if err != nil {
		return storageError(err)
	}
	return l.CheckStretch(from, to)
}

// DeletesRemovedBelow is the offset behind the last tombstone or control record that compaction removed; see
// log.Log.DeletesRemovedBelow.
func (p *Partition) DeletesRemovedBelow() (kafka.Offset, error) {
	l, err := p.opened()
	if err != nil {
		return 0, storageError(err)
	}
	return l.DeletesRemovedBelow(), nil
}

// OffsetForTimestamp finds the first record from the log's start, below limit, with at least this timestamp.
func (p *Partition) OffsetForTimestamp(millis int64, limit kafka.Offset) (log.TimestampOffset, bool, error) {
	l, err := p.opened()
	if err != nil {
		return log.TimestampOffset{}, false, storageError(err)
	}
	return l.OffsetForTimestamp(millis, limit)
}

// MaxTimestamp finds the record with the largest timestamp.
func (p *Partition) MaxTimestamp() (log.TimestampOffset, bool, error) {
	l, err := p.opened()
	if err != nil {
		return log.TimestampOffset{}, false, storageError(err)
	}
	return l.MaxTimestamp()
}

// EndOffsetForEpoch is the end of the largest epoch not above the one asked for; NoLeaderEpoch and NoOffset if it is not
// known.
func (p *Partition) EndOffsetForEpoch(epoch kafka.LeaderEpoch) log.EpochOffset {
	l, err := p.opened()
	if err != nil {
		p.s.o.Logger.Error("leader epochs cannot be read", "partition", p.name(), "error", err)
		return log.EpochOffset{Epoch: kafka.NoLeaderEpoch, Offset: kafka.NoOffset}
	}
	return l.EndOffsetForEpoch(epoch)
}

// EpochForOffset is the leader epoch in which the record at offset was written; NoLeaderEpoch if that is not known.
func (p *Partition) EpochForOffset(offset kafka.Offset) kafka.LeaderEpoch {
	l, err := p.opened()
	if err != nil {
		p.s.o.Logger.Error("leader epochs cannot be read", "partition", p.name(), "error", err)
		return kafka.NoLeaderEpoch
	}
	return l.EpochForOffset(offset)
}

// Epoch is the last leader epoch and its start.
func (p *Partition) Epoch() log.EpochOffset {
	if l := p.log.Load(); l != nil {
		return l.Epoch()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.state.epoch
}

// LastRecordEpoch is the leader epoch of the last record; NoLeaderEpoch if the log is empty. It opens the log only where it
// cannot tell otherwise: ten thousand partitions begin to follow each time a node starts.
func (p *Partition) LastRecordEpoch() kafka.LeaderEpoch {
	end := p.LogEnd()
	if end == p.LogStart() {
		return kafka.NoLeaderEpoch
	}
	if last := p.Epoch(); last.Epoch != kafka.NoLeaderEpoch && last.Offset < end {
		return last.Epoch
	}
	return p.EpochForOffset(end - 1)
}

// Beginning is what a replica starts with that gets this log's batches from the log's start on; see log.Log.Beginning.
func (p *Partition) Beginning() (log.Beginning, error) {
	l, err := p.opened()
	if err != nil {
		return log.Beginning{}, storageError(err)
	}
	return l.Beginning()
}

// FirstUnstable is the first offset of a transaction that is undecided, or decided above the high watermark; NoOffset if
// there is none.
func (p *Partition) FirstUnstable() kafka.Offset {
	if p.LogEnd() == p.LogStart() {
		return kafka.NoOffset
	}
	l, err := p.opened()
	if err != nil { // no transaction is known to be decided
		p.s.o.Logger.Error("transactions cannot be read", "partition", p.name(), "error", err)
		return p.LogStart()
	}
	return l.FirstUnstable()
}

// AbortedTransactions lists the aborted transactions that have records in [from, to).
func (p *Partition) AbortedTransactions(from, to kafka.Offset) ([]log.AbortedTransaction, error) {
	l, err := p.opened()
	if err != nil {
		return nil, storageError(err)
	}
	return l.AbortedTransactions(from, to)
}

// Size is the size of the log in bytes.
func (p *Partition) Size() int64 {
	l, err := p.opened()
	if err != nil {
		return 0
	}
	return l.Size()
}

// ExpireProducers forgets idempotent producers that have been silent for long; where the partition is led only.
func (p *Partition) ExpireProducers() int {
	if l := p.log.Load(); l != nil {
		return l.ExpireProducers(p.s.o.Clock.Now())
	}
	return 0
}

// Swaps rises whenever compaction replaced segments; see log.Log.Swaps.
func (p *Partition) Swaps() uint64 {
	if l := p.log.Load(); l != nil {
		return l.Swaps()
	}
	return 0
}

// FirstDirty is the offset from which on the log was never compacted.
func (p *Partition) FirstDirty() (kafka.Offset, error) {
	l, err := p.opened()
	if err != nil {
		return 0, storageError(err)
	}
	return l.FirstDirty(), nil
}
