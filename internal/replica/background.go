package replica

import (
	"context"
	"sync"
)

// background does what a partition cannot wait for: proposals to the controller, changes of the log's start. A job for a
// partition is there at most once; a bounded number of goroutines work, and end when there is nothing to do. What waits for this
// node's disk has half of them at most, so that what asks the controller never waits behind it.
type background struct {
	ctx     context.Context // ends with the manager
	workers int
	done    *sync.WaitGroup

	mu struct {
		sync.Mutex
		urgent  []job // they ask the controller
		queue   []job // they wait for the disk
		waiting map[job]struct{}
		running int
		onDisk  int // of those that run
	}
}

type job struct {
	p    *Partition
	kind jobKind
}

type jobKind uint8

const (
	jobPropose  jobKind = iota // the outstanding change of the in-sync set
	jobLogStart                // a follower's log start
	jobResign                  // a leader whose disk refused an append
	jobRepair                  // a damaged replica
	jobScrub                   // damage that a read came upon
)

func (k jobKind) urgent() bool { return k == jobPropose || k == jobResign }

// add asks for a job. It never blocks.
func (b *background) add(p *Partition, kind jobKind) {
	j := job{p, kind}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, there := b.mu.waiting[j]; there || b.ctx.Err() != nil {
		return
	}
	if b.mu.waiting == nil {
		b.mu.waiting = map[job]struct{}{}
	}
	b.mu.waiting[j] = struct{}{}
	if kind.urgent() {
		b.mu.urgent = append(b.mu.urgent, j)
	} else {
		b.mu.queue = append(b.mu.queue, j)
	}
	b.callLocked()
}

// callLocked has one more at work, if there may be.
func (b *background) callLocked() {
	if b.mu.running < b.workers && (len(b.mu.urgent) > 0 || len(b.mu.queue) > 0 && b.mu.onDisk < b.onDiskMax()) {
		b.mu.running++
		b.done.Go(b.work)
	}
}

func (b *background) onDiskMax() int { return max(1, b.workers/2) }

func (b *background) work() {
	for {
		j, ok := b.take()
		if !ok {
			return
		}
		switch j.kind {
		case jobPropose:
			j.p.propose(b.ctx)
		case jobLogStart:
			j.p.followLogStart(b.ctx)
		case jobResign:
			j.p.resignLeadership(b.ctx)
		case jobRepair:
			j.p.repair(b.ctx)
		case jobScrub:
			j.p.scrub()
		}
		b.did(j)
	}
}

// take is the next job; false if there is none to do now, and the caller ends: whoever ends a job on the disk goes on with the next.
func (b *background) take() (j job, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ctx.Err() != nil:
	case len(b.mu.urgent) > 0:
		j, ok = b.mu.urgent[0], true
		b.mu.urgent = b.mu.urgent[1:]
	case len(b.mu.queue) > 0 && b.mu.onDisk < b.onDiskMax():
		j, ok = b.mu.queue[0], true
		b.mu.queue = b.mu.queue[1:]
		b.mu.onDisk++
	}
	if !ok {
		b.mu.running--
		return j, false
	}
	delete(b.mu.waiting, j)
	b.callLocked()
	return j, true
}

func (b *background) did(j job) {
	if !j.kind.urgent() {
		b.mu.Lock()
		b.mu.onDisk--
		b.mu.Unlock()
	}
}
