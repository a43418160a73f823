package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// TestThreeNodes: forwarded commands, loss of the leader with proposals under way, and a node that comes back behind the
// others' compaction.
func TestThreeNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 3)
		f.snapshot = 8 << 10
		defer f.close()
		f.startAll()
		f.formed()
		var wait sync.WaitGroup
		for _, m := range f.machines {
			wait.Go(func() {
				for k := range 20 {
					name := fmt.Sprintf("a-%d-%d", m.id, k)
					if err := m.create(name, 2*time.Second); err != nil {
						t.Error(err)
					} else if m.controller().Image().Topic(name) == nil {
						t.Errorf("topic %s is answered and not seen at the node that was asked", name)
					}
				}
			})
		}
		wait.Wait()
		f.converged()

		// Create at one, see at another after a barrier.
		for i := range 10 {
			name := fmt.Sprint("seen-", i)
			if err := f.machines[i%3].create(name, 2*time.Second); err != nil {
				t.Fatal(err)
			}
			other := f.machines[(i+1)%3].controller()
			if err := other.Barrier(within(t)); err != nil || other.Image().Topic(name) == nil {
				t.Fatalf("topic %s is not seen after a barrier: %v", name, err)
			}
		}

		// The leader is cut off with a command under way: its outcome is not known there, and it does not block.
		old := f.leader()
		f.net.set(func() { f.net.cut[old.id] = true })
		lost := make(chan error, 1)
		asked := time.Now()
		go func() { lost <- old.create("lost", 4*time.Second) }()
		next := f.leader()
		for k := range 200 { // enough for snapshots
			if err := next.create(fmt.Sprint("b-", k), 2*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-lost; !errors.Is(err, kafka.ErrRequestTimedOut) || time.Since(asked) > 4*time.Second {
			t.Fatalf("a command at a leader that is cut off: %v after %v", err, time.Since(asked))
		}
		cursor := old.controller().Subscribe("test", old.controller().Image().Offset())
		defer cursor.Close()
		f.net.set(func() { clear(f.net.cut) })
		f.converged()
		if next.controller().Image().Topic("lost") != nil {
			t.Fatal("the topic of the old leader came to be")
		}
		batch, err := cursor.Next(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := batch.Events[0].(metadata.SnapshotInstalled); !ok {
			t.Fatalf("the node that lags got %T instead of a snapshot", batch.Events[0])
		}

		// It restarts from what was installed.
		if err := old.stop(); err != nil {
			t.Fatal(err)
		}
		old.start()
		f.formed()
		f.converged()

		// A follower is killed and comes back.
		follower := f.machines[f.leader().id%3]
		follower.kill(nil)
		if err := f.leader().create("meanwhile", 2*time.Second); err != nil {
			t.Fatal(err)
		}
		follower.start()
		f.formed()
		f.converged()
		if follower.controller().Image().Topic("meanwhile") == nil {
			t.Fatal("the follower lacks what happened meanwhile")
		}
	})
}

// TestDecidesNothingBeforeAnEntryOfItsOwn: a leader that cannot yet commit in its term does not know what is committed, and
// decides nothing.
func TestDecidesNothingBeforeAnEntryOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 4, 3)
		defer f.close()
		f.startAll()
		f.formed()
		old := f.leader()
		f.net.set(func() { // the others elect one of them, who hears from nobody that his entries are there
			f.net.drop = raftpb.MsgAppResp
			f.net.cut[old.id] = true
		})
		next := f.leader()
		if err := next.create("early", 2*time.Second); !errors.Is(err, kafka.ErrRequestTimedOut) {
			t.Fatalf("a topic without a quorum: %v", err)
		}
		type seen struct {
			proposals     int
			leading, term uint64
		}
		for _, m := range f.machines {
			got := make(chan seen, 1)
			l := m.controller().loop
			m.controller().inbox.post(func() { got <- seen{len(l.commands.proposals), l.leading, l.imageTerm} })
			if s := <-got; s.leading != s.term && s.proposals > 0 {
				t.Fatalf("node %d proposed %d entries in term %d, having applied up to term %d", m.id, s.proposals, s.leading, s.term)
			}
		}
		f.net.set(func() {
			f.net.drop = 0
			clear(f.net.cut)
		})
		f.formed()
		if err := next.create("late", 5*time.Second); err != nil {
			t.Fatal(err)
		}
		f.converged()
		if old.controller().Image().Topic("early") != nil {
			t.Fatal("the topic that was given up before it was decided came to be")
		}
	})
}

