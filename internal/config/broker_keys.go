package config

import (
	"math"
	"slices"
	"time"
)

const (
	hour   = 3600 * 1000 // milliseconds
	minute = 60 * 1000
)

// brokerKeys is every key of a node, in the order in which given values are applied: of two keys for the same thing the
// stronger one comes later.
var brokerKeys = slices.Concat(nodeKeys, clusterKeys, topicDefaultKeys, serverKeys, consumerGroupKeys, storageKeys, cleanerKeys)

// nodeKeys say who and where the node is.
var nodeKeys = []Key{
	text("data", "./chronik-data", func(c *Config) *string { return &c.DataDir }, notEmpty,
		"The data directory; made if it is not there. One process uses it at a time.").flag("data"),
	listeners("kafka", "127.0.0.1:9092",
		"The addresses that Kafka clients connect to, host:port, several separated by commas. tls:// before an address makes it a TLS listener. An empty host or 0.0.0.0 listens on every interface.").flag("kafka"),
	text("http", "127.0.0.1:6092", func(c *Config) *string { return &c.HTTP }, hostPortOrNone,
		"The address of /metrics, /healthz, /readyz and /debug/pprof, host:port; none for no HTTP.").flag("http").valid("host:port or none"),
	advertise("advertise",
		"The address that clients are told to connect to, host or host:port, one for all listeners or one for each in their order. Without it a client is told the address that it dialled, as the node sees it. Behind address translation, such as a published port of a container, the node sees its own address instead: then give the one that clients use.").flag("advertise"),
	text("tls.cert", "", func(c *Config) *string { return &c.TLSCert }, notEmpty,
		"The PEM file with the certificate chain of the TLS listeners. It is read again when it changes.").flag("tls-cert"),
	text("tls.key", "", func(c *Config) *string { return &c.TLSKey }, notEmpty,
		"The PEM file with the private key of the TLS listeners.").flag("tls-key"),
	words("log.level", []string{"warn", "debug", "info", "error"}, func(c *Config) *string { return &c.LogLevel },
		"How much the process logs to standard error.").flag("log-level"),
	words("log.format", []string{"text", "json"}, func(c *Config) *string { return &c.LogFormat },
		"The form of the process's own log lines.").flag("log-format"),
	duration("shutdown.max.ms", Long, 10_000, 1, func(c *Config) *time.Duration { return &c.ShutdownLimit },
		"How long a clean stop may take, in milliseconds, before the process ends all the same. Nothing acknowledged is lost by that; the next start has more to replay.").own(),
	number("node.id", Int, 1, 0, math.MaxInt32, func(c *Config) *int32 { return &c.NodeID },
		"The number of this node in its cluster. A data directory keeps the number that it was made with."),
	text("broker.rack", "", func(c *Config) *string { return &c.Rack }, nil,
		"Where the node stands, for example an availability zone. The replicas of a partition are spread over racks. A consumer that names its rack (client.rack) is sent to an in-sync replica of that rack, provided that it has the offset (KIP-392); Kafka does so only where replica.selector.class names its rack-aware selector."),
}

