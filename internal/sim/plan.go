package sim

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// plan is all that a seed decides before the run begins.
type plan struct {
	seed     uint64
	nodes    int
	set      []string        // configuration of every node
	syncTime []time.Duration // of one fsync, by node

	delayMin, delayMax time.Duration // of a message
	slowOneIn          uint64
	slowMax            time.Duration

	partitions int
	producers  int
	groups     []groupKind
	duration   time.Duration // of the safety phase
	faults     []fault
	corrupts   bool // one of them flips a bit
}

// fault is one thing that the nemesis does, and undoes later.
type fault struct {
	at, lasts time.Duration
	kind      faultKind
	node      int // whom it befalls, from 1
	other     int // the other side, where there is one
	amount    time.Duration
}

func (f fault) String() string {
	return fmt.Sprintf("%v +%v %s n%d n%d %v", f.at, f.lasts, f.kind, f.node, f.other, f.amount)
}

// drawPlan makes the plan of a seed.
func drawPlan(seed uint64) *plan {
	rng := rand.New(rand.NewPCG(seed, 0x706c616e))
	p := &plan{seed: seed, nodes: 3, duration: 20 * time.Second, partitions: 1 + rng.IntN(4), producers: 2 + rng.IntN(2)}
	if rng.IntN(3) == 0 {
		p.nodes = 5
	}
	for range p.nodes {
		p.syncTime = append(p.syncTime, []time.Duration{100 * time.Microsecond, 2 * time.Millisecond, 10 * time.Millisecond}[rng.IntN(3)])
	}
	p.delayMin, p.delayMax = 20*time.Microsecond, 300*time.Microsecond
	if rng.IntN(3) == 0 {
		p.delayMin, p.delayMax = time.Millisecond, 5*time.Millisecond
	}
	if rng.IntN(4) == 0 {
		p.slowOneIn, p.slowMax = 200, 300*time.Millisecond
	}
	if rng.IntN(4) == 0 { // followers fall out of the ISR sooner
		p.set = append(p.set, "replica.lag.time.max.ms=2000")
	}
	lost := false // a disk, or a part of one: that is tolerated once
	for at := between(rng, 0, 2*time.Second); at < p.duration; at += between(rng, 300*time.Millisecond, 5*time.Second) {
		f := fault{at: at, kind: drawKind(rng), node: 1 + rng.IntN(p.nodes), lasts: between(rng, 0, 6*time.Second)}
		f.other = 1 + (f.node+rng.IntN(p.nodes-1))%p.nodes
		f.amount = between(rng, 20*time.Millisecond, 2*time.Second)
		if f.kind == faultJump || f.kind == faultStall {
			f.amount = between(rng, time.Second, 30*time.Second)
		}
		if f.kind == faultWipe || f.kind == faultCorrupt {
			if lost {
				f.kind = faultKill
			}
			lost = true
		}
		if f.kind == faultCorrupt {
			p.corrupts = true
			p.set = append(p.set, "log.scrub.interval.ms=2000")
		}
		p.faults = append(p.faults, f)
	}
	p.groups = []groupKind{classicGroup, consumerGroup, migratingGroup}
	return p
}

func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// drawKind picks by weight.
func drawKind(rng *rand.Rand) faultKind {
	total := 0
	for _, k := range faultKinds {
		total += k.weight
	}
	pick := rng.IntN(total)
	for i, k := range faultKinds {
		if pick -= k.weight; pick < 0 {
			return faultKind(i)
		}
	}
	panic("sim: weights do not add up")
}
