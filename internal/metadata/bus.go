package metadata

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// ErrClosed is what waiters get once the bus, or their cursor, is closed.
var ErrClosed = errors.New("the metadata of this node is closed")

// DefaultRetained is how many batches a bus keeps for cursors that lag.
const DefaultRetained = 1024

// eventsRetained bounds the events of all batches that are kept.
const eventsRetained = 100_000

// Batch is the events of one committed entry, with the image after it.
type Batch struct {
	Image  *Image
	Events []Event
}

// Bus publishes images and their events to any number of cursors. It holds the last batches in a ring; publishing never
// waits for a cursor, and a cursor that lags past the ring gets the difference of two images. The bus has no
// goroutine of its own.
type Bus struct {
	image atomic.Pointer[Image]

	mu struct {
		sync.Mutex
		ring     []Batch // in order of offset; only batches that have events
		retained int
		events   int // in the ring
		// floor is the image that the ring's first batch follows: a cursor at or after its offset misses nothing.
		floor   *Image
		wake    chan struct{} // closed when the image is another; nil while nobody waits
		cursors map[*Cursor]struct{}
		closed  bool
	}
}

// NewBus makes a bus that begins with an image and keeps the last batches; 0 means DefaultRetained.
func NewBus(img *Image, retained int) *Bus {
	b := &Bus{}
	b.image.Store(img)
	if retained <= 0 {
		retained = DefaultRetained
	}
	b.mu.retained = retained
	b.mu.floor = img
	b.mu.cursors = map[*Cursor]struct{}{}
	return b
}

// Image is the newest image.
func (b *Bus) Image() *Image { return b.image.Load() }

// Publish makes the batch's image the newest, for readers and cursors at once. Its offset must be above the last one's.
// There is one publisher.
func (b *Bus) Publish(batch Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if batch.Image.offset <= b.Image().offset {
		panic("metadata: an image is published out of order")
	}
	if len(batch.Events) > 0 {
		b.mu.events += len(batch.Events)
		for len(b.mu.ring) > 0 && (len(b.mu.ring) == b.mu.retained || b.mu.events > eventsRetained) {
			b.mu.floor = b.mu.ring[0].Image
			b.mu.events -= len(b.mu.ring[0].Events)
			b.mu.ring[0] = Batch{}
			b.mu.ring = b.mu.ring[1:] // append moves the rest to a fresh array now and then
		}
		b.mu.ring = append(b.mu.ring, batch)
	}
	b.image.Store(batch.Image)
	b.wakeLocked()
}

// Reset makes an image the newest without the records that led to it, as an installed snapshot does. Every cursor gets
// the difference.
func (b *Bus) Reset(img *Image) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if img.offset < b.Image().offset {
		panic("metadata: an image is installed out of order")
	}
	b.mu.ring, b.mu.events = nil, 0
	b.mu.floor = img
	b.image.Store(img)
	b.wakeLocked()
}

// Close ends all waits with ErrClosed. Images stay readable.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	b.mu.ring = nil
	b.wakeLocked()
}

func (b *Bus) wakeLocked() {
	if b.mu.wake != nil {
		close(b.mu.wake)
		b.mu.wake = nil
	}
}

func (b *Bus) wakeChannelLocked() <-chan struct{} {
	if b.mu.wake == nil {
		b.mu.wake = make(chan struct{})
	}
	return b.mu.wake
}

// WaitApplied returns once the newest image's offset has reached the offset: nil, the context's error, or ErrClosed.
func (b *Bus) WaitApplied(ctx context.Context, offset Offset) error {
	for b.Image().offset < offset {
		b.mu.Lock()
		wake, closed := b.wakeChannelLocked(), b.mu.closed
		reached := b.Image().offset >= offset
		b.mu.Unlock()
		if reached {
			return nil
		}
		if closed {
			return ErrClosed
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Subscribe returns a cursor on what follows the offset. The usual ways: after the offset of an Image that the caller
// has already looked at; or after 0, and the first batch tells all there is as a difference from the empty image.
func (b *Bus) Subscribe(name string, after Offset) *Cursor {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &Cursor{bus: b, name: name, image: Empty()}
	newest := b.Image()
	switch {
	case after >= newest.offset:
		c.image = newest
	case after >= b.mu.floor.offset:
		c.image = b.mu.floor
		for _, batch := range b.mu.ring {
			if batch.Image.offset > after {
				break
			}
			c.image = batch.Image
		}
	}
	b.mu.cursors[c] = struct{}{}
	return c
}

// Lag is how far each cursor is behind the newest image, in offsets, by name: the largest where names are shared.
func (b *Bus) Lag() map[string]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	lag := map[string]int64{}
	for c := range b.mu.cursors {
		behind := int64(0)
		if n := len(b.mu.ring); n > 0 {
			behind = int64(b.mu.ring[n-1].Image.offset - c.image.offset)
		}
		lag[c.name] = max(lag[c.name], behind)
	}
	return lag
}

// Cursor reads the batches that have events, in commit order, and misses none: where the bus no longer holds them, the
// next batch is one SnapshotInstalled. Next and Poll belong to one goroutine.
type Cursor struct {
	bus    *Bus
	name   string
	image  *Image // after the last batch that was read; guarded by bus.mu
	closed bool   // guarded by bus.mu
}

// Next waits for the next batch. The error is the context's, or ErrClosed.
func (c *Cursor) Next(ctx context.Context) (Batch, error) {
	for {
		batch, wake, err := c.look()
		if err != nil || batch.Image != nil {
			return batch, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

// Poll returns the next batch if there is one now.
func (c *Cursor) Poll() (Batch, bool) {
	batch, _, err := c.look()
	return batch, err == nil && batch.Image != nil
}

// Close lets the bus forget the cursor, and ends a Next in progress. It may be called from any goroutine, twice too.
func (c *Cursor) Close() {
	b := c.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	c.closed = true
	delete(b.mu.cursors, c)
	b.wakeLocked()
}

// look returns the next batch, or what to wait on.
func (c *Cursor) look() (Batch, <-chan struct{}, error) {
	b := c.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.closed || c.closed {
		return Batch{}, nil, ErrClosed
	}
	newest := b.Image()
	if c.image.offset < b.mu.floor.offset {
		batch := Batch{Image: newest, Events: []Event{SnapshotInstalled{
			EventMeta: EventMeta{Offset: newest.offset, Reason: "the events in between are no longer held"},
			Old:       c.image,
			New:       newest,
		}}}
		c.image = newest
		return batch, nil, nil
	}
	next, _ := slices.BinarySearchFunc(b.mu.ring, c.image.offset+1, func(batch Batch, at Offset) int {
		return int(batch.Image.offset - at)
	})
	if next == len(b.mu.ring) {
		return Batch{}, b.wakeChannelLocked(), nil
	}
	batch := b.mu.ring[next]
	c.image = batch.Image
	return batch, nil, nil
}