// topicDefaultKeys are the node's values for what a topic does not say itself.
var topicDefaultKeys = []Key{
	boolean("auto.create.topics.enable", true, func(c *Config) *bool { return &c.AutoCreateTopics },
		"Whether a topic that does not exist is made when a client's Metadata request names it and allows that."),
	number("default.replication.factor", Short, -1, -1, math.MaxInt16, func(c *Config) *int16 { return &c.DefaultReplicationFactor },
		"The replication factor of topics that ask for the default; -1 for 3 where three or more brokers are registered and 1 otherwise.").valid("-1, or at least 1"),
	boolean("delete.topic.enable", true, func(c *Config) *bool { return &c.DeleteTopics },
		"Whether clients may delete topics."),
	number("num.partitions", Int, 1, 1, 100_000, func(c *Config) *int32 { return &c.NumPartitions },
		"The number of partitions of topics that ask for the default, auto-created ones among them."),
	forTopic("log.cleanup.policy", "cleanup.policy", 1).dynamic(),
	forTopic("compression.type", "compression.type", 1).dynamic(),
	forTopic("log.index.interval.bytes", "index.interval.bytes", 1).dynamic(),
	forTopic("message.max.bytes", "max.message.bytes", 1).dynamic(),
	forTopic("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms", 1).dynamic(),
	forTopic("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms", 1).dynamic(),
	forTopic("log.message.timestamp.type", "message.timestamp.type", 1).dynamic(),
	forTopic("min.insync.replicas", "min.insync.replicas", 1).dynamic(),
	forTopic("log.preallocate", "preallocate", 1).dynamic(),
	forTopic("log.retention.bytes", "retention.bytes", 1).dynamic(),
	forTopic("log.retention.hours", "retention.ms", hour).after("log.retention.ms", "log.retention.minutes"),
	forTopic("log.retention.minutes", "retention.ms", minute).after("log.retention.ms").unset(),
	forTopic("log.retention.ms", "retention.ms", 1).dynamic().unset(),
	forTopic("log.segment.bytes", "segment.bytes", 1).dynamic(),
	forTopic("log.roll.hours", "segment.ms", hour).after("log.roll.ms"),
	forTopic("log.roll.ms", "segment.ms", 1).dynamic().unset(),
	forTopic("log.sync", "sync", 1),
	forTopic("unclean.leader.election.enable", "unclean.leader.election.enable", 1).dynamic(),
	duration("log.retention.check.interval.ms", Long, 300_000, 1, func(c *Config) *time.Duration { return &c.RetentionCheckInterval },
		"How often retention looks for segments to drop, in milliseconds."),
	duration("producer.id.expiration.ms", Int, 86_400_000, 1, func(c *Config) *time.Duration { return &c.ProducerIDExpiration },
		"How long a partition remembers an idempotent producer after its last batch, in milliseconds."),
	number("partitions.max", Int, 200_000, 1, math.MaxInt32, func(c *Config) *int32 { return &c.PartitionsMax },
		"The number of partitions that a node may hold; a topic past it is refused with INVALID_PARTITIONS.").own(),
	number("max.request.partition.size.limit", Int, 2000, 1, math.MaxInt32, func(c *Config) *int32 { return &c.MaxPartitionsPerDescription },
		"The largest number of partitions in one answer of DescribeTopicPartitions."),
	number("offsets.topic.num.partitions", Int, -1, -1, 100_000, func(c *Config) *int32 { return &c.OffsetsTopicPartitions },
		"The number of partitions of __consumer_offsets, fixed when the first group comes; -1 for 4 on one or two nodes and 16 on more.").valid("-1, or 1 to 100000"),
	number("offsets.topic.replication.factor", Short, -1, -1, math.MaxInt16, func(c *Config) *int16 { return &c.OffsetsTopicReplicationFactor },
		"The replication factor of __consumer_offsets; -1 for the cluster's default.").valid("-1, or at least 1"),
	number("offsets.topic.segment.bytes", Int, 100*mib, mib, math.MaxInt32, func(c *Config) *int32 { return &c.OffsetsTopicSegmentBytes },
		"The segment.bytes of __consumer_offsets."),
}

