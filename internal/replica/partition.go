package replica

import (
	"context"

	"chronik/internal/kafka"
)

// Partition is a partition that this node has a replica of. All methods are safe for concurrent use.
type Partition struct{}

// ID names the partition for good.
func (p *Partition) ID() kafka.TopicPartition { panic("seam") }

// Append appends as the leader, in the order of the calls, and does not wait for the disk. The error is a *kafka.Error
// (or a *BatchError, which wraps one): NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS for AcksAll, and what is wrong with
// the batches.
func (p *Partition) Append(r AppendRequest) (Appended, error) { panic("seam") }

// WaitCommitted returns once every in-sync replica has everything below end, appended in the given leader epoch, on its
// disk. NOT_LEADER_OR_FOLLOWER if this node stops leading in that epoch first.
func (p *Partition) WaitCommitted(ctx context.Context, epoch kafka.LeaderEpoch, end kafka.Offset) error {
	panic("seam")
}

// WaitDurable returns once this node has everything below end on its disk (acks=1).
func (p *Partition) WaitDurable(ctx context.Context, epoch kafka.LeaderEpoch, end kafka.Offset) error {
	panic("seam")
}

// Fetch reads as the leader, without waiting. The caller releases the result's Records.
func (p *Partition) Fetch(r FetchRequest) (FetchResult, error) { panic("seam") }

// FetchResult is what a fetch found.
type FetchResult struct {
	Snapshot
	Records   Records
	Aborted   []AbortedTransaction // with ReadCommitted: those that overlap Records, by first offset
	Diverging *EpochEnd            // the client's last record is not in this log: no Records, truncate to this
}

// AbortedTransaction says that a producer's records from FirstOffset up to its next abort marker do not count.
type AbortedTransaction struct {
	ProducerID  kafka.ProducerID
	FirstOffset kafka.Offset
}

// Records are whole record batches as they lie in segment files, held against deletion until Release.
type Records struct{}

// Len is their size in bytes.
func (r *Records) Len() int { panic("seam") }

// AppendTo reads them all and appends them to dst.
func (r *Records) AppendTo(dst []byte) ([]byte, error) { panic("seam") }

// Release lets go of the files.
func (r *Records) Release() { panic("seam") }

// Watch signals w (non-blocking: signals collapse) whenever a fetch might see something new: high watermark, last stable
// offset or log start moved, or leadership ended. Register, then look, then wait.
func (p *Partition) Watch(w chan<- struct{}) { panic("seam") }

// Unwatch ends what Watch began.
func (p *Partition) Unwatch(w chan<- struct{}) { panic("seam") }

// Snapshot is the partition's offsets now; NOT_LEADER_OR_FOLLOWER if it is not led here, and the epoch errors of KIP-320
// if epoch is neither NoLeaderEpoch nor the leader's.
func (p *Partition) Snapshot(epoch kafka.LeaderEpoch) (Snapshot, error) { panic("seam") }
