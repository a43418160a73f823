package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/lifecycle"
	"chronik/internal/metadata"
)

// lives is a fleet whose processes have agents, and a watch over who takes itself for a leader.
type lives struct {
	*fleet
	lease    time.Duration
	interval time.Duration

	mu      sync.Mutex
	agents  map[kafka.BrokerID]*lifecycle.Agent
	open    map[kafka.BrokerID]*Controller // of processes that live
	syncAge map[kafka.BrokerID]time.Duration
	damaged map[kafka.BrokerID][]kafka.TopicPartition
	fatal   map[kafka.BrokerID]error
	slowly  map[kafka.BrokerID]float64 // how fast a broker's clock goes; 1 if it is not here
}

func newLives(t testing.TB, seed uint64, size int, lease time.Duration) *lives {
	l := &lives{fleet: newFleet(t, seed, size), lease: lease, interval: lease / 4, agents: map[kafka.BrokerID]*lifecycle.Agent{},
		open:    map[kafka.BrokerID]*Controller{},
		syncAge: map[kafka.BrokerID]time.Duration{}, damaged: map[kafka.BrokerID][]kafka.TopicPartition{},
		fatal: map[kafka.BrokerID]error{}, slowly: map[kafka.BrokerID]float64{}}
	l.life.Lease = lease
	l.fleet.serve = l.serve
	return l
}

// alive runs a test in a bubble on machines that have formed a cluster; setup may be nil.
func alive(t *testing.T, seed uint64, size int, lease time.Duration, setup func(*lives), test func(t *testing.T, l *lives)) {
	t.Helper()
	bubble(t, func(t *testing.T) {
		l := newLives(t, seed, size, lease)
		defer l.close()
		if setup != nil {
			setup(l)
		}
		l.startAll()
		l.formed()
		test(t, l)
	})
}

// driftingClock goes slower than time, or faster.
type driftingClock struct {
	clock.System
	base  time.Time
	speed float64
}

func (c driftingClock) Now() time.Time {
	return c.base.Add(time.Duration(float64(time.Since(c.base)) * c.speed))
}

func (l *lives) serve(p *process, c *Controller, directory [16]byte) error {
	id := p.m.id
	o := lifecycle.Options{Controller: c, Lease: l.lease, Interval: l.interval,
		Registration: metadata.RegisterBroker{ID: id, Incarnation: p.incarnate, Directory: directory, ClusterAddress: p.m.address},
		SyncAge:      func() time.Duration { l.mu.Lock(); defer l.mu.Unlock(); return l.syncAge[id] },
		Damaged:      func() []kafka.TopicPartition { l.mu.Lock(); defer l.mu.Unlock(); return l.damaged[id] },
		Fatal:        func(err error) { l.mu.Lock(); defer l.mu.Unlock(); l.fatal[id] = err },
	}
	l.mu.Lock()
	if speed, ok := l.slowly[id]; ok {
		o.Clock = driftingClock{base: time.Now(), speed: speed}
	}
	l.mu.Unlock()
	a := lifecycle.New(o)
	defer a.Close()
	if err := a.Register(p.ctx); err != nil {
		if p.ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := p.m.setIdentity(directory, c.Image().ClusterID()); err != nil {
		return err
	}
	a.Start()
	p.mu.Lock()
	p.epoch, p.ready = a.BrokerEpoch(), true
	p.mu.Unlock()
	l.mu.Lock()
	l.agents[id], l.open[id] = a, c
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.open, id)
		l.mu.Unlock()
	}()
	if err := a.Ready(p.ctx); err != nil && p.ctx.Err() == nil {
		return err
	}
	<-p.ctx.Done()
	return nil
}

func (l *lives) agent(m *machine) *lifecycle.Agent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.agents[m.id]
}

// controllerOf is that of the broker's process, nil if it is dead or not that far.
func (l *lives) controllerOf(id kafka.BrokerID) *Controller {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open[id]
}

// topic makes a topic with that many partitions on all machines.
func (l *lives) topic(name string, partitions, replicas int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := l.machines[0].controller().CreateTopics(ctx, []metadata.CreateTopic{{Name: name, Partitions: int32(partitions),
		ReplicationFactor: int16(replicas)}}, false)
	if r[0].Err != nil {
		l.t.Fatal(r[0].Err)
	}
}