// serverKeys bound connections, requests and groups.
var serverKeys = []Key{
	number("max.connections", Int, 10_000, 1, math.MaxInt32, func(c *Config) *int { return &c.MaxConnections },
		"The number of Kafka connections; one more is closed at once."),
	duration("connections.max.idle.ms", Long, 600_000, 1, func(c *Config) *time.Duration { return &c.ConnectionIdleMax },
		"How long a connection may be silent before it is closed, in milliseconds."),
	duration("connections.handshake.max.ms", Long, 10_000, 1, func(c *Config) *time.Duration { return &c.HandshakeMax },
		"How long a client may take for the TLS handshake, and for a whole request once it has begun to send it before authentication, in milliseconds.").own(),
	number("socket.request.max.bytes", Int, 100*mib, 1024, math.MaxInt32, func(c *Config) *int32 { return &c.RequestMaxBytes },
		"The largest request, in bytes. A larger one closes the connection."),
	number("socket.request.unauthenticated.max.bytes", Int, 64<<10, 1024, math.MaxInt32, func(c *Config) *int32 { return &c.UnauthenticatedMaxBytes },
		"The largest request before authentication, on listeners that ask for it, in bytes.").own(),
	number("requests.in.flight.max.bytes", Long, 128*mib, mib, math.MaxInt64, func(c *Config) *int64 { return &c.RequestsInFlightMaxBytes },
		"The memory for requests of all connections that were received and not yet answered, in bytes. Beyond it connections are not read.").own(),
	number("requests.decoded.max.bytes", Long, 64*mib, mib, math.MaxInt64, func(c *Config) *int64 { return &c.DecodedInFlightMaxBytes },
		"The memory that decoding the requests in flight may take, in bytes. Beyond it connections are not read.").own(),
	number("responses.in.flight.max.bytes", Long, 128*mib, mib, math.MaxInt64, func(c *Config) *int64 { return &c.ResponsesInFlightMaxBytes },
		"The memory for answers that are copied rather than sent from segment files, of all connections, in bytes. Beyond it large answers wait, and clients that do not take theirs are closed.").own(),
	duration("connections.write.stall.max.ms", Long, 30_000, 1, func(c *Config) *time.Duration { return &c.WriteStallMax },
		"How long a client may take nothing of an answer before it is disconnected, in milliseconds.").own(),
	number("replies.queued.max", Int, 64, 1, 65536, func(c *Config) *int { return &c.RepliesQueuedMax },
		"The number of requests of one connection that may await their answers; beyond it the connection is not read.").own(),
	number("fetch.max.bytes", Int, 55*mib, 1024, math.MaxInt32, func(c *Config) *int32 { return &c.FetchMaxBytes },
		"The largest answer to a Fetch, in bytes; the first batch is returned even if it is larger."),
	number("max.incremental.fetch.session.cache.slots", Int, 1000, 0, math.MaxInt32, func(c *Config) *int { return &c.FetchSessionsMax },
		"The number of fetch sessions (KIP-227); clients beyond it send full requests."),
	number("fetch.session.partitions.max", Int, 1_000_000, 1, math.MaxInt32, func(c *Config) *int { return &c.FetchSessionPartitionsMax },
		"The number of partitions in all fetch sessions together; a session that would pass it is not made.").own(),
	duration("fetch.wait.max.ms", Int, 60_000, 1, func(c *Config) *time.Duration { return &c.FetchMaxWait },
		"The longest that a Fetch waits for data, whatever the client asks for, in milliseconds.").own(),
	duration("group.min.session.timeout.ms", Int, 6_000, 1, func(c *Config) *time.Duration { return &c.GroupMinSessionTimeout },
		"The shortest session timeout that a consumer group's member may ask for, in milliseconds."),
	duration("group.max.session.timeout.ms", Int, 1_800_000, 1, func(c *Config) *time.Duration { return &c.GroupMaxSessionTimeout },
		"The longest session timeout that a consumer group's member may ask for, in milliseconds."),
	duration("group.initial.rebalance.delay.ms", Int, 100, 0, func(c *Config) *time.Duration { return &c.GroupInitialRebalanceWait },
		"How long an empty group waits for more members before its first rebalance, in milliseconds."),
	number("group.max.size", Int, math.MaxInt32, 1, math.MaxInt32, func(c *Config) *int { return &c.GroupMaxSize },
		"The number of members of a consumer group."),
	number("offset.metadata.max.bytes", Int, 4096, 0, math.MaxInt32, func(c *Config) *int { return &c.OffsetMetadataMaxBytes },
		"The largest metadata string of an offset commit, in bytes."),
	duration("offsets.commit.timeout.ms", Int, 5_000, 1, func(c *Config) *time.Duration { return &c.OffsetsCommitTimeout },
		"How long an offset commit may wait for its replicas, in milliseconds."),
	scaled("offsets.retention.minutes", Int, 7*24*60, 1, math.MaxInt32, int64(time.Minute), func(c *Config) *time.Duration { return &c.OffsetsRetention },
		"How long committed offsets are kept that nobody uses, in minutes: from when the group became empty, or from the commit for topics that it does not subscribe to and for consumers without a group's membership (KIP-211)."),
	duration("offsets.retention.check.interval.ms", Long, 600_000, 1, func(c *Config) *time.Duration { return &c.OffsetsRetentionCheck },
		"How often coordinators look for offsets that have expired and for groups that hold nothing any more, in milliseconds."),
}

