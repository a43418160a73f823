package replica

import (
	"context"
	"errors"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/store"
)

// storage is what the manager needs of the store, and disk what a partition needs of it. The tests of watermark and
// waiting put something in their place that becomes durable when they say so.
type storage interface {
	create(id kafka.TopicPartition, c config.Topic) (disk, error)
	reconfigure(id kafka.TopicPartition, c config.Topic)
	remove(ctx context.Context, id kafka.TopicPartition) error
	partitions() []kafka.TopicPartition
}

// disk is a *store.Partition.
type disk interface {
	// Append refuses an epoch below the last one that was started or followed in.
	Append(batches []byte, epoch kafka.LeaderEpoch, origin Origin) (store.Result, error)
	StartEpoch(ctx context.Context, epoch kafka.LeaderEpoch) error
	Follow(epoch kafka.LeaderEpoch)
	AppendReplicated(batches []byte, hold bool) (store.Result, error)
	AppendStretch(s *log.Stretch) (store.Result, error)
	Commit()
	Truncate(ctx context.Context, to kafka.Offset) error
	ResetTo(ctx context.Context, b log.Beginning) error
	SetLogStart(ctx context.Context, offset kafka.Offset) error
	OnDurable(func(end kafka.Offset))
	SetHighWatermark(offset kafka.Offset)
	OnDamaged(func())
	Damaged() []log.Damage
	Scrub() error

	LogStart() kafka.Offset
	LogEnd() kafka.Offset
	DurableEnd() kafka.Offset

	// These may open the log's files: never under a mutex.
	FirstUnstable() kafka.Offset
	Read(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (log.Slice, error)
	ReadStretch(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) ([]byte, kafka.Offset, error)
	CheckStretch(from, to kafka.Offset) error
	EpochsIn(from, to kafka.Offset) ([]log.EpochOffset, error)
	DeletesRemovedBelow() (kafka.Offset, error)
	OffsetForTimestamp(millis int64, limit kafka.Offset) (log.TimestampOffset, bool, error)
	MaxTimestamp() (log.TimestampOffset, bool, error)
	EndOffsetForEpoch(epoch kafka.LeaderEpoch) log.EpochOffset
	EpochForOffset(offset kafka.Offset) kafka.LeaderEpoch
	LastRecordEpoch() kafka.LeaderEpoch
	Beginning() (log.Beginning, error)
	Swaps() uint64
	FirstDirty() (kafka.Offset, error)
	AbortedTransactions(from, to kafka.Offset) ([]log.AbortedTransaction, error)
	Size() int64
}

// onStore is the real storage.
type onStore struct{ s *store.Store }

func (o onStore) create(id kafka.TopicPartition, c config.Topic) (disk, error) {
	p, err := o.s.CreatePartition(id, c)
	if err != nil {
		return nil, err // not p: a nil pointer in an interface is no nil
	}
	return p, nil
}

func (o onStore) reconfigure(id kafka.TopicPartition, c config.Topic) { o.s.Reconfigure(id, c) }

func (o onStore) remove(ctx context.Context, id kafka.TopicPartition) error {
	return o.s.DeletePartition(ctx, id)
}

func (o onStore) partitions() []kafka.TopicPartition {
	var ids []kafka.TopicPartition
	for _, p := range o.s.Partitions() {
		ids = append(ids, p.ID())
	}
	return ids
}

// diskError gives what the store refused with the code that a client must see: an epoch that is over means that
// somebody else leads by now.
func diskError(err error) error {
	if errors.Is(err, log.ErrNotAtEnd) {
		return kafka.ErrNotLeaderOrFollower.With("%v", err)
	}
	return err
}
