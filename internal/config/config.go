package config

import (
	"sync"
	"sync/atomic"
	"time"
)

// Config is a node's configuration: every limit and default, by the table in broker_keys.go. It is immutable once
// loaded.
type Config struct {
	// The node.
	DataDir       string
	Kafka         []Listener // the addresses that Kafka clients connect to
	HTTP          string     // host:port of metrics, health and profiles; empty for none
	Advertise     []string   // host[:port] given to clients, one per listener or one for all; empty for the address they dialled
	NodeID        int32
	Rack          string
	TLSCert       string // PEM file
	TLSKey        string // PEM file
	ShutdownLimit time.Duration

	// The cluster.
	ClusterListen          string // host:port for the other nodes; see ClusterAddr
	ClusterAdvertise       string // host[:port] given to the other nodes; see ClusterAdvertised
	ClusterVoters          []Voter
	ClusterJoin            string // host:port of any member
	BrokerLease            time.Duration
	HeartbeatInterval      time.Duration
	ReplicaLagMax          time.Duration
	LeaderRebalance        bool
	LeaderRebalanceSeconds int64

	// Logs of the process itself.
	LogLevel  string // debug, info, warn, error
	LogFormat string // text, json

	// Topics.
	Topic                         Topic // what a topic gets that does not say otherwise
	NumPartitions                 int32
	DefaultReplicationFactor      int16 // -1: by the number of registered brokers (three or more: 3)
	AutoCreateTopics              bool
	DeleteTopics                  bool
	RetentionCheckInterval        time.Duration
	ProducerIDExpiration          time.Duration
	MaxPartitionsPerDescription   int32 // DescribeTopicPartitions (KIP-966)
	PartitionsMax                 int32 // of the whole node; a creation past it is refused
	OffsetsTopicPartitions        int32 // -1: by the number of nodes
	OffsetsTopicReplicationFactor int16
	OffsetsTopicSegmentBytes      int32

	// Connections and requests.
	MaxConnections            int
	ConnectionIdleMax         time.Duration
	HandshakeMax              time.Duration // TLS handshake and first request
	RequestMaxBytes           int32
	UnauthenticatedMaxBytes   int32         // a request before authentication
	RequestsInFlightMaxBytes  int64         // of all connections
	DecodedInFlightMaxBytes   int64         // what decoding those requests allocates
	ResponsesInFlightMaxBytes int64         // copied answers, beside a small buffer per connection
	WriteStallMax             time.Duration // a client that takes nothing of its answer
	RepliesQueuedMax          int           // per connection
	FetchMaxBytes             int32         // of one Fetch answer
	FetchSessionsMax          int
	FetchSessionPartitionsMax int // of all sessions
	FetchMaxWait              time.Duration

	// Groups.
	GroupMinSessionTimeout    time.Duration
	GroupMaxSessionTimeout    time.Duration
	GroupInitialRebalanceWait time.Duration
	GroupMaxSize              int
	OffsetMetadataMaxBytes    int
	OffsetsCommitTimeout      time.Duration
	OffsetsRetention          time.Duration
	OffsetsRetentionCheck     time.Duration
	GroupProtocols            []string // classic, and consumer (KIP-848)
	ConsumerGroups            ConsumerGroups

	// Storage.
	SyncInterval          time.Duration // of topics with SyncInterval
	WALFileBytes          int64         // of each zero-written and recycled file
	WALMaxBytes           int64         // of all files; a full WAL is back-pressure
	WALReferenceMinBytes  int64         // a partition's share of a group from which on it is logged by reference
	MetadataWALFileBytes  int64
	CheckpointBytes       int64         // logged since the last checkpoint, bulk included, at which the next is made
	SegmentSyncRateBytes  int64         // background segment sync, bytes per second; 0 for as fast as the disk
	FollowerCacheBytes    int64         // at the end of a log that follows, kept in the page cache; negative for no bound
	ScrubInterval         time.Duration // of full passes over the segments
	ScrubBytesPerSecond   int64         // at most; 0 for no scrub
	OpenFilesMax          int
	FreeSpaceReserveBytes int64 // kept free on the data directory's file system: an append that would go below is refused

	// Log compaction.
	CleanerEnabled        bool
	CleanerThreads        int
	CleanerDedupeBytes    int64   // of keys in memory, all threads together
	CleanerIOBytes        int     // of buffers, all threads together
	CleanerLoadFactor     float64 // of the memory for keys
	CleanerBytesPerSecond float64 // read and written, all threads together
	CleanerBackoff        time.Duration

	set map[string]Setting // what was given at start, by key
}

// Setting is a value that was given at start, as given.
type Setting struct {
	Value string
	Place string // such as "--set", "CHRONIK_NUM_PARTITIONS", "chronik.toml:3"
}

// Listener is a configured address of the Kafka server.
type Listener struct {
	Given string // as configured, scheme included
	Name  string // "tcp" or "tls", with a number from the second of a kind on: brokers of a cluster match their listeners by it
	Addr  string // host:port to listen on
	TLS   bool
}

// Live is the configuration as it is now: what was given at start, under what clients have set at run time. Whoever
// acts on a dynamic key reads it from here each time.
type Live struct {
	now atomic.Pointer[Config]

	mu struct {
		sync.Mutex
		at int64 // the metadata offset that now was computed at
	}
}

// NewLive starts with c.
func NewLive(c *Config) *Live {
	l := &Live{}
	l.now.Store(c)
	return l
}

// Load is the configuration now; it must not be changed.
func (l *Live) Load() *Config { return l.now.Load() }

// Advance replaces the configuration by c, which was computed from the metadata at that offset, unless a newer one is
// in force.
func (l *Live) Advance(at int64, c *Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at < l.mu.at {
		return
	}
	l.mu.at = at
	l.now.Store(c)
}
