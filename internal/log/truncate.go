package log

import (
	"fmt"
	"slices"

	"chronik/internal/kafka"
)

// StartEpoch notes that a leader epoch begins at offset, which is the log's end. Idempotent. ErrNotAtEnd for an older
// epoch or another offset.
func (l *Log) StartEpoch(epoch kafka.LeaderEpoch, offset kafka.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(true); err != nil {
		return err
	}
	last := l.mu.epochs.last()
	if last.Epoch == epoch && last.Offset == offset {
		return nil
	}
	if epoch <= last.Epoch || offset != l.mu.end {
		return fmt.Errorf("epoch %d of %s at offset %d, the log ends at %d in epoch %d: %w", epoch, l.o.Name, offset, l.mu.end, last.Epoch, ErrNotAtEnd)
	}
	if l.mu.epochs.assign(EpochOffset{epoch, offset}) {
		l.mu.epochsDirty = true
	}
	return nil
}

// StateAt is the state in which TruncateTo(offset) leaves the log, but for the generation, which that raises. To make a
// truncation durable: Sync, log this state, truncate. Recovery opens the log at it, whether the files were cut already or
// not, and truncates again. The state names a place in a segment, so that until the truncation compaction replaces none. The
// caller orders it among appends.
func (l *Log) StateAt(offset kafka.Offset) (Checkpoint, error) {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	c := l.syncedLocked()
	end := l.mu.end
	err := l.usableLocked(false)
	l.mu.cutting = err == nil && offset < end
	l.mu.Unlock()
	if err != nil || offset >= end {
		return c, err
	}
	at := place{offset: offset}
	if offset >= c.LogStart {
		if at, err = l.cutAt(offset); err != nil {
			l.mu.Lock()
			l.mu.cutting = false
			l.mu.Unlock()
			return c, err
		}
		if at.s == nil { // all batches go, and offsets stay
			c.Segment, c.Position, c.EndOffset = offset, 0, offset
			return c, nil
		}
	}
	if at.offset < c.LogStart { // all of it goes
		start := min(offset, c.LogStart)
		return Checkpoint{Segment: start, EndOffset: start, LogStart: start, Generation: c.Generation}, nil
	}
	c.Segment, c.Position, c.EndOffset = at.s.base, at.position, at.offset
	return c, nil
}

// TruncateTo cuts everything at and behind offset, whole batches: the end may come to lie before it. It raises the
// generation, also where there is nothing to cut, and returns the new end. Below the log's start it is a Reset.
func (l *Log) TruncateTo(offset kafka.Offset) (kafka.Offset, error) {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	if err := l.usableLocked(true); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	logStart, end := l.mu.logStart, l.mu.end
	l.mu.cutting = false
	l.mu.Unlock()
	if offset < logStart {
		return offset, l.reset(offset)
	}
	if offset >= end {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mu.generation++
		l.mu.cleaner.cut(end)
		keep := offset
		if l.mu.recovering { // opened at StateAt(offset): cut already, but for the epochs that began there
			keep = end
		}
		l.truncateEpochsLocked(keep)
		l.mu.epochsDirty = true // the file holds the generation
		return end, nil
	}
	at, err := l.cutAt(offset)
	if err != nil {
		return 0, err
	}
	if at.s == nil {
		return offset, l.empty(offset)
	}
	if at.offset < logStart {
		return logStart, l.reset(logStart)
	}
	index, err := l.indexBelow(at)
	if err != nil {
		return 0, err
	}
	if err := l.loadAborted(at.s); err != nil { // later the file would be taken for what is aborted in the history to come
		return 0, err
	}
	if err = l.truncate(at, index); err == nil {
		err = l.loadProducers(false)
	}
	if err != nil {
		return 0, l.fail(fmt.Errorf("truncate %s to offset %d: %w", l.o.Name, offset, err))
	}
	l.mu.Lock()
	l.takeSnapshotLocked() // of the new generation
	l.mu.Unlock()
	return at.offset, nil
}

