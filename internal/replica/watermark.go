package replica

import (
	"slices"
	"time"

	"chronik/internal/kafka"
)

// progress decides the high watermark of a partition led here. It is pure: the caller guards it and acts on what it
// returns.
//
// The watermark is the minimum durable end over the maximal in-sync set: the committed one joined with the one that was
// proposed and not answered yet. A proposed member makes the set stricter, so the watermark is right whichever of the
// two the controller settles on (KIP-497). Whether it may move at all is counted in committed members only (KIP-966).
type progress struct {
	local         kafka.BrokerID
	replicas      []kafka.BrokerID // assigned, in order of preference
	committed     []kafka.BrokerID // in-sync set as the metadata has it, sorted
	proposed      []kafka.BrokerID // of the one outstanding change, sorted; nil if there is none
	minInsync     int              // min.insync.replicas as configured
	ends          []replicaEnd     // what is known of each assigned replica, sorted by broker
	highWatermark kafka.Offset

	// For the in-sync set (isr.go).
	lagMax     time.Duration
	epochStart kafka.Offset // the log's end when this node became leader
	marks      []endMark    // ascending
}

// replicaEnd is how far one replica has everything on its disk.
type replicaEnd struct {
	broker kafka.BrokerID
	end    kafka.Offset // durable, exclusive; NoOffset until it has told
	known  kafka.Offset // the highest end in this leader epoch: a member that follows anew does not lag for that

	streamed bool      // it follows in this epoch
	since    time.Time // it does, or does not
	caughtUp time.Time // when it last had all that there was, as far as a look told
}

// assign takes over assignment and in-sync set from the metadata, and forgets the ends of replicas that are no longer
// assigned. An outstanding proposal stays: only an answer to it ends it.
func (p *progress) assign(replicas, committed []kafka.BrokerID) {
	p.replicas = slices.Clone(replicas)
	p.committed = slices.Sorted(slices.Values(committed))
	ends := make([]replicaEnd, 0, len(replicas))
	for _, b := range slices.Sorted(slices.Values(replicas)) {
		e := replicaEnd{broker: b, end: kafka.NoOffset, known: kafka.NoOffset}
		if known := p.replica(b); known != nil {
			e = *known
		}
		ends = append(ends, e)
	}
	p.ends = ends
}

// elect starts a leader epoch: what other replicas said in an earlier one no longer counts, nor does a proposal made
// then.
func (p *progress) elect() {
	for i := range p.ends {
		if p.ends[i].broker != p.local {
			p.ends[i].end = kafka.NoOffset
		}
	}
	p.proposed = nil
}

// durable takes note of a replica's durable end. Within an epoch it only grows; an older, late message changes nothing.
func (p *progress) durable(broker kafka.BrokerID, end kafka.Offset) {
	if r := p.replica(broker); r != nil {
		r.end = max(r.end, end)
		r.known = max(r.known, r.end)
	}
}

// reset replaces a replica's durable end, downwards too: its log was cut, or it follows anew.
func (p *progress) reset(broker kafka.BrokerID, end kafka.Offset) {
	if r := p.replica(broker); r != nil {
		r.end = end
	}
}

// advance moves the watermark as far as the members allow and tells whether it moved. It never goes back: a member that
// joins below it does not undo what was committed without it.
func (p *progress) advance() bool {
	if p.underMinInsync() {
		return false
	}
	to := kafka.NoOffset
	for i, first := 0, true; i < len(p.ends); i++ {
		if !p.inMaximalISR(p.ends[i].broker) {
			continue
		}
		if first || p.ends[i].end < to {
			to = p.ends[i].end
		}
		first = false
	}
	if to <= p.highWatermark {
		return false
	}
	p.highWatermark = to
	return true
}

// underMinInsync tells whether the committed in-sync set is too small to commit anything.
func (p *progress) underMinInsync() bool { return len(p.committed) < p.effectiveMinInsync() }

// effectiveMinInsync is min.insync.replicas, but never more than there are replicas: a topic with one replica and the
// cluster's default of two can be written, as in Kafka.
func (p *progress) effectiveMinInsync() int { return max(1, min(p.minInsync, len(p.replicas))) }

// inISR tells whether a replica is in the committed in-sync set.
func (p *progress) inISR(b kafka.BrokerID) bool {
	_, in := slices.BinarySearch(p.committed, b)
	return in
}

func (p *progress) inMaximalISR(b kafka.BrokerID) bool {
	if p.inISR(b) {
		return true
	}
	_, in := slices.BinarySearch(p.proposed, b)
	return in
}

func (p *progress) endOf(b kafka.BrokerID) kafka.Offset {
	if r := p.replica(b); r != nil {
		return r.end
	}
	return kafka.NoOffset
}

func (p *progress) replica(b kafka.BrokerID) *replicaEnd {
	for i := range p.ends {
		if p.ends[i].broker == b {
			return &p.ends[i]
		}
	}
	return nil
}
