package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

// An index file (docs/format/index.md) is a header and entries of the same size, one per interval of the segment: offset
// index, time index and checksums in one.
const (
	indexEntrySize  = 32
	indexHeaderSize = 32
	indexVersion    = 1
	indexTailMax    = 128 // entries kept in memory before they are written
	indexMagic      = "chronIDX"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entry describes one interval: a stretch of whole batches. The intervals of a segment follow one another without gaps.
type entry struct {
	base         uint32 // offset of the first batch, relative to the segment's base
	position     uint32 // of its first byte
	length       uint32 // bytes
	crc          uint32 // CRC32C of the interval's bytes
	maxTimestamp int64  // the largest in the segment up to the interval's end
	maxOffset    uint32 // base offset of the first batch with it, relative
}

func (e *entry) end() int64 { return int64(e.position) + int64(e.length) }

// append encodes an entry. Its own checksum is bound to the segment and to the entry's place in the index.
func (e *entry) append(dst []byte, base kafka.Offset, ordinal int) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, e.base)
	dst = binary.BigEndian.AppendUint32(dst, e.position)
	dst = binary.BigEndian.AppendUint32(dst, e.length)
	dst = binary.BigEndian.AppendUint32(dst, e.crc)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.maxTimestamp))
	dst = binary.BigEndian.AppendUint32(dst, e.maxOffset)
	return binary.BigEndian.AppendUint32(dst, entryCheck(dst[at:], base, ordinal))
}

// entryCheck is the CRC32C of an entry's fields, begun from a value that names segment and place.
func entryCheck(b []byte, base kafka.Offset, ordinal int) uint32 {
	seed := uint32(base) ^ uint32(base>>32) ^ bits.RotateLeft32(uint32(ordinal), 16)
	return crc32.Update(seed, castagnoli, b[:indexEntrySize-4])
}

// parseEntry decodes an entry; ok is false if it is not what was written there.
func parseEntry(b []byte, base kafka.Offset, ordinal int) (e entry, ok bool) {
	if len(b) < indexEntrySize || binary.BigEndian.Uint32(b[28:]) != entryCheck(b, base, ordinal) {
		return entry{}, false
	}
	return entry{
		base:         binary.BigEndian.Uint32(b),
		position:     binary.BigEndian.Uint32(b[4:]),
		length:       binary.BigEndian.Uint32(b[8:]),
		crc:          binary.BigEndian.Uint32(b[12:]),
		maxTimestamp: int64(binary.BigEndian.Uint64(b[16:])),
		maxOffset:    binary.BigEndian.Uint32(b[24:]),
	}, true
}

