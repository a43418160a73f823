package stream

import (
	"time"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// feed is one Follow of a partition led here, on the connection that it came over, and what has become of it.
type feed struct {
	o       *outbound
	request follow

	// Guarded by o.mu.
	state   feedState
	again   bool // leadership began while the Follow was being answered: ask once more before it is parked
	until   time.Time
	queued  bool // in o.mu.dirty
	starved bool // its window is used up: an ack queues it
	lagging bool // the high watermark moved since the last read
	listed  bool // in o.mu.lagging
	due     bool // the watermark has waited for long enough
	early   ack  // what came while there was no session yet; session 0 for none
	window  window
	sent    kafka.Offset
	acked   kafka.Offset
	reply   decision // instead of a stream, to be written by the sender
	p       partition
	session session

	// The sender's own.
	next          kafka.Offset
	highWatermark kafka.Offset // as sent last
	logStart      kafka.Offset
	perOffset     float64 // bytes that an offset took of late
}

type feedState uint8

const (
	feedAdmitting feedState = iota // the Follow waits for its answer
	feedParked                     // it is newer than the metadata of this node
	feedStreaming
	feedMoved // to the other connection: what was sent here may still be acknowledged
	feedAnswering
	feedEnded
)

// newer tells whether f is of a later Follow of the same follower than g.
func (f *feed) newer(g *feed) bool {
	if f.request.brokerEpoch != g.request.brokerEpoch {
		return f.request.brokerEpoch > g.request.brokerEpoch
	}
	return f.request.session > g.request.session
}

// replicaRequest is the Follow as package replica wants it.
func (f *feed) replicaRequest() replica.FollowRequest {
	return replica.FollowRequest{
		Follower: f.o.follower, BrokerEpoch: f.request.brokerEpoch, LeaderEpoch: f.request.leaderEpoch,
		LogEnd: f.request.logEnd, LastEpoch: f.request.lastEpoch,
	}
}

// behind estimates how many bytes are still to be sent.
func (f *feed) behind(logEnd kafka.Offset) int64 {
	return int64(float64(logEnd-f.next) * f.perOffset)
}

// window is what was sent of one partition and not acknowledged: how many bytes below which offset. It is of fixed size:
// where it would get too many entries, two and two are taken together.
type window struct {
	bytes   int64
	count   int
	entries [windowEntries]windowEntry
}

const windowEntries = 32

type windowEntry struct {
	end   kafka.Offset
	bytes int64
}

func (w *window) sent(end kafka.Offset, bytes int64) {
	w.bytes += bytes
	if w.count == windowEntries {
		for i := range windowEntries / 2 {
			a, b := w.entries[2*i], w.entries[2*i+1]
			w.entries[i] = windowEntry{b.end, a.bytes + b.bytes}
		}
		w.count = windowEntries / 2
	}
	w.entries[w.count] = windowEntry{end, bytes}
	w.count++
}

// acked returns how many bytes the acknowledgement frees.
func (w *window) acked(end kafka.Offset) (freed int64) {
	n := 0
	for n < w.count && w.entries[n].end <= end {
		freed += w.entries[n].bytes
		n++
	}
	if n > 0 {
		w.count = copy(w.entries[:], w.entries[n:w.count])
		w.bytes -= freed
	}
	return freed
}
