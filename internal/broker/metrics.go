package broker

import (
	"strconv"

	"chronik/internal/admin"
	"chronik/internal/server"
	"chronik/internal/wal"
)

// samples are the node's metrics at one moment. What is not open yet gives none.
func (b *Broker) samples(add func(admin.Sample)) {
	serving := 0.0
	if b.Ready() == nil {
		serving = 1
	}
	add(admin.Sample{Name: "chronik_serving", Help: "1 while the node serves.", Value: serving})
	if serving == 0 {
		return
	}
	b.serverSamples(add)
	b.storeSamples(add)
	r := b.replicas.Stats()
	gauge(add, "chronik_replicas_led", "Partitions that this node leads.", int64(r.Leaders))
	gauge(add, "chronik_replicas_under_replicated", "Partitions led here with replicas that are not in sync.", int64(r.UnderReplicated))
	gauge(add, "chronik_replicas_under_min_insync", "Partitions led here that take no acks=all, for lack of in-sync replicas.", int64(r.UnderMinInsync))
	gauge(add, "chronik_appends_waiting", "Appends whose acknowledgement is awaited.", int64(r.Waiting))
	b.clusterSamples(add)
	b.streamSamples(add)
	b.groupSamples(add)
}

func gauge(add func(admin.Sample), name, help string, value int64, labels ...string) {
	add(admin.Sample{Name: name, Help: help, Value: float64(value), Labels: labels})
}

func counter(add func(admin.Sample), name, help string, value int64, labels ...string) {
	add(admin.Sample{Name: name, Help: help, Kind: admin.Counter, Value: float64(value), Labels: labels})
}

func (b *Broker) serverSamples(add func(admin.Sample)) {
	s := b.server.Stats()
	gauge(add, "chronik_connections_open", "Open Kafka connections.", s.ConnectionsOpen)
	counter(add, "chronik_connections_accepted_total", "Kafka connections accepted.", s.ConnectionsAccepted)
	const closed, closedHelp = "chronik_connections_closed_total", "Kafka connections that the node closed, by why."
	counter(add, closed, closedHelp, s.ConnectionsRefused, "reason", "limit")
	counter(add, closed, closedHelp, s.ConnectionsIdle, "reason", "idle")
	counter(add, closed, closedHelp, s.ConnectionsStalled, "reason", "stalled")
	counter(add, "chronik_received_bytes_total", "Bytes received from Kafka clients.", s.BytesIn)
	counter(add, "chronik_sent_bytes_total", "Bytes sent to Kafka clients.", s.BytesOut)
	counter(add, "chronik_sendfile_bytes_total", "Of the bytes sent, those that sendfile carried.", s.BytesSendfile)
	const held, heldHelp = "chronik_memory_held_bytes", "Memory held for requests and answers in flight, by what it holds."
	gauge(add, held, heldHelp, s.RequestBytesHeld, "what", "requests")
	gauge(add, held, heldHelp, s.DecodedBytesHeld, "what", "decoded")
	gauge(add, held, heldHelp, s.ResponseBytesHeld, "what", "responses")
	counter(add, "chronik_requests_refused_total", "Requests that made no sense or were over a limit.", s.Refused)
	counter(add, "chronik_tls_handshakes_failed_total", "TLS handshakes that failed.", s.TLSFailures)
	for _, a := range s.APIs {
		labels := []string{"api", a.Name, "key", strconv.Itoa(int(a.Key))}
		counter(add, "chronik_requests_total", "Kafka requests, by API.", a.Requests, labels...)
		counter(add, "chronik_requests_unsupported_total", "Kafka requests of a version that is not served, by API.", a.Unsupported, labels...)
		add(admin.Sample{Name: "chronik_request_seconds", Help: "Time from a request's last byte to its answer's, by API.", Kind: admin.Histogram,
			Labels: labels, Bounds: server.LatencyBounds[:], Buckets: a.Latency[:], Sum: a.LatencySum})
	}
}

