package controller

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// TestControlledShutdown: when Shutdown returns, all live brokers know that somebody else leads; what nobody else can lead stays.
func TestControlledShutdown(t *testing.T) {
	for i := range 3 { // the controller, and others
		alive(t, 11, 3, 2*time.Second, func(l *lives) { l.net.delay = 30 * time.Millisecond }, func(t *testing.T, l *lives) {
			l.topic("t", 9, 3)
			l.topic("alone", 3, 1)
			m := l.machines[(int(l.leader().id)+i)%3]
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			began := time.Now()
			if err := l.agent(m).Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 1500*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			for _, other := range l.machines {
				img := other.controller().Image()
				for p := range img.Topic("t").Partitions.All() {
					if p.Leader == m.id || p.Leader == kafka.NoLeader || slices.Contains(p.ISR, m.id) {
						t.Errorf("at node %d, t-%d: %+v", other.id, p.Index, p)
					}
				}
				for p := range img.Topic("alone").Partitions.All() {
					if p.Leader == kafka.NoLeader {
						t.Errorf("at node %d, alone-%d has no leader already", other.id, p.Index)
					}
				}
			}
			if !l.agent(m).Held() {
				t.Error("the lease went with the leaders: it still serves the partition that nobody else has")
			}
			if err := m.stop(); err != nil {
				t.Error(err)
			}
			l.eventually("fenced", time.Second, func() bool { return l.image().Broker(m.id).Fenced })
			m.start()
			l.formed()
			if b := l.image().Broker(m.id); b.InControlledShutdown {
				t.Error("its next process is still in shutdown")
			}
		})
	}
}

// TestSlowDisk: a broker with a slow disk leads nothing, also not the metadata, until its disk has been fast for a while.
func TestSlowDisk(t *testing.T) {
	alive(t, 13, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		l.topic("t", 6, 3)
		slow := l.leader()
		set := func(age time.Duration) {
			l.mu.Lock()
			l.syncAge[slow.id] = age
			l.mu.Unlock()
			l.agent(slow).Changed()
		}
		set(3 * time.Second)
		l.eventually("relieved", 5*time.Second, func() bool {
			img := l.image()
			for p := range img.Topic("t").Partitions.All() {
				if p.Leader == slow.id || slices.Contains(p.ISR, slow.id) {
					return false
				}
			}
			return img.Broker(slow.id).Slow && l.leader() != slow
		})
		if !l.agent(slow).Held() {
			t.Error("a slow broker is not fenced: it keeps its lease")
		}
		set(0)
		began := time.Now()
		l.eventually("forgiven", 20*time.Second, func() bool { return !l.image().Broker(slow.id).Slow })
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("forgiven after %v", took)
		}
		statuses, err := slow.controller().BrokerStatuses(context.Background())
		if err != nil || len(statuses) != 3 {
			t.Fatal(statuses, err)
		}
		for _, s := range statuses {
			if s.Fenced || s.Silence < 0 || s.Silence > time.Second || !s.Ready {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestDamagedReplicaLosesItsPlace: it is reported, gives up leadership and the in-sync set, and is admitted once it is whole.
func TestDamagedReplicaLosesItsPlace(t *testing.T) {
	alive(t, 17, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		l.topic("t", 1, 3)
		topic := l.image().Topic("t")
		id := topic.Partitions.At(0).Leader
		m := l.machines[id-1]
		damage := func(list ...kafka.TopicPartition) {
			l.mu.Lock()
			l.damaged[id] = list
			l.mu.Unlock()
			l.agent(m).Changed()
		}
		damage(topic.TopicPartition(0))
		l.eventually("replaced", time.Second, func() bool {
			p := l.image().Partition(topic.TopicPartition(0))
			return p.Leader != id && p.Leader != kafka.NoLeader && len(p.ISR) == 2
		})
		admit := func() error {
			p := l.image().Partition(topic.TopicPartition(0))
			cmd := metadata.UpdateISR{Partition: topic.TopicPartition(0), LeaderEpoch: p.LeaderEpoch, Base: p.PartitionEpoch}
			for b := range l.image().Brokers() {
				cmd.ISR = append(cmd.ISR, metadata.ISRMember{Broker: b.ID, Epoch: b.Epoch})
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err := l.machines[p.Leader-1].controller().UpdateISR(ctx, cmd)
			return err
		}
		if err := admit(); !errors.Is(err, kafka.ErrIneligibleReplica) {
			t.Fatal(err)
		}
		damage()
		time.Sleep(100 * time.Millisecond)
		if err := admit(); err != nil {
			t.Fatal(err)
		}
	})
}
