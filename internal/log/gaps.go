package log

import (
	"errors"
	"fmt"

	"chronik/internal/kafka"
)

// Compaction leaves gaps: between batches, before the first one of a segment, behind the last one. So the log's end may lie
// above what its last batch ends at. What keeps a lost piece from looking like a gap is that whoever hands over batches with
// gaps says where they begin.

// Stretch is a piece of another replica's log, offsets From to Next, in which there may be gaps.
type Stretch struct {
	From kafka.Offset // the end of the log that it is appended to
	Next kafka.Offset // exclusive: the offset behind the last batch, if there is one
	// Epochs are the leader epochs that begin in [From, Next), ascending. Those whose first records are gone could not be
	// told from the batches, and a follower that took a later start for theirs would, once it leads, let others keep
	// records that are not in the log.
	Epochs []EpochOffset
	// Deletes is below what offset the other log may lack tombstones and control records that were there; see
	// Log.DeletesRemovedBelow. As far as this log then reaches, it lacks them too.
	Deletes kafka.Offset
	Batches []byte // empty where nothing is left
}

// AppendStretch appends what another replica has from this log's end on. ErrNotAtEnd unless it begins exactly there, with
// an epoch not below the last; CORRUPT_MESSAGE if it contradicts itself.
func (l *Log) AppendStretch(s *Stretch) (Placement, error) {
	if err := l.usable(false); err != nil {
		return Placement{}, err
	}
	if len(s.Batches) > 0 {
		if err := l.split(s.Batches); err != nil {
			return Placement{}, err
		}
		if err := l.checkNumbered(s); err != nil {
			return Placement{}, err
		}
		return l.write(s.Batches, writeAtEnd)
	}
	if err := l.checkEmpty(s); err != nil {
		return Placement{}, err
	}
	return l.skip(s.Next)
}

// ReplayStretch appends a stretch again, during recovery, at the place that it was given; see [Log.Replay].
func (l *Log) ReplayStretch(s *Stretch, base kafka.Offset, position int64) (Placement, error) {
	if len(s.Batches) > 0 {
		return l.replay(s.Batches, s, base, position, replayBytes)
	}
	if err := l.checkEmpty(s); err != nil {
		return Placement{}, err
	}
	if err := l.moveTo(base, position, l.LogEnd()); err != nil && !(errors.Is(err, ErrNotAtEnd) && l.wasReplaced(base, position)) {
		return Placement{}, err
	}
	return l.skip(s.Next)
}

// wasReplaced tells whether a segment is missing that a cut had left without batches behind a gap. It was replaced by the next
// one, and nothing was ever written to it again.
func (l *Log) wasReplaced(base kafka.Offset, position int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.activeLocked()
	return l.mu.recovering && position == 0 && base < l.mu.end && (s == nil || s.base < base || s.size == 0)
}

// ReplayStretchReference is ReplayStretch of one whose batches are in the segment already; see [Log.ReplayReference].
func (l *Log) ReplayStretchReference(s *Stretch, base kafka.Offset, position, length int64, crc uint32) (Placement, error) {
	return l.replayReference(s, base, position, length, crc)
}

// checkNumbered checks batches that somebody else numbered: that they follow the end and one another, but for the gaps of
// a stretch, in epochs that do not go back, and that they are whole.
func (l *Log) checkNumbered(s *Stretch) error {
	l.mu.Lock()
	next, epoch := l.mu.end, l.mu.epochs.last().Epoch
	l.mu.Unlock()
	var epochs []EpochOffset
	if s != nil {
		if err := l.checkStretch(s, l.w.batches[0].BaseOffset()); err != nil {
			return err
		}
		epochs = s.Epochs
	}
	for _, b := range l.w.batches {
		base := b.BaseOffset()
		for len(epochs) > 0 && epochs[0].Offset <= base {
			epoch, epochs = max(epoch, epochs[0].Epoch), epochs[1:]
		}
		if base < next || base > next && s == nil || b.LeaderEpoch() < epoch || b.LastOffsetDelta() < 0 {
			return fmt.Errorf("%s ends at offset %d in leader epoch %d and is given offset %d in epoch %d: %w", l.o.Name, next, epoch, base, b.LeaderEpoch(), ErrNotAtEnd)
		}
		if !b.VerifyCRC() {
			return kafka.ErrCorruptMessage.With("the batch at offset %d of %s does not fit its CRC", base, l.o.Name)
		}
		next, epoch = b.NextOffset(), b.LeaderEpoch()
		l.w.crcs = append(l.w.crcs, crcOfBatch(b))
	}
	if s == nil {
		return nil
	}
	if s.Next != next || len(epochs) > 0 {
		return kafka.ErrCorruptMessage.With("a stretch of %s to offset %d ends at offset %d, with %d leader epochs left", l.o.Name, s.Next, next, len(epochs))
	}
	l.w.epochs, l.w.deletes = s.Epochs, s.Deletes
	return nil
}

