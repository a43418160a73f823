package coordinator

import (
	"context"
	"errors"

	"chronik/internal/kafka"
)

// Log is a partition's log as its coordinator sees it: led by this node, in one leader epoch. Every error of a method
// means that the shard unloads, and loads again if it is still elected.
type Log interface {
	// Append appends batches, copies them, and does not wait for the disk. It returns the end offset, exclusive.
	Append(batches []byte) (kafka.Offset, error)
	// Offsets are the partition's offsets now; NOT_LEADER_OR_FOLLOWER once the epoch is over.
	Offsets() (Offsets, error)
	// Read appends whole batches to dst, the first one at or over the offset from; at least one batch unless compaction left
	// none from there to the end offset.
	Read(dst []byte, from kafka.Offset, maxBytes int) ([]byte, error)
	// Held tells whether this node may answer for what no commit confirms: its lease. Another node may lead otherwise, and
	// know more.
	Held() bool
	// Watch signals w, without blocking, when Offsets may have changed, until the returned function is called.
	Watch(w chan<- struct{}) (unwatch func())
}

// Offsets are a log's bounds. End is exclusive.
type Offsets struct {
	Start         kafka.Offset
	HighWatermark kafka.Offset
	End           kafka.Offset
}

// Opener finds the log of a partition that this node was elected to lead in the epoch. It may wait for the partition to
// be opened here, until ctx ends.
type Opener func(ctx context.Context, partition int32, epoch kafka.LeaderEpoch) (Log, error)

// elsewhere is the error of an operation that was not begun, because its coordinator is not here.
type elsewhere struct{ err *kafka.Error }

func (e elsewhere) Error() string { return e.err.Error() }
func (e elsewhere) Unwrap() error { return e.err }

// Elsewhere is NOT_COORDINATOR for an operation that was not begun: it may be tried again without doing it twice.
func Elsewhere(format string, args ...any) error {
	return elsewhere{kafka.ErrNotCoordinator.With(format, args...)}
}

// NeverBegun tells whether err is one of Elsewhere.
func NeverBegun(err error) bool {
	var e elsewhere
	return errors.As(err, &e)
}

// ResponseError is the error that a client is told when a coordinator's log gave err: clients of groups and transactions
// know what to do about a coordinator, not about a partition that they never asked for.
func ResponseError(err error) error {
	var e *kafka.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Is(kafka.ErrUnknownTopicOrPartition), e.Is(kafka.ErrUnknownTopicID), e.Is(kafka.ErrNotEnoughReplicas),
		e.Is(kafka.ErrNotEnoughReplicasAfterAppend), e.Is(kafka.ErrRequestTimedOut):
		return kafka.ErrCoordinatorNotAvailable.With("%v", err)
	case e.Is(kafka.ErrNotLeaderOrFollower), e.Is(kafka.ErrFencedLeaderEpoch), e.Is(kafka.ErrUnknownLeaderEpoch),
		e.Is(kafka.ErrKafkaStorageError):
		return kafka.ErrNotCoordinator.With("%v", err)
	case e.Is(kafka.ErrMessageTooLarge), e.Is(kafka.ErrRecordListTooLarge), e.Is(kafka.ErrInvalidFetchSize):
		return kafka.ErrUnknownServerError.With("%v", err)
	}
	return err
}
