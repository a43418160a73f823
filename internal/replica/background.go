package replica

import (
	"context"
	"sync"
)

// background does what a partition cannot wait for: proposals to the controller, changes of the log's start. A job for a
// partition is there at most once; a bounded number of goroutines work, and end when there is nothing to do.
type background struct {
	ctx     context.Context // ends with the manager
	workers int
	done    *sync.WaitGroup

	mu struct {
		sync.Mutex
		queue   []job
		waiting map[job]struct{}
		running int
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
	b.mu.queue = append(b.mu.queue, j)
	if b.mu.running < b.workers {
		b.mu.running++
		b.done.Go(b.work)
	}
}

func (b *background) work() {
	for {
		b.mu.Lock()
		if len(b.mu.queue) == 0 || b.ctx.Err() != nil {
			b.mu.running--
			b.mu.Unlock()
			return
		}
		j := b.mu.queue[0]
		b.mu.queue = b.mu.queue[1:]
		delete(b.mu.waiting, j)
		b.mu.Unlock()
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
	}
}