// checkEmpty checks a stretch without batches.
func (l *Log) checkEmpty(s *Stretch) error {
	l.w.batches, l.w.markers, l.w.crcs, l.w.epochs = l.w.batches[:0], l.w.markers[:0], l.w.crcs[:0], nil
	l.w.deletes = 0
	if err := l.checkStretch(s, s.Next); err != nil {
		return err
	}
	l.mu.Lock()
	last := l.mu.epochs.last().Epoch
	l.mu.Unlock()
	if len(s.Epochs) > 0 && s.Epochs[0].Epoch < last {
		return fmt.Errorf("%s is in leader epoch %d and is given epoch %d: %w", l.o.Name, last, s.Epochs[0].Epoch, ErrNotAtEnd)
	}
	l.w.epochs, l.w.deletes = s.Epochs, s.Deletes
	return nil
}

// checkStretch checks where a stretch begins and which epochs it tells of. first is its first batch, or its end. A recovery
// may know of the gap before it already: the segment was rolled and synced before the append was logged.
func (l *Log) checkStretch(s *Stretch, first kafka.Offset) error {
	l.mu.Lock()
	end, recovering := l.mu.end, l.mu.recovering
	l.mu.Unlock()
	if s.From != end && !(recovering && s.From < end && end <= first) {
		return fmt.Errorf("%s ends at offset %d and is given what begins at %d: %w", l.o.Name, end, s.From, ErrNotAtEnd)
	}
	if first < s.From || s.Next <= s.From {
		return kafka.ErrCorruptMessage.With("a stretch of %s from offset %d to %d has a batch at %d", l.o.Name, s.From, s.Next, first)
	}
	last := EpochOffset{kafka.NoLeaderEpoch, s.From - 1}
	for _, e := range s.Epochs {
		if e.Epoch <= last.Epoch || e.Offset <= last.Offset || e.Offset >= s.Next {
			return kafka.ErrCorruptMessage.With("a stretch of %s from offset %d to %d tells of leader epoch %d at offset %d, after epoch %d at %d",
				l.o.Name, s.From, s.Next, e.Epoch, e.Offset, last.Epoch, last.Offset)
		}
		last = e
	}
	return nil
}

// assignEpochsLocked takes the epochs of the stretch that begin up to an offset into the history.
func (l *Log) assignEpochsLocked(to kafka.Offset) {
	for len(l.w.epochs) > 0 && l.w.epochs[0].Offset <= to {
		if l.mu.epochs.assign(l.w.epochs[0]) {
			l.mu.epochsDirty = true
		}
		l.w.epochs = l.w.epochs[1:]
	}
}

// skip moves the log's end up where nothing is left.
func (l *Log) skip(next kafka.Offset) (Placement, error) {
	l.mu.Lock()
	s := l.activeLocked()
	rolled := s == nil || l.sealedLocked(s)
	l.mu.Unlock()
	if rolled {
		if err := l.roll(); err != nil {
			return Placement{}, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s = l.activeLocked()
	p := Placement{Segment: &s.data, Base: s.base, Position: s.size, Generation: l.mu.generation, Rolled: rolled,
		BaseOffset: l.mu.end, EndOffset: next, MaxTimestamp: -1, LogAppendTime: -1}
	l.skipLocked(next)
	return p, nil
}

func (l *Log) skipLocked(next kafka.Offset) {
	l.assignEpochsLocked(next - 1)
	if s := l.activeLocked(); s != nil {
		s.end = next
	}
	l.mu.end, l.mu.producers.end = next, next
	l.lackDeletesLocked()
}

// lackDeletesLocked takes note of the deletions that are not in what was appended.
func (l *Log) lackDeletesLocked() {
	if to := min(l.w.deletes, l.mu.end); to > l.mu.cleaner.deletesBelow {
		l.mu.cleaner.deletesBelow, l.mu.cleaner.dirty = to, true
	}
}

// rollAt begins a new segment at an offset, which is the log's end or lies above it.
func (l *Log) rollAt(offset kafka.Offset) error {
	l.mu.Lock()
	s := l.activeLocked()
	end, epochs, told := l.mu.end, l.mu.epochs, l.w.epochs
	gap := offset > end
	if gap {
		l.mu.epochs = append(epochHistory(nil), epochs...)
		l.skipLocked(offset)
	}
	l.mu.Unlock()
	err := l.roll()
	if err == nil || !gap {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.activeLocked() == s { // nothing is appended, so that the end is what it was
		l.skipLocked(end)
		l.mu.epochs, l.w.epochs = epochs, told
	}
	return err
}

// EpochsIn are the leader epochs that begin in [from, to), ascending.
func (l *Log) EpochsIn(from, to kafka.Offset) []EpochOffset {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []EpochOffset
	for _, e := range l.mu.epochs {
		if e.Offset >= from && e.Offset < to {
			found = append(found, e)
		}
	}
	return found
}

// Swaps rises whenever segments leave the log: cleaned ones take their place, or they are deleted or cut. What was found out
// about the log before and after does not go together then.
func (l *Log) Swaps() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.swaps
}

// DeletesRemovedBelow is the offset behind the last tombstone or control record that compaction ever removed; 0 if there is
// none. A replica whose log ends below it may hold what that record deleted, or a transaction that it ended, and will not
// get to see it: it has to begin anew.
func (l *Log) DeletesRemovedBelow() kafka.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.cleaner.deletesBelow
}
