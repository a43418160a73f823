package controller

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/metadata"
	"chronik/internal/peer"
)

func peerIdentity(m *machine, p *process, clusterID string) peer.Identity {
	return peer.Identity{Broker: m.id, Directory: p.directory, Incarnation: p.incarnate, ClusterID: clusterID, Address: m.address}
}

// TestForming: empty nodes form a cluster, fast, and each of them takes commands.
func TestForming(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 1, size)
			defer f.close()
			began := time.Now()
			f.startAll()
			f.formed()
			if took := time.Since(began); took > time.Second {
				t.Errorf("%d nodes took %v to form a cluster", size, took)
			}
			for _, m := range f.machines {
				if err := m.create("topic-"+m.address[:5], time.Second); err != nil {
					t.Fatal(err)
				}
			}
			f.converged()
			img := f.machines[0].controller().Image()
			if len(img.Voters()) != size || len(img.Formation()) != size || img.BrokerCount() != size {
				t.Fatalf("voters %v, formation %v", img.Voters(), img.Formation())
			}
		})
	}
}

// TestFormingCrashes ends one node at each of its disk operations while three form a cluster: by a kill, by a power cut,
// or with its disk gone. They come to one cluster, the same for all, and a disk that is gone is not heard of again.
func TestFormingCrashes(t *testing.T) {
	stride := int64(3)
	if testing.Short() {
		stride = 11
	}
	for victim := range 3 {
		for mode := range 3 {
			for step, more := int64(1), true; more; step += stride {
				synctest.Test(t, func(t *testing.T) { more = formingCrash(t, victim, mode, step) })
			}
		}
	}
}

func formingCrash(t *testing.T, victim, mode int, step int64) (died bool) {
	seed := uint64(1000*victim + 100_000*mode + int(step))
	f := newFleet(t, seed, 3)
	defer f.close()
	rng := rand.New(rand.NewPCG(seed, 1))
	v := f.machines[victim]
	v.fs.KillAfter(step, rng)
	f.startAll()
	first := v.p
	for range 100 {
		time.Sleep(10 * time.Millisecond)
		if v.died() {
			break
		}
	}
	if died = v.died(); died {
		switch mode {
		case 0:
			v.kill(nil)
		case 1:
			v.kill(rng)
		case 2:
			v.kill(nil)
			v.wipe()
		}
		time.Sleep(time.Duration(rng.Int64N(int64(3 * time.Second))))
		v.start()
	} else {
		v.fs.KillAfter(1<<60, rng)
	}
	f.formed()
	for _, m := range f.machines {
		if err := m.create(fmt.Sprint("topic-", m.id), 5*time.Second); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if mode == 2 && died {
		f.replaced(v, first.directory)
	}
	f.converged()
	f.oneCluster()
	return died
}

// replaced waits until a machine votes with its new disk, and checks that the old one is out.
func (f *fleet) replaced(m *machine, old [16]byte) {
	f.t.Helper()
	f.eventually("the new disk among the voters", time.Minute, func() bool {
		img := f.leader().controller().Image()
		return slices.ContainsFunc(img.Voters(), func(v metadata.Voter) bool { return v.ID == m.id && v.Directory == m.p.directory })
	})
	f.eventually("the old disk out of the membership", 10*time.Second, func() bool {
		c := f.leader().controller()
		done := make(chan []uint64, 1)
		c.inbox.post(func() {
			cs := c.loop.confState
			done <- slices.Concat(cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing(), cs.GetLearnersNext())
		})
		members := <-done
		return (old == m.p.directory || !slices.Contains(members, RaftID(old))) && slices.Contains(members, RaftID(m.p.directory))
	})
}

// TestFormingHistories: nodes are killed, lose power and lose one of their disks at random moments of the forming, over a
// network that delays, loses, reorders and repeats. They come to one cluster.
func TestFormingHistories(t *testing.T) {
	for seed := range histories(t, 40) {
		synctest.Test(t, func(t *testing.T) { formingHistory(t, seed) })
	}
}

// histories are the seeds: of CHRONIK_SEED, or the first n; fewer in short tests.
func histories(t *testing.T, n uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		if text := os.Getenv("CHRONIK_SEED"); text != "" {
			seed, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			yield(seed)
			return
		}
		if text := os.Getenv("CHRONIK_SEEDS"); text != "" {
			n, _ = strconv.ParseUint(text, 10, 64)
		} else if testing.Short() {
			n /= 5
		}
		for seed := uint64(1); seed <= n && !t.Failed(); seed++ {
			if !yield(seed) {
				return
			}
		}
	}
}

func formingHistory(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	f := newFleet(t, seed, 3+2*int(seed%2))
	defer f.close()
	f.net.delay = time.Duration(1+rng.Int64N(100)) * time.Millisecond
	f.net.loss = rng.Float64() * 0.2
	f.net.repeat = rng.Float64() * 0.5
	wiped := f.machines[rng.IntN(len(f.machines))] // the only one: with a majority of disks the cluster would be gone
	for _, m := range f.machines {
		m.fs.KillAfter(1+rng.Int64N(200), rand.New(rand.NewPCG(rng.Uint64(), 3)))
		m.start()
	}
	for range 3 + rng.IntN(10) {
		time.Sleep(time.Duration(rng.Int64N(int64(400 * time.Millisecond))))
		m := f.machines[rng.IntN(len(f.machines))]
		if m.p == nil {
			m.start()
			continue
		}
		if !m.died() && rng.IntN(2) == 0 {
			continue
		}
		switch rng.IntN(3) {
		case 0:
			m.kill(nil)
		case 1:
			m.kill(rng)
		case 2:
			m.kill(nil)
			if m == wiped {
				m.wipe()
			}
		}
		m.fs.KillAfter(1+rng.Int64N(200), rand.New(rand.NewPCG(rng.Uint64(), 3)))
	}
	f.heal(rng)
	f.formed()
	f.oneCluster()
	f.net.set(func() { f.net.loss, f.net.repeat = 0, 0 })
	for _, m := range f.machines {
		if err := m.create(fmt.Sprint("topic-", m.id), 5*time.Second); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	f.converged()
	f.oneCluster()
}

// heal restarts what has died and lets no disk die any more.
func (f *fleet) heal(rng *rand.Rand) {
	for _, m := range f.machines {
		if m.p != nil && m.died() {
			m.kill(rng)
		}
		m.fs.KillAfter(1<<60, rng)
		if m.p == nil {
			m.start()
		}
	}
}
