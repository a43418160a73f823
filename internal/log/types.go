package log

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// Config is what of a topic's configuration concerns the files. It may change while the log is open ([Log.Reconfigure]).
type Config struct {
	SegmentBytes       int64         // segment.bytes: a segment is rolled before it would grow beyond this
	SegmentMillis      int64         // segment.ms, in record time
	IndexIntervalBytes int64         // index.interval.bytes: an index entry, with a checksum, per so many bytes
	ProducerExpiry     time.Duration // producer.id.expiration.ms; 0 is 24 h
}

// Options opens a log.
type Options struct {
	FS        vfs.FS
	Dir       string // the partition's directory; made at the first append
	Partition kafka.TopicPartition
	Name      string // how messages call the partition, such as "orders-3"; default Partition.String()
	Config    Config
	Clock     clock.Clock
	Logger    *slog.Logger
	Files     *Files         // open files, shared by all logs of the node; nil: one of its own
	Codecs    *record.Codecs // decoders, shared likewise; nil: one of its own

	// Checkpoint is the state that is known to be synced. The log opens exactly there: bytes behind it stay in the files
	// until replay accepts them or FinishRecovery cuts them. nil discovers the end from the files themselves, trusting
	// every sound batch: for tools, and for a partition that was never checkpointed and is not replayed. A leader epoch that
	// begins at EndOffset or behind is not believed either: whoever keeps the checkpoint keeps it, or its operation.
	Checkpoint *Checkpoint
	// Unclean says that the last process did not end properly: files behind the checkpoint are synced and dropped from
	// the page cache before a byte of them is believed.
	Unclean bool
	// ReadOnly is for tools: opening changes nothing, not even where compacted segments were about to take the place of
	// others when the process ended.
	ReadOnly bool
}

// Checkpoint is a state of a log of which every byte is synced. Its zero value is that of an empty log.
type Checkpoint struct {
	Segment    kafka.Offset // base offset of the active segment
	Position   int64        // its synced size, in bytes
	EndOffset  kafka.Offset // the offset at Position: the log's end
	LogStart   kafka.Offset
	Generation uint64 // raised by every truncation and reset
}

// Placement tells where an append went.
type Placement struct {
	Segment    *SegmentFile // the file, to be synced by reference; nil for a duplicate
	Base       kafka.Offset // base offset of that segment: its name
	Position   int64        // where the bytes are in it
	Length     int64        // bytes
	CRC        uint32       // CRC32C (Castagnoli) over those bytes
	Generation uint64
	Rolled     bool // the segment is new: its directory entry is not synced yet

	BaseOffset    kafka.Offset
	EndOffset     kafka.Offset // exclusive
	MaxTimestamp  int64        // milliseconds
	LogAppendTime int64        // milliseconds, where the batch carries it; else -1
	// Duplicate: nothing was written, an idempotent producer repeated one of its last five batches. Offsets and
	// LogAppendTime are those of the original.
	Duplicate bool
}

// EpochOffset is an entry of the leader-epoch history, or an answer from it.
type EpochOffset struct {
	Epoch  kafka.LeaderEpoch
	Offset kafka.Offset
}

// TimestampOffset is a record found by its timestamp.
type TimestampOffset struct {
	Timestamp int64 // milliseconds
	Offset    kafka.Offset
	Epoch     kafka.LeaderEpoch
}

// AbortedTransaction is what a read_committed consumer needs to skip a transaction's records.
type AbortedTransaction struct {
	ProducerID  kafka.ProducerID
	FirstOffset kafka.Offset
	LastOffset  kafka.Offset // of the abort marker
	// LastStable is the log's last stable offset just after the marker: a read that ends before it needs to look no
	// further.
	LastStable kafka.Offset
}

// Corruption names bytes that are not what was written. It matches KAFKA_STORAGE_ERROR; nothing of them is served.
type Corruption struct {
	File     string
	Position int64        // byte in the file
	Offset   kafka.Offset // the offset about there, -1 if unknown
	Reason   string
}

func (c *Corruption) Error() string {
	return fmt.Sprintf("corrupt %s at byte %d (offset %d): %s", c.File, c.Position, c.Offset, c.Reason)
}

func (c *Corruption) Unwrap() error { return kafka.ErrKafkaStorageError }

// Errors that callers tell apart.
var (
	// ErrNotAtEnd refuses bytes that do not begin exactly at the log's end, or carry an epoch below the last.
	ErrNotAtEnd = errors.New("not at the end of the log")
	// ErrFailed is returned by every change after an append that could neither be completed nor undone.
	ErrFailed = errors.New("the log failed and takes no more changes until it is opened again")
	// ErrRecovering is returned by what has to wait for FinishRecovery.
	ErrRecovering = errors.New("the log is still being recovered")
	ErrClosed     = errors.New("the log is closed")
)
