package controller

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// pause stops a machine's loop, as SIGSTOP does a process; what comes meanwhile it finds when it goes on.
func (m *machine) pause() (resume func()) {
	stopped := make(chan struct{})
	m.controller().inbox.post(func() { <-stopped })
	return func() { close(stopped) }
}

// TestStaleLeaderJudgesNobody: a controller that was paused while another was elected does not know the processes that have
// registered since. It must not tell them that others took their place: they would end.
func TestStaleLeaderJudgesNobody(t *testing.T) {
	alive(t, 71, 3, time.Second, nil, func(t *testing.T, l *lives) {
		old := l.leader()
		l.converged()
		resume := old.pause()
		var rest []*machine
		for _, m := range l.machines {
			if m != old {
				rest = append(rest, m)
			}
		}
		l.eventually("another leads", time.Minute, func() bool {
			c := rest[0].controller().Controller()
			return c != old.id && c != kafka.NoLeader && rest[1].controller().Controller() == c
		})
		next := rest[0]
		if next.controller().Controller() != next.id {
			next = rest[1]
		}
		other := rest[0]
		if other == next {
			other = rest[1]
		}
		other.kill(nil)
		other.start()
		l.eventually("back", time.Minute, func() bool { return other.registered() })
		// Its heartbeats reach the old controller first, as those of who hears of no controller may.
		hb := metadata.Heartbeat{Broker: other.id, Epoch: l.agent(other).BrokerEpoch(), Incarnation: other.p.incarnate, Ready: true}
		errs := make(chan error, 2)
		for _, inquiry := range []bool{false, true} {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				errs <- old.controller().Execute(ctx, Command{Command: hb, ValidateOnly: inquiry}).Err
			}()
		}
		synctest.Wait()
		resume()
		for range 2 {
			if err := <-errs; errors.Is(err, kafka.ErrStaleBrokerEpoch) || errors.Is(err, kafka.ErrBrokerIDNotRegistered) {
				t.Errorf("who did not know of the registration judged it: %v", err)
			}
		}
	})
}

// TestStaleLeaderRefusesNothing: what a controller that was paused remembers is not what it answers, also where it writes nothing.
func TestStaleLeaderRefusesNothing(t *testing.T) {
	alive(t, 72, 3, time.Second, nil, func(t *testing.T, l *lives) {
		l.topic("t", 1, 1)
		l.converged()
		old := l.leader()
		other := l.machines[int(old.id)%3]
		id := old.controller().Image().Topic("t").ID
		resume := old.pause()
		l.net.set(func() { l.net.cut[old.id] = true })
		l.eventually("another leads", time.Minute, func() bool {
			c := other.controller().Controller()
			return c != old.id && c != kafka.NoLeader
		})
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := other.controller().DeleteTopic(ctx, id); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- old.create("t", 10*time.Second) }()
		synctest.Wait()
		resume()
		time.Sleep(100 * time.Millisecond) // it has not noticed yet that nobody follows it any more
		l.net.set(func() { clear(l.net.cut) })
		if err := <-done; err != nil {
			t.Errorf("a topic that was deleted before: %v", err)
		}
	})
}

// TestLeaderWithoutADisk: a controller whose disk fails has not run what comes then; the next one is asked.
func TestLeaderWithoutADisk(t *testing.T) {
	alive(t, 73, 3, time.Second, nil, func(t *testing.T, l *lives) {
		old := l.leader()
		other := l.machines[int(old.id)%3]
		l.converged()
		l.net.set(func() { l.net.silent = true })
		old.inLoop(func(o *loop) { o.fail(errors.New("the test")) })
		done := make(chan error, 1)
		go func() { done <- other.create("t", 20*time.Second) }()
		time.Sleep(500 * time.Millisecond)
		old.kill(nil)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
