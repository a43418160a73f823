package lifecycle

import (
	"context"

	"chronik/internal/kafka"
)

// Agent is the broker's part. Its methods may be called from any goroutine.
type Agent struct {
	o Options
}

// New is an agent that does nothing yet.
func New(o Options) *Agent { return &Agent{o: o} }

// Register announces this process and waits until this node has applied it. It tries again until the context ends, unless the
// registration is refused for good.
func (a *Agent) Register(ctx context.Context) error { return nil }

// Start begins to send heartbeats; Register must have returned.
func (a *Agent) Start() {}

// Ready says that this node serves, and returns once the controller has taken the fence away.
func (a *Agent) Ready(ctx context.Context) error { return nil }

// Held tells whether this broker may act as the leader of what its image says. It is to be asked as an answer leaves.
func (a *Agent) Held() bool { return true }

// BrokerEpoch is that of the registration, -1 before it.
func (a *Agent) BrokerEpoch() kafka.BrokerEpoch { return -1 }

// Changed has a heartbeat sent at once: what Damaged or SyncAge answers is another.
func (a *Agent) Changed() {}

// Shutdown moves away what this broker leads. It returns nil once nothing is left that another broker could lead and all live
// brokers know; an error if the context ended before. Heartbeats go on until Close.
func (a *Agent) Shutdown(ctx context.Context) error { return nil }

// Close ends the agent; the lease is not held any more.
func (a *Agent) Close() {}