// leaders are the machines that take themselves for the leader of a partition: they hold a lease and their image says so.
func (l *lives) leaders(topic string, partition int32) (ids []kafka.BrokerID) {
	for _, m := range l.machines {
		c := l.controllerOf(m.id)
		if c == nil {
			continue
		}
		a := l.agent(m)
		t := c.Image().Topic(topic)
		if a == nil || t == nil || !a.Held() {
			continue
		}
		if p := t.Partitions.At(partition); p != nil && p.Leader == m.id {
			ids = append(ids, m.id)
		}
	}
	return ids
}

// watch samples every millisecond until the end, and tells what it has seen of two leaders at a time.
func (l *lives) watch(topic string, partitions int) (stop func() (broken []string)) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	var broken []string
	ended.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
			for p := range partitions {
				if ids := l.leaders(topic, int32(p)); len(ids) > 1 && len(broken) < 5 {
					broken = append(broken, fmt.Sprintf("%v: %s-%d is led by %v", time.Now().Format("05.000"), topic, p, ids))
				}
			}
		}
	})
	return func() []string {
		close(done)
		ended.Wait()
		return broken
	}
}

// readmit has every leader take all live replicas into its in-sync sets, again and again, until the end: as if they caught up at once.
func (l *lives) readmit(topic string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	for _, m := range l.machines {
		ended.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(150 * time.Millisecond):
				}
				l.propose(ctx, m, topic)
			}
		})
	}
	return func() {
		cancel()
		ended.Wait()
	}
}

func (l *lives) propose(ctx context.Context, m *machine, topic string) {
	c, a := l.controllerOf(m.id), l.agent(m)
	if c == nil || a == nil || !a.Held() {
		return
	}
	img := c.Image()
	t := img.Topic(topic)
	if t == nil { // it has not heard of it yet
		return
	}
	for p := range t.Partitions.All() {
		cmd := metadata.UpdateISR{Partition: t.TopicPartition(p.Index), LeaderEpoch: p.LeaderEpoch, Base: p.PartitionEpoch}
		for _, id := range p.Replicas {
			if b := img.Broker(id); b != nil && !b.Fenced {
				cmd.ISR = append(cmd.ISR, metadata.ISRMember{Broker: id, Epoch: b.Epoch})
			}
		}
		if p.Leader == m.id && len(cmd.ISR) > len(p.ISR) {
			within, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			_, _ = c.UpdateISR(within, cmd)
			cancel()
		}
	}
}

// image is the newest of the machines that are on.
func (l *lives) image() *metadata.Image {
	var newest *metadata.Image
	for _, m := range l.machines {
		if c := m.controller(); c != nil && (newest == nil || c.Image().Offset() > newest.Offset()) {
			newest = c.Image()
		}
	}
	return newest
}

// moved tells whether the broker is fenced, and everything that it led is led by another.
func (l *lives) moved(id kafka.BrokerID, topic string) bool {
	img := l.image()
	if b := img.Broker(id); !b.Fenced {
		return false
	}
	for p := range img.Topic(topic).Partitions.All() {
		if p.Leader == id || p.Leader == kafka.NoLeader {
			return false
		}
	}
	return true
}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// disturb cuts the net in two, cuts single links, or loses messages.
func (l *lives) disturb(rng *rand.Rand) {
	size := len(l.machines)
	some := func() kafka.BrokerID { return kafka.BrokerID(1 + rng.IntN(size)) }
	switch rng.IntN(6) {
	case 0:
		l.net.cut[some()] = true
	case 1:
		a, b := some(), some()
		l.net.oneWay[[2]kafka.BrokerID{a, b}] = true
	case 2:
		a, b := some(), some()
		l.net.oneWay[[2]kafka.BrokerID{a, b}], l.net.oneWay[[2]kafka.BrokerID{b, a}] = true, true
	case 3:
		l.net.loss = 0.2
	default: // a minority that can talk among itself
		order := rng.Perm(size)
		for i, a := range order {
			for j, b := range order {
				if (i < size/2) != (j < size/2) {
					l.net.oneWay[[2]kafka.BrokerID{kafka.BrokerID(a + 1), kafka.BrokerID(b + 1)}] = true
				}
			}
		}
	}
}
