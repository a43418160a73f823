package metadata

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// producerIDs is an entry with one event: a broker of that ID.
func registration(id int32) *pb.Entry {
	return &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_BrokerRegistered{BrokerRegistered: &pb.BrokerRegistered{
		Id: id, Incarnation: make([]byte, 16), Directory: make([]byte, 16)}}}}}
}

func publish(b *Bus, offset Offset) {
	img, events := b.Image().Apply(offset, registration(int32(offset)))
	b.Publish(Batch{Image: img, Events: events})
}

// advance publishes an image without events, as Raft's own entries do.
func advance(b *Bus, offset Offset) {
	img, _ := b.Image().Apply(offset, nil)
	b.Publish(Batch{Image: img})
}

func brokerOfBatch(t *testing.T, batch Batch) kafka.BrokerID {
	t.Helper()
	if len(batch.Events) != 1 {
		t.Fatalf("%d events", len(batch.Events))
	}
	e, ok := batch.Events[0].(BrokerRegistered)
	if !ok {
		t.Fatalf("event %T", batch.Events[0])
	}
	if e.Offset != batch.Image.Offset() {
		t.Fatalf("an event of offset %d in the batch of %d", e.Offset, batch.Image.Offset())
	}
	return e.Broker.ID
}

func TestCursorReadsAllInOrder(t *testing.T) {
	b := NewBus(Empty(), 100)
	publish(b, 1)
	c := b.Subscribe("test", 0)
	defer c.Close()
	advance(b, 2)
	for offset := Offset(3); offset <= 50; offset++ {
		publish(b, offset)
	}
	want := kafka.BrokerID(1)
	for {
		batch, ok := c.Poll()
		if !ok {
			break
		}
		if got := brokerOfBatch(t, batch); got != want {
			t.Fatalf("event of broker %d, want %d", got, want)
		}
		if want++; want == 2 {
			want++ // offset 2 had no event
		}
	}
	if want != 51 {
		t.Fatalf("the cursor ended before %d", want)
	}
}

func TestSubscribeAfter(t *testing.T) {
	b := NewBus(Empty(), 100)
	for offset := Offset(1); offset <= 10; offset++ {
		publish(b, offset)
	}
	for after := Offset(0); after <= 10; after++ {
		c := b.Subscribe("test", after)
		batch, ok := c.Poll()
		if ok != (after < 10) || ok && Offset(brokerOfBatch(t, batch)) != after+1 {
			t.Fatalf("after %d: %v %+v", after, ok, batch)
		}
		c.Close()
	}
}

func TestLaggingCursorGetsTheDifference(t *testing.T) {
	b := NewBus(Empty(), 4)
	c := b.Subscribe("slow", 0)
	defer c.Close()
	publish(b, 1)
	first, _ := c.Poll()
	for offset := Offset(2); offset <= 20; offset++ {
		publish(b, offset)
	}
	if lag := b.Lag()["slow"]; lag != 19 {
		t.Fatalf("lag %d, want 19", lag)
	}
	batch, ok := c.Poll()
	if !ok || len(batch.Events) != 1 {
		t.Fatalf("%+v", batch)
	}
	e, ok := batch.Events[0].(SnapshotInstalled)
	if !ok || e.Old != first.Image || e.New != b.Image() || batch.Image != b.Image() {
		t.Fatalf("event %T, from offset %d to %d", batch.Events[0], e.Old.Offset(), e.New.Offset())
	}
	if _, more := c.Poll(); more {
		t.Fatal("more after the difference")
	}
	publish(b, 21)
	if batch, _ := c.Poll(); brokerOfBatch(t, batch) != 21 {
		t.Fatal("the cursor does not go on after the difference")
	}
	// At the very edge nothing is missed, one further it is.
	if batch, _ := b.Subscribe("edge", 17).Poll(); brokerOfBatch(t, batch) != 18 {
		t.Fatal("a cursor at the edge of the ring should read on")
	}
	late := b.Subscribe("late", 16)
	if batch, _ := late.Poll(); len(batch.Events) != 1 || batch.Events[0].(SnapshotInstalled).Old.Offset() != 0 {
		t.Fatalf("%+v", batch)
	}
}

func TestReset(t *testing.T) {
	b := NewBus(Empty(), 10)
	publish(b, 1)
	c := b.Subscribe("test", 1)
	old := b.Image()
	img, _ := Empty().Apply(7, registration(7))
	b.Reset(img)
	batch, _ := c.Poll()
	e, ok := batch.Events[0].(SnapshotInstalled)
	if !ok || e.Old != old || e.New != img {
		t.Fatalf("%+v", batch)
	}
	if _, more := c.Poll(); more {
		t.Fatal("more after the difference")
	}
}

func TestRetentionCountsEvents(t *testing.T) {
	b := NewBus(Empty(), 1000)
	c := b.Subscribe("test", 0)
	e := &pb.Entry{}
	for range eventsRetained/10 + 1 {
		e.Records = append(e.Records, registration(1).Records...)
	}
	for offset := Offset(1); offset <= 20; offset++ {
		img, events := b.Image().Apply(offset, e)
		b.Publish(Batch{Image: img, Events: events})
	}
	if batch, _ := c.Poll(); len(batch.Events) != 1 {
		t.Fatalf("%d events are still held", len(batch.Events))
	}
}

func TestPublisherNeverWaits(t *testing.T) {
	b := NewBus(Empty(), 16)
	for range 10 {
		b.Subscribe("idle", 0)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for offset := Offset(1); offset <= 1000; offset++ {
			publish(b, offset)
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the publisher waits for cursors")
	}
}

// TestCursorsWhilePublishing: every cursor sees rising offsets and ends with the newest image, by events or differences.
func TestCursorsWhilePublishing(t *testing.T) {
	b := NewBus(Empty(), 8)
	const last = 2000
	var wait sync.WaitGroup
	errs := make(chan error, 8)
	for i := range 8 {
		c := b.Subscribe(fmt.Sprint(i), 0)
		wait.Go(func() {
			defer c.Close()
			seen := map[kafka.BrokerID]bool{}
			for at := Offset(0); at < last; {
				batch, err := c.Next(context.Background())
				if err != nil {
					errs <- err
					return
				}
				if batch.Image.Offset() <= at {
					errs <- fmt.Errorf("offset %d after %d", batch.Image.Offset(), at)
					return
				}
				at = batch.Image.Offset()
				for _, event := range batch.Events {
					if s, ok := event.(SnapshotInstalled); ok {
						for e := range Difference(s.Old, s.New) {
							seen[e.(BrokerRegistered).Broker.ID] = true
						}
					} else {
						seen[event.(BrokerRegistered).Broker.ID] = true
					}
				}
			}
			if len(seen) != last {
				errs <- fmt.Errorf("saw %d of %d", len(seen), last)
			}
		})
	}
	for offset := Offset(1); offset <= last; offset++ {
		publish(b, offset)
	}
	wait.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestWaitApplied(t *testing.T) {
	b := NewBus(Empty(), 8)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- b.WaitApplied(ctx, 5) }()
	for offset := Offset(1); offset <= 5; offset++ {
		advance(b, offset)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, time.Millisecond)
	defer stop()
	if err := b.WaitApplied(short, 6); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	go func() { done <- b.WaitApplied(ctx, 6) }()
	b.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestCloseEndsNext(t *testing.T) {
	b := NewBus(Empty(), 8)
	c, other := b.Subscribe("closed", 0), b.Subscribe("other", 0)
	done := make(chan error)
	next := func(c *Cursor) {
		_, err := c.Next(context.Background())
		done <- err
	}
	go next(c)
	c.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	go next(other)
	b.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
