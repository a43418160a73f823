package coordinator

import (
	"container/heap"
	"time"
)

// TimerKey names a timer of a machine, such as the session of one member of one group.
type TimerKey struct {
	Kind string
	A, B string
}

// Timers are a machine's timers, by deadline and then in the order in which they were set. They do not tick: whoever
// owns them runs what is due.
type Timers struct {
	byKey map[TimerKey]*timerEntry
	heap  timerHeap
	seq   uint64
}

// NewTimers makes an empty set.
func NewTimers() *Timers { return &Timers{byKey: make(map[TimerKey]*timerEntry)} }

type timerEntry struct {
	key      TimerKey
	deadline time.Time
	seq      uint64
	op       func(*Tx)
	index    int
}

func (t *Timers) set(key TimerKey, deadline time.Time, op func(*Tx)) {
	t.seq++
	if e := t.byKey[key]; e != nil {
		e.deadline, e.seq, e.op = deadline, t.seq, op
		heap.Fix(&t.heap, e.index)
		return
	}
	e := &timerEntry{key: key, deadline: deadline, seq: t.seq, op: op}
	t.byKey[key] = e
	heap.Push(&t.heap, e)
}

// delay moves all deadlines.
func (t *Timers) delay(d time.Duration) {
	for _, e := range t.heap { // their order stays
		e.deadline = e.deadline.Add(d)
	}
}

func (t *Timers) has(key TimerKey) bool { return t.byKey[key] != nil }

func (t *Timers) cancel(key TimerKey) {
	if e := t.byKey[key]; e != nil {
		heap.Remove(&t.heap, e.index)
		delete(t.byKey, key)
	}
}

// Next is the earliest deadline; false if no timer is set.
func (t *Timers) Next() (time.Time, bool) {
	if len(t.heap) == 0 {
		return time.Time{}, false
	}
	return t.heap[0].deadline, true
}

// Due takes out the next timer whose deadline is not after now; nil if there is none.
func (t *Timers) Due(now time.Time) func(*Tx) {
	if len(t.heap) == 0 || t.heap[0].deadline.After(now) {
		return nil
	}
	e := heap.Pop(&t.heap).(*timerEntry)
	delete(t.byKey, e.key)
	return e.op
}

// Len is the number of timers set.
func (t *Timers) Len() int { return len(t.heap) }

type timerHeap []*timerEntry

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if !h[i].deadline.Equal(h[j].deadline) {
		return h[i].deadline.Before(h[j].deadline)
	}
	return h[i].seq < h[j].seq
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	e := x.(*timerEntry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *timerHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
