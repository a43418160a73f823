package replica

import (
	"context"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
)

// storage is what the manager needs of the store.
type storage interface {
	create(id kafka.TopicPartition, topic string, c config.Topic) (disk, error)
	reconfigure(id kafka.TopicPartition, c config.Topic) error
	remove(id kafka.TopicPartition) error
	partitions() []kafka.TopicPartition
}

// written is where an append went.
type written struct {
	BaseOffset    kafka.Offset
	EndOffset     kafka.Offset // exclusive
	LogAppendTime int64        // milliseconds; -1 if the batch carries its producer's times
	Duplicate     bool
}

// disk is what a partition needs of the store.
type disk interface {
	// Append refuses an epoch that is not the last one started.
	Append(batches []byte, epoch kafka.LeaderEpoch, origin Origin) (written, error)
	StartEpoch(ctx context.Context, epoch kafka.LeaderEpoch) error
	SetLogStart(ctx context.Context, offset kafka.Offset) error
	OnDurable(func(end kafka.Offset))
	SetHighWatermark(offset kafka.Offset)

	LogStart() kafka.Offset
	LogEnd() kafka.Offset
	DurableEnd() kafka.Offset
	FirstUnstable() kafka.Offset

	Read(from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) (log.Slice, error)
	ReadCopy(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, atLeastOne bool) ([]byte, error)
	OffsetForTimestamp(millis int64, limit kafka.Offset) (log.TimestampOffset, bool, error)
	MaxTimestamp() (log.TimestampOffset, bool, error)
	EndOffsetForEpoch(epoch kafka.LeaderEpoch) log.EpochOffset
	EpochForOffset(offset kafka.Offset) kafka.LeaderEpoch
	AbortedTransactions(from, to kafka.Offset) ([]log.AbortedTransaction, error)
}
