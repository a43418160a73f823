package replica

import (
	"slices"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
)

// waiter is one goroutine that waits for a partition to reach an offset. It is reused through its queue's free list, so
// that a steady load of acknowledgements allocates nothing; the list belongs to the partition and ends with it.
type waiter struct {
	end      kafka.Offset
	done     chan error // capacity 1: whoever answers never blocks
	deadline time.Time  // zero without one, and while nobody uses the waiter
	enough   bool       // it ends when the in-sync set becomes too small

	// The timer is left running when an answer comes, as it nearly always does, and looks at the deadline when it
	// fires: to set and stop it for each wait would cost more than all the rest of waiting.
	timer  clock.Timer // nil until a wait with a deadline
	firing time.Time   // when it will; zero if it will not
}

// waitQueue is who waits, by offset. It is not safe for concurrent use: it lives under Partition.mu.
type waitQueue struct {
	waiting []*waiter // sorted by end; waiting[:head] are gone
	head    int
	free    []*waiter
	closed  bool // nobody waits any more: no timer is left running
}

const freeWaitersMax = 256

// add registers a waiter for the offset. Nearly always it is the newest offset, so the place is searched from the back.
func (q *waitQueue) add(end kafka.Offset) *waiter {
	var w *waiter
	if n := len(q.free); n > 0 {
		w, q.free = q.free[n-1], q.free[:n-1]
	} else {
		w = &waiter{done: make(chan error, 1)}
	}
	w.end = end
	if q.head > 0 && len(q.waiting) == cap(q.waiting) {
		n := copy(q.waiting, q.waiting[q.head:])
		clear(q.waiting[n:])
		q.waiting, q.head = q.waiting[:n], 0
	}
	at := len(q.waiting)
	for at > q.head && q.waiting[at-1].end > end {
		at--
	}
	q.waiting = slices.Insert(q.waiting, at, w)
	return w
}

// reached answers everyone who waits for an offset up to end, lowest first.
func (q *waitQueue) reached(end kafka.Offset) {
	for q.head < len(q.waiting) && q.waiting[q.head].end <= end {
		q.answer(nil)
	}
}

// fail answers everyone with err.
func (q *waitQueue) fail(err error) {
	for q.head < len(q.waiting) {
		q.answer(err)
	}
}

// failEnough answers those with err who wait for enough replicas.
func (q *waitQueue) failEnough(err error) {
	kept := q.waiting[:q.head]
	for _, w := range q.waiting[q.head:] {
		if w.enough {
			w.done <- err
		} else {
			kept = append(kept, w)
		}
	}
	clear(q.waiting[len(kept):])
	q.waiting = kept
	if q.head == len(q.waiting) {
		q.waiting, q.head = q.waiting[:0], 0
	}
}

func (q *waitQueue) answer(err error) {
	w := q.waiting[q.head]
	q.waiting[q.head] = nil
	q.head++
	if q.head == len(q.waiting) {
		q.waiting, q.head = q.waiting[:0], 0
	}
	w.done <- err
}

// remove takes out a waiter that gave up and tells whether it was still waiting; if not, its answer is in done.
func (q *waitQueue) remove(w *waiter) bool {
	at := slices.Index(q.waiting[q.head:], w)
	if at < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, q.head+at, q.head+at+1)
	if q.head == len(q.waiting) {
		q.waiting, q.head = q.waiting[:0], 0
	}
	return true
}

// release takes back a waiter whose answer was received, or that was removed.
func (q *waitQueue) release(w *waiter) {
	w.deadline, w.enough = time.Time{}, false
	if len(q.free) < freeWaitersMax && !q.closed {
		q.free = append(q.free, w)
	} else {
		w.stop()
	}
}

// close answers everyone with err, and keeps no waiter from now on.
func (q *waitQueue) close(err error) {
	q.fail(err)
	q.closed = true
	for _, w := range q.free {
		w.stop()
	}
	q.free = nil
}

// stop stops the timer of a waiter that is not used again: it would hold the partition until it fires.
func (w *waiter) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// len is how many wait.
func (q *waitQueue) len() int { return len(q.waiting) - q.head }
