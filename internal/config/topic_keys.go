package config

import (
	"fmt"
	"math"
)

const (
	week = 7 * 24 * 3600 * 1000 // milliseconds
	mib  = 1 << 20
)

// topicKeys is every topic key, sorted by name.
var topicKeys = []Key{
	cleanupPolicy("cleanup.policy",
		"What happens to old records: delete drops whole segments past retention.ms or retention.bytes; compact keeps the last record of each key, and takes no record without one; compact,delete does both."),
	oneOf("compression.type",
		[]string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"},
		[]CompressionType{CompressionProducer, CompressionUncompressed, CompressionGzip, CompressionSnappy, CompressionLZ4, CompressionZstd},
		func(c *Config) *CompressionType { return &c.Topic.CompressionType },
		"The codec that batches are stored with. producer keeps them as they were sent; any other recompresses batches that came with another codec."),
	number("delete.retention.ms", Long, 24*hour, 0, math.MaxInt64, func(c *Config) *int64 { return &c.Topic.DeleteRetentionMillis },
		"How long a compacted topic keeps a tombstone (a record without a value) once nothing older of its key is left, and the markers of transactions without records, in milliseconds. A consumer that reads from the start within that time sees every deletion."),
	number("index.interval.bytes", Int, 4096, 0, math.MaxInt32, func(c *Config) *int32 { return &c.Topic.IndexIntervalBytes },
		"The number of bytes between two entries of a segment's offset index. Each interval carries a checksum of its own."),
	number("max.compaction.lag.ms", Long, math.MaxInt64, 1, math.MaxInt64, func(c *Config) *int64 { return &c.Topic.MaxCompactionLagMillis },
		"How long a record of a compacted topic may stay uncompacted, in milliseconds. A segment is closed after that time at the latest, at the next append."),
	number("max.message.bytes", Int, mib+12, 0, math.MaxInt32, func(c *Config) *int32 { return &c.Topic.MaxMessageBytes },
		"The largest batch that the topic takes, in bytes, after compression. A larger one is refused with MESSAGE_TOO_LARGE."),
	number("message.timestamp.after.max.ms", Long, 3_600_000, 0, math.MaxInt64,
		func(c *Config) *int64 { return &c.Topic.TimestampAfterMaxMillis },
		"How far a record's timestamp may lie ahead of the broker's clock, in milliseconds, with message.timestamp.type=CreateTime. A record beyond it is refused with INVALID_TIMESTAMP."),
	number("message.timestamp.before.max.ms", Long, math.MaxInt64, 0, math.MaxInt64,
		func(c *Config) *int64 { return &c.Topic.TimestampBeforeMaxMillis },
		"How far a record's timestamp may lie behind the broker's clock, in milliseconds, with message.timestamp.type=CreateTime. A record beyond it is refused with INVALID_TIMESTAMP."),
	oneOf("message.timestamp.type", []string{"CreateTime", "LogAppendTime"}, []TimestampType{CreateTime, LogAppendTime},
		func(c *Config) *TimestampType { return &c.Topic.TimestampType },
		"Whether a record keeps the producer's timestamp (CreateTime) or gets the time at which the broker took it (LogAppendTime)."),
	fraction("min.cleanable.dirty.ratio", 0.5, 0, 1, func(c *Config) *float64 { return &c.Topic.MinCleanableDirtyRatio },
		"The share of a compacted topic's log that must be new since it was compacted last before it is compacted again. Less saves space, and reads and writes more."),
	number("min.compaction.lag.ms", Long, 0, 0, math.MaxInt64, func(c *Config) *int64 { return &c.Topic.MinCompactionLagMillis },
		"How long a record of a compacted topic stays uncompacted at least, in milliseconds."),
	number("min.insync.replicas", Int, 1, 1, math.MaxInt32, func(c *Config) *int32 { return &c.Topic.MinInsyncReplicas },
		"The number of in-sync replicas that must hold a record before acks=all is answered, at most as many as the partition has replicas. With fewer in sync, such a produce fails with NOT_ENOUGH_REPLICAS."),
	never("preallocate", "Whether segment files get their full size when they are made.",
		"segments grow as they are written, and the write-ahead log's files are zero-written and recycled anyway"),
	number("retention.bytes", Long, -1, math.MinInt64, math.MaxInt64, func(c *Config) *int64 { return &c.Topic.RetentionBytes },
		"The size that a partition may reach before its oldest segments are dropped, in bytes; -1 for no limit. It holds for each partition."),
	number("retention.ms", Long, week, -1, math.MaxInt64, func(c *Config) *int64 { return &c.Topic.RetentionMillis },
		"How long records are kept, by their timestamps, in milliseconds; -1 for ever."),
	number("segment.bytes", Int, 1<<30, mib, math.MaxInt32, func(c *Config) *int32 { return &c.Topic.SegmentBytes },
		"The size at which a partition goes on in a new segment file, in bytes. Retention drops whole segments."),
	number("segment.ms", Long, week, 1, math.MaxInt64, func(c *Config) *int64 { return &c.Topic.SegmentMillis },
		"The age at which a partition goes on in a new segment file even if the old one is not full, in milliseconds."),
	oneOf("sync", []string{"commit", "interval"}, []SyncMode{SyncCommit, SyncInterval},
		func(c *Config) *SyncMode { return &c.Topic.Sync },
		"When a record counts as written. commit: once it is fsynced, so that an acknowledged record survives a power cut. interval: once it is in the page cache, as in Kafka; the disk follows within the broker's log.sync.interval.ms.").own(),
	never("unclean.leader.election.enable", "Whether a replica outside the in-sync set may become leader, which loses acknowledged records.",
		"a leader is never elected outside the in-sync replicas by configuration"),
}