// TestLeaderDies: on proof of the leader's death another is elected without waiting for a timeout, and a command that was
// under way, or is asked for meanwhile, gets its answer.
func TestLeaderDies(t *testing.T) {
	for _, size := range []int{3, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 5, size)
			defer f.close()
			f.startAll()
			f.formed()
			for round := range 10 {
				old := f.leader()
				var wait sync.WaitGroup
				began := time.Now()
				for _, m := range f.machines {
					if m == old {
						continue
					}
					for k := range 3 {
						wait.Go(func() {
							if err := m.create(fmt.Sprintf("r-%d-%d-%d", round, m.id, k), 5*time.Second); err != nil {
								t.Errorf("size %d, round %d, node %d: %v", size, round, m.id, err)
							}
							if took := time.Since(began); took > 200*time.Millisecond {
								t.Errorf("size %d, round %d: a command took %v over the leader's death", size, round, took)
							}
						})
					}
				}
				old.kill(nil)
				wait.Wait()
				old.start()
				f.formed()
				f.converged()
			}
		})
	}
}

// TestLeaderCloses: a leader that stops hands over first, and nobody waits for a timeout.
func TestLeaderCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 6, 3)
		f.net.silent = true // nobody is told that the process ended
		defer f.close()
		f.startAll()
		f.formed()
		for round := range 5 {
			old := f.leader()
			f.converged()
			began := time.Now()
			if err := old.stop(); err != nil {
				t.Fatal(err)
			}
			next := f.leader()
			if err := next.create(fmt.Sprint("round-", round), 5*time.Second); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("round %d: a leader that closes is replaced after %v", round, took)
			}
			old.start()
			f.formed()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		old := f.leader()
		if err := old.controller().TransferLeadership(ctx, "test"); err != nil {
			t.Fatal(err)
		}
		if f.leader() == old {
			t.Fatal("the leadership was not handed over")
		}
	})
}

// TestHeirDies: a leader that hands over to a node which dies in this moment waits for nothing.
func TestHeirDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 8, 3)
		f.net.delay = 30 * time.Millisecond
		defer f.close()
		f.startAll()
		f.formed()
		f.converged()
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- f.leader().controller().TransferLeadership(t.Context(), "test") }()
		synctest.Wait() // it is under way
		leader := f.leader()
		for _, m := range f.machines {
			if m != leader {
				m.kill(nil)
			}
		}
		if err := <-done; err == nil || time.Since(began) > 200*time.Millisecond {
			t.Errorf("%v, after %v", err, time.Since(began))
		}
	})
}

// TestControllerKilledOften: however recently the others have started, a dead controller is replaced, and what its broker
// led is moved, without waiting for a timeout.
func TestControllerKilledOften(t *testing.T) {
	for seed := range histories(t, 5) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			f := newFleet(t, 100+seed, 3)
			f.net.delay = 5 * time.Millisecond
			defer f.close()
			f.startAll()
			f.formed()
			for round := range 20 {
				if round%2 == 1 { // another one has just come back
					m := f.machines[rng.IntN(3)]
					m.kill(nil)
					m.start()
					time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
				}
				old := f.leader()
				var rest []*machine
				for _, m := range f.machines {
					if m != old && m.controller() != nil && m.registered() {
						rest = append(rest, m)
					}
				}
				if len(rest) < 2 {
					continue // no quorum knows that it is one
				}
				began := time.Now()
				killed := make(chan struct{})
				go func() { old.kill(nil); close(killed) }()
				m := rest[rng.IntN(2)]
				c := m.controller()
				f.eventually("the dead broker fenced", time.Minute, func() bool {
					b := c.Image().Broker(old.id)
					return b.Fenced
				})
				if took := time.Since(began); took > 400*time.Millisecond {
					t.Errorf("seed %d, round %d: the dead controller %d was replaced after %v", seed, round, old.id, took)
				}
				time.Sleep(1500 * time.Millisecond)
				<-killed
				old.start()
				f.formed()
			}
			f.converged()
		})
	}
}

// TestColdStart: nodes that have all been down elect a controller and take commands without waiting for Raft's timeout, in
// whatever order they come up.
func TestColdStart(t *testing.T) {
	for seed := range histories(t, 8) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 8))
			f := newFleet(t, 200+seed, 3+2*int(seed%2))
			f.net.delay = 5 * time.Millisecond
			defer f.close()
			f.startAll()
			f.formed()
			for range 3 {
				for _, m := range f.machines {
					m.kill(nil)
				}
				var last time.Time
				for _, i := range rng.Perm(len(f.machines)) {
					time.Sleep(time.Duration(rng.Int64N(int64(700 * time.Millisecond))))
					f.machines[i].start()
					last = time.Now()
				}
				f.formed()
				if took := time.Since(last); took > 600*time.Millisecond {
					t.Errorf("seed %d: all nodes are live %v after the last of them was started", seed, took)
				}
			}
			f.converged()
		})
	}
}
