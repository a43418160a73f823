package controller

import (
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/kafka"
)

// TestDeathFencesAtOnce: proof of death needs no lease, and where the controller died no election timeout either.
func TestDeathFencesAtOnce(t *testing.T) {
	for _, who := range []string{"controller", "another"} {
		alive(t, 7, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
			l.topic("t", 6, 3)
			stop := l.watch("t", 6)
			victim := l.leader()
			if who == "another" {
				victim = l.machines[int(victim.id)%3]
			}
			began := time.Now()
			victim.kill(nil)
			l.eventually("moved", 10*time.Second, func() bool { return l.moved(victim.id, "t") })
			// The dead process takes a while to end; what happened meanwhile bears its time.
			if took := l.image().Broker(victim.id).Since.Sub(began); took > 200*time.Millisecond {
				t.Errorf("%s: it took %v to move the leaders away from a process that is known to be dead", who, took)
			}
			// It comes back as another process: nothing of the proof sticks to it.
			victim.start()
			l.formed()
			time.Sleep(5 * time.Second)
			if l.image().Broker(victim.id).Fenced {
				t.Errorf("%s: the proof of death of the old process fences the new one", who)
			}
			if broken := stop(); broken != nil {
				t.Error(who, broken)
			}
		})
	}
}

// TestSilenceFencesAfterTheLease: a broker that is cut off loses its leaders when its lease is over here, and that is after it is
// over there; the controller's own broker too. No acks=all is missed for longer than five seconds.
func TestSilenceFencesAfterTheLease(t *testing.T) {
	for _, who := range []string{"controller", "another", "dead and silent"} {
		for seed := range uint64(4) {
			alive(t, seed, 3, 2*time.Second, func(l *lives) { l.net.delay = 20 * time.Millisecond }, func(t *testing.T, l *lives) {
				l.topic("t", 6, 3)
				stop := l.watch("t", 6)
				time.Sleep(time.Duration(seed) * 331 * time.Millisecond)
				victim := l.leader()
				if who == "another" {
					victim = l.machines[int(victim.id)%3]
				}
				began := time.Now()
				if who == "dead and silent" {
					l.net.set(func() { l.net.silent = true })
					victim.kill(nil)
				} else {
					l.net.set(func() { l.net.cut[victim.id] = true })
				}
				l.eventually("moved", 10*time.Second, func() bool { return l.moved(victim.id, "t") })
				took := l.image().Broker(victim.id).Since.Sub(began)
				if took < 1400*time.Millisecond || took > 4500*time.Millisecond {
					t.Errorf("%s, seed %d: fenced after %v", who, seed, took)
				}
				time.Sleep(5 * time.Second)
				l.net.set(func() { clear(l.net.cut); l.net.silent = false })
				if who == "dead and silent" {
					victim.start()
				}
				l.formed()
				if broken := stop(); broken != nil {
					t.Error(who, seed, broken)
				}
			})
		}
	}
}

// TestTwoNeverLead: whatever is cut, delayed and lost, for how long and in which directions: at no instant do two brokers
// believe to hold the lease for one partition, and in the end all is well.
func TestTwoNeverLead(t *testing.T) {
	moves := 0
	for seed := range histories(t, 5) {
		bubble(t, func(t *testing.T) {
			size := 3 + 2*int(seed%2)
			l := newLives(t, seed, size, 2*time.Second)
			defer l.close()
			l.net.delay = 50 * time.Millisecond
			l.startAll()
			l.formed()
			l.topic("t", 5, 3)
			stop, settle := l.watch("t", 5), l.readmit("t")
			rng := rand.New(rand.NewPCG(seed, 99))
			for range 25 {
				l.net.set(func() { l.disturb(rng) })
				time.Sleep(time.Second + time.Duration(rng.Int64N(int64(4*time.Second))))
				l.net.set(func() {
					clear(l.net.cut)
					clear(l.net.oneWay)
					l.net.loss = 0
				})
				time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
			}
			l.formed()
			l.eventually("in sync again", 10*time.Second, func() bool {
				for p := range l.image().Topic("t").Partitions.All() {
					if p.Leader == kafka.NoLeader || len(p.ISR) < 3 {
						return false
					}
				}
				return true
			})
			settle()
			for p := range l.image().Topic("t").Partitions.All() {
				moves += int(p.LeaderEpoch)
			}
			if broken := stop(); broken != nil {
				t.Errorf("seed %d: %v", seed, broken)
			}
		})
	}
	t.Logf("leaders moved %d times in all", moves)
}

