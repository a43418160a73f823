package log

import (
	"errors"
	"fmt"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// CleanOptions are those of one cleaning.
type CleanOptions struct {
	CleanLimits
	DeleteRetention int64   // delete.retention.ms
	MapBytes        int64   // bound of the memory for keys
	MapLoad         float64 // how full it may become, below 1
	IOBytes         int     // of buffers, about
	// Pace is called before each read and write, with its size. Its error ends the cleaning.
	Pace func(bytes int64) error
	// Found is called for new damage; the log refuses it already.
	Found func(Damage)
}

// CleanResult is what a cleaning did.
type CleanResult struct {
	From, To       kafka.Offset // what was dirty and is clean now
	Partial        bool         // the memory for keys did not suffice to come to the end of what was cleanable
	BytesRead      int64        // twice what was dirty is counted
	BytesWritten   int64
	BytesBefore    int64 // of the segments that were replaced, or left as they are
	BytesAfter     int64
	RecordsBefore  int64
	RecordsAfter   int64
	Keyless        int64 // records without a key, which go (they are from before the topic was compacted)
	SegmentsBefore int
	SegmentsAfter  int
	Keys           int // in memory
}

// cleaner is one cleaning.
type cleaner struct {
	l      *Log
	o      *CleanOptions
	plan   Cleanable
	reader cleanReader
	filter record.Filter
	keys   *offsetMap
	txns   cleanedTransactions
	last   map[kafka.ProducerID]lastOfProducer
	out    *cleanOutput
	r      CleanResult
	now    int64

	keep      record.Keep
	discard   bool // of the batch at hand: its records go
	expired   bool // its delete horizon has passed
	deletesTo kafka.Offset
}

// lastOfProducer is what of a producer that is remembered must stay in the log.
type lastOfProducer struct {
	offset kafka.Offset // of its last record; NoOffset if only a marker is known
	epoch  kafka.ProducerEpoch
}

// Clean compacts the log once, as far as the limits and the memory for keys allow: of the records of each key up to some
// offset only the last one stays. Nothing is renumbered; a batch stays what it was, less some of its records. Reading,
// appending and everything else goes on beside it; what cuts the log or deletes from it wins. One cleaning at a time.
//
// Memory and I/O are bounded by the options, but for a single batch that is larger. Segments are replaced one group after the
// other, from the oldest on, each durably, so that a crash leaves some of the work done.
func (l *Log) Clean(o *CleanOptions) (CleanResult, error) {
	l.cleaning <- struct{}{}
	defer func() { <-l.cleaning }()
	if o.Pace == nil {
		o.Pace = func(int64) error { return nil }
	}
	if o.Found == nil {
		o.Found = func(Damage) {}
	}
	c := cleaner{l: l, o: o, now: o.Now, filter: record.Filter{Codecs: l.codecs}}
	var err error
	if c.plan, err = l.Cleanable(&o.CleanLimits); err != nil {
		return c.r, err
	}
	c.r.From, c.r.To = c.plan.From, c.plan.From
	if c.plan.To <= c.plan.From {
		return c.r, nil
	}
	err = c.run()
	c.r.BytesRead = c.reader.n
	if errors.Is(err, ErrClosed) { // a segment was deleted, or all of the log closed
		return c.r, fmt.Errorf("%w (%w)", ErrOvertaken, err)
	}
	var broken *Corruption
	if errors.As(err, &broken) || errors.Is(err, errDamaged) {
		return c.r, fmt.Errorf("compaction of %s stops until the damage is repaired: %w", l.o.Name, err)
	}
	return c.r, err
}

func (c *cleaner) run() error {
	c.reader = cleanReader{l: c.l, o: c.o}
	if err := c.l.checkSound(c.plan.segments); err != nil {
		return err
	}
	aborted, err := c.l.AbortedTransactions(0, c.plan.To)
	if err != nil {
		return err
	}
	for _, s := range c.plan.segments { // who still reads them once they are replaced must not look for the file
		if err := c.l.loadAborted(s); err != nil {
			return err
		}
	}
	if err := c.mapKeys(aborted); err != nil {
		return err
	}
	c.txns = newCleanedTransactions(aborted)
	c.last = c.l.lastOfProducers()
	err = c.rewrite()
	if c.out != nil {
		c.out.discard()
	}
	if err != nil {
		return err
	}
	return c.finish()
}

// mapKeys fills the memory for keys with what is dirty.
func (c *cleaner) mapKeys(aborted []AbortedTransaction) error {
	// It comes to no marker below what is dirty: a transaction that ended there would never end.
	aborted = slices.DeleteFunc(slices.Clone(aborted), func(a AbortedTransaction) bool { return a.LastOffset < c.plan.From })
	c.txns = newCleanedTransactions(aborted)
	c.keys = newOffsetMap(c.o.MapBytes, c.o.MapLoad, int64(c.plan.To-c.plan.From))
	full := errors.New("full")
	for i, s := range c.plan.segments {
		if c.plan.ends[i] <= c.plan.From {
			continue
		}
		err := c.reader.each(s, c.plan.generation, c.plan.From, func(b record.Batch) error {
			if b.Control() {
				return c.mapControl(b)
			}
			if c.txns.batch(b) {
				return nil
			}
			room := true
			err := c.filter.Each(b, func(e *record.Entry) bool {
				if e.Key != nil && e.Offset >= c.plan.From {
					room = c.keys.put(e.Key, e.Offset)
				}
				if room {
					c.keys.latest = max(c.keys.latest, e.Offset)
				}
				return room
			})
			if err == nil && !room {
				err = full
			}
			return err
		})
		if errors.Is(err, full) {
			c.r.Partial = true
			break
		}
		if err != nil {
			return err
		}
		c.keys.latest = c.plan.ends[i] - 1
	}
	c.r.Keys = c.keys.n
	c.r.To = max(c.plan.From, c.keys.latest+1)
	return nil
}

func (c *cleaner) mapControl(b record.Batch) error {
	m, err := c.l.readMarker(b)
	if err == nil {
		c.txns.marker(b, m)
	}
	return err
}

// lastOfProducers is what of each producer that the log remembers must stay in it: its last batch tells the sequence number
// that comes next, its last marker the epoch.
func (l *Log) lastOfProducers() map[kafka.ProducerID]lastOfProducer {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := make(map[kafka.ProducerID]lastOfProducer, len(l.mu.producers.byID))
	for id, p := range l.mu.producers.byID {
		e := lastOfProducer{offset: kafka.NoOffset, epoch: p.epoch}
		if p.count > 0 {
			e.offset = p.batches[p.count-1].lastOffset
		}
		last[id] = e
	}
	return last
}

// finish makes it known up to where the log is compacted.
func (c *cleaner) finish() error {
	l := c.l
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	if err := l.usableLocked(false); err != nil {
		l.mu.Unlock()
		return err
	}
	if l.mu.generation != c.plan.generation {
		l.mu.Unlock()
		return ErrOvertaken
	}
	l.mu.cleaner.firstDirty, l.mu.cleaner.dirty = max(l.mu.cleaner.firstDirty, c.r.To), true
	l.mu.Unlock()
	return l.writeCleaner()
}
