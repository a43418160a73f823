package store

import (
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// Options opens a store.
type Options struct {
	FS     vfs.FS
	Dir    string
	NodeID int32
	// Config gives sizes, limits and intervals; nil for the defaults.
	Config *config.Config
	// Live is Config with what clients have changed since, for the keys of compaction; nil: nothing is changed.
	Live   *config.Live
	Clock  clock.Clock
	Logger *slog.Logger
	// Codecs are shared with whoever validates; nil: of its own.
	Codecs *record.Codecs
	// Fatal is called once, with the error after which nothing can be made durable any more: the process must stop.
	Fatal func(error)
	// Name gives messages a name for a topic; nil: its ID.
	Name func(id [16]byte) string
	// NoBackground leaves retention, segment sync and checkpoints to explicit calls. For tests.
	NoBackground bool
}

const (
	lockName       = "lock"
	nodeName       = "node"
	checkpointName = "checkpoint"
	walDir         = "wal"
	partitionsDir  = "partitions"

	// syncStepBytes is how much is appended before segments are synced in the background: little enough that one sync
	// does not hold up the WAL's for long.
	syncStepBytes = 2 << 20
	// syncStepPerPartition raises it where many partitions share it: a sync costs the same for a few bytes.
	syncStepPerPartition = 256 << 10
	// checkpointStepBytes are logged between checkpoints while few partitions are dirty.
	checkpointStepBytes = 128 << 20
	// syncParallel is how many logs are synced at a time: file systems commit concurrent syncs together.
	syncParallel = 16
	// snapshotBytes of appends ask for a snapshot of the producers at the next checkpoint: opening the log reads at most
	// that much to know them again.
	snapshotBytes = 32 << 20
	// spaceStepBytes are granted to appends between two looks at the free space.
	spaceStepBytes = 16 << 20

	// spaceRetry is how long a background sync waits that found no space.
	spaceRetry = time.Second

	// drainStep is how often a Close that waits for the WAL looks whether that still makes sense.
	drainStep = 50 * time.Millisecond

	defaultRetentionInterval = 5 * time.Minute
)

func (o *Options) setDefaults() {
	if o.Config == nil {
		o.Config = config.Default()
	}
	if o.Live == nil {
		o.Live = config.NewLive(o.Config)
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Codecs == nil {
		o.Codecs = &record.Codecs{}
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
}
