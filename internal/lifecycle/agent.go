package lifecycle

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

const (
	defaultLease    = 2 * time.Second
	defaultInterval = 500 * time.Millisecond
	// urgent is between two heartbeats where something is waited for: the fence to go, a shutdown, a controller.
	urgent = 50 * time.Millisecond
	// outstandingMax is how many heartbeats may wait for their answer.
	outstandingMax = 4
)

// Agent is the broker's part. Its methods may be called from any goroutine.
type Agent struct {
	o  Options
	id kafka.BrokerID

	base     time.Time    // what leaseEnd is counted from
	leaseEnd atomic.Int64 // nanoseconds since base
	epoch    atomic.Int64

	wake chan struct{} // holds a token: send a heartbeat now
	ctx  context.Context
	stop context.CancelFunc
	done sync.WaitGroup

	mu struct {
		sync.Mutex
		state
		changed chan struct{} // closed, and made anew, when state is another
	}
}

// state is what the agent knows, and what it was asked for.
type state struct {
	ready, shuttingDown bool
	fenced              bool  // as the last answer says
	mayShutDown         bool  // an answer said so
	over                error // why this process can have no part any more
	unregistered        bool  // the registration is gone: register again

	sent        uint64 // heartbeats
	answered    uint64 // the latest of them that was
	outstanding int
	failing     bool // the last one failed
	leased      bool // as logged
}

// New is an agent that does nothing yet.
func New(o Options) *Agent {
	if o.Lease <= 0 {
		o.Lease = defaultLease
	}
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if o.SyncAge == nil {
		o.SyncAge = func() time.Duration { return 0 }
	}
	if o.Damaged == nil {
		o.Damaged = func() []kafka.TopicPartition { return nil }
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
	a := &Agent{o: o, id: o.Registration.ID, base: o.Clock.Now(), wake: make(chan struct{}, 1)}
	a.epoch.Store(-1)
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.mu.fenced = true
	a.mu.changed = make(chan struct{})
	return a
}

// Start begins to send heartbeats; Register must have returned.
func (a *Agent) Start() { a.done.Go(a.run) }

// Ready says that this node serves, and returns once the controller has taken the fence away.
func (a *Agent) Ready(ctx context.Context) error {
	a.mu.Lock()
	a.mu.ready = true
	a.mu.Unlock()
	a.Changed()
	err := a.wait(ctx, func(s *state) bool { return !s.fenced || a.alone() })
	if err != nil {
		return fmt.Errorf("broker %d is not unfenced: %w", a.id, err)
	}
	return nil
}

// Held tells whether this broker may act as the leader of what its image says. It is to be asked as an answer leaves. Where no
// other broker is registered nobody else can lead.
func (a *Agent) Held() bool {
	return a.alone() || a.o.Clock.Now().Sub(a.base) < time.Duration(a.leaseEnd.Load())
}

// alone tells whether no other broker is registered, nor can be without this node: others that were just removed may still vote.
func (a *Agent) alone() bool {
	img := a.o.Controller.Image()
	b := img.Broker(a.id)
	others := slices.ContainsFunc(img.Voters(), func(v metadata.Voter) bool { return v.ID != a.id })
	return img.BrokerCount() == 1 && !others && b != nil && b.Incarnation == a.o.Registration.Incarnation && a.ctx.Err() == nil
}

// BrokerEpoch is that of the registration, -1 before it.
func (a *Agent) BrokerEpoch() kafka.BrokerEpoch { return kafka.BrokerEpoch(a.epoch.Load()) }

// Changed has a heartbeat sent at once: what Damaged or SyncAge answers is another. It does not block.
func (a *Agent) Changed() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Shutdown moves away what this broker leads. It returns nil once nothing is left that another broker could lead and all live
// brokers know; an error if the context ended before. Heartbeats go on until Close, and so does the lease.
func (a *Agent) Shutdown(ctx context.Context) error {
	if a.BrokerEpoch() < 0 || a.alone() {
		return nil
	}
	a.mu.Lock()
	a.mu.shuttingDown = true
	a.mu.Unlock()
	a.Changed()
	err := a.wait(ctx, func(s *state) bool { return s.mayShutDown })
	if err != nil {
		return fmt.Errorf("the controller has not moved all leaders away from broker %d: %w", a.id, err)
	}
	return nil
}

// Close ends the agent; the lease is not held any more.
func (a *Agent) Close() {
	a.stop()
	a.done.Wait()
	a.leaseEnd.Store(0)
}

// Status is for a person.
type Status struct {
	Held, Fenced, ShuttingDown bool
	Epoch                      kafka.BrokerEpoch
	// Lease is what is left of it; negative since it ended.
	Lease time.Duration
}

// Status is how the agent stands.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Status{Held: a.Held(), Fenced: a.mu.fenced && !a.alone(), ShuttingDown: a.mu.shuttingDown, Epoch: a.BrokerEpoch(),
		Lease: time.Duration(a.leaseEnd.Load()) - a.o.Clock.Now().Sub(a.base)}
}

// wait returns once the state is as asked, or cannot become so.
func (a *Agent) wait(ctx context.Context, reached func(*state) bool) error {
	for {
		a.mu.Lock()
		is, over, changed := reached(&a.mu.state), a.mu.over, a.mu.changed
		a.mu.Unlock()
		switch {
		case is:
			return nil
		case over != nil:
			return over
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-a.ctx.Done():
			return fmt.Errorf("the node is closing")
		}
	}
}

// update changes the state and wakes who waits for it.
func (a *Agent) update(change func(*state)) {
	a.mu.Lock()
	change(&a.mu.state)
	close(a.mu.changed)
	a.mu.changed = make(chan struct{})
	a.mu.Unlock()
}

// beatOf is the heartbeat of this moment.
func (a *Agent) beatOf(s *state) metadata.Heartbeat {
	return metadata.Heartbeat{
		Broker:       a.id,
		Epoch:        a.BrokerEpoch(),
		Incarnation:  a.o.Registration.Incarnation,
		Applied:      a.o.Controller.Image().Offset(),
		Ready:        s.ready,
		ShuttingDown: s.shuttingDown,
	}
}
