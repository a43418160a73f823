package controller

import "sync"

// inbox is the way to the loop: events in the order of post, taken all at once. It never blocks; what may come in numbers
// is bounded where it is posted (calls by Limits.Commands, the rest by what is outstanding).
type inbox struct {
	mu struct {
		sync.Mutex
		events []func()
		closed bool
	}
	wake chan struct{} // holds a token while there are events, or once closed
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// post returns false once the inbox is closed.
func (b *inbox) post(event func()) bool {
	b.mu.Lock()
	closed := b.mu.closed
	if !closed {
		b.mu.events = append(b.mu.events, event)
	}
	b.mu.Unlock()
	b.signal()
	return !closed
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take waits for events and returns them with true; or, once the inbox is closed, the last ones with false.
func (b *inbox) take(spare []func()) ([]func(), bool) {
	for {
		<-b.wake
		b.mu.Lock()
		events, closed := b.mu.events, b.mu.closed
		b.mu.events = spare[:0]
		b.mu.Unlock()
		if closed || len(events) > 0 {
			return events, !closed
		}
		spare = events
	}
}

func (b *inbox) close() {
	b.mu.Lock()
	b.mu.closed = true
	b.mu.Unlock()
	b.signal()
}