// TestLateLoopGivesGrace: a controller whose loop stood still has not heard what came meanwhile, and blames nobody.
func TestLateLoopGivesGrace(t *testing.T) {
	alive(t, 3, 3, 500*time.Millisecond, nil, func(t *testing.T, l *lives) {
		l.topic("t", 3, 3)
		began := l.image().Offset()
		c := l.leader().controller()
		for range 5 {
			c.inbox.post(func() { time.Sleep(800 * time.Millisecond) })
			time.Sleep(3 * time.Second)
		}
		for b := range l.image().Brokers() {
			if b.StateOffset > began {
				t.Errorf("broker %d: %s", b.ID, b.Reason)
			}
		}
		// A silence that is none of the loop's is still noticed.
		silent := l.machines[int(l.leader().id)%3]
		l.net.set(func() { l.net.cut[silent.id] = true })
		l.eventually("fenced", time.Second, func() bool { return l.image().Broker(silent.id).Fenced })
		l.net.set(func() { clear(l.net.cut) })
	})
}

// TestNewControllerGivesGrace: a controller counts from its election, although its own node has heard nothing of a broker for
// long: the one before it did.
func TestNewControllerGivesGrace(t *testing.T) {
	alive(t, 5, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		l.topic("t", 3, 3)
		stop := l.watch("t", 3)
		old := l.leader()
		a, b := l.machines[int(old.id)%3], l.machines[int(old.id+1)%3]
		l.net.set(func() {
			l.net.oneWay[[2]kafka.BrokerID{a.id, b.id}], l.net.oneWay[[2]kafka.BrokerID{b.id, a.id}] = true, true
		})
		time.Sleep(10 * time.Second)
		began := l.image().Offset()
		l.net.set(func() { clear(l.net.oneWay) })
		old.kill(nil)
		time.Sleep(5 * time.Second)
		for _, m := range []*machine{a, b} {
			if s := l.image().Broker(m.id); s.StateOffset > began {
				t.Errorf("broker %d, which was alive all the time: %s", m.id, s.Reason)
			}
		}
		if !l.moved(old.id, "t") {
			t.Error("the dead one still leads")
		}
		if broken := stop(); broken != nil {
			t.Error(broken)
		}
	})
}

// TestKillsWaitForNothing: the controller is killed again and again, also while a node that came back is not unfenced yet: on
// the way to new leaders there is no tick, no lease and no timeout.
func TestKillsWaitForNothing(t *testing.T) {
	alive(t, 31, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		l.topic("t", 6, 3)
		settle := l.readmit("t")
		defer settle()
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 30 {
			time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
			victim := l.leader()
			began := time.Now()
			victim.kill(nil)
			l.eventually("moved", 10*time.Second, func() bool { return l.moved(victim.id, "t") })
			if took := l.image().Broker(victim.id).Since.Sub(began); took > 20*time.Millisecond {
				t.Errorf("kill %d: it took %v", i, took)
			}
			victim.start()
			if rng.IntN(2) == 0 {
				l.formed()
			} else {
				l.eventually("up", 10*time.Second, func() bool { return victim.controller() != nil })
			}
		}
	})
}

// TestDeathWithTenThousandPartitions: one entry of a megabyte moves them all; the loops of the others are not held up for long.
func TestDeathWithTenThousandPartitions(t *testing.T) {
	alive(t, 37, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		l.topic("t", 10_000, 3)
		l.converged()
		victim := l.leader()
		began, offset := time.Now(), l.image().Offset()
		victim.kill(nil)
		l.eventually("moved", 10*time.Second, func() bool { return l.moved(victim.id, "t") })
		b := l.image().Broker(victim.id)
		if took := b.Since.Sub(began); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		if b.StateOffset > offset+4 { // the new leader's own entry, changes of the membership, the fence
			t.Errorf("the fence came at offset %d, after %d", b.StateOffset, offset)
		}
		victim.start()
		l.formed()
		l.converged()
	})
}