// cutAt is where the log is cut to end at an offset: at the batch that holds it; where it lies in a gap, behind the last
// batch below, and there the log ends exactly at the offset, for what is missing below it was there and is not to be given to
// other records. No segment if nothing stays.
func (l *Log) cutAt(offset kafka.Offset) (place, error) {
	l.mu.Lock()
	i := l.segmentIndexLocked(offset)
	l.mu.Unlock()
	if i < 0 {
		return place{offset: offset}, nil
	}
	at, err := l.locate(offset)
	if err != nil {
		return place{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.mu.segments[i]; at.s != s { // nothing is left from there to the segment's end
		at = place{s, s.size, offset}
	}
	if at.position == at.s.size || at.offset > offset {
		at.offset = offset
	}
	return at, nil
}

// empty drops all batches of a log of which nothing is left below the offset, where it ends from now on.
func (l *Log) empty(offset kafka.Offset) error {
	l.mu.Lock()
	start, epochs := l.mu.logStart, l.mu.epochs
	l.mu.Unlock()
	if err := l.reset(offset); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.logStart, l.mu.epochs = start, epochs
	l.truncateEpochsLocked(offset)
	return nil
}

// indexBelow is the state of a segment's index were the segment to end at a batch boundary.
func (l *Log) indexBelow(at place) (*segment, error) {
	s := at.s
	e, err := l.searchIndex(s, func(e entry) bool { return e.length > 0 && e.end() <= at.position })
	if err != nil {
		return nil, err
	}
	if err := l.loadRollTimestamp(s); err != nil {
		return nil, err
	}
	l.mu.Lock()
	cut := &segment{base: s.base, size: e.end(), end: s.base + kafka.Offset(e.base), maxTimestamp: -1, maxOffset: s.base,
		rollTimestamp: s.rollTimestamp, rollKnown: s.rollKnown, index: indexState{written: s.index.written, open: interval{start: e.end()}}}
	for _, t := range s.index.tail {
		if t.end() <= e.end() {
			cut.index.tail = append(cut.index.tail, t)
		}
	}
	l.mu.Unlock()
	if e.length > 0 {
		cut.maxTimestamp, cut.maxOffset = e.maxTimestamp, s.base+kafka.Offset(e.maxOffset)
	}
	if len(cut.index.tail) == 0 {
		// The last entry that stays is in the file: the later ones there go.
		if cut.index.written, _, err = l.readIndexEnd(s, e.end()); err != nil {
			return nil, err
		}
	}
	file, err := s.data.acquire()
	if err != nil {
		return nil, err
	}
	defer s.data.release()
	r := batchReader{scanner: newScanner(s.data.path, file, cut.size, at.position, cut.end)}
	defer r.close()
	for {
		b, _, err := r.nextWhole()
		if err != nil || b == nil {
			return cut, err
		}
		cut.addLocked(b, checksum(b), at.position+1) // no entry: it would end where no interval did
	}
}

// truncate ends the log at a batch boundary. The caller holds the maintenance slot and orders it among appends.
func (l *Log) truncate(at place, cut *segment) error {
	l.mu.Lock()
	i := slices.Index(l.mu.segments, at.s)
	gone := slices.Clone(l.mu.segments[i+1:])
	l.mu.segments = l.mu.segments[:i+1]
	s := at.s
	s.size, s.end = at.position, at.offset
	s.cutDamageLocked(at.position, at.offset)
	s.index, s.maxTimestamp, s.maxOffset = cut.index, cut.maxTimestamp, cut.maxOffset
	if n := len(s.aborted); n > 0 {
		s.aborted = slices.DeleteFunc(slices.Clone(s.aborted), func(a AbortedTransaction) bool { return a.LastOffset >= at.offset })
		s.abortedDirty = s.abortedDirty || len(s.aborted) < n
	}
	l.mu.end = at.offset
	l.mu.generation++
	l.mu.swaps++
	if c := &l.mu.synced; c.EndOffset > at.offset {
		c.Segment, c.Position, c.EndOffset = s.base, at.position, at.offset
	}
	l.truncateEpochsLocked(at.offset)
	l.mu.epochsDirty = true // the file holds the generation
	l.mu.cleaner.cut(at.offset)
	l.mu.recent.clear()
	l.mu.hints.clear()
	l.mu.pending = pendingSnapshot{}
	snapshots := slices.DeleteFunc(slices.Clone(l.mu.snapshots), func(o kafka.Offset) bool { return o <= at.offset })
	l.mu.snapshots = slices.DeleteFunc(l.mu.snapshots, func(o kafka.Offset) bool { return o > at.offset })
	recovering := l.mu.recovering
	l.mu.Unlock()
	if recovering {
		// The bytes stay for references that come later in the log; FinishRecovery cuts.
		for _, s := range gone {
			s.data.forget()
			s.indexFile.forget()
		}
		return nil
	}
	if err := l.removeSnapshots(snapshots); err != nil {
		return err
	}
	for _, s := range slices.Backward(gone) {
		if err := l.unlink(s); err != nil {
			return err
		}
	}
	return l.cut(s)
}

// truncateEpochsLocked drops the epochs that begin at or behind end: all of them if nothing is left of the log, because the
// first one begins no earlier than the log.
func (l *Log) truncateEpochsLocked(end kafka.Offset) {
	if end <= l.mu.logStart {
		l.mu.epochs = nil
	}
	l.mu.epochs.truncateEnd(end)
}
