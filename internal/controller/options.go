package controller

import (
	"context"
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
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

	Defaults Defaults
	Limits   Limits

	Clock  clock.Clock
	Logger *slog.Logger
	// Fatal is called at most once, with the error after which this node can no longer take part: the metadata WAL
	// failed, or holds what this version cannot read. The process must stop.
	Fatal func(error)
	// Transport reaches the other nodes; nil on a node that is alone.
	Transport Transport

	// SnapshotBytes is how much log leads to a snapshot, 1 MiB by default; more where the image takes more.
	SnapshotBytes int64
	// WALFileBytes is the size of each file of the metadata WAL, 4 MiB by default.
	WALFileBytes int64
	// EventsRetained is how many batches of events are held for cursors that lag; 0 for metadata.DefaultRetained.
	EventsRetained int

	// For tests: the voters that a new cluster is formed of, by data directory; nil for this node alone.
	voters [][16]byte
	// For tests: how long a Raft tick lasts.
	tick time.Duration
}

// Defaults are what a command leaves open.
type Defaults struct {
	Partitions int32 // of a topic (num.partitions); 1 if 0
	// ReplicationFactor of a topic (default.replication.factor); 0 to follow the registered brokers: 3 from three on,
	// else 1.
	ReplicationFactor int16
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
// repeated and reordered; commands are answered or not.
type Transport interface {
	// Send hands a Raft message over to the node with that Raft ID. It does not block; what cannot be sent is dropped.
	Send(to uint64, message []byte)
	// Forward has the node with that Raft ID, which leads, run a command (Controller.Execute) and returns its answer. The
	// error is that of the way there and back.
	Forward(ctx context.Context, to uint64, command Command) (Answer, error)
}

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
	if o.tick == 0 {
		o.tick = tickInterval
	}
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
