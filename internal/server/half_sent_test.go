package server

import (
	"testing"
	"time"
)

// Many clients have each sent the beginning of a large request when the memory for the rest is asked for: those who wait
// for it must not hold, together, what the first of them needs.
func TestManyHalfSentLargeFramesDoNotWaitForEachOther(t *testing.T) {
	s := start(t, empty, func(o *Options) {
		o.Limits.RequestBytes = 3 << 20
		o.Limits.RequestsInFlightBytes = 4 << 20
	})
	const n = 40
	frame := formatter.AppendRequest(nil, produce(9, "t", make([]byte, 3<<20-1000)), 1)
	var clients []*client
	for range n {
		c := dial(t, s)
		if _, err := c.Write(frame[:40<<10]); err != nil { // not enough for any to ask for all of it
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	eventually(t, "the beginnings arrive", func() bool { return s.Stats().BytesIn == n*40<<10 || s.frames.Waiting() })
	for _, c := range clients {
		go func() { _, _ = c.Write(frame[40<<10:]) }()
	}
	for _, c := range clients {
		if id, _, err := c.tryReceive(); id != 1 || err != nil {
			t.Fatalf("answer %d, %v; held %d", id, err, s.Stats().RequestBytesHeld)
		}
	}
	eventually(t, "all is released", func() bool { return s.Stats().RequestBytesHeld == 0 })
}

// Clients that never send the rest of their large requests, more of them than the budget would hold even of the
// beginnings, stay within it. Small requests, and those of middling size of clients that have sent one before, do not
// notice; large ones are answered once those who send nothing are given up.
func TestHalfSentFramesStayWithinTheBudget(t *testing.T) {
	clock := newManualClock()
	s := start(t, empty, func(o *Options) {
		o.Clock = clock
		o.Limits.RequestBytes = 3 << 20
		o.Limits.RequestsInFlightBytes = 4 << 20
	})
	small, middling := dial(t, s), dial(t, s)
	middling.ask(1, produce(9, "t", make([]byte, 100<<10)))
	const n = 200 // of 64 KiB: 12 MiB
	frame := formatter.AppendRequest(nil, produce(9, "t", make([]byte, 3<<20-1000)), 1)
	for range n {
		if _, err := dial(t, s).Write(frame[:100<<10]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "others wait", s.frames.Waiting)
	time.Sleep(50 * time.Millisecond)
	if held := s.Stats().RequestBytesHeld; held > 4<<20 {
		t.Errorf("%d KiB are held", held>>10)
	}
	for i := range int32(20) {
		small.ask(i, produce(9, "t", make([]byte, 10_000)))
		middling.ask(i, produce(9, "t", make([]byte, 100<<10)))
	}
	clock.pass(t, "all but the last, for whose memory nobody waits, are given up", func() bool { return s.Stats().ConnectionsStalled == n-1 })
	large := dial(t, s)
	answered := make(chan error, 1)
	go func() {
		_, _ = large.Write(frame)
		_, _, err := large.tryReceive()
		answered <- err
	}()
	clock.pass(t, "the last is given up", func() bool { return s.Stats().ConnectionsStalled == n })
	if err := <-answered; err != nil {
		t.Error(err)
	}
}
