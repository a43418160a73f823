package log

import (
	"math"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// rewrite goes over the segments from the log's first on, up to what the keys in memory cover, and replaces them by what
// stays. Several go into one where that is no larger than segment.bytes.
func (c *cleaner) rewrite() error {
	l := c.l
	l.mu.Lock()
	limit := l.mu.config.SegmentBytes
	l.mu.Unlock()
	for i, s := range c.plan.segments {
		end := c.plan.ends[i]
		if s.base >= c.r.To {
			break
		}
		size := s.sizeOf(l)
		if o := c.out; o != nil && (o.seg.size+size > limit || int64(end-1-o.seg.base) > math.MaxInt32) {
			if err := c.replace(); err != nil {
				return err
			}
		}
		if c.out == nil {
			var err error
			if c.out, err = c.newOutput(s.base); err != nil {
				return err
			}
		}
		c.out.add(s, end)
		c.r.SegmentsBefore++
		c.r.BytesBefore += size
		if err := c.reader.each(s, c.plan.generation, 0, c.batch); err != nil {
			return err
		}
	}
	if c.out == nil {
		return nil
	}
	return c.replace()
}

// batch writes what stays of a batch.
func (c *cleaner) batch(b record.Batch) error {
	if err := c.judge(b); err != nil {
		return err
	}
	o := c.out
	o.noteLast(b)
	if c.discard && !c.keep.Empty {
		c.r.RecordsBefore += int64(b.Count())
		if b.Control() {
			c.deletesTo = max(c.deletesTo, b.NextOffset())
		}
		o.changed = true
		return nil
	}
	if c.keep.Record == nil {
		c.keep.Record = c.keeps
	}
	at := len(o.buf)
	var a record.Applied
	var err error
	if o.buf, a, err = c.filter.Apply(o.buf, b, &c.keep); err != nil {
		return &Corruption{File: o.current().data.path, Position: -1, Offset: b.BaseOffset(), Reason: err.Error()}
	}
	c.r.RecordsBefore += int64(a.Records + a.Dropped)
	c.r.RecordsAfter += int64(a.Records)
	o.changed = o.changed || !a.Verbatim
	if len(o.buf) == at {
		return nil
	}
	return o.took(o.buf[at:])
}

// judge decides what is to become of a batch, as Kafka's Cleaner does: into c.keep, c.discard and c.expired.
func (c *cleaner) judge(b record.Batch) error {
	horizon, has := b.DeleteHorizon()
	c.expired = has && horizon <= c.now
	done := false
	if b.Control() {
		m, err := c.l.readMarker(b)
		if err != nil {
			return &Corruption{File: c.out.current().data.path, Position: -1, Offset: b.BaseOffset(), Reason: err.Error()}
		}
		var kept *AbortedTransaction
		if done, kept = c.txns.marker(b, m); kept != nil {
			c.out.aborted(*kept)
		}
		c.discard = done && (c.expired || b.Count() == 0)
	} else {
		c.discard = c.txns.batch(b)
	}
	c.keep.Marker = b.Control() && done
	c.keep.Horizon = record.NoTimestamp
	if b.LastOffset() <= c.keys.latest { // else what a tombstone deletes may still be there
		c.keep.Horizon = saturatingSum(c.now, c.o.DeleteRetention)
	}
	c.keep.Empty = b.NextOffset() == c.plan.To || c.lastOfProducer(b)
	return nil
}

// lastOfProducer tells whether a batch has to stay for what it says of its producer, even if none of its records does.
func (c *cleaner) lastOfProducer(b record.Batch) bool {
	if !b.HasProducerID() {
		return false
	}
	e, ok := c.last[b.ProducerID()]
	if !ok {
		return false
	}
	if e.offset != kafka.NoOffset {
		return b.LastOffset() == e.offset
	}
	return b.Control() && b.ProducerEpoch() == e.epoch
}

// keeps tells whether a record of the batch at hand stays.
func (c *cleaner) keeps(e *record.Entry) bool {
	b := c.out.last
	switch {
	case c.discard:
		if b.Control() {
			c.deletesTo = max(c.deletesTo, e.Offset+1)
		}
		return false
	case b.Control(), e.Offset > c.keys.latest:
		return true
	case e.Key == nil:
		c.r.Keyless++
		return false
	case e.Offset < c.keys.get(e.Key):
		return false
	case e.Null && c.expired:
		c.deletesTo = max(c.deletesTo, e.Offset+1)
		return false
	}
	return true
}

func saturatingSum(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// replace ends the segment that is being written, and puts it in the place of those that it was made of.
func (c *cleaner) replace() error {
	o := c.out
	if !o.changed && len(o.inputs) == 1 {
		c.r.BytesAfter += o.seg.size
		c.r.SegmentsAfter++
		o.discard()
		c.out = nil
		return nil
	}
	data, index, err := o.finish()
	if err != nil {
		return err
	}
	l := c.l
	l.mu.Lock()
	if l.mu.generation == c.plan.generation && c.deletesTo > l.mu.cleaner.deletesBelow {
		l.mu.cleaner.deletesBelow, l.mu.cleaner.dirty = c.deletesTo, true
	}
	l.mu.Unlock()
	err = l.swap(o.seg, o.inputs, c.plan.generation, data, index)
	if err != nil {
		o.failed = l.usable(false) == ErrFailed // the files may be the log's
		return err
	}
	c.r.BytesAfter += o.seg.size
	c.r.SegmentsAfter++
	c.out = nil
	return nil
}
