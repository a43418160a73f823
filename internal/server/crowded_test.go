package server

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
)

// manyTopics is a Metadata request that takes about 100 bytes for each topic once decoded.
func manyTopics(n int) *kmsg.MetadataRequest {
	r := kmsg.NewPtrMetadataRequest()
	r.SetVersion(9)
	for range n {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr("a-topic")
		r.Topics = append(r.Topics, t)
	}
	return r
}

// Requests that take much memory once decoded, and then wait, as a Fetch does, fill the budget for that: other clients'
// small requests do not notice.
func TestLargeDecodedRequestsThatWaitDoNotStarveOthers(t *testing.T) {
	gate := make(chan struct{})
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		m := r.Body.ResponseKind()
		if q, ok := r.Body.(*kmsg.MetadataRequest); !ok || len(q.Topics) < 1000 {
			return func(context.Context) api.Response { return api.Response{Message: m} }
		}
		return func(ctx context.Context) api.Response {
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return api.Response{Message: m}
		}
	}, func(o *Options) { o.Limits.DecodedInFlightBytes = 4 << 20 })
	var clients []*client
	for range 10 {
		c := dial(t, s)
		c.send(1, manyTopics(10_000))
		clients = append(clients, c)
	}
	eventually(t, "some wait", s.decoded.large.Waiting)
	if held := s.Stats().DecodedBytesHeld; held > 4<<20 {
		t.Errorf("%d KiB are held", held>>10)
	}
	other := dial(t, s)
	for i := range int32(100) {
		other.ask(i, manyTopics(100))
	}
	close(gate)
	for _, c := range clients {
		c.receive()
	}
	eventually(t, "all is released", func() bool { return s.Stats().DecodedBytesHeld == 0 })
}

// Clients that connect and say nothing, as many as may be, keep others out for some seconds, not for as long as an idle
// connection is kept.
func TestSilentConnectionsMakeRoom(t *testing.T) {
	clock := newManualClock()
	s := start(t, empty, func(o *Options) {
		o.Clock = clock
		o.Limits.Connections = 10
	})
	client := dial(t, s)
	client.ask(1, heartbeat("g"))
	for range 9 {
		dial(t, s)
	}
	eventually(t, "all are connected", func() bool { return s.Stats().ConnectionsOpen == 10 })
	dial(t, s).closed()
	clock.pass(t, "the silent ones are closed", func() bool { return s.Stats().ConnectionsOpen == 1 })
	if st := s.Stats(); st.ConnectionsIdle != 9 {
		t.Errorf("%d closed as idle", st.ConnectionsIdle)
	}
	client.ask(2, heartbeat("g"))
	dial(t, s).ask(1, heartbeat("g"))
}

// A connection whose closing takes its time, because a disk is slow, is closed and counted once.
func TestASlowClosingIsCountedOnce(t *testing.T) {
	s := start(t, empty, func(o *Options) { o.Clock = newManualClock() })
	dial(t, s)
	eventually(t, "it is connected", func() bool { return s.Stats().ConnectionsOpen == 1 })
	c := s.open()[0]
	now := time.Now()
	for range 3 { // the sweeper's own rounds are far apart
		now = now.Add(time.Hour)
		s.sweepOne(c, now, false, false)
	}
	if st := s.Stats(); st.ConnectionsIdle != 1 {
		t.Errorf("closed %d times", st.ConnectionsIdle)
	}
}

// Large requests whose answers wait for one another, as those of a group's members do, hold nothing once their handlers have copied what
// they need: else the last of them could not be read, and nobody else's.
func TestDetachedRequestsHoldNothing(t *testing.T) {
	const members = 20
	var joined atomic.Int32
	all := make(chan struct{})
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		m := r.Body.ResponseKind()
		if _, ok := r.Body.(*kmsg.JoinGroupRequest); !ok {
			return func(context.Context) api.Response { return api.Response{Message: m} }
		}
		r.Detached = true
		if joined.Add(1) == members {
			close(all)
		}
		return func(ctx context.Context) api.Response {
			select {
			case <-all:
			case <-ctx.Done():
			}
			return api.Response{Message: m}
		}
	}, func(o *Options) {
		o.Limits.RequestBytes, o.Limits.RequestsInFlightBytes, o.Limits.DecodedInFlightBytes = 1<<20, 4<<20, 4<<20
	})
	var clients []*client
	for range members {
		c := dial(t, s)
		r := kmsg.NewPtrJoinGroupRequest()
		r.SetVersion(5)
		for range 8 {
			r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: "p", Metadata: make([]byte, 100_000)})
		}
		c.send(1, r)
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.receive()
	}
	eventually(t, "all is released", func() bool { st := s.Stats(); return st.RequestBytesHeld == 0 && st.DecodedBytesHeld == 0 })
}