func appendIndexHeader(dst []byte, base kafka.Offset) []byte {
	at := len(dst)
	dst = append(dst, indexMagic...)
	dst = binary.BigEndian.AppendUint16(dst, indexVersion)
	dst = append(dst, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint64(dst, uint64(base))
	dst = append(dst, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// checkIndexHeader says what is wrong with an index's first bytes, nil if nothing is.
func checkIndexHeader(b []byte, base kafka.Offset) error {
	switch {
	case len(b) < indexHeaderSize:
		return fmt.Errorf("the header is cut short")
	case string(b[:8]) != indexMagic:
		return fmt.Errorf("it does not begin with %q", indexMagic)
	case binary.BigEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli):
		return fmt.Errorf("the header's checksum does not fit")
	case binary.BigEndian.Uint16(b[8:]) != indexVersion:
		return fmt.Errorf("format version %d is not known; this program writes %d", binary.BigEndian.Uint16(b[8:]), indexVersion)
	case kafka.Offset(binary.BigEndian.Uint64(b[16:])) != base:
		return fmt.Errorf("it belongs to the segment at offset %d", int64(binary.BigEndian.Uint64(b[16:])))
	}
	return nil
}

// interval is the stretch at a segment's end that has no entry yet.
type interval struct {
	start  int64 // byte position
	length int64
	base   kafka.Offset // of its first batch, if length > 0
	crc    uint32
}

func (i *interval) end() int64 { return i.start + i.length }

// indexState is what a log remembers of a segment's index. Guarded by Log.mu.
type indexState struct {
	written int      // entries in the file
	tail    []entry  // behind those, not yet written
	open    interval // behind those, not yet an entry
}

// close turns the open interval into an entry.
func (s *segment) closeIntervalLocked() {
	x := &s.index
	if x.open.length == 0 {
		return
	}
	x.tail = append(x.tail, entry{
		base:         uint32(x.open.base - s.base),
		position:     uint32(x.open.start),
		length:       uint32(x.open.length),
		crc:          x.open.crc,
		maxTimestamp: s.maxTimestamp,
		maxOffset:    uint32(s.maxOffset - s.base),
	})
	x.open = interval{start: x.open.end()}
}

// flushIndex writes the entries in memory to the index file.
func (l *Log) flushIndex(s *segment, buf []byte) ([]byte, error) {
	l.indexing <- struct{}{}
	defer func() { <-l.indexing }()
	l.mu.Lock()
	first, n := s.index.written, len(s.index.tail)
	if n == 0 {
		l.mu.Unlock()
		return buf, nil
	}
	buf = buf[:0]
	if first == 0 {
		buf = appendIndexHeader(buf, s.base)
	}
	for i := range s.index.tail {
		buf = s.index.tail[i].append(buf, s.base, first+i)
	}
	l.mu.Unlock()

	open := s.indexFile.acquire
	if first == 0 {
		open = func() (vfs.File, error) { return s.indexFile.create(true) }
	}
	file, err := open()
	if err != nil {
		return buf, err
	}
	defer s.indexFile.releaseDirty()
	at := int64(0)
	if first > 0 {
		at = indexHeaderSize + int64(first)*indexEntrySize
	}
	if _, err := file.WriteAt(buf, at); err != nil {
		return buf, fmt.Errorf("write index %s: %w", s.indexFile.path, err)
	}
	if first == 0 { // what stood there is of another history
		if err := file.Truncate(int64(len(buf))); err != nil {
			return buf, fmt.Errorf("write index %s: %w", s.indexFile.path, err)
		}
	}
	l.mu.Lock()
	if first == 0 {
		s.changes++
	}
	s.index.written += n
	s.index.tail = append(s.index.tail[:0], s.index.tail[n:]...)
	l.mu.Unlock()
	return buf, nil
}

// readEntries reads n entries of an index file into buf, and checks nothing yet.
func readEntries(s *segment, file vfs.File, first, n int, buf []byte) ([]byte, error) {
	at := indexHeaderSize + int64(first)*indexEntrySize
	buf = buf[:n*indexEntrySize]
	if err := readFull(file, s.indexFile.path, buf, at); err != nil {
		return nil, err
	}
	return buf, nil
}

// entryIn decodes the entry at the start of b.
func entryIn(s *segment, b []byte, ordinal int) (entry, error) {
	e, ok := parseEntry(b, s.base, ordinal)
	if !ok {
		at := indexHeaderSize + int64(ordinal)*indexEntrySize
		return entry{}, &Corruption{File: s.indexFile.path, Position: at, Offset: s.base, Reason: fmt.Sprintf("the checksum of entry %d does not fit", ordinal)}
	}
	return e, nil
}

// readEntry reads one entry.
func readEntry(s *segment, file vfs.File, ordinal int, buf []byte) (entry, error) {
	b, err := readEntries(s, file, ordinal, 1, buf)
	if err != nil {
		return entry{}, err
	}
	return entryIn(s, b, ordinal)
}

// searchEntries returns the last of n entries in the file for which before holds, where it holds for a prefix, and its
// ordinal; -1 if there is none. The last steps are done on one block.
func searchEntries(s *segment, file vfs.File, n int, before func(entry) bool) (found entry, at int, err error) {
	back := scanBuffers.Get().(*[]byte)
	defer scanBuffers.Put(back)
	const block = scanChunk / indexEntrySize
	low, high := -1, n
	for high-low-1 > block {
		mid := (low + high) / 2
		e, err := readEntry(s, file, mid, *back)
		if err != nil {
			return entry{}, -1, err
		}
		if before(e) {
			low, found = mid, e
		} else {
			high = mid
		}
	}
	if high-low < 2 {
		return found, low, nil
	}
	first := low + 1
	b, err := readEntries(s, file, first, high-first, *back)
	if err != nil {
		return entry{}, -1, err
	}
	for high-low > 1 {
		mid := (low + high) / 2
		e, err := entryIn(s, b[(mid-first)*indexEntrySize:], mid)
		if err != nil {
			return entry{}, -1, err
		}
		if before(e) {
			low, found = mid, e
		} else {
			high = mid
		}
	}
	return found, low, nil
}
