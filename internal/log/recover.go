package log

import (
	"fmt"
	"hash/crc32"
	"path"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

type vfsFile = vfs.File

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Replay appends again, during recovery, what the WAL holds: batches already numbered, at exactly the place that they were
// given (Base and Position of the placement). ErrNotAtEnd where the log's end is elsewhere or the epoch is below the last:
// the operation is older than the state and is to be skipped.
func (l *Log) Replay(batches []byte, base kafka.Offset, position int64) (Placement, error) {
	return l.replay(batches, nil, base, position, replayBytes)
}

// replay brings in batches, of a stretch if there is one.
func (l *Log) replay(batches []byte, s *Stretch, base kafka.Offset, position int64, mode writeMode) (Placement, error) {
	if err := l.split(batches); err != nil {
		return Placement{}, err
	}
	if err := l.checkNumbered(s); err != nil {
		return Placement{}, err
	}
	if err := l.moveTo(base, position, l.w.batches[0].BaseOffset()); err != nil {
		return Placement{}, err
	}
	return l.write(batches, mode)
}

// ReplayReference accepts bytes that are in the segment already and that the WAL knows by place and checksum only.
// ErrNotAtEnd as for Replay; a *Corruption if the bytes are not there.
func (l *Log) ReplayReference(base kafka.Offset, position, length int64, crc uint32) (Placement, error) {
	return l.replayReference(nil, base, position, length, crc)
}

func (l *Log) replayReference(s *Stretch, base kafka.Offset, position, length int64, crc uint32) (Placement, error) {
	if length <= 0 || length > maxReference {
		return Placement{}, fmt.Errorf("a reference of %d bytes into %s: %w", length, l.o.Name, kafka.ErrCorruptMessage)
	}
	first := l.LogEnd()
	if s != nil {
		first = base // the stretch may begin its segment behind a gap; checked again when the batches are known
	}
	if err := l.reaches(base, position, first); err != nil {
		return Placement{}, err
	}
	name := path.Join(l.o.Dir, fileName(base, dataSuffix))
	corrupt := func(reason string) error {
		return &Corruption{File: name, Position: position, Offset: l.LogEnd(), Reason: reason}
	}
	buf, err := l.readReference(name, position, length)
	if err != nil {
		return Placement{}, err
	}
	if int64(len(buf)) < length || checksum(buf) != crc {
		return Placement{}, corrupt(fmt.Sprintf("%d bytes logged by reference are not there as they were written", length))
	}
	if err := l.split(buf); err != nil {
		return Placement{}, corrupt(err.Error())
	}
	return l.replay(buf, s, base, position, bytesAreThere)
}

// maxReference bounds the bytes of one reference.
const maxReference = 1 << 30

// reaches tells whether an append of offset first at that place comes next; ErrNotAtEnd if not.
func (l *Log) reaches(base kafka.Offset, position int64, first kafka.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(true); err != nil {
		return err
	}
	if !l.mu.recovering {
		return fmt.Errorf("replay into %s after its recovery: %w", l.o.Name, ErrNotAtEnd)
	}
	s := l.activeLocked()
	if s != nil && s.base == base && s.size == position || position == 0 && (base == l.mu.end || base == first && first > l.mu.end) {
		return nil
	}
	return fmt.Errorf("byte %d of the segment at offset %d is not where %s ends (offset %d): %w", position, base, l.o.Name, l.mu.end, ErrNotAtEnd)
}

// moveTo rolls, where the original did.
func (l *Log) moveTo(base kafka.Offset, position int64, first kafka.Offset) error {
	if err := l.reaches(base, position, first); err != nil {
		return err
	}
	l.mu.Lock()
	s := l.activeLocked()
	l.mu.Unlock()
	if s != nil && s.base == base {
		return nil
	}
	return l.rollAt(base)
}

// FinishRecovery ends replay: what the files hold behind the end is cut, and appending may begin. Nothing it does needs to
// be durable: the next recovery would do it again.
func (l *Log) FinishRecovery() error {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	if err := l.usableLocked(true); err != nil || !l.mu.recovering {
		l.mu.Unlock()
		return err
	}
	end, active, made := l.mu.end, l.activeLocked(), l.mu.dirMade
	sealed := active != nil && l.sealedLocked(active)
	keep := map[string]bool{}
	for _, s := range l.mu.segments {
		keep[s.data.path], keep[s.indexFile.path], keep[s.abortedPath()] = true, true, true
	}
	gone := append(l.mu.stale, slices.DeleteFunc(slices.Clone(l.mu.snapshots), func(o kafka.Offset) bool { return o <= end })...)
	l.mu.stale = nil
	l.mu.snapshots = slices.DeleteFunc(l.mu.snapshots, func(o kafka.Offset) bool { return o > end })
	l.mu.Unlock()
	if made {
		if err := l.removeSnapshots(gone); err != nil {
			return err
		}
		if len(gone) > 0 { // another history may come to their offsets: they must not come back
			if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
				return err
			}
		}
		if err := l.removeStrays(keep); err != nil {
			return err
		}
	}
	if active != nil && !sealed {
		if err := l.cut(active); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.mu.recovering = false
	l.w.window = referenceWindow{}
	for _, s := range l.mu.segments {
		if l.o.Unclean && s.base >= l.mu.synced.Segment {
			s.changes++ // the last process may not have come to sync its name, index or cut
		}
	}
	l.mu.Unlock()
	return nil
}

// removeStrays removes segment files that are not the log's and files that were being written aside.
func (l *Log) removeStrays(keep map[string]bool) error {
	names, err := l.o.FS.ReadDir(l.o.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		stray := path.Ext(name) == tempSuffix || path.Ext(name) == cleanedSuffix || name == swapName // a swap that counts is done
		for _, suffix := range []string{dataSuffix, indexSuffix, abortedSuffix} {
			if _, ok := parseName(name, suffix); ok {
				stray = true
			}
		}
		name = path.Join(l.o.Dir, name)
		if stray && !keep[name] {
			if err := l.o.FS.Remove(name); err != nil && !vfsNotExist(err) {
				return err
			}
		}
	}
	return nil
}

// cut makes a segment's files end where the log says that they do. If they did not they need a sync: the size of a sealed
// segment is that of its file.
func (l *Log) cut(s *segment) error {
	l.mu.Lock()
	size, entries := s.size, int64(s.index.written)
	s.tornBytes = 0
	l.mu.Unlock()
	changed, err := cutFile(&s.data.handle, size)
	if err != nil {
		return err
	}
	l.indexing <- struct{}{}
	indexChanged, err := cutFile(&s.indexFile, indexHeaderSize+entries*indexEntrySize)
	<-l.indexing
	if changed || indexChanged {
		l.mu.Lock()
		s.changes++
		l.mu.Unlock()
	}
	return err
}

func cutFile(h *handle, size int64) (changed bool, err error) {
	file, err := h.acquire()
	if vfsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer h.releaseDirty()
	if have, err := file.Size(); err != nil || have <= size {
		return false, err
	}
	return true, file.Truncate(size)
}
