package log

import (
	"context"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// Files is a bounded set of open files, shared by the logs of a node.
type Files struct{}

// NewFiles keeps at most limit files open, as far as their users let go of them.
func NewFiles(fs vfs.FS, limit int) *Files { return &Files{} }

// Close closes the files that nobody uses, and every other when its last user lets go.
func (f *Files) Close() error { return nil }

// SegmentFile is a segment's data file, for whoever must sync what was appended to it.
type SegmentFile struct{}

// Sync makes the segment's bytes that were written before the call durable, and the file's name in its directory if it is
// not yet. An error is fatal to the process (storage.md).
func (s *SegmentFile) Sync() error { return nil }

// Name is the file's path.
func (s *SegmentFile) Name() string { return "" }

// Log is one partition's files.
type Log struct{}

// Open opens a log, which need not exist. It reads what it must to know the end, the epochs and the producers.
func Open(o Options) (*Log, error) { return nil, ErrClosed }

// Replay appends again, during recovery, what the WAL holds: batches already numbered, at exactly the place that they were
// given (Base and Position of the placement). ErrNotAtEnd where the log's end is elsewhere or the epoch is below the last:
// the operation is older than the state and is to be skipped.
func (l *Log) Replay(batches []byte, base kafka.Offset, position int64) (Placement, error) {
	return Placement{}, ErrClosed
}

// ReplayReference accepts bytes that are in the segment already and that the WAL knows by place and checksum only. A
// *Corruption if they are not there; ErrNotAtEnd as Replay.
func (l *Log) ReplayReference(base kafka.Offset, position, length int64, crc uint32) (Placement, error) {
	return Placement{}, ErrClosed
}

// FinishRecovery ends replay: what the files hold behind the end is cut. Until then only Replay, ReplayReference,
// StartEpoch, TruncateTo, SetLogStart and Reset may be called.
func (l *Log) FinishRecovery() error { return ErrClosed }

// Append appends validated batches as the leader of epoch: it numbers them in place from the log's end, checks the
// sequence of their producers, rolls if need be and writes once, to the page cache. The caller may reuse batches.
// Errors: OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, TRANSACTION_COORDINATOR_FENCED, INVALID_TXN_STATE,
// RECORD_LIST_TOO_LARGE (larger than a segment), UNKNOWN…; an error from the file system (such as ENOSPC) is returned as it
// is, nothing of the append remains then; ErrFailed if something might remain.
func (l *Log) Append(batches []byte, epoch kafka.LeaderEpoch, origin record.Origin) (Placement, error) {
	return Placement{}, ErrClosed
}

// AppendAt appends batches that are numbered already: a follower's. ErrNotAtEnd unless they begin exactly at the end with
// an epoch not below the last.
func (l *Log) AppendAt(batches []byte) (Placement, error) { return Placement{}, ErrClosed }

// StartEpoch notes that a leader epoch begins at offset, which is the log's end. Idempotent; an older epoch is ErrNotAtEnd.
func (l *Log) StartEpoch(epoch kafka.LeaderEpoch, offset kafka.Offset) error { return ErrClosed }

// TruncateTo cuts everything at and behind offset, whole batches: the end may come to lie before it. It raises the
// generation and returns the new end.
func (l *Log) TruncateTo(offset kafka.Offset) (kafka.Offset, error) { return 0, ErrClosed }

// SetLogStart raises the log's start; nothing below it is served any more. Files go with DropBelowLogStart.
func (l *Log) SetLogStart(offset kafka.Offset) error { return ErrClosed }

// DropBelowLogStart unlinks the segments wholly below the log's start; who reads them keeps them until done. It returns the
// bytes freed.
func (l *Log) DropBelowLogStart() (int64, error) { return 0, ErrClosed }

// RetentionStart is the log start that retention asks for: whole segments below limit (the high watermark) that are too old
// (retention, 0 or less: keep) or too many (bytes, below 0: keep). It is the present log start if nothing is to go. now is
// wall-clock time. rollFirst says that the active segment is among them: append or Roll before dropping.
func (l *Log) RetentionStart(now time.Time, retention time.Duration, bytes int64, limit kafka.Offset) (kafka.Offset, error) {
	return 0, ErrClosed
}

// Reset drops everything and starts again, empty, at offset. It raises the generation.
func (l *Log) Reset(offset kafka.Offset) error { return ErrClosed }

// Delete closes the log and removes its directory.
func (l *Log) Delete() error { return ErrClosed }

// Close writes indexes and epochs out, syncs, and lets go of the files. A clean shutdown calls Sync and Snapshot first.
func (l *Log) Close() error { return nil }

// Reconfigure replaces the configuration from the next append on.
func (l *Log) Reconfigure(c Config) {}

// LogStart, LogEnd: the first offset served and the next to be given.
func (l *Log) LogStart() kafka.Offset { return 0 }
func (l *Log) LogEnd() kafka.Offset   { return 0 }
func (l *Log) Generation() uint64     { return 0 }

// Size is the log's size in bytes.
func (l *Log) Size() int64 { return 0 }

// Epoch is the last leader epoch and its start; NoLeaderEpoch if there is none.
func (l *Log) Epoch() EpochOffset { return EpochOffset{} }

// Unsynced is the number of bytes that Sync would bring to the disk.
func (l *Log) Unsynced() int64 { return 0 }

// SyncOldest syncs the oldest segment that has unsynced bytes (data, index, epoch history, directory entry) and returns the
// state that is synced now; more says that there is another. An error is fatal to the process.
func (l *Log) SyncOldest() (c Checkpoint, more bool, err error) {
	return Checkpoint{}, false, ErrClosed
}

// Sync syncs everything appended before the call.
func (l *Log) Sync() (Checkpoint, error) { return Checkpoint{}, ErrClosed }

// Synced is the state known to be synced.
func (l *Log) Synced() Checkpoint { return Checkpoint{} }

// Snapshot writes the producers' state at the log's end, synced, and keeps the last two; it does nothing if there is one.
func (l *Log) Snapshot() error { return ErrClosed }

// ExpireProducers forgets producers whose last append is older than the expiry. For leaders only.
func (l *Log) ExpireProducers(now time.Time) int { return 0 }

// Slice is a stretch of one segment file with a reference to it: Release it.
type Slice struct {
	File     vfs.File
	Position int64
	Length   int64        // bytes; 0: nothing to read (from is the limit), and nothing to release
	First    kafka.Offset // base offset of the first batch, at or below the offset asked for
	Next     kafka.Offset // the offset behind the last batch
}

// Release lets go of the file.
func (s *Slice) Release() {}

// Read finds whole batches from the one that holds offset from, up to maxBytes and below limit (the high watermark or last
// stable offset), for sendfile. atLeastOne returns the first batch even where it is larger than maxBytes. OFFSET_OUT_OF_RANGE
// below the log's start or above its end.
func (l *Log) Read(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (Slice, error) {
	return Slice{}, ErrClosed
}

// ReadCopy appends the batches to dst: what may be truncated must not be handed out by reference.
func (l *Log) ReadCopy(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) ([]byte, error) {
	return dst, ErrClosed
}

// OffsetForTimestamp finds the first record at or after the log's start, below limit, whose timestamp is at least millis.
func (l *Log) OffsetForTimestamp(millis int64, limit kafka.Offset) (TimestampOffset, bool, error) {
	return TimestampOffset{}, false, ErrClosed
}

// MaxTimestamp finds the record with the largest timestamp, the first of them (ListOffsets -3, KIP-734).
func (l *Log) MaxTimestamp() (TimestampOffset, bool, error) {
	return TimestampOffset{}, false, ErrClosed
}

// EndOffsetForEpoch is the end of the largest epoch not above the one asked for (KIP-101, KIP-279): NoLeaderEpoch and
// NoOffset if it is not known.
func (l *Log) EndOffsetForEpoch(epoch kafka.LeaderEpoch) EpochOffset { return EpochOffset{} }

// EpochForOffset is the leader epoch in which the record at offset was written.
func (l *Log) EpochForOffset(offset kafka.Offset) kafka.LeaderEpoch { return kafka.NoLeaderEpoch }

// OnHighWatermark tells the log what is committed: transactions that ended below it no longer hold back the last stable
// offset.
func (l *Log) OnHighWatermark(hw kafka.Offset) {}

// FirstUnstable is the first offset of a transaction that is undecided, or decided above the high watermark; NoOffset if
// there is none. The last stable offset is the smaller of it and the high watermark (KIP-98).
func (l *Log) FirstUnstable() kafka.Offset { return kafka.NoOffset }

// AbortedTransactions lists the aborted transactions that have records in [from, to).
func (l *Log) AbortedTransactions(from, to kafka.Offset) ([]AbortedTransaction, error) {
	return nil, ErrClosed
}

// Verify checks every byte up to the end against the indexes' checksums and the batches' own, and calls found for each
// fault. It is the scrub of a running node and `log verify` of a stopped one.
func (l *Log) Verify(ctx context.Context, found func(*Corruption)) error { return ErrClosed }
