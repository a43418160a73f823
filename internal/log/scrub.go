package log

import (
	"errors"
	"fmt"
	"slices"

	"chronik/internal/kafka"
)

// scrubChunk is how much a scrub reads at once, in bytes; an interval that is larger is read whole.
const scrubChunk = 1 << 20

// scrubEntries is how many index entries it reads at once.
const scrubEntries = 512

// ScrubOptions are those of one pass over a log.
type ScrubOptions struct {
	// Pace is called before each read, with its size. Its error ends the pass.
	Pace func(bytes int64) error
	// Found is called for every new damage; the log refuses it already.
	Found func(Damage)
	Buf   []byte // room for a chunk, to be used again; may be nil
}

// Scrub reads the segments again and compares every interval with its checksum. It may run beside everything else: no
// lock is held while it reads, and what was cut or deleted meanwhile is no damage.
//
// Sealed segments are dropped from the page cache, stretch by stretch, just before they are read, so that it is the disk
// that is asked and not memory. What somebody uses comes back with that, and what nobody uses is new to the cache, and
// read once: the kernel's first choice when it needs room. The segment that is appended to is read through the cache;
// it is looked at on the disk once it is sealed.
func (l *Log) Scrub(o *ScrubOptions) error {
	l.mu.Lock()
	segments := slices.Clone(l.mu.segments)
	l.mu.Unlock()
	for i, s := range segments {
		c := scrub{l: l, s: s, o: o, sealed: i < len(segments)-1}
		if err := c.run(); err != nil {
			return err
		}
	}
	return nil
}

// errStale says that the segment changed under the scrub: the rest of it is for the next pass.
var errStale = errors.New("the segment was cut or deleted")

// scrub is one pass over one segment.
type scrub struct {
	l          *Log
	s          *segment
	o          *ScrubOptions
	sealed     bool
	generation uint64
	file       vfsFile
	next       int // ordinal of the first entry that was not looked at
	entries    []entry
	ends       []kafka.Offset // of the entries
}

