package config

// Topic is the configuration of one topic, resolved: its own overrides over the broker's values over the defaults.
type Topic struct {
	RetentionMillis          int64 // -1 for no limit
	RetentionBytes           int64 // per partition; -1 for no limit
	SegmentBytes             int32
	SegmentMillis            int64
	MaxMessageBytes          int32 // of a batch, as stored, its 12 bytes of offset and length included
	CompressionType          CompressionType
	TimestampType            TimestampType
	TimestampBeforeMaxMillis int64 // how far a record's timestamp may lie in the past
	TimestampAfterMaxMillis  int64 // and in the future
	CleanupPolicy            CleanupPolicy
	DeleteRetentionMillis    int64   // how long a compacted log keeps tombstones and markers that nothing needs any more
	MinCompactionLagMillis   int64   // a record stays uncompacted at least that long
	MaxCompactionLagMillis   int64   // and becomes compactable after that
	MinCleanableDirtyRatio   float64 // of a compacted log's bytes
	MinInsyncReplicas        int32   // never above what the replication factor allows, see replica
	Sync                     SyncMode
	IndexIntervalBytes       int32
}

// CompressionType is a topic's compression.type: what the log stores.
type CompressionType int8

// The compression types. Producer keeps what the producer sent; the numbers of the others are those of a batch's
// attributes.
const (
	CompressionProducer     CompressionType = -1
	CompressionUncompressed CompressionType = 0
	CompressionGzip         CompressionType = 1
	CompressionSnappy       CompressionType = 2
	CompressionLZ4          CompressionType = 3
	CompressionZstd         CompressionType = 4
)

// TimestampType is a topic's message.timestamp.type, with the numbers of a batch's attribute bit.
type TimestampType int8

// The timestamp types.
const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// CleanupPolicy is a topic's cleanup.policy, a set. Neither bit means that nothing is ever deleted.
type CleanupPolicy struct {
	Delete  bool
	Compact bool
}

// SyncMode says when an append counts as durable (the key `sync`).
type SyncMode int8

const (
	// SyncCommit: once it is fsynced.
	SyncCommit SyncMode = iota
	// SyncInterval: once it is in the page cache, as in Kafka; the disk follows within log.sync.interval.ms.
	SyncInterval
)
