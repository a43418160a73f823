package sim

import "sync"

// gate holds up a paused node: its disk, its network and its timers wait there. What a goroutine does between two waits
// it still does, as a process that is about to be stopped may.
type gate struct {
	mu     sync.Mutex
	opened sync.Cond
	closed bool
}

func newGate() *gate {
	g := &gate{}
	g.opened.L = &g.mu
	return g
}

func (g *gate) set(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = closed
	g.opened.Broadcast()
}

func (g *gate) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.closed {
		g.opened.Wait()
	}
}