func (c *scrub) run() error {
	l, s := c.l, c.s
	c.generation = l.Generation()
	file, err := s.data.acquire()
	if err != nil {
		c.whole(err)
		return nil
	}
	defer s.data.release()
	c.file = file
	if err := l.load(s); err != nil {
		c.whole(err)
		return nil
	}
	for repaired := false; ; {
		err := c.gather()
		if err != nil && !repaired && c.valid() {
			// Reads that need this index build it again just so.
			repaired, c.next = true, 0
			if err := l.rebuildIndex(s, &Corruption{File: s.indexFile.path, Offset: s.base, Reason: err.Error()}); err != nil {
				c.whole(err)
				return nil
			}
			continue
		}
		if err != nil {
			c.whole(err)
			return nil
		}
		if len(c.entries) == 0 {
			return nil
		}
		if err := c.check(); errors.Is(err, errStale) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// valid tells whether what was read can still be compared with what the segment was when the pass came to it.
func (c *scrub) valid() bool {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return !c.l.mu.closed && c.l.mu.generation == c.generation && slices.Contains(c.l.mu.segments, c.s)
}

// whole gives the segment up: without its file or an index nothing of it can be found.
func (c *scrub) whole(err error) {
	c.l.mu.Lock()
	size, end := c.s.size, c.s.end
	c.l.mu.Unlock()
	if errors.Is(err, errStale) || errors.Is(err, ErrClosed) || size == 0 {
		return
	}
	c.report(Damage{File: c.s.data.path, Length: size, First: c.s.base, End: end, Reason: err.Error()})
}

func (c *scrub) report(d Damage) {
	if c.l.addDamage(c.s, c.generation, d) {
		c.o.Found(d)
	}
}

// gather takes the next entries, those in memory and the interval that is still open included. None at the end.
func (c *scrub) gather() error {
	l, s, x := c.l, c.s, &c.s.index
	c.entries, c.ends = c.entries[:0], c.ends[:0]
	l.mu.Lock()
	if l.mu.generation != c.generation {
		l.mu.Unlock()
		return errStale
	}
	written, first := x.written, c.next
	if first >= written {
		c.entries = append(c.entries, x.tail[min(first-written, len(x.tail)):]...)
		// An entry more than there are: the open interval, which has its checksum too.
		if x.open.length > 0 && first <= written+len(x.tail) {
			c.entries = append(c.entries, entry{base: uint32(x.open.base - s.base), position: uint32(x.open.start), length: uint32(x.open.length), crc: x.open.crc})
		}
		for i := range c.entries {
			end := s.end
			if i+1 < len(c.entries) {
				end = s.base + kafka.Offset(c.entries[i+1].base)
			}
			c.ends = append(c.ends, end)
		}
		c.next = written + len(x.tail) + 1
		l.mu.Unlock()
		return nil
	}
	end := s.end
	if len(x.tail) > 0 {
		end = s.base + kafka.Offset(x.tail[0].base)
	} else if x.open.length > 0 {
		end = x.open.base
	}
	l.mu.Unlock()
	return c.read(first, min(written-first, scrubEntries), written, end)
}

// read takes n entries from the file; the one behind them, if there is one, tells where the last of them ends.
func (c *scrub) read(first, n, written int, end kafka.Offset) error {
	file, err := c.s.indexFile.acquire()
	if err != nil {
		return err
	}
	defer c.s.indexFile.release()
	more := min(n+1, written-first)
	b, err := readEntries(c.s, file, first, more, make([]byte, more*indexEntrySize))
	if err != nil {
		return err
	}
	for i := range more {
		e, err := entryIn(c.s, b[i*indexEntrySize:], first+i)
		if err != nil {
			return err
		}
		if i > 0 {
			c.ends = append(c.ends, c.s.base+kafka.Offset(e.base))
		}
		if i < n {
			c.entries = append(c.entries, e)
		}
	}
	if len(c.ends) < len(c.entries) {
		c.ends = append(c.ends, end)
	}
	c.next = first + n
	return nil
}

// check reads what the entries cover, as many at a time as fit into a chunk.
func (c *scrub) check() error {
	for from := 0; from < len(c.entries); {
		to, length := from, int64(0)
		for to < len(c.entries) && (to == from || length+int64(c.entries[to].length) <= scrubChunk) {
			length += int64(c.entries[to].length)
			to++
		}
		if err := c.o.Pace(length); err != nil {
			return err
		}
		if !c.valid() {
			return errStale
		}
		c.o.Buf = slices.Grow(c.o.Buf[:0], int(length))[:length]
		at := int64(c.entries[from].position)
		if c.sealed {
			_ = c.file.DropCache(at, length) // where it cannot, the cache is looked at
		}
		whole := readFull(c.file, c.s.data.path, c.o.Buf, at) == nil
		for rest := c.o.Buf; from < to; from++ {
			e := &c.entries[from]
			if !whole || checksum(rest[:e.length]) != e.crc {
				c.again(e, c.ends[from])
			}
			rest = rest[e.length:]
		}
	}
	return nil
}

// again reads an interval a second time, from the disk, before it is called damaged: memory may have been at fault.
func (c *scrub) again(e *entry, end kafka.Offset) {
	_ = c.file.DropCache(int64(e.position), int64(e.length))
	_, err := c.l.verifyInterval(c.s, c.file, e, nil)
	if err == nil {
		c.l.o.Logger.Warn("a stretch of a segment was wrong once and right when it was read again: suspect the memory or the disk",
			"partition", c.l.o.Name, "file", c.s.data.path, "position", e.position, "length", e.length)
		return
	}
	reason := err.Error()
	var broken *Corruption
	if errors.As(err, &broken) {
		reason = fmt.Sprintf("at byte %d: %s", broken.Position, broken.Reason)
	}
	c.report(Damage{File: c.s.data.path, Position: int64(e.position), Length: int64(e.length), First: c.s.base + kafka.Offset(e.base), End: end, Reason: reason})
}
