package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"path"
	"slices"

	"chronik/internal/kafka"
)

// A producer snapshot (docs/format/producer-snapshot.md) is the state of the producers at an offset.
const (
	snapshotMagic      = "chronPRO"
	snapshotVersion    = 1
	snapshotHeaderSize = 32
	snapshotsKept      = 2
)

// encode is the snapshot of the state, whose end is the offset that names the file.
func (s *producers) encode(end kafka.Offset, generation uint64) []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, snapshotHeaderSize+8+len(s.byID)*64), snapshotMagic...)
	b = be.AppendUint16(b, snapshotVersion)
	b = append(b, 0, 0)
	b = be.AppendUint32(b, uint32(len(s.byID)))
	b = be.AppendUint64(b, uint64(end))
	b = be.AppendUint64(b, generation)
	for _, id := range slices.Sorted(maps.Keys(s.byID)) {
		p := s.byID[id]
		b = be.AppendUint64(b, uint64(id))
		b = be.AppendUint16(b, uint16(p.epoch))
		b = be.AppendUint32(b, uint32(p.coordinatorEpoch))
		b = be.AppendUint64(b, uint64(p.lastTimestamp))
		b = be.AppendUint64(b, uint64(p.lastAppend))
		b = be.AppendUint64(b, uint64(p.txnFirst))
		b = append(b, byte(p.count))
		for _, d := range p.batches[:p.count] {
			b = be.AppendUint32(b, uint32(d.lastSequence))
			b = be.AppendUint32(b, uint32(d.offsetDelta))
			b = be.AppendUint64(b, uint64(d.lastOffset))
			b = be.AppendUint64(b, uint64(d.timestamp))
		}
	}
	b = be.AppendUint32(b, uint32(len(s.unreplicated)))
	for _, t := range s.unreplicated {
		b = be.AppendUint64(b, uint64(t.id))
		b = be.AppendUint64(b, uint64(t.first))
		b = be.AppendUint64(b, uint64(t.last))
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var errSnapshotShort = errors.New("its entries do not fit its size")

// decodeProducers reads a snapshot that should be of offset end.
func decodeProducers(b []byte, end kafka.Offset) (s producers, generation uint64, err error) {
	if err := checkWhole(b, snapshotMagic, snapshotVersion, snapshotHeaderSize); err != nil {
		return producers{}, 0, err
	}
	be := binary.BigEndian
	if at := kafka.Offset(be.Uint64(b[16:])); at != end {
		return producers{}, 0, fmt.Errorf("it is of offset %d", at)
	}
	generation = be.Uint64(b[24:])
	s = producers{end: end, byID: map[kafka.ProducerID]*producer{}}
	n := be.Uint32(b[12:])
	b = b[snapshotHeaderSize : len(b)-4]
	const fixed = 8 + 2 + 4 + 8 + 8 + 8 + 1
	for range n {
		if len(b) < fixed {
			return producers{}, 0, errSnapshotShort
		}
		id := kafka.ProducerID(be.Uint64(b))
		p := producer{epoch: kafka.ProducerEpoch(be.Uint16(b[8:])), coordinatorEpoch: int32(be.Uint32(b[10:])),
			lastTimestamp: int64(be.Uint64(b[14:])), lastAppend: int64(be.Uint64(b[22:])), txnFirst: kafka.Offset(be.Uint64(b[30:])), count: int8(b[38])}
		b = b[fixed:]
		if p.count < 0 || p.count > duplicateWindow || len(b) < int(p.count)*24 {
			return producers{}, 0, errSnapshotShort
		}
		for i := range p.batches[:p.count] {
			p.batches[i] = producedBatch{int32(be.Uint32(b)), int32(be.Uint32(b[4:])), kafka.Offset(be.Uint64(b[8:])), int64(be.Uint64(b[16:]))}
			b = b[24:]
		}
		s.byID[id] = &p
		if p.txnFirst != kafka.NoOffset {
			s.begin(id, p.txnFirst)
		}
	}
	if len(b) < 4 || int64(len(b)) != 4+24*int64(be.Uint32(b)) {
		return producers{}, 0, errSnapshotShort
	}
	for b = b[4:]; len(b) > 0; b = b[24:] {
		s.unreplicated = append(s.unreplicated, transaction{kafka.ProducerID(be.Uint64(b)), kafka.Offset(be.Uint64(b[8:])), kafka.Offset(be.Uint64(b[16:]))})
	}
	return s, generation, nil
}

func (l *Log) snapshotPath(offset kafka.Offset) string {
	return path.Join(l.o.Dir, fileName(offset, snapshotSuffix))
}

// pendingSnapshot is one that roll took and that the next sync writes.
type pendingSnapshot struct {
	offset kafka.Offset
	bytes  []byte
}

// Snapshot writes the producers' state at the log's end, synced, and keeps the last two. It does nothing where there is
// one of that offset, or no file.
func (l *Log) Snapshot() error {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	if err := l.usableLocked(false); err != nil || len(l.mu.segments) == 0 {
		l.mu.Unlock()
		return err
	}
	if !slices.Contains(l.mu.snapshots, l.mu.end) {
		l.takeSnapshotLocked()
	}
	l.mu.Unlock()
	return l.writeSnapshot()
}

// takeSnapshotLocked remembers the present state for the next writeSnapshot.
func (l *Log) takeSnapshotLocked() {
	l.mu.pending = pendingSnapshot{l.mu.end, l.mu.producers.encode(l.mu.end, l.mu.generation)}
}

// writeSnapshot writes the snapshot that was taken, if any. The caller holds the maintenance slot.
func (l *Log) writeSnapshot() error {
	l.mu.Lock()
	p := l.mu.pending
	l.mu.Unlock()
	if p.bytes == nil {
		return nil
	}
	if err := l.writeWhole(l.snapshotPath(p.offset), p.bytes); err != nil {
		return err
	}
	l.mu.Lock()
	if l.mu.pending.offset == p.offset {
		l.mu.pending = pendingSnapshot{}
	}
	l.mu.snapshots = append(l.mu.snapshots, p.offset)
	slices.Sort(l.mu.snapshots)
	l.mu.snapshots = slices.Compact(l.mu.snapshots)
	var old []kafka.Offset
	if n := len(l.mu.snapshots) - snapshotsKept; n > 0 {
		old = slices.Clone(l.mu.snapshots[:n])
		l.mu.snapshots = slices.Delete(l.mu.snapshots, 0, n)
	}
	l.mu.Unlock()
	return l.removeSnapshots(old)
}

func (l *Log) removeSnapshots(offsets []kafka.Offset) error {
	for _, o := range offsets {
		if err := l.o.FS.Remove(l.snapshotPath(o)); err != nil && !vfsNotExist(err) {
			return err
		}
	}
	return nil
}

// loadProducers makes the producers' state at the log's end: the newest sound snapshot, and what follows it in the
// segments. While the log is opened only snapshots of its generation count: another may have been taken before a
// truncation, and its removal undone by a power loss.
func (l *Log) loadProducers(opening bool) error {
	l.mu.Lock()
	snapshots := slices.Clone(l.mu.snapshots)
	end, generation := l.mu.end, l.mu.generation
	var from kafka.Offset
	if len(l.mu.segments) > 0 {
		from = l.mu.segments[0].base
	}
	l.mu.Unlock()
	state := producers{end: from}
	loaded := false
	for _, o := range slices.Backward(snapshots) {
		if opening && l.o.Checkpoint != nil && o > end {
			l.dropSnapshot(o) // replay may come to another history
			continue
		}
		if o > end || loaded && !opening {
			continue
		}
		name := l.snapshotPath(o)
		b, err := l.readWhole(name)
		if err != nil {
			return err
		}
		s, at, err := decodeProducers(b, o)
		switch {
		case err != nil:
			l.o.Logger.Warn("a producer snapshot is broken; using an older one, or the segments", "partition", l.o.Name, "file", name, "error", err)
		case opening && l.o.Checkpoint != nil && at != generation:
			l.dropSnapshot(o)
		case !loaded:
			state, from, loaded = s, max(from, o), true
		}
	}
	aborted, err := l.applyFrom(&state, from, end)
	if err != nil {
		return err
	}
	state.end = end
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.producers = state
	for _, a := range aborted {
		if i := l.segmentIndexLocked(a.LastOffset); i >= 0 {
			s := l.mu.segments[i]
			if n := len(s.aborted); n == 0 || s.aborted[n-1].LastOffset < a.LastOffset {
				s.aborted, s.abortedDirty = append(s.aborted, a), true
			}
		}
	}
	return nil
}

// dropSnapshot leaves a snapshot file to FinishRecovery to remove.
func (l *Log) dropSnapshot(offset kafka.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.snapshots = slices.DeleteFunc(l.mu.snapshots, func(o kafka.Offset) bool { return o == offset })
	l.mu.stale = append(l.mu.stale, offset)
}
