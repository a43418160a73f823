package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Register announces this process and waits until this node has applied it. It tries again until the context ends, unless the
// registration is refused for good: by what is wrong with it, or, after a few leases, because another process lives under
// this broker ID.
func (a *Agent) Register(ctx context.Context) error {
	began := a.o.Clock.Now()
	for try := 1; ; try++ {
		epoch, err := a.o.Controller.RegisterBroker(ctx, a.o.Registration)
		if err == nil {
			a.epoch.Store(int64(epoch))
			if err = a.o.Controller.WaitApplied(ctx, metadata.Offset(epoch)); err == nil {
				a.o.Logger.Info("registered", "broker", a.id, "epoch", epoch)
				return nil
			}
			return fmt.Errorf("broker %d is registered, but this node has not got the metadata up to offset %d: %w", a.id, epoch, err)
		}
		taken := errors.Is(err, kafka.ErrDuplicateBrokerRegistration) && a.o.Clock.Now().Sub(began) < 3*a.o.Lease
		if !taken && !passing(err) {
			return fmt.Errorf("register broker %d: %w", a.id, err)
		}
		if try == 1 || try%20 == 0 {
			a.o.Logger.Warn("the registration is tried again", "broker", a.id, "error", err)
		}
		if !a.pause(ctx, min(time.Second, urgent*time.Duration(try))) {
			return fmt.Errorf("register broker %d: %w", a.id, errors.Join(err, ctx.Err()))
		}
	}
}

// passing tells whether an error may be another one at the next try.
func passing(err error) bool {
	var e *kafka.Error
	return !errors.As(err, &e) || errors.Is(err, kafka.ErrNotController) || errors.Is(err, kafka.ErrRequestTimedOut)
}

// pause waits; false if the context ended, or the agent.
func (a *Agent) pause(ctx context.Context, d time.Duration) bool {
	timer := a.o.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	case <-a.ctx.Done():
		return false
	}
}
