package controller

import (
	"context"
	"errors"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/lifecycle"
	"chronik/internal/metadata"
)

// TestOneNameOneProcess: a second node under a broker ID in use is refused while the first one lives.
func TestOneNameOneProcess(t *testing.T) {
	alive(t, 19, 3, time.Second, nil, func(t *testing.T, l *lives) {
		victim := l.machines[2]
		reg := metadata.RegisterBroker{ID: victim.id, Incarnation: [16]byte{66}, Directory: [16]byte{66}, ClusterAddress: "impostor:1"}
		second := lifecycle.New(lifecycle.Options{Controller: l.machines[0].controller(), Registration: reg, Lease: l.lease})
		if err := second.Register(t.Context()); !errors.Is(err, kafka.ErrDuplicateBrokerRegistration) {
			t.Fatal(err)
		}
		second.Close()
		if !l.agent(victim).Held() || l.fatal[victim.id] != nil {
			t.Fatal("the first one suffers")
		}
		// With the same directory the first one must be gone (the directory is locked): should it live on, it ends itself.
		reg.Directory = victim.p.directory
		third := lifecycle.New(lifecycle.Options{Controller: l.machines[0].controller(), Registration: reg, Lease: l.lease})
		defer third.Close()
		if err := third.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.fatal[victim.id] == nil || l.agents[victim.id].Held() {
			t.Fatal("the process that was taken over goes on")
		}
	})
}

// TestDriftBreaksNoEpoch: a broker whose clock is slow holds its lease for too long; what it then decides is refused.
func TestDriftBreaksNoEpoch(t *testing.T) {
	alive(t, 23, 3, 2*time.Second, func(l *lives) {
		for id := range kafka.BrokerID(3) {
			l.slowly[id+1] = 0.25
		}
	}, func(t *testing.T, l *lives) {
		l.topic("t", 3, 3)
		victim := l.machines[int(l.leader().id)%3]
		var led *metadata.Partition
		topic := l.image().Topic("t")
		for p := range topic.Partitions.All() {
			if p.Leader == victim.id {
				led = p
			}
		}
		if led == nil {
			t.Fatal("it leads nothing")
		}
		l.net.set(func() { l.net.cut[victim.id] = true })
		l.eventually("moved", 10*time.Second, func() bool { return l.moved(victim.id, "t") })
		l.eventually("two leaders", time.Second, func() bool { return len(l.leaders("t", led.Index)) == 2 }) // by its slow clock
		l.net.set(func() { clear(l.net.cut) })
		cmd := metadata.UpdateISR{Partition: topic.TopicPartition(led.Index), LeaderEpoch: led.LeaderEpoch, Base: led.PartitionEpoch}
		for _, m := range l.machines {
			cmd.ISR = append(cmd.ISR, metadata.ISRMember{Broker: m.id, Epoch: l.agent(m).BrokerEpoch()})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := victim.controller().UpdateISR(ctx, cmd); !errors.Is(err, kafka.ErrFencedLeaderEpoch) {
			t.Fatalf("the old leader changes the in-sync set: %v", err)
		}
	})
}

// TestUnregisteredBrokerComesBack as a stranger to its replicas.
func TestUnregisteredBrokerComesBack(t *testing.T) {
	alive(t, 29, 3, time.Second, nil, func(t *testing.T, l *lives) {
		m := l.machines[int(l.leader().id)%3]
		before := l.agent(m).BrokerEpoch()
		if err := l.leader().controller().UnregisterBroker(t.Context(), m.id); err != nil {
			t.Fatal(err)
		}
		l.eventually("back", 10*time.Second, func() bool {
			b := l.image().Broker(m.id)
			return b != nil && !b.Fenced && b.Epoch > before && l.agent(m).Held()
		})
	})
}

// TestUnregisteredUnheard: a broker that is cut off while it is removed never gets the entry that removes it; once it is
// connected again it learns so from its heartbeats, and comes back.
func TestUnregisteredUnheard(t *testing.T) {
	alive(t, 31, 3, time.Second, nil, func(t *testing.T, l *lives) {
		m := l.machines[int(l.leader().id)%3]
		before := l.agent(m).BrokerEpoch()
		l.net.set(func() { l.net.cut[m.id] = true })
		if err := l.leader().controller().UnregisterBroker(t.Context(), m.id); err != nil {
			t.Fatal(err)
		}
		l.eventually("no voter", 10*time.Second, func() bool { return len(l.image().Voters()) == 2 })
		l.net.set(func() { clear(l.net.cut) })
		l.eventually("back", 20*time.Second, func() bool {
			b := l.image().Broker(m.id)
			return b != nil && !b.Fenced && b.Epoch > before && l.agent(m).Held() && len(l.image().Voters()) == 3
		})
		l.mu.Lock()
		defer l.mu.Unlock()
		if err := l.fatal[m.id]; err != nil {
			t.Fatal(err)
		}
	})
}

// TestHeartbeatFromBeforeItCameBack: a heartbeat that was under way while its process was removed and registered again does not
// say that another process took its place.
func TestHeartbeatFromBeforeItCameBack(t *testing.T) {
	alive(t, 37, 3, time.Second, nil, func(t *testing.T, l *lives) {
		m := l.machines[int(l.leader().id)%3]
		old := metadata.Heartbeat{Broker: m.id, Epoch: l.agent(m).BrokerEpoch(), Incarnation: m.p.incarnate, Ready: true}
		if err := l.leader().controller().UnregisterBroker(t.Context(), m.id); err != nil {
			t.Fatal(err)
		}
		l.eventually("back", 10*time.Second, func() bool { return l.agent(m).BrokerEpoch() > old.Epoch && l.agent(m).Held() })
		if _, err := m.controller().Heartbeat(t.Context(), old); !errors.Is(err, kafka.ErrBrokerIDNotRegistered) {
			t.Fatal(err)
		}
	})
}
