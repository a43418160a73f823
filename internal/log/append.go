package log

import (
	"fmt"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// Append appends validated batches as the leader of epoch: it numbers them in place from the log's end, checks the
// sequence of their producers, rolls if need be and writes once, to the page cache. The caller may reuse batches.
//
// Errors: OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, TRANSACTION_COORDINATOR_FENCED,
// RECORD_LIST_TOO_LARGE (larger than a segment), CORRUPT_MESSAGE; ErrNotAtEnd if a newer epoch has begun. An error from the
// file system (such as ENOSPC) is returned wrapped, and nothing of the append remains; ErrFailed if something might remain.
func (l *Log) Append(batches []byte, epoch kafka.LeaderEpoch, origin record.Origin) (Placement, error) {
	if err := l.split(batches); err != nil {
		return Placement{}, err
	}
	l.mu.Lock()
	err := l.usableLocked(false)
	next, last, segmentBytes := l.mu.end, l.mu.epochs.last().Epoch, l.mu.config.SegmentBytes
	l.mu.Unlock()
	if err != nil {
		return Placement{}, err
	}
	if size := int64(len(batches)); size > segmentBytes { // a follower takes what its leader has
		return Placement{}, kafka.ErrRecordListTooLarge.With("%d bytes of batches for %s do not fit into a segment: segment.bytes is %d", size, l.o.Name, segmentBytes)
	}
	if epoch < last {
		return Placement{}, fmt.Errorf("append to %s in leader epoch %d, epoch %d has begun: %w", l.o.Name, epoch, last, ErrNotAtEnd)
	}
	appendTime := record.NoTimestamp
	for _, b := range l.w.batches {
		b.SetBaseOffset(next)
		b.SetLeaderEpoch(epoch)
		next = b.NextOffset()
		if b.TimestampType() == record.LogAppendTime {
			appendTime = b.MaxTimestamp()
		}
	}
	duplicate, err := l.stage(l.w.batches, l.w.markers, origin)
	if err != nil {
		return Placement{}, err
	}
	if duplicate != nil {
		return Placement{Duplicate: true, BaseOffset: duplicate.firstOffset(), EndOffset: duplicate.lastOffset + 1,
			MaxTimestamp: duplicate.timestamp, LogAppendTime: duplicate.timestamp}, nil
	}
	for _, b := range l.w.batches {
		l.w.crcs = append(l.w.crcs, crcOfBatch(b))
	}
	p, err := l.write(batches, writeAtEnd)
	p.LogAppendTime = appendTime
	return p, err
}

// AppendAt appends batches that are numbered already: a follower's. ErrNotAtEnd unless they begin exactly at the end, with
// an epoch not below the last.
func (l *Log) AppendAt(batches []byte) (Placement, error) {
	if err := l.split(batches); err != nil {
		return Placement{}, err
	}
	if err := l.usable(false); err != nil {
		return Placement{}, err
	}
	if err := l.checkNumbered(nil); err != nil {
		return Placement{}, err
	}
	return l.write(batches, writeAtEnd)
}

// split fills l.w with the batches of a buffer, which must hold whole ones and nothing else.
func (l *Log) split(buf []byte) error {
	w := &l.w
	w.batches, w.markers, w.crcs, w.epochs = w.batches[:0], w.markers[:0], w.crcs[:0], nil
	w.deletes = 0
	for rest := buf; ; {
		b, more, err := record.Next(rest)
		if err != nil {
			return kafka.ErrCorruptMessage.With("%d bytes to append to %s do not end with a whole batch: %v", len(buf), l.o.Name, err)
		}
		if b == nil {
			break
		}
		m, err := l.readMarker(b)
		if err != nil {
			return err
		}
		w.batches, w.markers = append(w.batches, b), append(w.markers, m)
		rest = more
	}
	if len(w.batches) == 0 {
		return kafka.ErrCorruptMessage.With("there is no batch to append to %s", l.o.Name)
	}
	return nil
}

// how bytes come into the segment.
type writeMode int

const (
	writeAtEnd writeMode = iota
	replayBytes
	bytesAreThere
)

// write brings the batches in l.w, whose bytes are buf, into the active segment, and counts them in.
func (l *Log) write(buf []byte, mode writeMode) (Placement, error) {
	size := int64(len(buf))
	var last, largest = l.w.batches[len(l.w.batches)-1], record.NoTimestamp
	for _, b := range l.w.batches {
		largest = max(largest, b.MaxTimestamp())
	}
	first := l.w.batches[0].BaseOffset()
	rolled := false
	if mode == writeAtEnd {
		var err error
		if rolled, err = l.rollIfNeeded(size, largest, first, last.LastOffset()); err != nil {
			return Placement{}, err
		}
	}
	l.mu.Lock()
	s := l.activeLocked()
	at := s.size
	p := Placement{Segment: &s.data, Base: s.base, Position: at, Length: size, Generation: l.mu.generation, Rolled: rolled,
		BaseOffset: first, EndOffset: last.NextOffset(), MaxTimestamp: largest, LogAppendTime: record.NoTimestamp}
	l.mu.Unlock()
	for i, b := range l.w.batches {
		if i == 0 {
			p.CRC = l.w.crcs[0]
		} else {
			p.CRC = combineCRC(p.CRC, l.w.crcs[i], int64(len(b)))
		}
	}
	if mode != bytesAreThere {
		if err := l.writeBytes(s, buf, at); err != nil {
			return Placement{}, err
		}
	}
	if full := l.commit(s); full {
		var err error
		if l.w.indexBuf, err = l.flushIndex(s, l.w.indexBuf); err != nil {
			// The batches are in; the entries stay in memory and are written with the next ones.
			l.o.Logger.Warn("index not written", "partition", l.o.Name, "error", err)
		}
	}
	return p, nil
}

// writeBytes is the append's one write. What a failed one left behind is cut off.
func (l *Log) writeBytes(s *segment, buf []byte, at int64) error {
	file, err := s.data.acquire()
	if err != nil {
		return fmt.Errorf("append to %s: %w", s.data.path, err)
	}
	defer s.data.releaseDirty()
	if _, err = file.WriteAt(buf, at); err == nil {
		return nil
	}
	if l.recovering() {
		return fmt.Errorf("append to %s: %w", s.data.path, err) // what is behind the end is cut when recovery has finished
	}
	if cut := file.Truncate(at); cut != nil {
		return l.fail(fmt.Errorf("append to %s: %w; cut it off again: %w; %w", s.data.path, err, cut, ErrFailed))
	}
	return fmt.Errorf("append to %s: %w", s.data.path, err)
}

func (l *Log) recovering() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.recovering
}

// commit makes written batches part of the log. It tells whether the index's entries in memory should be written.
func (l *Log) commit(s *segment) (full bool) {
	now := l.o.Clock.Now().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, b := range l.w.batches {
		l.assignEpochsLocked(b.BaseOffset())
		l.mu.recent.add(batchPlace{b.BaseOffset(), b.NextOffset(), s.base, s.size})
		s.addLocked(b, l.w.crcs[i], l.mu.config.IndexIntervalBytes)
		if e := (EpochOffset{b.LeaderEpoch(), b.BaseOffset()}); e.Epoch >= 0 && e.Epoch != l.mu.epochs.last().Epoch && l.mu.epochs.assign(e) {
			l.mu.epochsDirty = true
		}
		if aborted := l.mu.producers.apply(b, l.w.markers[i], now); aborted != nil {
			s.aborted, s.abortedDirty = append(s.aborted, *aborted), true
		}
	}
	l.mu.end = s.end
	l.lackDeletesLocked()
	return len(s.index.tail) >= indexTailMax
}
