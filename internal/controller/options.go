package controller

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

// Options of a [Controller].
type Options struct {
	FS  vfs.FS
	Dir string // of the metadata WAL; made if it does not exist

	NodeID kafka.BrokerID
	// Directory is the random ID of the data directory; the Raft ID derives from it.
	Directory [16]byte
	// ClusterID is the cluster that this node belongs to. A node without metadata forms a cluster of that name, or of a
	// random one if it is empty; metadata of another cluster is refused.
	ClusterID string
	// Joined says that this node has had metadata before: if there are none now, they are lost, and no cluster is formed.
	Joined bool

	Defaults  Defaults
	Limits    Limits
	Lifecycle LifecycleOptions
	// LastHeard is when anything last came from that broker's node (peer.Node.LastHeard); nil if nobody knows. It must not
	// block.
	LastHeard func(kafka.BrokerID) time.Time

	Clock  clock.Clock
	Logger *slog.Logger
	// Fatal is called at most once, with the error after which this node can no longer take part: the metadata WAL
	// failed, or holds what this version cannot read. The process must stop.
	Fatal func(error)
	// ClusterAddress is the host:port of this node's port for others; empty on a node that is alone.
	ClusterAddress string
	// Transport reaches the other nodes; nil on a node that is alone.
	Transport Transport
	// Start is what Bootstrap found; the zero value on a node that is alone.
	Start Start

	// SnapshotBytes is how much log leads to a snapshot, 1 MiB by default; more where the image takes more.
	SnapshotBytes int64
	// WALFileBytes is the size of each file of the metadata WAL, 4 MiB by default.
	WALFileBytes int64
	// EventsRetained is how many batches of events are held for cursors that lag; 0 for metadata.DefaultRetained.
	EventsRetained int

	// CommandTimeout bounds commands whose context has no deadline; 30 s by default.
	CommandTimeout time.Duration

	// For tests: the voters that a new cluster is formed of; nil for this node alone.
	voters []metadata.Voter
	// For tests: how long a Raft tick lasts.
	tick time.Duration
	// For tests: how many entries below the last snapshot stay in memory for followers that lag a little.
	entriesKept uint64
}

// Defaults are what a command leaves open.
type Defaults struct {
	Partitions int32 // of a topic (num.partitions); 1 if 0
	// ReplicationFactor of a topic (default.replication.factor); 0 to follow the registered brokers: 3 from three on,
	// else 1.
	ReplicationFactor int16
	// OffsetsReplicationFactor is that of __consumer_offsets (offsets.topic.replication.factor); 0 or less for ReplicationFactor.
	OffsetsReplicationFactor int16
	// SyncInterval tells that a topic is synced by interval unless its configuration says otherwise.
	SyncInterval bool
}

// Limits bound what commands may ask for. Zero means the default.
type Limits struct {
	PartitionsPerRequest int // 10,000, Kafka's bound
	Partitions           int // of the cluster; 200,000
	Commands             int // waiting to be decided; 10,000
}

// Transport carries what nodes of a cluster say to one another on behalf of their controllers. Messages may be lost,
// repeated and reordered; commands are answered or not. Nodes are named by their Raft ID.
type Transport interface {
	// Attach names the controller that gets what arrives, and tells what happens to connections.
	Attach(c *Controller)
	// Detach ends that, and returns when nothing is under way any more.
	Detach()
	// Follow tells of brokers and voters: whom to connect to, and which Raft ID is whose. It does not block.
	Follow(img *metadata.Image)
	// Send hands a Raft message over. It does not block; false tells that the message was dropped.
	Send(to uint64, message []byte) bool
	// SendSnapshot hands over a message with a snapshot; delivered is called, once, when it is known what became of it.
	SendSnapshot(to uint64, message []byte, delivered func(ok bool))
	// Forward has a node run a command (Controller.Execute) and returns its answer; to is 0 for any member that can be
	// reached. errNotSent says that the command was not run, any other error that it is not known.
	Forward(ctx context.Context, to uint64, command Command) (Answer, error)
}

// errNotSent is what a Transport says of a command that reached nobody.
var errNotSent = errors.New("the command was not sent")

const defaultSnapshotBytes = 1 << 20

func (o *Options) setDefaults() {
	def := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	def(&o.Limits.PartitionsPerRequest, 10_000)
	def(&o.Limits.Partitions, 200_000)
	def(&o.Limits.Commands, 10_000)
	if o.Defaults.Partitions == 0 {
		o.Defaults.Partitions = 1
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = defaultSnapshotBytes
	}
	if o.CommandTimeout == 0 {
		o.CommandTimeout = 30 * time.Second
	}
	if o.entriesKept == 0 {
		o.entriesKept = entriesKept
	}
	if o.tick == 0 {
		o.tick = tickInterval
	}
	o.Lifecycle.setDefaults(o.tick)
	if o.WALFileBytes == 0 {
		o.WALFileBytes = walFileSize
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
}
