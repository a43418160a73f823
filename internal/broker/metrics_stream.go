package broker

import "chronik/internal/admin"

// streamSamples are the metrics of replication, as a leader and as a follower.
func (b *Broker) streamSamples(add func(admin.Sample)) {
	if b.streams == nil {
		return
	}
	s := b.streams.Stats()
	const connections, connectionsHelp = "chronik_stream_connections", "Open replication connections, by who dialled: this node to a leader, or a follower to this node."
	gauge(add, connections, connectionsHelp, int64(s.Outbound), "to", "leader")
	gauge(add, connections, connectionsHelp, int64(s.Inbound), "to", "self")
	const feeds, feedsHelp = "chronik_stream_feeds", "Partitions led here that are streamed to followers, by connection."
	gauge(add, feeds, feedsHelp, int64(s.HotFeeds), "connection", "hot")
	gauge(add, feeds, feedsHelp, int64(s.CatchUpFeeds), "connection", "catch-up")
	gauge(add, "chronik_stream_unacknowledged_bytes", "Bytes sent to followers and not acknowledged.", s.InFlightBytes)
	const bytes, bytesHelp = "chronik_stream_bytes_total", "Bytes of record batches replicated, by direction."
	counter(add, bytes, bytesHelp, s.BytesSent, "direction", "sent")
	counter(add, bytes, bytesHelp, s.BytesReceived, "direction", "received")
	const frames, framesHelp = "chronik_stream_frames_total", "Frames of batches and watermarks, by direction."
	counter(add, frames, framesHelp, s.FramesSent, "direction", "sent")
	counter(add, frames, framesHelp, s.FramesReceived, "direction", "received")
	counter(add, "chronik_stream_writes_total", "Writes that the frames sent took.", s.Writes)
	const acks, acksHelp = "chronik_stream_ack_frames_total", "Frames of acknowledgements, each of one group commit, by direction."
	counter(add, acks, acksHelp, s.AckFramesSent, "direction", "sent")
	counter(add, acks, acksHelp, s.AckFramesReceived, "direction", "received")
	counter(add, "chronik_stream_moves_total", "Moves of partitions led here between the hot and the catch-up connection.", s.Moves)
	counter(add, "chronik_stream_truncates_total", "Logs that were to be cut because they went another way than their leader's, sent and received.", s.Truncates)
	counter(add, "chronik_stream_resets_total", "Logs that were to begin anew, sent and received.", s.Resets)
	counter(add, "chronik_stream_refusals_total", "Follows refused, sent and received.", s.Refusals)
	counter(add, "chronik_stream_retries_total", "Follows tried again after a while.", s.FollowRetries)
}
