package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// run sends a heartbeat each interval, and at once when it is woken.
func (a *Agent) run() {
	timer := a.o.Clock.NewTimer(a.o.Interval)
	defer timer.Stop()
	for a.ctx.Err() == nil {
		a.reregister()
		a.send()
		timer.Reset(a.interval())
		select {
		case <-timer.C():
		case <-a.wake:
		case <-a.ctx.Done():
		}
	}
}

// interval is how long to wait for the next heartbeat.
func (a *Agent) interval() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	waits := a.mu.failing || a.mu.ready && a.mu.fenced || a.mu.shuttingDown && !a.mu.mayShutDown
	if waits {
		return min(urgent, a.o.Interval)
	}
	return a.o.Interval
}

// send lets a heartbeat go in a goroutine of its own, so that one whose answer is lost delays no other.
func (a *Agent) send() {
	syncAge, damaged := a.o.SyncAge(), a.o.Damaged()
	if len(damaged) > metadata.DamagedPartitionsMax {
		damaged = damaged[:metadata.DamagedPartitionsMax]
	}
	a.mu.Lock()
	if a.mu.outstanding >= outstandingMax || a.mu.over != nil {
		a.mu.Unlock()
		return
	}
	a.mu.outstanding++
	a.mu.sent++
	number := a.mu.sent
	hb := a.beatOf(&a.mu.state)
	a.mu.Unlock()
	hb.SyncAge, hb.Damaged = syncAge, damaged
	sent := a.o.Clock.Now() // before it can have been seen by anybody
	a.done.Go(func() {
		ctx, cancel := context.WithTimeout(a.ctx, a.o.Lease)
		defer cancel()
		answer, err := a.o.Controller.Heartbeat(ctx, hb)
		a.answered(number, sent, hb, answer, err)
	})
}

// answered takes in an answer. One that comes after a later one's counts nothing.
func (a *Agent) answered(number uint64, sent time.Time, hb metadata.Heartbeat, answer metadata.HeartbeatAnswer, err error) {
	var fatal error
	a.update(func(s *state) {
		s.outstanding--
		if number < s.answered || hb.Epoch != a.BrokerEpoch() || a.ctx.Err() != nil {
			return
		}
		s.failing = err != nil
		switch {
		case err == nil:
			s.answered = number
			a.take(s, sent, hb, answer)
		case errors.Is(err, kafka.ErrStaleBrokerEpoch) && s.over == nil:
			fatal = fmt.Errorf("broker %d was taken over by another process: %w", a.id, err)
			s.over, s.fenced = fatal, true
			a.leaseEnd.Store(0)
		case errors.Is(err, kafka.ErrBrokerIDNotRegistered):
			// Who stops has nothing left to move, and does not come back as a member that is gone at once.
			s.mayShutDown = s.mayShutDown || s.shuttingDown
			s.unregistered, s.fenced = !s.shuttingDown, true
			a.leaseEnd.Store(0)
		}
		a.logLease(s, err)
	})
	if fatal != nil {
		a.o.Logger.Error("this process must stop", "broker", a.id, "error", fatal)
		a.o.Fatal(fatal)
	}
}

// take is what an answer does. The lease ends later than before, or, with a fence, now.
func (a *Agent) take(s *state, sent time.Time, hb metadata.Heartbeat, answer metadata.HeartbeatAnswer) {
	if answer.Fenced != s.fenced {
		a.logFence(answer)
	}
	s.fenced = answer.Fenced
	s.mayShutDown = s.mayShutDown || hb.ShuttingDown && answer.MayShutDown
	if answer.Fenced {
		a.leaseEnd.Store(0)
		return
	}
	end := sent.Add(min(a.o.Lease, answer.Lease)).Sub(a.base)
	a.leaseEnd.Store(max(int64(end), a.leaseEnd.Load()))
}

func (a *Agent) logFence(answer metadata.HeartbeatAnswer) {
	if !answer.Fenced {
		a.o.Logger.Info("the fence is gone; this broker may lead", "broker", a.id)
		return
	}
	reason := ""
	if b := a.o.Controller.Image().Broker(a.id); b != nil {
		reason = b.Reason
	}
	a.o.Logger.Warn("the controller has fenced this broker; it leads nothing until it is unfenced", "broker", a.id, "reason", reason)
}

// logLease tells of a lease that ended, once.
func (a *Agent) logLease(s *state, err error) {
	held := a.Held()
	if s.leased && !held && !s.fenced {
		a.o.Logger.Warn("no heartbeat was answered within the lease; this broker serves no reads and no acks=1 until one is",
			"broker", a.id, "lease", a.o.Lease, "error", err)
	}
	s.leased = held
}

// reregister registers this process again after its registration was removed: to the cluster its replicas are then those of a
// stranger.
func (a *Agent) reregister() {
	a.mu.Lock()
	gone := a.mu.unregistered
	a.mu.Unlock()
	if !gone {
		return
	}
	a.o.Logger.Warn("this broker was unregistered; it registers again", "broker", a.id)
	if err := a.Register(a.ctx); err != nil {
		if a.ctx.Err() == nil {
			err = fmt.Errorf("this broker was unregistered and cannot come back: %w", err)
			a.update(func(s *state) { s.over = err })
			a.o.Fatal(err)
		}
		return
	}
	a.update(func(s *state) { s.unregistered = false })
}
