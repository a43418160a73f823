package log

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// cleanReader goes over sealed segments as a cleaning does: every interval is compared with its checksum, which covers all of
// its bytes, before anything of it is believed.
type cleanReader struct {
	l   *Log
	o   *CleanOptions
	buf []byte
	// bytes read
	n int64
}

// each calls visit for the batches of a segment in the intervals that end behind offset from. A batch is valid during the
// call. The error is a *Corruption where the bytes are not what was written.
func (r *cleanReader) each(s *segment, generation uint64, from kafka.Offset, visit func(record.Batch) error) error {
	file, err := s.data.acquire()
	if err != nil {
		return err
	}
	defer s.data.release()
	if err := r.l.load(s); err != nil {
		return err
	}
	c := scrub{l: r.l, s: s, sealed: true, generation: generation, file: file}
	for rebuilt := false; ; {
		if err := c.gather(); err != nil {
			if !c.valid() {
				return ErrOvertaken
			}
			if rebuilt || c.next > 0 {
				return err
			}
			rebuilt = true
			if err := r.l.rebuildIndex(s, &Corruption{File: s.indexFile.path, Offset: s.base, Reason: err.Error()}); err != nil {
				return err
			}
			continue
		}
		if len(c.entries) == 0 {
			return nil
		}
		if err := r.intervals(&c, from, visit); err != nil {
			return err
		}
	}
}

// intervals reads what some entries cover, as many at a time as fit into the buffer.
func (r *cleanReader) intervals(c *scrub, from kafka.Offset, visit func(record.Batch) error) error {
	chunk := int64(max(r.o.IOBytes/2, 4<<10))
	for i := 0; i < len(c.entries); {
		if c.ends[i] <= from {
			i++
			continue
		}
		to, length := i, int64(0)
		for to < len(c.entries) && (to == i || length+int64(c.entries[to].length) <= chunk) {
			length += int64(c.entries[to].length)
			to++
		}
		if err := r.o.Pace(length); err != nil {
			return err
		}
		if !c.valid() {
			return ErrOvertaken
		}
		r.buf = slices.Grow(r.buf[:0], int(length))[:length]
		if err := readFull(c.file, c.s.data.path, r.buf, int64(c.entries[i].position)); err != nil {
			return r.damaged(c, i, err)
		}
		r.n += length
		for rest := r.buf; i < to; i++ {
			n := c.entries[i].length
			if err := r.interval(c, i, rest[:n], visit); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

func (r *cleanReader) interval(c *scrub, i int, b []byte, visit func(record.Batch) error) error {
	if checksum(b) != c.entries[i].crc {
		return r.damaged(c, i, nil)
	}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return r.damaged(c, i, err)
		}
		if err := visit(batch); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// damaged has an interval looked at once more, and noted if it is not as it was written. The cleaning ends in any case: the
// next one reads it again.
func (r *cleanReader) damaged(c *scrub, i int, err error) error {
	if !c.valid() {
		return ErrOvertaken
	}
	d := scrub{l: c.l, s: c.s, generation: c.generation, file: c.file, o: &ScrubOptions{Found: r.o.Found}}
	d.again(&c.entries[i], c.ends[i])
	if err == nil {
		err = &Corruption{File: c.s.data.path, Position: int64(c.entries[i].position), Offset: c.s.base + kafka.Offset(c.entries[i].base),
			Reason: "an interval does not fit its checksum"}
	}
	return err
}
