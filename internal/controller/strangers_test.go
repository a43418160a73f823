package controller

import (
	"testing"
	"time"

	"chronik/internal/kafka"
)

// TestLeaderUnknownToWhoWasAway: a node that was off while another one's disk was replaced does not know the Raft ID of the
// leader that greets it; it answers all the same, and gets what it lacks.
func TestLeaderUnknownToWhoWasAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, 61, 5)
		defer f.close()
		f.startAll()
		f.formed()
		away, wiped := f.machines[4], f.machines[0]
		away.kill(nil)
		old := wiped.p.directory
		wiped.kill(nil)
		wiped.wipe()
		wiped.start()
		f.eventually("the wiped one is back", time.Minute, func() bool {
			b := f.leader().controller().Image().Broker(wiped.id)
			return wiped.registered() && b.Directory != old && !b.Fenced
		})
		f.replaced(wiped, old)
		f.leads(wiped)
		away.start()
		f.formed()
		f.converged()
		if f.leader() != wiped {
			t.Fatal("another one leads now: nothing was tested")
		}
	})
}

// leads makes the machine the controller.
func (f *fleet) leads(m *machine) {
	f.t.Helper()
	f.eventually("led by the one that is wanted", time.Minute, func() bool {
		all := true
		for _, o := range f.machines {
			if c := o.controller(); c != nil && o.p != nil && c.Controller() != m.id {
				all = false
			}
		}
		if !all {
			c := f.leader().controller()
			c.inbox.post(func() { c.loop.node.TransferLeader(RaftID(m.p.directory)) })
			time.Sleep(100 * time.Millisecond)
		}
		return all
	})
}

// TestTwoUnregisteredUnheard: two brokers that are cut off while they are removed know each other, and ask each other at first,
// who is none the wiser.
func TestTwoUnregisteredUnheard(t *testing.T) {
	alive(t, 62, 5, time.Second, nil, func(t *testing.T, l *lives) {
		l.leads(l.machines[4])
		l.net.set(func() { l.net.cut[1], l.net.cut[2] = true, true })
		for _, id := range []kafka.BrokerID{1, 2} {
			if err := l.leader().controller().UnregisterBroker(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		l.voting(3, 4, 5)
		l.net.set(func() { clear(l.net.cut) })
		l.formed()
		l.converged()
	})
}

// TestLearnerUnregisteredUnheard: a broker that does not vote, and is removed while it is cut off, does not wait for ever for the
// controller of that time, who is another now.
func TestLearnerUnregisteredUnheard(t *testing.T) {
	alive(t, 63, 3, time.Second, nil, func(t *testing.T, l *lives) {
		m := l.add(4, nil, l.machines[0].address)
		m.start()
		l.formed()
		l.leads(l.machines[0])
		l.converged()
		l.net.set(func() { l.net.cut[4] = true })
		if err := l.machines[0].controller().UnregisterBroker(t.Context(), 4); err != nil {
			t.Fatal(err)
		}
		l.machines[0].controller().inbox.post(func() { l.machines[0].controller().loop.giveUpLeadership("the test") })
		l.eventually("another leads", time.Minute, func() bool { return l.machines[0].controller().Controller() > 1 })
		time.Sleep(3 * time.Second)
		l.net.set(func() { clear(l.net.cut) })
		l.formed()
		l.converged()
	})
}
