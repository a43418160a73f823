package log

import (
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
)

// Log is one partition's files.
type Log struct {
	o         Options
	files     *Files
	ownsFiles bool
	codecs    *record.Codecs
	w         writer
	aside     map[string]bool // paths of segment files that lie aside still; for tools, which change nothing

	// maintenance is a slot of one, held over the I/O of whatever must not overlap: syncing, snapshots, deleting segments,
	// truncation. Appending does not take it.
	maintenance chan struct{}

	// cleaning is a slot of one, held by Clean from its start to its end: Close and Delete wait for it to give up. Taken before
	// maintenance.
	cleaning chan struct{}

	// indexing is a slot of one, held over the I/O of whoever writes an index file.
	indexing chan struct{}

	mu struct {
		sync.Mutex
		config      Config
		segments    []*segment // ascending; the last one is appended to. Empty until the first append
		logStart    kafka.Offset
		end         kafka.Offset
		generation  uint64
		synced      Checkpoint // its LogStart and Generation are filled in when asked for
		epochs      epochHistory
		epochsDirty bool
		producers   producers
		snapshots   []kafka.Offset // of the snapshot files, ascending
		stale       []kafka.Offset // of snapshot files that FinishRecovery removes
		pending     pendingSnapshot
		recent      recentBatches
		hints       readHints
		cleaner     cleanerState
		cutting     bool   // a cut is logged, or about to be, and not done: no segment may be replaced
		swaps       uint64 // raised where segments leave the log; see Swaps
		recovering  bool   // FinishRecovery is still to come
		failed      bool
		closed      bool
		dirMade     bool
		unsyncedDir bool // the partition's directory was made and its parent not synced
	}
}

// writer is what belongs to whoever changes the log, one at a time.
type writer struct {
	batches  []record.Batch
	markers  []*marker
	crcs     []uint32
	staged   []staged
	epochs   []EpochOffset // that a stretch tells of, and that are not yet in the history
	deletes  kafka.Offset  // likewise Stretch.Deletes
	indexBuf []byte
	window   referenceWindow // replay's
}

const defaultProducerExpiry = 24 * time.Hour

// withDefaults fills in what was left out.
func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = o.Partition.String()
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	o.Config = o.Config.withDefaults()
	return o
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = 1 << 30
	}
	if c.SegmentMillis <= 0 {
		c.SegmentMillis = 7 * 24 * 3600 * 1000
	}
	if c.IndexIntervalBytes <= 0 {
		c.IndexIntervalBytes = 4096
	}
	if c.ProducerExpiry <= 0 {
		c.ProducerExpiry = defaultProducerExpiry
	}
	return c
}

func newLog(o Options) *Log {
	o = o.withDefaults()
	l := &Log{o: o, files: o.Files, codecs: o.Codecs, maintenance: make(chan struct{}, 1), cleaning: make(chan struct{}, 1),
		indexing: make(chan struct{}, 1)}
	if l.files == nil {
		l.files, l.ownsFiles = NewFiles(o.FS, 64), true
	}
	if l.codecs == nil {
		l.codecs = new(record.Codecs)
	}
	l.mu.config = o.Config
	return l
}

// Reconfigure replaces the configuration from the next append on.
func (l *Log) Reconfigure(c Config) {
	l.mu.Lock()
	l.mu.config = c.withDefaults()
	l.mu.Unlock()
}

// LogStart is the first offset served.
func (l *Log) LogStart() kafka.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.logStart
}

// LogEnd is the next offset to be given.
func (l *Log) LogEnd() kafka.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.end
}

// Generation counts truncations and resets.
func (l *Log) Generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.generation
}

// Size is the log's size in bytes.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, s := range l.mu.segments {
		n += s.size
	}
	return n
}

// Segments is the number of segments.
func (l *Log) Segments() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.segments)
}

// Epoch is the last leader epoch and its start; NoLeaderEpoch if there is none.
func (l *Log) Epoch() EpochOffset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs.last()
}

// Epochs is the whole history of leader epochs, ascending.
func (l *Log) Epochs() []EpochOffset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.epochs)
}

// EndOffsetForEpoch is the end of the largest epoch not above the one asked for (KIP-101, KIP-279): NoLeaderEpoch and
// NoOffset if that is not known.
func (l *Log) EndOffsetForEpoch(epoch kafka.LeaderEpoch) EpochOffset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs.endOf(epoch, l.mu.logStart, l.mu.end)
}

// EpochForOffset is the leader epoch in which the record at offset was written; NoLeaderEpoch if it is not known.
func (l *Log) EpochForOffset(offset kafka.Offset) kafka.LeaderEpoch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.epochs.at(offset)
}

// ExpireProducers forgets producers whose last append is older than the expiry, and returns how many. For leaders only:
// a follower drops none by itself.
func (l *Log) ExpireProducers(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.producers.expire(now.UnixMilli(), l.mu.config.ProducerExpiry.Milliseconds())
}

// Producers is the number of producer IDs remembered.
func (l *Log) Producers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.producers.byID)
}

// OnHighWatermark tells the log what is committed: transactions that ended below it no longer hold back the last stable
// offset.
func (l *Log) OnHighWatermark(hw kafka.Offset) {
	l.mu.Lock()
	l.mu.producers.replicatedTo(hw)
	l.mu.Unlock()
}

// FirstUnstable is the first offset of a transaction that is open, or ended above the high watermark; NoOffset if there is
// none. The last stable offset is the smaller of it and the high watermark (KIP-98).
func (l *Log) FirstUnstable() kafka.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.mu.producers.firstUnstable()
	if first != kafka.NoOffset {
		first = max(first, l.mu.logStart)
	}
	return first
}

// usableLocked is the error of a call that changes the log in a state that does not allow it.
func (l *Log) usableLocked(recovery bool) error {
	switch {
	case l.mu.closed:
		return ErrClosed
	case l.mu.failed:
		return ErrFailed
	case l.mu.recovering && !recovery:
		return ErrRecovering
	}
	return nil
}

func (l *Log) usable(recovery bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usableLocked(recovery)
}

// fail refuses every further change: something stands in the files that should not.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	l.mu.failed = true
	l.mu.Unlock()
	l.o.Logger.Error("the partition's log failed", "partition", l.o.Name, "dir", l.o.Dir, "error", err)
	return err
}

// close ends a cleaning that is under way, and holds maintenance until done is called.
func (l *Log) close() (segments []*segment, done func()) {
	l.mu.Lock()
	l.mu.closed = true
	l.mu.Unlock()
	l.cleaning <- struct{}{}
	l.maintenance <- struct{}{}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.segments), func() { <-l.maintenance; <-l.cleaning }
}

// Close lets go of the files. It syncs nothing: a clean shutdown calls Sync and Snapshot first.
func (l *Log) Close() error {
	segments, done := l.close()
	defer done()
	for _, s := range segments {
		s.data.forget()
		s.indexFile.forget()
	}
	if l.ownsFiles {
		return l.files.Close()
	}
	return nil
}

// Delete closes the log and removes its directory. Whoever still reads keeps what it reads.
func (l *Log) Delete() error {
	segments, done := l.close()
	defer done()
	l.mu.Lock()
	l.mu.swaps++
	l.mu.Unlock()
	for _, s := range segments {
		s.data.remove()
		s.indexFile.remove()
	}
	return l.o.FS.RemoveAll(l.o.Dir)
}
