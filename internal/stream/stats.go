package stream

import (
	"cmp"
	"slices"
	"sync/atomic"

	"chronik/internal/kafka"
	"chronik/internal/peer"
)

type counters struct {
	framesSent, bytesSent, writes atomic.Int64
	framesReceived, bytesReceived atomic.Int64
	stretchesReceived             atomic.Int64
	acksSent, acksReceived        atomic.Int64
	follows, parked, refusals     atomic.Int64
	truncates, resets, moves      atomic.Int64
	connects, retries             atomic.Int64
}

// Stats are the streams in numbers. What is counted is counted since the start, as a leader and as a follower together
// unless said.
type Stats struct {
	Inbound, Outbound       int   // connections: of followers here, to leaders
	HotFeeds, CatchUpFeeds  int   // partitions led here, by follower, by the connection that they are streamed over
	InFlightBytes           int64 // sent to followers and not acknowledged
	FramesSent, BytesSent   int64 // Append and Watermark frames to followers; bytes of batches
	Writes                  int64 // that it took to send them
	FramesReceived          int64 // from leaders
	BytesReceived           int64
	StretchesReceived       int64 // of the frames: from logs that compaction left gaps in
	AckFramesSent           int64
	AckFramesReceived       int64
	Follows, Parked         int64
	Refusals                int64
	Truncates, Resets       int64
	Moves                   int64 // from one connection to the other, told by this node
	Connects, FollowRetries int64 // as a follower
}

// Stats counts. It looks at every connection: for a scrape, not for a request.
func (s *Streams) Stats() Stats {
	c := &s.stats
	st := Stats{
		FramesSent: c.framesSent.Load(), BytesSent: c.bytesSent.Load(), Writes: c.writes.Load(),
		FramesReceived: c.framesReceived.Load(), BytesReceived: c.bytesReceived.Load(), StretchesReceived: c.stretchesReceived.Load(),
		AckFramesSent: c.acksSent.Load(), AckFramesReceived: c.acksReceived.Load(),
		Follows: c.follows.Load(), Parked: c.parked.Load(), Refusals: c.refusals.Load(),
		Truncates: c.truncates.Load(), Resets: c.resets.Load(), Moves: c.moves.Load(),
		Connects: c.connects.Load(), FollowRetries: c.retries.Load(),
	}
	for _, o := range s.outbounds() {
		st.Inbound++
		o.mu.Lock()
		st.InFlightBytes += o.mu.inFlight
		for _, f := range o.mu.sessions {
			switch {
			case f.state != feedStreaming:
			case o.kind == peer.Hot:
				st.HotFeeds++
			default:
				st.CatchUpFeeds++
			}
		}
		o.mu.Unlock()
	}
	for _, src := range s.sources() {
		src.mu.Lock()
		for _, l := range src.mu.links {
			if l.conn != nil {
				st.Outbound++
			}
		}
		src.mu.Unlock()
	}
	return st
}

// Lag is how far a follower of a partition led here is.
type Lag struct {
	Partition kafka.TopicPartition
	Follower  kafka.BrokerID
	Kind      peer.Kind    // of the connection
	Sent      kafka.Offset // exclusive
	Acked     kafka.Offset // what it has on its disk, exclusive; NoOffset before it has told
	InFlight  int64        // bytes sent and not acknowledged
}

// Lags lists all that followers are streamed, by partition and follower.
func (s *Streams) Lags() []Lag {
	var lags []Lag
	for _, o := range s.outbounds() {
		o.mu.Lock()
		for _, f := range o.mu.sessions {
			if f.state == feedStreaming {
				lags = append(lags, Lag{f.request.id, o.follower, o.kind, f.sent, f.acked, f.window.bytes})
			}
		}
		o.mu.Unlock()
	}
	slices.SortFunc(lags, func(a, b Lag) int {
		return cmp.Or(slices.Compare(a.Partition.Topic[:], b.Partition.Topic[:]), cmp.Compare(a.Partition.Partition, b.Partition.Partition), cmp.Compare(a.Follower, b.Follower))
	})
	return lags
}

func (s *Streams) outbounds() []*outbound {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*outbound, 0, len(s.mu.outbounds))
	for o := range s.mu.outbounds {
		out = append(out, o)
	}
	return out
}
