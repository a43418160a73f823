package log

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// Open opens a log, which need not exist. It reads what it must to know the end, the epochs and the producers, and writes
// nothing: that begins with FinishRecovery, which comes before everything but reading and replay.
func Open(o Options) (*Log, error) {
	l := newLog(o)
	if err := l.open(); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("open the log of %s: %w", l.o.Name, err)
	}
	return l, nil
}

func (l *Log) open() error {
	names, err := l.o.FS.ReadDir(l.o.Dir)
	if err != nil && !vfsNotExist(err) {
		return err
	}
	l.mu.dirMade = err == nil
	l.mu.recovering = true
	if names, err = l.finishSwap(names); err != nil {
		return err
	}
	var bases []kafka.Offset
	for _, name := range names {
		if base, ok := parseName(name, dataSuffix); ok {
			bases = append(bases, base)
		}
		if offset, ok := parseName(name, snapshotSuffix); ok {
			l.mu.snapshots = append(l.mu.snapshots, offset)
		}
	}
	// Who made the directory may not have come to sync its name.
	l.mu.unsyncedDir = l.mu.dirMade && (l.o.Unclean || len(bases) == 0)
	slices.Sort(bases)
	slices.Sort(l.mu.snapshots)
	if err := l.openSegments(bases); err != nil {
		return err
	}
	if err := l.openEpochs(); err != nil {
		return err
	}
	if err := l.openCleaner(); err != nil {
		return err
	}
	if active := l.activeLocked(); active != nil {
		if err := l.loadAborted(active); err != nil {
			return err
		}
	}
	return l.loadProducers(true)
}

// openSegments takes in the segments up to the checkpoint's; those behind it wait for replay.
func (l *Log) openSegments(bases []kafka.Offset) error {
	c := l.o.Checkpoint
	position := int64(-1) // as far as it is sound
	active := len(bases) - 1
	if c != nil {
		l.mu.logStart, l.mu.end, l.mu.generation = c.LogStart, c.EndOffset, c.Generation
		l.mu.synced, position = *c, c.Position
		active, _ = slices.BinarySearch(bases, c.Segment)
		if active == len(bases) || bases[active] != c.Segment {
			// What lies wholly below the log's start may be deleted already, by a recovery that did not come to its checkpoint.
			if c.Position > 0 && c.EndOffset > c.LogStart {
				return &Corruption{File: path.Join(l.o.Dir, fileName(c.Segment, dataSuffix)), Position: 0, Offset: c.Segment, Reason: fmt.Sprintf("it is missing, and %d bytes of it were synced", c.Position)}
			}
			active--
		}
	}
	if l.o.Unclean && active < len(bases) {
		if err := l.distrust(bases[max(active, 0):]); err != nil {
			return err
		}
	}
	for i := range active + 1 {
		if i < active && c != nil && bases[i+1] <= c.LogStart || i == active && c != nil && bases[i] != c.Segment && c.EndOffset <= c.LogStart {
			continue // wholly below the log's start: FinishRecovery removes it
		}
		s := l.newSegment(bases[i])
		if i < active || c != nil && bases[i] != c.Segment {
			info, err := l.o.FS.Stat(s.data.path)
			if err != nil {
				return err
			}
			s.size = info.Size
			if i < active {
				s.end = bases[i+1]
			} else {
				s.end = c.EndOffset
			}
		} else if err := l.openActive(s, position); err != nil {
			return err
		}
		l.mu.segments = append(l.mu.segments, s)
	}
	return l.checkEnd()
}

// checkEnd compares what the files say with the checkpoint, or takes it from them where there is none.
func (l *Log) checkEnd() error {
	c, s := l.o.Checkpoint, l.activeLocked()
	switch {
	case c == nil && s != nil:
		l.mu.logStart, l.mu.end = l.mu.segments[0].base, s.end
		l.mu.synced = Checkpoint{Segment: l.mu.segments[0].base, EndOffset: l.mu.segments[0].base}
	case c != nil && s != nil && s.end < c.EndOffset && (s.size == c.Position || s.base != c.Segment):
		s.end = c.EndOffset // a gap: nothing was left there
	case c != nil && s != nil && s.end != c.EndOffset:
		return &Corruption{File: s.data.path, Position: c.Position, Offset: s.end, Reason: fmt.Sprintf("it ends at offset %d where offset %d was synced", s.end, c.EndOffset)}
	}
	return nil
}

