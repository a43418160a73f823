package replica

import (
	"fmt"
	"slices"
	"time"

	"chronik/internal/kafka"
)

// Which replicas belong into the in-sync set. Like the watermark this is pure: the caller guards it, gives the time, and
// proposes what it decides.
//
// A replica is caught up if its durable end has reached what the log's end was at most lagMax ago. The marks tell what
// that was: one per look, and a look takes place several times in lagMax.

// endMark says where the log ended at a time.
type endMark struct {
	at  time.Time
	end kafka.Offset
}

// begin starts the marks of a leader epoch: whoever is in sync has lagMax to follow, from now on.
func (p *progress) begin(now time.Time, end kafka.Offset) {
	p.epochStart = end
	p.marks = append(p.marks[:0], endMark{now, end})
	for i := range p.ends {
		r := &p.ends[i]
		r.streamed, r.since, r.caughtUp, r.known = false, now, time.Time{}, kafka.NoOffset
	}
}

// look notes where the log ends now, and forgets what no judgement needs any more.
func (p *progress) look(now time.Time, end kafka.Offset) {
	if n := len(p.marks); n == 0 || p.marks[n-1].end != end {
		p.marks = append(p.marks, endMark{now, end})
	}
	for i := range p.ends {
		r := &p.ends[i]
		if r.end >= end {
			r.caughtUp = now
			continue
		}
		for _, m := range p.marks {
			if r.end >= m.end && m.at.After(r.caughtUp) {
				r.caughtUp = m.at
			}
		}
	}
	if i := p.markBefore(now); i > 0 {
		p.marks = slices.Delete(p.marks, 0, i)
	}
}

// markBefore is the last mark that is at least lagMax old; -1 if there is none.
func (p *progress) markBefore(now time.Time) int {
	for i, m := range slices.Backward(p.marks) {
		if now.Sub(m.at) >= p.lagMax {
			return i
		}
	}
	return -1
}

// streams notes that a replica begins, or ceases, to be streamed to. What it said before no longer counts: it follows anew.
func (p *progress) streams(b kafka.BrokerID, streamed bool, now time.Time) {
	if r := p.replica(b); r != nil {
		if r.streamed != streamed {
			r.streamed, r.since = streamed, now
		}
	}
}

// lagging tells why a replica is not caught up; "" if it is.
func (p *progress) lagging(b kafka.BrokerID, now time.Time) string {
	r := p.replica(b)
	switch {
	case b == p.local:
		return ""
	case r == nil:
		return fmt.Sprintf("broker %d is not a replica", b)
	case !r.streamed && now.Sub(r.since) >= p.lagMax:
		return fmt.Sprintf("broker %d has not followed for %v", b, now.Sub(r.since).Round(time.Millisecond))
	}
	if i := p.markBefore(now); i >= 0 && r.known < p.marks[i].end {
		return fmt.Sprintf("broker %d has offsets up to %d on its disk, and the log ended at %d more than %v ago", b, r.known, p.marks[i].end, p.lagMax)
	}
	return ""
}

// admissible tells whether a replica that is not in sync may be: it is caught up, and has what is committed and what the
// leader began with.
func (p *progress) admissible(b kafka.BrokerID, now time.Time) bool {
	r := p.replica(b)
	return r != nil && r.streamed && r.end >= p.highWatermark && r.end >= p.epochStart && p.lagging(b, now) == ""
}

// wanted is the in-sync set that is to be proposed, sorted, and why; nil if it is the one there is. Other says of a broker
// what the log does not tell: whether the controller would take it.
func (p *progress) wanted(now time.Time, other func(kafka.BrokerID) bool) (isr []kafka.BrokerID, reason string) {
	for _, b := range p.committed {
		if why := p.lagging(b, now); why != "" {
			reason = why
			continue
		}
		isr = append(isr, b)
	}
	for i := range p.ends {
		b := p.ends[i].broker
		if !p.inISR(b) && p.admissible(b, now) && other(b) {
			isr = append(isr, b)
			if reason == "" {
				reason = fmt.Sprintf("broker %d has caught up at offset %d", b, p.ends[i].end)
			}
		}
	}
	slices.Sort(isr)
	if slices.Equal(isr, p.committed) {
		return nil, ""
	}
	return isr, reason
}
