package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"chronik/internal/kafka"
)

// A transaction index (docs/format/index.md) lists the transactions whose abort markers stand in the segment. It exists
// where there are any, and can always be made from the log.
const (
	abortedMagic      = "chronTXN"
	abortedVersion    = 1
	abortedHeaderSize = 24
	abortedEntrySize  = 32
)

func encodeAborted(list []AbortedTransaction, base kafka.Offset) []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, abortedHeaderSize+len(list)*abortedEntrySize+4), abortedMagic...)
	b = be.AppendUint16(b, abortedVersion)
	b = append(b, 0, 0)
	b = be.AppendUint32(b, uint32(len(list)))
	b = be.AppendUint64(b, uint64(base))
	for _, a := range list {
		b = be.AppendUint64(b, uint64(a.ProducerID))
		b = be.AppendUint64(b, uint64(a.FirstOffset))
		b = be.AppendUint64(b, uint64(a.LastOffset))
		b = be.AppendUint64(b, uint64(a.LastStable))
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeAborted(b []byte, base kafka.Offset) ([]AbortedTransaction, error) {
	if err := checkWhole(b, abortedMagic, abortedVersion, abortedHeaderSize); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	n := be.Uint32(b[12:])
	if kafka.Offset(be.Uint64(b[16:])) != base || int64(len(b)) != abortedHeaderSize+int64(n)*abortedEntrySize+4 {
		return nil, fmt.Errorf("it does not fit the segment or its size")
	}
	list := make([]AbortedTransaction, 0, n)
	for b = b[abortedHeaderSize : len(b)-4]; len(b) > 0; b = b[abortedEntrySize:] {
		list = append(list, AbortedTransaction{kafka.ProducerID(be.Uint64(b)), kafka.Offset(be.Uint64(b[8:])), kafka.Offset(be.Uint64(b[16:])), kafka.Offset(be.Uint64(b[24:]))})
	}
	return list, nil
}

// AbortedTransactions lists the aborted transactions that have records in [from, to), by their markers' offsets.
func (l *Log) AbortedTransactions(from, to kafka.Offset) ([]AbortedTransaction, error) {
	l.mu.Lock()
	segments := slices.Clone(l.mu.segments[max(0, l.segmentIndexLocked(from)):])
	l.mu.Unlock()
	var found []AbortedTransaction
	for _, s := range segments {
		if err := l.loadAborted(s); err != nil {
			return nil, err
		}
		l.mu.Lock()
		list := s.aborted
		l.mu.Unlock()
		for _, a := range list {
			if a.LastOffset >= from && a.FirstOffset < to {
				found = append(found, a)
			}
			if a.LastStable >= to {
				return found, nil
			}
		}
	}
	return found, nil
}

// loadAborted reads a segment's transaction index. A broken one is made again from the log.
func (l *Log) loadAborted(s *segment) error {
	l.mu.Lock()
	loaded, end := s.abortedLoaded, s.end
	l.mu.Unlock()
	if loaded {
		return nil
	}
	b, err := l.readWhole(s.abortedPath())
	if err != nil {
		return err
	}
	var list []AbortedTransaction
	var broken error
	if b != nil {
		if list, broken = decodeAborted(b, s.base); broken != nil {
			l.o.Logger.Warn("making a transaction index again from the log", "partition", l.o.Name, "file", s.abortedPath(), "reason", broken)
			if list, err = l.rebuildAborted(s); err != nil {
				return err
			}
		}
	}
	n := len(list)
	list = slices.DeleteFunc(list, func(a AbortedTransaction) bool { return a.LastOffset >= end })
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.abortedLoaded {
		s.aborted, s.abortedLoaded = list, true
		s.abortedDirty = len(list) < n || broken != nil
	}
	return nil
}

// rebuildAborted derives a segment's aborted transactions from the whole log before its end.
func (l *Log) rebuildAborted(s *segment) ([]AbortedTransaction, error) {
	l.mu.Lock()
	if len(l.mu.segments) == 0 { // the log was reset meanwhile
		l.mu.Unlock()
		return nil, nil
	}
	first, end := l.mu.segments[0].base, s.end
	l.mu.Unlock()
	all, err := l.applyFrom(&producers{end: first}, first, end)
	return slices.DeleteFunc(all, func(a AbortedTransaction) bool { return a.LastOffset < s.base }), err
}

// syncAborted writes a segment's transaction index if it changed. The caller holds the maintenance slot.
func (l *Log) syncAborted(s *segment) error {
	l.mu.Lock()
	dirty := s.abortedDirty
	list := s.aborted
	s.abortedDirty = false
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := l.writeWhole(s.abortedPath(), encodeAborted(list, s.base)); err != nil {
		l.mu.Lock()
		s.abortedDirty = true
		l.mu.Unlock()
		return err
	}
	return nil
}

// applyFrom takes the batches in [from, end) into state, and returns the transactions that they abort.
func (l *Log) applyFrom(state *producers, from, end kafka.Offset) ([]AbortedTransaction, error) {
	var aborted []AbortedTransaction
	now := l.o.Clock.Now().UnixMilli()
	l.mu.Lock()
	segments := slices.Clone(l.mu.segments)
	l.mu.Unlock()
	for _, s := range segments {
		l.mu.Lock()
		skip := s.end <= from || s.base >= end || s.size == 0
		size := s.size
		l.mu.Unlock()
		if skip {
			continue
		}
		at := place{s, 0, s.base}
		if from > s.base {
			var err error
			if behind, ok := l.behindDamage(s, from); ok {
				at = behind
			} else if at, err = l.locate(from); err != nil {
				return nil, err
			}
			if at.s != s {
				continue // nothing of it is left from there on
			}
		}
		for {
			var stop int64
			if at, stop = l.skipDamage(at, size); at.position >= stop || at.offset >= end {
				break
			}
			more, err := l.applySegment(state, at, stop, end, now)
			if err != nil {
				return nil, err
			}
			aborted = append(aborted, more...)
			at = place{s, stop, s.base} // where damage begins, if it is not the end; skipDamage goes on behind it
		}
	}
	return aborted, nil
}

func (l *Log) applySegment(state *producers, at place, size int64, end kafka.Offset, now int64) ([]AbortedTransaction, error) {
	file, err := at.s.data.acquire()
	if err != nil {
		return nil, err
	}
	defer at.s.data.release()
	r := batchReader{scanner: newScanner(at.s.data.path, file, at.position, size, at.offset)}
	defer r.close()
	var aborted []AbortedTransaction
	for {
		b, position, err := r.next()
		if err != nil || b == nil || b.BaseOffset() >= end {
			return aborted, err
		}
		if state.epochs != nil && b.LeaderEpoch() > state.epochs.last().Epoch {
			state.epochs.assign(EpochOffset{b.LeaderEpoch(), b.BaseOffset()})
		}
		var m *marker
		if b.Control() {
			r.rewind(position, b.BaseOffset())
			if b, _, err = r.nextWhole(); err != nil {
				return nil, err
			}
			if m, err = l.readMarker(b); err != nil {
				return nil, err
			}
		}
		if a := state.apply(b, m, now); a != nil {
			aborted = append(aborted, *a)
		}
	}
}