// distrust brings what an unclean process left in the page cache to the disk and drops it, so that what is read next is
// what the disk has.
func (l *Log) distrust(bases []kafka.Offset) error {
	for _, base := range bases {
		file, err := l.o.FS.OpenReadWrite(path.Join(l.o.Dir, fileName(base, dataSuffix)))
		if err != nil {
			return err
		}
		err = file.Datasync()
		if err == nil {
			err = file.DropCache(0, 0)
		}
		if cerr := file.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openActive reads the segment that is appended to: its index, the last interval, whose checksum must fit, and what lies
// behind it, up to position. position -1 takes every sound batch.
func (l *Log) openActive(s *segment, position int64) error {
	file, err := s.data.acquire()
	if err != nil {
		return err
	}
	defer s.data.release()
	size, err := file.Size()
	if err != nil {
		return err
	}
	if position > size {
		return &Corruption{File: s.data.path, Position: size, Offset: s.base, Reason: fmt.Sprintf("it has %d bytes and %d were synced", size, position)}
	}
	discover := position < 0
	if discover {
		position = size
	}
	s.loaded = true
	if position == 0 {
		return nil // nothing was synced, so that neither file can be believed
	}
	written, last, err := l.readIndexEnd(s, position)
	var broken *Corruption
	switch {
	case errors.As(err, &broken):
		l.o.Logger.Warn("building an index again from its segment", "partition", l.o.Name, "index", broken.File, "reason", broken.Reason)
	case err != nil:
		return err
	case written > 0:
		s.index = indexState{written: written, open: interval{start: last.end()}}
		s.maxTimestamp, s.maxOffset = last.maxTimestamp, s.base+kafka.Offset(last.maxOffset)
		if s.end, err = l.verifyInterval(s, file, &last, nil); err != nil {
			if err = l.openDamaged(s, &last, position, err); err != nil {
				return err
			}
		}
		s.size = last.end()
	}
	if !discover && err == nil && s.size < position {
		level := slog.LevelWarn
		if l.o.Unclean {
			level = slog.LevelInfo // a truncation may have cut an interval
		}
		l.o.Logger.Log(context.Background(), level, "an index does not reach to where its segment was synced; making the rest again", "partition", l.o.Name, "index", s.indexFile.path, "position", s.size)
	}
	r := batchReader{scanner: newScanner(s.data.path, file, s.size, position, s.end)}
	defer r.close()
	for {
		b, at, err := r.nextWhole()
		if err == nil && b != nil && !b.VerifyCRC() {
			err = &Corruption{File: s.data.path, Position: at, Offset: b.BaseOffset(), Reason: "a batch does not fit its CRC"}
		}
		if discover && errors.As(err, &broken) {
			l.o.Logger.Warn("the log ends before its file does", "partition", l.o.Name, "file", broken.File, "position", broken.Position, "offset", broken.Offset, "reason", broken.Reason)
			s.tornBytes = size - at
			return nil
		}
		if err != nil {
			return l.damagedRest(s, position, err)
		}
		if b == nil {
			return nil
		}
		s.endDamage(b.BaseOffset())
		s.addLocked(b, crcOfBatch(b), l.mu.config.IndexIntervalBytes)
	}
}

// readIndexEnd returns the number of entries of an index file that lie wholly below size, and the last of them. No file is
// no entries.
func (l *Log) readIndexEnd(s *segment, size int64) (written int, last entry, err error) {
	file, err := s.indexFile.acquire()
	if vfsNotExist(err) {
		return 0, entry{}, nil
	}
	if err != nil {
		return 0, entry{}, err
	}
	defer s.indexFile.release()
	bytes, err := file.Size()
	if err != nil || bytes == 0 {
		return 0, entry{}, err
	}
	var head [indexHeaderSize]byte
	if err := readFull(file, s.indexFile.path, head[:min(bytes, indexHeaderSize)], 0); err != nil {
		return 0, entry{}, err
	}
	if err := checkIndexHeader(head[:min(bytes, indexHeaderSize)], s.base); err != nil {
		return 0, entry{}, &Corruption{File: s.indexFile.path, Offset: s.base, Reason: err.Error()}
	}
	// What stands behind the synced part may be anything; below it the entries are whole.
	back := scanBuffers.Get().(*[]byte)
	defer scanBuffers.Put(back)
	n := lastBefore(int((bytes-indexHeaderSize)/indexEntrySize), func(i int) bool {
		e, err := readEntry(s, file, i, *back)
		if err != nil || e.end() > size {
			return false
		}
		last = e
		return true
	})
	return n + 1, last, nil
}

// verifyInterval checks an interval of a segment against its entry, byte by byte and batch by batch, and returns the
// offset behind it.
func (l *Log) verifyInterval(s *segment, file vfsFile, e *entry, buf []byte) (kafka.Offset, error) {
	buf = slices.Grow(buf[:0], int(e.length))[:e.length]
	if err := readFull(file, s.data.path, buf, int64(e.position)); err != nil {
		return 0, err
	}
	return checkInterval(s, e, buf)
}

func checkInterval(s *segment, e *entry, buf []byte) (kafka.Offset, error) {
	expect := s.base + kafka.Offset(e.base)
	corrupt := func(at int, format string, args ...any) error {
		return &Corruption{File: s.data.path, Position: int64(e.position) + int64(at), Offset: expect, Reason: fmt.Sprintf(format, args...)}
	}
	whole := checksum(buf) == e.crc
	for rest := buf; len(rest) > 0; {
		at := len(buf) - len(rest)
		b, more, err := record.Next(rest)
		switch {
		case err != nil:
			return 0, corrupt(at, "no batch stands there: %v", err)
		case !b.VerifyCRC():
			return 0, corrupt(at, "a batch does not fit its CRC")
		case b.BaseOffset() < expect || b.LastOffsetDelta() < 0 || at == 0 && b.BaseOffset() != expect:
			return 0, corrupt(at, "a batch claims offset %d", b.BaseOffset())
		}
		expect, rest = b.NextOffset(), more
	}
	if !whole {
		return 0, corrupt(0, "the %d bytes from there do not fit the index's checksum: a batch's base offset or leader epoch changed", e.length)
	}
	return expect, nil
}

// openEpochs reads the history of leader epochs. If it is lost, the batches tell it again as far as they can.
func (l *Log) openEpochs() error {
	b, err := l.readWhole(l.epochsPath())
	if err != nil {
		return err
	}
	generation := l.mu.generation
	if b != nil {
		if l.mu.epochs, generation, err = decodeEpochs(b); err != nil {
			l.o.Logger.Warn("making the leader epochs again from the batches", "partition", l.o.Name, "file", l.epochsPath(), "reason", err)
		}
	}
	rebuild := b == nil || err != nil || l.o.Checkpoint == nil
	if rebuild && len(l.mu.segments) > 0 {
		// Without a checkpoint the batches may go on behind what the file knows.
		first := l.mu.segments[0].base
		if len(l.mu.epochs) > 0 {
			first = max(first, l.mu.epochs.last().Offset)
		}
		found := l.mu.epochs
		if _, err := l.applyFrom(&producers{end: first, epochs: &found}, first, l.mu.end); err != nil {
			return err
		}
		l.mu.epochs = found
	}
	dirty := rebuild || generation != l.mu.generation
	// What begins at the end or behind it is the checkpoint owner's to tell again: the file may be newer, or older than the
	// last truncation.
	end := l.mu.end
	if l.o.Checkpoint == nil {
		end++
	}
	if c := l.o.Checkpoint; c != nil && generation < c.Generation && c.LogStart == c.EndOffset {
		l.mu.epochs = nil // the file tells of what was there before a reset, or of an earlier log of the same name
	}
	dirty = l.mu.epochs.truncateEnd(end) || dirty
	dirty = l.mu.epochs.truncateStart(l.mu.logStart) || dirty
	l.mu.epochsDirty = l.mu.epochsDirty || dirty
	return nil
}
