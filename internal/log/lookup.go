package log

import (
	"errors"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// place is where a batch begins, or, with the offset behind the last batch, where a segment ends.
type place struct {
	s        *segment
	position int64
	offset   kafka.Offset
}

// locate finds the batch that holds offset target, which lies between the log's start and its end, or the first one behind
// it where target lies in a gap; the last segment's end if there is none.
func (l *Log) locate(target kafka.Offset) (place, error) {
	l.mu.Lock()
	segments := l.mu.segments
	i := max(l.segmentIndexLocked(target), 0)
	if i >= len(segments) {
		l.mu.Unlock()
		return place{}, kafka.ErrOffsetOutOfRange.With("offset %d of %s is gone", target, l.o.Name)
	}
	for ; ; i++ {
		s, last := segments[i], i == len(segments)-1
		if target >= s.end && !last {
			continue
		}
		target = max(target, s.base)
		p, known := l.knownLocked(s, target)
		size := s.size
		l.mu.Unlock()
		if !known {
			var err error
			if p, err = l.locateIn(s, target, size); err != nil {
				return place{}, err
			}
		}
		if last || p.position < size {
			return p, nil
		}
		l.mu.Lock() // nothing is left from there to the segment's end
		if segments = l.mu.segments; i+1 >= len(segments) || segments[i] != s {
			l.mu.Unlock()
			return l.locate(target)
		}
	}
}

// knownLocked is what can be told of a place in a segment without looking into its files.
func (l *Log) knownLocked(s *segment, target kafka.Offset) (place, bool) {
	if target >= s.end || s.size == 0 {
		return place{s, s.size, s.end}, true
	}
	for _, d := range s.damaged { // what stands there is not to be believed, its offsets least of all
		if d.First <= target && target < d.End {
			return place{s, d.Position, d.First}, true
		}
	}
	b, ok := l.mu.recent.find(target)
	if !ok || b.base != s.base {
		b, ok = l.mu.hints.find(target)
	}
	return place{s, b.position, b.offset}, ok && b.base == s.base
}

// locateIn finds the first batch of a segment that ends behind target; the end of its bytes if there is none.
func (l *Log) locateIn(s *segment, target kafka.Offset, size int64) (place, error) {
	e, err := l.searchIndex(s, func(e entry) bool { return s.base+kafka.Offset(e.base) <= target })
	if err != nil {
		return place{}, err
	}
	p, err := l.scanTo(s, e, size, func(b record.Batch, _ int64) bool { return b.NextOffset() > target })
	if err != nil {
		return place{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range s.damaged { // the gap may end where damage begins
		if d.Position <= p.position && p.position < d.Position+d.Length {
			return place{s, d.Position, d.First}, nil
		}
	}
	return p, nil
}

// locatePosition finds the last batch boundary at or before a position that lies inside the segment.
func (l *Log) locatePosition(s *segment, position int64) (place, error) {
	l.mu.Lock()
	size := s.size
	l.mu.Unlock()
	e, err := l.searchIndex(s, func(e entry) bool { return int64(e.position) <= position })
	if err != nil {
		return place{}, err
	}
	return l.scanTo(s, e, size, func(b record.Batch, at int64) bool { return at+int64(b.Size()) > position })
}

// scanTo goes over the batches from an entry on, to the first that is found.
func (l *Log) scanTo(s *segment, e entry, size int64, found func(record.Batch, int64) bool) (place, error) {
	file, err := s.data.acquire()
	if err != nil {
		return place{}, err
	}
	defer s.data.release()
	sc := newScanner(s.data.path, file, int64(e.position), size, s.base+kafka.Offset(e.base))
	defer sc.close()
	sc.chunk = int(min(scanChunk, max(l.intervalBytes(), record.HeaderSize)))
	for {
		b, at, err := sc.next()
		if err != nil {
			return place{}, err
		}
		if b == nil {
			return place{s, size, sc.expect}, nil
		}
		if found(b, at) {
			return place{s, at, b.BaseOffset()}, nil
		}
	}
}

func (l *Log) intervalBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.config.IndexIntervalBytes
}

// searchIndex returns the last entry for which before holds, where it holds for a prefix of the entries; the segment's
// start if there is none. A broken index is built again from the segment first.
func (l *Log) searchIndex(s *segment, before func(entry) bool) (entry, error) {
	e, err := l.searchIndexOnce(s, before)
	if err == nil {
		return e, nil
	}
	var broken *Corruption
	if errors.As(err, &broken) && broken.File == s.indexFile.path {
		if err := l.rebuildIndex(s, broken); err != nil {
			return entry{}, err
		}
		return l.searchIndexOnce(s, before)
	}
	return entry{}, err
}

func (l *Log) searchIndexOnce(s *segment, before func(entry) bool) (entry, error) {
	if err := l.load(s); err != nil {
		return entry{}, err
	}
	l.mu.Lock()
	x := &s.index
	if x.open.length > 0 {
		e := entry{base: uint32(x.open.base - s.base), position: uint32(x.open.start)}
		if before(e) {
			l.mu.Unlock()
			return e, nil
		}
	}
	if n := lastBefore(len(x.tail), func(i int) bool { return before(x.tail[i]) }); n >= 0 {
		e := x.tail[n]
		l.mu.Unlock()
		return e, nil
	}
	written := x.written
	l.mu.Unlock()
	if written == 0 {
		return entry{}, nil
	}
	file, err := s.indexFile.acquire()
	if err != nil {
		if vfsNotExist(err) {
			return entry{}, &Corruption{File: s.indexFile.path, Offset: s.base, Reason: "it is missing"}
		}
		return entry{}, err
	}
	defer s.indexFile.release()
	found, _, err := searchEntries(s, file, written, before)
	return found, err
}

// lastBefore returns the largest i below n for which before holds, where it holds for a prefix; -1 if there is none.
func lastBefore(n int, before func(int) bool) int {
	low, high := -1, n
	for high-low > 1 {
		if mid := (low + high) / 2; before(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

// load learns what the index of a segment that an earlier process wrote says about it.
func (l *Log) load(s *segment) error {
	l.mu.Lock()
	loaded, size := s.loaded, s.size
	l.mu.Unlock()
	if loaded {
		return nil
	}
	written, last, err := l.readIndexEnd(s, size)
	var broken *Corruption
	if errors.As(err, &broken) {
		return l.rebuildIndex(s, broken)
	}
	if err != nil {
		return err
	}
	if last.end() != size {
		return l.rebuildIndex(s, &Corruption{File: s.indexFile.path, Offset: s.base, Reason: "it does not reach to the segment's end"})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.loaded {
		s.loaded = true
		s.index = indexState{written: written, open: interval{start: size}}
		s.maxTimestamp, s.maxOffset = last.maxTimestamp, s.base+kafka.Offset(last.maxOffset)
	}
	return nil
}

// rebuildIndex makes an index again from its segment, whose batches are checked by their own CRCs on the way.
func (l *Log) rebuildIndex(s *segment, why *Corruption) error {
	l.indexing <- struct{}{}
	defer func() { <-l.indexing }()
	l.mu.Lock()
	// The entries in memory stay; those in the file are made again. An index never loaded ends where the segment does.
	to := s.size
	if s.loaded {
		to = s.index.open.start
		if len(s.index.tail) > 0 {
			to = int64(s.index.tail[0].position)
		}
		if s.rebuilt >= 3 {
			l.mu.Unlock()
			return why
		}
	}
	bytes := l.mu.config.IndexIntervalBytes
	l.mu.Unlock()
	l.o.Logger.Warn("building an index again from its segment", "partition", l.o.Name, "index", why.File, "reason", why.Reason)
	built, err := l.buildIndex(s, to, bytes)
	if err != nil {
		return err
	}
	built.closeIntervalLocked()
	b := appendIndexHeader(nil, s.base)
	for i := range built.index.tail {
		b = built.index.tail[i].append(b, s.base, i)
	}
	if err := s.overwriteIndex(b); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.rebuilt++
	s.changes++
	s.index.written = len(built.index.tail)
	if !s.loaded {
		s.loaded = true
		s.index.open = interval{start: to}
		s.maxTimestamp, s.maxOffset = built.maxTimestamp, built.maxOffset
	}
	return nil
}

// overwriteIndex replaces the index file's content in place: who has it open sees the new one. If the process dies in the
// middle of it, the index is broken and built again.
func (s *segment) overwriteIndex(b []byte) error {
	file, err := s.indexFile.create(true)
	if err != nil {
		return err
	}
	defer s.indexFile.releaseDirty()
	if _, err := file.WriteAt(b, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(b)))
}

// buildIndex makes the index state of a segment up to a byte position from its batches.
func (l *Log) buildIndex(s *segment, to, intervalBytes int64) (*segment, error) {
	built := &segment{base: s.base, end: s.base, maxTimestamp: record.NoTimestamp, maxOffset: s.base}
	if to == 0 {
		return built, nil
	}
	file, err := s.data.acquire()
	if err != nil {
		return nil, err
	}
	defer s.data.release()
	r := batchReader{scanner: newScanner(s.data.path, file, 0, to, s.base)}
	defer r.close()
	for {
		b, at, err := r.nextWhole()
		if err != nil {
			return nil, err
		}
		if b == nil {
			built.index.tail = slices.Clip(built.index.tail)
			return built, nil
		}
		if !b.VerifyCRC() {
			return nil, &Corruption{File: s.data.path, Position: at, Offset: b.BaseOffset(), Reason: "a batch does not fit its CRC"}
		}
		built.addLocked(b, crcOfBatch(b), intervalBytes)
	}
}
