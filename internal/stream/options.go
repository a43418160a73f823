package stream

import (
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/peer"
	"chronik/internal/replica"
)

// Options of [Streams].
type Options struct {
	// Peers makes and accepts the connections. New registers itself there for data connections, so it comes before
	// peer.Node.Start.
	Peers *peer.Node
	// BrokerEpoch is this broker's epoch now; every Follow carries it (KIP-903).
	BrokerEpoch func() kafka.BrokerEpoch
	Clock       clock.Clock  // clock.System if nil
	Logger      *slog.Logger // none if nil
	Limits      Limits
}

// Replicas finds the partitions of this node; a *replica.Manager.
type Replicas interface {
	Partition(id kafka.TopicPartition) (*replica.Partition, error)
}

// Limits bound what is under way. Zero means the default.
type Limits struct {
	// PartitionWindow is how many bytes of one partition are sent and not acknowledged, to one follower; 4 MiB.
	PartitionWindow int64
	// StreamWindow is the same for all partitions of one connection; 16 MiB.
	StreamWindow int64
	// FrameBytes is how much of one partition goes into one frame, unless one batch is larger; 256 KiB.
	FrameBytes int
	// CatchUpBytes: a partition whose window is used up and that has so many more to send moves to the catch-up connection;
	// 4 MiB. It moves back once less than an eighth of it is left.
	CatchUpBytes int64
	// CatchUpRate is how fast catching up may go, in bytes per second, while hot traffic flows that is slower than half of
	// it; else twice as fast as that. Without hot traffic there is no limit. 32 MiB/s.
	CatchUpRate int64
	// Parked is how many Follows of one connection wait for the leader's metadata; 16,384.
	Parked int
	// ParkedFor is how long; 2 s.
	ParkedFor time.Duration
	// WatermarkDelay is how long a new high watermark waits for a batch to carry it; 5 ms.
	WatermarkDelay time.Duration
	// Linger is how long a connection without partitions is kept; 5 s.
	Linger time.Duration
	// RetryMin and RetryMax bound how long a follower waits before it follows again where it was refused, or dials again;
	// 10 ms and 1 s.
	RetryMin, RetryMax time.Duration
	// Repairs is how many partitions are cut or reset at a time; 16.
	Repairs int
}

func (o *Options) setDefaults() {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.BrokerEpoch == nil {
		o.BrokerEpoch = func() kafka.BrokerEpoch { return 0 }
	}
	l := &o.Limits
	setDefault(&l.PartitionWindow, 4<<20)
	setDefault(&l.StreamWindow, 16<<20)
	setDefault(&l.FrameBytes, 256<<10)
	setDefault(&l.CatchUpBytes, 4<<20)
	setDefault(&l.CatchUpRate, 32<<20)
	setDefault(&l.Parked, 16<<10)
	setDefault(&l.ParkedFor, 2*time.Second)
	setDefault(&l.WatermarkDelay, 5*time.Millisecond)
	setDefault(&l.Linger, 5*time.Second)
	setDefault(&l.RetryMin, 10*time.Millisecond)
	setDefault(&l.RetryMax, time.Second)
	setDefault(&l.Repairs, 16)
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}