// refusedTopicKeys are Kafka's topic keys that chronik does not act on, with what to know instead.
var refusedTopicKeys = map[string]string{
	"compression.gzip.level":                  "the codec's default level is used",
	"compression.lz4.level":                   "the codec's default level is used",
	"compression.zstd.level":                  "the codec's default level is used",
	"file.delete.delay.ms":                    "a segment's files go at once, and their space when the last reader has finished",
	"flush.messages":                          "use sync: commit (the default) fsyncs before every acknowledgement, interval within the broker's log.sync.interval.ms",
	"flush.ms":                                "use sync=interval and the broker's log.sync.interval.ms",
	"sync.interval.ms":                        "it is the broker's: log.sync.interval.ms",
	"internal.segment.bytes":                  "use segment.bytes",
	"segment.index.bytes":                     "an index has no limit of its own; see index.interval.bytes and segment.bytes",
	"segment.jitter.ms":                       "segments roll by segment.ms alone",
	"remote.storage.enable":                   "there is no tiered storage yet",
	"remote.log.copy.disable":                 "there is no tiered storage yet",
	"remote.log.delete.on.disable":            "there is no tiered storage yet",
	"remote.copy.lag.ms":                      "there is no tiered storage yet",
	"remote.copy.lag.bytes":                   "there is no tiered storage yet",
	"local.retention.ms":                      "there is no tiered storage yet",
	"local.retention.bytes":                   "there is no tiered storage yet",
	"leader.replication.throttled.replicas":   "there are no replication quotas yet",
	"follower.replication.throttled.replicas": "there are no replication quotas yet",
	"message.format.version":                  "Kafka 4 has removed it; the format is version 2",
	"message.downconversion.enable":           "Kafka 4 has removed it; the format is version 2",
	"message.timestamp.difference.max.ms":     "Kafka 4 has removed it; use message.timestamp.before.max.ms and message.timestamp.after.max.ms",
}

func cleanupPolicy(name, doc string) Key {
	return Key{Name: name, Type: List, Default: "delete", Valid: "delete, compact", Doc: doc,
		set: func(c *Config, value string) error {
			var p CleanupPolicy
			for _, e := range SplitList(value) {
				switch e {
				case "delete":
					p.Delete = true
				case "compact":
					p.Compact = true
				default:
					return fmt.Errorf("%q is none of delete, compact", e)
				}
			}
			c.Topic.CleanupPolicy = p
			return nil
		}}
}