// storageKeys size the write-ahead logs and what goes with them.
var storageKeys = []Key{
	duration("log.sync.interval.ms", Int, 50, 1, func(c *Config) *time.Duration { return &c.SyncInterval },
		"How long records of topics with sync=interval may wait before they are brought to the disk, in milliseconds: what a crash may cost such a topic.").own(),
	number("wal.file.bytes", Long, 64*mib, mib, 1<<40, func(c *Config) *int64 { return &c.WALFileBytes },
		"The size of each of the write-ahead log's files, which are filled with zeros when made and then recycled, in bytes.").own(),
	number("wal.max.bytes", Long, 1<<30, 4*mib, 1<<50, func(c *Config) *int64 { return &c.WALMaxBytes },
		"The size of all of the write-ahead log's files together, in bytes. A full log makes producers wait until segments are synced.").own(),
	number("wal.reference.min.bytes", Long, 256<<10, 4096, 1<<40, func(c *Config) *int64 { return &c.WALReferenceMinBytes },
		"The size from which on one partition's share of a commit is logged by reference, so that bulk reaches the disk once, in bytes.").own(),
	number("metadata.wal.file.bytes", Long, 4*mib, mib, 1<<40, func(c *Config) *int64 { return &c.MetadataWALFileBytes },
		"The size of each file of the metadata's write-ahead log, in bytes.").own(),
	number("checkpoint.bytes", Long, 512*mib, mib, 1<<50, func(c *Config) *int64 { return &c.CheckpointBytes },
		"The number of bytes logged, bulk by reference included, between two checkpoints: what a start after a crash has to go through.").own(),
	number("segment.sync.rate.bytes", Long, 0, 0, math.MaxInt64, func(c *Config) *int64 { return &c.SegmentSyncRateBytes },
		"The rate of the background sync of segments, in bytes per second; 0 for as fast as the disk takes it.").own(),
	number("follower.cache.bytes", Long, 16*mib, -1, math.MaxInt64, func(c *Config) *int64 { return &c.FollowerCacheBytes },
		"How many bytes at the end of a partition that is followed here, and not read, stay in the page cache; -1 for as many as the system keeps. The rest of the cache is for what is read.").own(),
	duration("log.scrub.interval.ms", Long, 7*24*hour, 1, func(c *Config) *time.Duration { return &c.ScrubInterval },
		"How long the background scrub may take to read all segments once and compare them with their checksums, in milliseconds. It spreads its reads over that time.").own(),
	number("log.scrub.bytes.per.second", Long, 32*mib, 0, math.MaxInt64, func(c *Config) *int64 { return &c.ScrubBytesPerSecond },
		"The highest rate at which the scrub reads, in bytes per second, even if a pass then takes longer; 0 for no scrub.").own(),
	number("files.open.max", Int, 4096, 16, math.MaxInt32, func(c *Config) *int { return &c.OpenFilesMax },
		"The number of segment and index files that are held open.").own(),
	number("disk.free.min.bytes", Long, 128*mib, 0, math.MaxInt64, func(c *Config) *int64 { return &c.FreeSpaceReserveBytes },
		"The space that appends leave free on the data directory's file system, in bytes. Producers get KAFKA_STORAGE_ERROR beyond it until space returns.").own(),
}
