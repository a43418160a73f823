package server

import (
	"sync/atomic"
	"time"

	"chronik/internal/wire"
)

// Stats is a snapshot of the counters, for internal/admin to export.
type Stats struct {
	ConnectionsOpen     int64
	ConnectionsAccepted int64
	ConnectionsRefused  int64 // over the limit
	ConnectionsIdle     int64 // closed for idleness
	ConnectionsStalled  int64 // closed because the client did not take its answers, or held memory that others needed
	BytesIn             int64
	BytesOut            int64
	BytesSendfile       int64 // of BytesOut, what sendfile carried
	RequestBytesHeld    int64 // frames in flight
	DecodedBytesHeld    int64
	ResponseBytesHeld   int64
	Refused             int64      // requests that the guard refused, and headers that made no sense
	TLSFailures         int64      // failed handshakes
	APIs                []APIStats // the keys that were asked for, ascending
}

// APIStats counts the requests of one API key.
type APIStats struct {
	Key         int16
	Name        string
	Requests    int64 // answered
	Unsupported int64 // of them, with UNSUPPORTED_VERSION by the server
	// Latency counts answered requests by the time from frame read to response written: bucket i holds those of at
	// most LatencyBounds[i]; the last bucket has no bound.
	Latency    [len(LatencyBounds) + 1]int64
	LatencySum float64 // seconds
}

// LatencyBounds are the upper bounds of the latency buckets, in seconds.
var LatencyBounds = [...]float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
}

// maxKeys bounds the API keys that are counted one by one; the last place is for all beyond.
const maxKeys = 129

type apiCounters struct {
	unsupported atomic.Int64
	nanos       atomic.Int64
	latency     [len(LatencyBounds) + 1]atomic.Int64
}

func (c *counters) api(key int16) *apiCounters {
	if key < 0 || key >= maxKeys-1 {
		return &c.apis[maxKeys-1]
	}
	return &c.apis[key]
}

// count adds one answered request.
func (c *counters) count(key int16, began, now time.Time) {
	a := c.api(key)
	elapsed := now.Sub(began)
	seconds := elapsed.Seconds()
	i := 0
	for i < len(LatencyBounds) && seconds > LatencyBounds[i] {
		i++
	}
	a.latency[i].Add(1)
	a.nanos.Add(int64(elapsed))
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats {
	c := &s.counters
	s.mu.Lock()
	st := Stats{
		ConnectionsOpen: int64(len(s.mu.connections)),
		BytesIn:         c.closedIn.Load(),
		BytesOut:        c.closedOut.Load(),
	}
	for conn := range s.mu.connections {
		st.BytesIn += conn.reader.BytesRead()
		st.BytesOut += conn.written.Load()
	}
	s.mu.Unlock()
	st.ConnectionsAccepted = c.accepted.Load()
	st.ConnectionsRefused = c.refusedConnections.Load()
	st.ConnectionsIdle = c.idle.Load()
	st.ConnectionsStalled = c.stalled.Load()
	st.BytesSendfile = c.sendfile.Load()
	st.RequestBytesHeld = s.frames.Held()
	st.DecodedBytesHeld = s.decoded.used()
	st.ResponseBytesHeld = s.responses.Used()
	st.Refused = c.refused.Load()
	st.TLSFailures = c.tlsFailures.Load()
	for key := range c.apis {
		if a := c.apis[key].snapshot(int16(key)); a.Requests > 0 {
			st.APIs = append(st.APIs, a)
		}
	}
	return st
}

func (a *apiCounters) snapshot(key int16) APIStats {
	st := APIStats{Key: key, Name: wire.KeyName(key), Unsupported: a.unsupported.Load(), LatencySum: float64(a.nanos.Load()) / 1e9}
	if key == maxKeys-1 {
		st.Name = "unknown"
	}
	for i := range a.latency {
		st.Latency[i] = a.latency[i].Load()
		st.Requests += st.Latency[i]
	}
	return st
}