func (b *Broker) storeSamples(add func(admin.Sample)) {
	s := b.store.Stats()
	gauge(add, "chronik_store_partitions", "Partitions with a replica on this node.", int64(s.Partitions))
	gauge(add, "chronik_store_dirty_partitions", "Partitions with records that are in the write-ahead log, but not synced to their segments.", int64(s.Dirty))
	counter(add, "chronik_store_checkpoints_total", "Checkpoints written.", s.Checkpoints)
	gauge(add, "chronik_store_replay_bytes", "Bytes that a start after a crash would go through.", s.SinceCheckpoint)
	counter(add, "chronik_store_space_refusals_total", "Appends refused for lack of space on the disk.", s.SpaceRefusals)
	counter(add, "chronik_store_scrubbed_bytes_total", "Bytes of segments that the background scrub has read again.", s.Scrubbed)
	counter(add, "chronik_store_scrub_passes_total", "Passes of the background scrub over all partitions.", s.ScrubPasses)
	counter(add, "chronik_store_damaged_ranges_total", "Ranges found not to be as they were written, which are not served any more.", s.Damaged)
	c := s.Cleaner
	counter(add, "chronik_log_cleaner_runs_total", "Compactions of a log that succeeded.", c.Runs)
	counter(add, "chronik_log_cleaner_failures_total", "Compactions of a log that failed.", c.Failures)
	gauge(add, "chronik_log_cleaner_running", "Logs that are being compacted.", c.Running)
	counter(add, "chronik_log_cleaner_read_bytes_total", "Bytes that compaction has read.", c.BytesRead)
	counter(add, "chronik_log_cleaner_written_bytes_total", "Bytes that compaction has written.", c.BytesWritten)
	counter(add, "chronik_log_cleaner_freed_bytes_total", "Bytes by which compaction has made logs smaller.", c.BytesFreed)
	counter(add, "chronik_log_cleaner_removed_records_total", "Records that compaction has removed.", c.RecordsRemoved)
	add(admin.Sample{Name: "chronik_log_cleaner_dirty_ratio_max", Help: "The largest share of a compacted topic's log on this node that was not compacted yet.", Value: c.DirtyRatioMax})
	add(admin.Sample{Name: "chronik_log_cleaner_overdue_seconds_max", Help: "The longest time by which a record's compaction is overdue by max.compaction.lag.ms.", Value: c.Overdue.Seconds()})
	gauge(add, "chronik_log_cleaner_uncleanable_partitions", "Partitions that cannot be compacted: they are damaged, or it failed lately.", int64(c.Uncleanable))
	w := s.WAL
	counter(add, "chronik_wal_commits_total", "Groups written to the write-ahead log, one fdatasync each.", w.Groups)
	counter(add, "chronik_wal_records_total", "Records written to the write-ahead log.", w.Records)
	counter(add, "chronik_wal_bytes_total", "Bytes written to the write-ahead log.", w.Bytes)
	counter(add, "chronik_wal_reference_syncs_total", "Syncs of segments whose bytes are logged by reference.", w.ReferenceSyncs)
	counter(add, "chronik_wal_full_waits_total", "Times that an append waited because the write-ahead log was full.", w.FullWaits)
	counter(add, "chronik_wal_files_total", "Files of the write-ahead log begun.", w.Files)
	add(admin.Sample{Name: "chronik_wal_sync_seconds", Help: "Time of the write-ahead log's fdatasync.", Kind: admin.Histogram,
		Bounds: syncBounds[:], Buckets: w.SyncHistogram[:], Sum: w.SyncSeconds})
	add(admin.Sample{Name: "chronik_wal_sync_running_seconds", Help: "How long the fdatasync that runs now has been running.",
		Value: w.SyncRunning.Seconds()})
}

// syncBounds are the bounds of the write-ahead log's own buckets: powers of two of a microsecond.
var syncBounds = func() (bounds [wal.HistogramBuckets - 1]float64) {
	for i := range bounds {
		bounds[i] = float64(uint64(1)<<i) / 1e6
	}
	return bounds
}()
