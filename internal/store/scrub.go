package store

import (
	"errors"
	"sync/atomic"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/log"
)

const (
	// scrubDelay is how long after the start the scrub begins: the node has other things to do first.
	scrubDelay = 10 * time.Minute
	// scrubRateMin is the rate of a pass over little data, in bytes per second: spread over a week it would be found late.
	scrubRateMin = 1 << 20
	// scrubOpenBytes are what opening a partition's log counts for.
	scrubOpenBytes = 64 << 10
)

var errScrubEnds = errors.New("the scrub ends")

// scrubber is the background scrub: one goroutine that reads all segments again, one chunk after the other, and lets the
// logs compare them with their checksums. A pass is spread over log.scrub.interval.ms, as far as log.scrub.bytes.per.second
// and scrubRateMin allow. Damage is named in the log and counted; the partition's log refuses it from then on. That is
// not written down: after a restart the next pass finds it again. Passes begin at a partition that the time chooses, so
// that a node which is restarted often gets round to all of them.
type scrubber struct {
	bytes  atomic.Int64 // read
	passes atomic.Int64 // ended
	damage atomic.Int64 // ranges found

	// The goroutine's own.
	rate int64 // bytes per second
	next time.Time
	buf  []byte
}

func (s *Store) scrubLoop() {
	defer s.background.Done()
	interval := s.o.Config.ScrubInterval
	wait := min(scrubDelay, interval)
	for {
		s.pause(wait)
		if s.stopping() {
			return
		}
		begun := s.o.Clock.Now()
		s.scrubPass()
		wait = max(interval-s.o.Clock.Now().Sub(begun), time.Second)
	}
}

func (s *Store) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// scrubPass reads everything once.
func (s *Store) scrubPass() {
	list := s.Partitions()
	var total int64
	for _, p := range list {
		if l := p.log.Load(); l != nil {
			total += l.Size()
		}
	}
	c, cfg := &s.scrub, s.o.Config
	now := s.o.Clock.Now()
	spread := int64(float64(total) / max(cfg.ScrubInterval.Seconds(), 1e-3))
	c.rate, c.next = max(min(max(spread, scrubRateMin), cfg.ScrubBytesPerSecond), 1), now
	first := 0
	if len(list) > 0 {
		first = int(uint64(now.UnixNano()) % uint64(len(list)))
	}
	for i := range list {
		if s.stopping() || s.failed() != nil {
			break
		}
		list[(first+i)%len(list)].scrub()
	}
	c.buf = nil
	c.passes.Add(1)
}

// scrub reads one partition. An empty one costs nothing, however many there are.
func (p *Partition) scrub() {
	if p.LogEnd() == p.LogStart() || p.usable() != nil {
		return
	}
	s := p.s
	if p.log.Load() == nil && s.scrubPace(scrubOpenBytes) != nil {
		return
	}
	l, err := p.opened()
	if err != nil {
		var broken *log.Corruption
		if errors.As(err, &broken) && !p.deleting.Load() {
			p.damaged(log.Damage{File: broken.File, Position: broken.Position, First: broken.Offset, End: kafka.NoOffset, Reason: broken.Reason})
		}
		return
	}
	o := log.ScrubOptions{Buf: s.scrub.buf, Found: p.damaged, Pace: func(n int64) error {
		err := s.scrubPace(n)
		if err == nil {
			s.scrub.bytes.Add(n)
		}
		return err
	}}
	if err := l.Scrub(&o); err != nil && !errors.Is(err, errScrubEnds) {
		s.o.Logger.Warn("the scrub of a partition ended early", "partition", p.name(), "error", err)
	}
	s.scrub.buf = o.Buf
}

// scrubPace waits until the next n bytes may be read.
func (s *Store) scrubPace(n int64) error {
	c := &s.scrub
	now := s.o.Clock.Now()
	if d := c.next.Sub(now); d > 0 {
		s.pause(d)
	} else {
		c.next = now // time that was not used is not made up for
	}
	if s.stopping() {
		return errScrubEnds
	}
	c.next = c.next.Add(time.Duration(float64(n) / float64(c.rate) * float64(time.Second)))
	return nil
}

func (p *Partition) damaged(d log.Damage) {
	p.s.scrub.damage.Add(1)
	p.s.o.Logger.Error("a segment is not as it was written; this range is not served any more. Stop the node and restore the file from a "+
		"backup, or have consumers go on behind the range, or delete it with DeleteRecords; and look after the disk",
		"partition", p.name(), "file", d.File, "position", d.Position, "bytes", d.Length,
		"firstOffset", int64(d.First), "endOffset", int64(d.End), "reason", d.Reason)
	if f := p.whenDamaged.Load(); f != nil {
		(*f)()
	}
}

// Scrub reads the partition's log through at once, because a read came upon something that was not as it was written.
func (p *Partition) Scrub() error {
	l, err := p.opened()
	if err != nil {
		return storageError(err)
	}
	return l.Scrub(&log.ScrubOptions{Found: p.damaged, Pace: func(int64) error {
		if p.s.stopping() {
			return errScrubEnds
		}
		return nil
	}})
}
