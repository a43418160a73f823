package coordinator

import (
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/replica"
)

// OnReplica is the log of a partition that this node leads in the epoch; held tells whether it holds its lease.
func OnReplica(p *replica.Partition, epoch kafka.LeaderEpoch, held func() bool) Log {
	return replicaLog{p, epoch, held}
}

type replicaLog struct {
	partition *replica.Partition
	epoch     kafka.LeaderEpoch
	held      func() bool
}

func (l replicaLog) Held() bool { return l.held() }

func (l replicaLog) Append(batches []byte) (kafka.Offset, error) {
	done, err := l.partition.Append(replica.AppendRequest{
		Batches: batches, Acks: replica.AcksAll, Origin: record.FromCoordinator, LeaderEpoch: l.epoch,
	})
	return done.EndOffset, err
}

func (l replicaLog) Offsets() (Offsets, error) {
	s, err := l.partition.Bounds(l.epoch)
	return Offsets{Start: s.LogStart, HighWatermark: s.HighWatermark, End: s.LogEnd}, err
}

func (l replicaLog) Read(dst []byte, from kafka.Offset, maxBytes int) ([]byte, error) {
	got, err := l.partition.Fetch(replica.FetchRequest{
		From: from, MaxBytes: maxBytes, MinOneBatch: true, Isolation: replica.ReadToEnd,
		LeaderEpoch: l.epoch, LastFetchedEpoch: kafka.NoLeaderEpoch,
	})
	if err != nil {
		return dst, err
	}
	defer got.Records.Release()
	if got.Records.Len() == 0 && got.Next < got.LogEnd {
		return dst, kafka.ErrKafkaStorageError.With("nothing could be read at offset %d of a log that ends at %d", from, got.LogEnd)
	}
	return got.Records.AppendTo(dst)
}

func (l replicaLog) Watch(w chan<- struct{}) (unwatch func()) {
	l.partition.Watch(w)
	return func() { l.partition.Unwatch(w) }
}
