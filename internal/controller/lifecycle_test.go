package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
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

// TestDeathFencesAtOnce: proof of death needs no lease, and where the controller died no election timeout either.
func TestDeathFencesAtOnce(t *testing.T) {
	for _, who := range []string{"controller", "another"} {
		bubble(t, func(t *testing.T) {
			l := newLives(t, 7, 3, 2*time.Second)
			defer l.close()
			l.startAll()
			l.formed()
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
			bubble(t, func(t *testing.T) {
				l := newLives(t, seed, 3, 2*time.Second)
				defer l.close()
				l.net.delay = 20 * time.Millisecond
				l.startAll()
				l.formed()
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

// TestLateLoopGivesGrace: a controller whose loop stood still has not heard what came meanwhile, and blames nobody.
func TestLateLoopGivesGrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLives(t, 3, 3, 500*time.Millisecond)
		defer l.close()
		l.startAll()
		l.formed()
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
	bubble(t, func(t *testing.T) {
		l := newLives(t, 5, 3, 2*time.Second)
		defer l.close()
		l.startAll()
		l.formed()
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

// TestControlledShutdown: when Shutdown returns, all live brokers know that somebody else leads; what nobody else can lead stays.
func TestControlledShutdown(t *testing.T) {
	for i := range 3 { // the controller, and others
		bubble(t, func(t *testing.T) {
			l := newLives(t, 11, 3, 2*time.Second)
			defer l.close()
			l.net.delay = 30 * time.Millisecond
			l.startAll()
			l.formed()
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
	bubble(t, func(t *testing.T) {
		l := newLives(t, 13, 3, 2*time.Second)
		defer l.close()
		l.startAll()
		l.formed()
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
	bubble(t, func(t *testing.T) {
		l := newLives(t, 17, 3, 2*time.Second)
		defer l.close()
		l.startAll()
		l.formed()
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

// TestOneNameOneProcess: a second node under a broker ID in use is refused while the first one lives.
func TestOneNameOneProcess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLives(t, 19, 3, time.Second)
		defer l.close()
		l.startAll()
		l.formed()
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
	bubble(t, func(t *testing.T) {
		l := newLives(t, 23, 3, 2*time.Second)
		defer l.close()
		for id := range kafka.BrokerID(3) {
			l.slowly[id+1] = 0.25
		}
		l.startAll()
		l.formed()
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
	bubble(t, func(t *testing.T) {
		l := newLives(t, 29, 3, time.Second)
		defer l.close()
		l.startAll()
		l.formed()
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

// TestKillsWaitForNothing: the controller is killed again and again, also while a node that came back is not unfenced yet: on
// the way to new leaders there is no tick, no lease and no timeout.
func TestKillsWaitForNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLives(t, 31, 3, 2*time.Second)
		defer l.close()
		l.startAll()
		l.formed()
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
	bubble(t, func(t *testing.T) {
		l := newLives(t, 37, 3, 2*time.Second)
		defer l.close()
		l.startAll()
		l.formed()
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
