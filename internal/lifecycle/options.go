package lifecycle

import (
	"context"
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Controller is what an agent needs of *controller.Controller.
type Controller interface {
	Image() *metadata.Image
	WaitApplied(ctx context.Context, offset metadata.Offset) error
	RegisterBroker(ctx context.Context, cmd metadata.RegisterBroker) (kafka.BrokerEpoch, error)
	// Heartbeat reaches the controller at once or fails: the agent tries again.
	Heartbeat(ctx context.Context, beat metadata.Heartbeat) (metadata.HeartbeatAnswer, error)
}

// Options of an [Agent].
type Options struct {
	Controller Controller
	// Registration is announced as it is. Its Incarnation is drawn by the process and is that of its peer.Identity too.
	Registration metadata.RegisterBroker

	// Lease bounds what the controller grants (broker.lease.ms), 2 s by default; Interval is between heartbeats, 500 ms by
	// default.
	Lease    time.Duration
	Interval time.Duration

	// SyncAge is how long the oldest sync that runs on this node's disk takes already; nil for none. It must not block.
	SyncAge func() time.Duration
	// Damaged are the replicas of this node that are known to be damaged; nil for none. It must not block. Changed tells
	// the agent that the answer is another.
	Damaged func() []kafka.TopicPartition

	Clock  clock.Clock
	Logger *slog.Logger
	// Fatal is called at most once: the process cannot go on under this broker ID, and must end with the error.
	Fatal func(error)
}
