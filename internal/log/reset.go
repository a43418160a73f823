package log

import (
	"fmt"
	"maps"
	"slices"

	"chronik/internal/kafka"
)

// Beginning is what an empty log starts with where it is to go on as another replica's does.
type Beginning struct {
	Offset kafka.Offset
	// Epochs are the leader epochs that began at or below Offset.
	Epochs []EpochOffset
	// Producers is a snapshot of the producers' state at Offset (docs/format/producer-snapshot.md); empty: none is known.
	Producers []byte
}

// Beginning is what a replica has to start with that gets this log's batches from its start on. What they tell is left
// out: of a producer's state, what its batches below the log's start left behind.
func (l *Log) Beginning() (Beginning, error) {
	l.mu.Lock()
	start, end := l.mu.logStart, l.mu.end
	l.mu.Unlock()
	aborted, err := l.AbortedTransactions(start, end)
	if err != nil {
		return Beginning{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := Beginning{Offset: l.mu.logStart}
	for _, e := range l.mu.epochs {
		if e.Offset <= b.Offset {
			b.Epochs = append(b.Epochs, e)
		}
	}
	state := l.mu.producers.before(b.Offset, aborted)
	if len(state.byID) > 0 {
		b.Producers = state.encode(b.Offset, l.mu.generation)
	}
	return b, nil
}

// before is the producers' state at an earlier offset, as far as the present one tells: what the batches from there on
// tell is left to them. Aborted are the transactions that ended since; those that were open at the offset are open in it.
func (s *producers) before(offset kafka.Offset, aborted []AbortedTransaction) producers {
	state := producers{end: offset, byID: map[kafka.ProducerID]*producer{}}
	for id, p := range s.byID {
		q := *p
		q.count = 0
		for _, d := range p.batches[:p.count] {
			if d.lastOffset < offset {
				q.batches[q.count] = d
				q.count++
			}
		}
		if q.txnFirst >= offset {
			q.txnFirst = kafka.NoOffset
		}
		clear(q.batches[q.count:])
		if q.count > 0 || p.count == 0 || q.txnFirst != kafka.NoOffset {
			state.byID[id] = &q
		}
	}
	for _, a := range aborted {
		if a.FirstOffset < offset && a.LastOffset >= offset {
			q := state.get(a.ProducerID)
			q.txnFirst = a.FirstOffset
			state.put(a.ProducerID, &q)
		}
	}
	return state
}

// Begin gives an empty log what it starts with: after Reset, or again while it is recovered. CORRUPT_MESSAGE if it is
// broken; the log is as it was then.
func (l *Log) Begin(b Beginning) error {
	state, epochs, err := b.check()
	if err != nil {
		return fmt.Errorf("%w", kafka.ErrCorruptMessage.With("what %s is to begin with at offset %d: %v", l.o.Name, b.Offset, err))
	}
	if err := l.makeDir(); err != nil { // Sync writes no epochs without
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(true); err != nil {
		return err
	}
	if l.mu.logStart != b.Offset || l.mu.end != b.Offset || len(l.mu.segments) > 0 {
		return fmt.Errorf("%s is to begin at offset %d and has offsets %d to %d: %w", l.o.Name, b.Offset, l.mu.logStart, l.mu.end, ErrNotAtEnd)
	}
	l.mu.epochs, l.mu.epochsDirty = epochs, true
	l.mu.producers = state
	l.takeSnapshotLocked()
	return nil
}

// Check tells whether Begin would take it.
func (b Beginning) Check() error {
	_, _, err := b.check()
	return err
}

func (b Beginning) check() (producers, epochHistory, error) {
	var epochs epochHistory
	for _, e := range b.Epochs {
		last := epochs.last()
		if e.Epoch <= last.Epoch || e.Offset <= last.Offset || e.Offset > b.Offset {
			return producers{}, nil, fmt.Errorf("leader epoch %d at offset %d is out of order", e.Epoch, e.Offset)
		}
		epochs = append(epochs, e)
	}
	state := producers{end: b.Offset}
	if len(b.Producers) > 0 {
		var err error
		if state, _, err = decodeProducers(b.Producers, b.Offset); err != nil {
			return producers{}, nil, fmt.Errorf("snapshot of its producers: %w", err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(state.byID)) {
		if first := state.byID[id].txnFirst; first >= b.Offset {
			return producers{}, nil, fmt.Errorf("producer %d has a transaction open that began at offset %d", id, first)
		}
	}
	return state, epochs, nil
}

// Reset drops everything and starts again, empty, at offset. It raises the generation.
func (l *Log) Reset(offset kafka.Offset) error {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	return l.reset(offset)
}

func (l *Log) reset(offset kafka.Offset) error {
	l.mu.Lock()
	if err := l.usableLocked(true); err != nil {
		l.mu.Unlock()
		return err
	}
	gone, snapshots, recovering := l.mu.segments, l.mu.snapshots, l.mu.recovering
	l.mu.segments, l.mu.snapshots = nil, nil
	l.mu.cutting = false
	l.mu.logStart, l.mu.end = offset, offset
	l.mu.generation++
	l.mu.swaps++
	l.mu.synced = Checkpoint{Segment: offset, EndOffset: offset}
	l.mu.epochs, l.mu.epochsDirty = nil, true
	l.mu.producers = producers{end: offset}
	l.mu.cleaner.cut(offset)
	l.mu.cleaner.firstDirty = 0
	l.mu.recent.clear()
	l.mu.hints.clear()
	l.mu.pending = pendingSnapshot{}
	l.mu.Unlock()
	if err := l.removeSnapshots(snapshots); err != nil {
		return l.fail(err)
	}
	for _, s := range slices.Backward(gone) {
		if recovering {
			s.data.forget()
			s.indexFile.forget()
		} else if err := l.unlink(s); err != nil {
			return l.fail(fmt.Errorf("reset %s: %w", l.o.Name, err))
		}
	}
	return nil
}
