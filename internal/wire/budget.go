package wire

import (
	"errors"
	"sync"
	"sync/atomic"
)

// ErrGivenUp is returned to a caller whose done channel closed while it waited for a budget.
var ErrGivenUp = errors.New("given up while waiting for memory")

// Budget bounds bytes that many connections hold together. Who asks for more than is left waits, in the order of
// asking, so that a large request is not starved by small ones.
type Budget struct {
	limit   int64
	used    atomic.Int64
	waiting atomic.Int32
	mu      struct {
		sync.Mutex
		queue []*budgetWaiter
	}
}

type budgetWaiter struct {
	n       int64
	granted chan struct{}
}

// NewBudget is a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used is the number of bytes held now.
func (b *Budget) Used() int64 { return b.used.Load() }

// Waiting tells whether somebody waits.
func (b *Budget) Waiting() bool { return b.waiting.Load() > 0 }

// TryAcquire takes n bytes if they are free and nobody waits.
func (b *Budget) TryAcquire(n int64) bool {
	return b.waiting.Load() == 0 && b.take(n)
}

func (b *Budget) take(n int64) bool {
	for {
		used := b.used.Load()
		if used+n > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// Force takes n bytes beyond the limit if need be. It is for holders that must not wait because they hold already.
func (b *Budget) Force(n int64) { b.used.Add(n) }

// Acquire takes n bytes, waiting until they are free or done closes (ErrGivenUp). More than the whole budget is never
// granted; the caller bounds what it asks for.
func (b *Budget) Acquire(n int64, done <-chan struct{}) error {
	if b.TryAcquire(n) {
		return nil
	}
	w := &budgetWaiter{n: n, granted: make(chan struct{})}
	b.mu.Lock()
	b.mu.queue = append(b.mu.queue, w)
	b.waiting.Add(1)
	b.grantLocked() // bytes may have been released before the queue showed
	b.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-done:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, other := range b.mu.queue {
		if other == w {
			b.mu.queue = append(b.mu.queue[:i], b.mu.queue[i+1:]...)
			b.waiting.Add(-1)
			b.grantLocked() // those behind may fit now
			return ErrGivenUp
		}
	}
	b.used.Add(-n) // granted meanwhile
	b.grantLocked()
	return ErrGivenUp
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	b.used.Add(-n)
	if b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	b.grantLocked()
	b.mu.Unlock()
}

func (b *Budget) grantLocked() {
	for len(b.mu.queue) > 0 && b.take(b.mu.queue[0].n) {
		close(b.mu.queue[0].granted)
		b.mu.queue[0] = nil
		b.mu.queue = b.mu.queue[1:]
		b.waiting.Add(-1)
	}
}
