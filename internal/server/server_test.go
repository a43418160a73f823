package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
)

func TestAnswersComeInTheOrderOfTheRequests(t *testing.T) {
	const n = 50
	var gates [n]chan struct{}
	for i := range gates {
		gates[i] = make(chan struct{})
	}
	order := make(chan string, n)
	i := -1
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		order <- r.Body.(*kmsg.HeartbeatRequest).Group
		i++ // one read loop: no lock
		i := i
		return func(context.Context) api.Response {
			<-gates[i]
			return api.Response{Message: r.Body.ResponseKind()}
		}
	}, nil)
	c := dial(t, s)
	var all []byte
	for i := range int32(n) {
		all = append(all, formatter.AppendRequest(nil, heartbeat(fmt.Sprint(i)), 100+i)...)
	}
	if _, err := c.Write(all); err != nil {
		t.Fatal(err)
	}
	for i := n - 1; i >= 0; i-- { // the last is ready first
		close(gates[i])
	}
	for i := range int32(n) {
		if id, _ := c.receive(); id != 100+i {
			t.Fatalf("answer %d came in place of %d", id, 100+i)
		}
	}
	for i := range n {
		if group := <-order; group != fmt.Sprint(i) {
			t.Fatalf("request %s was dispatched in place %d", group, i)
		}
	}
}

// An answer is not held back by the next request's wait, whether the two came together or not.
func TestAnAnswerDoesNotWaitForTheNextRequest(t *testing.T) {
	gate := make(chan struct{})
	for _, ready := range []func() bool{nil, func() bool { return false }} {
		s := start(t, func(_ context.Context, r *api.Request) api.Reply {
			r.Ready = ready
			group := r.Body.(*kmsg.HeartbeatRequest).Group
			return func(ctx context.Context) api.Response {
				if group == "wait" {
					select {
					case <-gate:
					case <-ctx.Done():
					}
				}
				return api.Response{Message: r.Body.ResponseKind()}
			}
		}, nil)
		c := dial(t, s)
		both := append(formatter.AppendRequest(nil, heartbeat("go"), 1), formatter.AppendRequest(nil, heartbeat("wait"), 2)...)
		if _, err := c.Write(both); err != nil {
			t.Fatal(err)
		}
		if id, _ := c.receive(); id != 1 {
			t.Fatalf("answer %d came first", id)
		}
	}
}

func TestReadyAnswersAreComplete(t *testing.T) {
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		r.Ready = func() bool { return true }
		return empty(ctx, r)
	}, nil)
	c := dial(t, s)
	const n = 5000
	go func() {
		for i := range int32(n) {
			_, _ = c.Write(formatter.AppendRequest(nil, heartbeat("g"), i))
		}
	}()
	for i := range int32(n) {
		if id, _ := c.receive(); id != i {
			t.Fatalf("answer %d came in place of %d", id, i)
		}
	}
}

func TestAFullQueueStopsReading(t *testing.T) {
	var dispatched atomic.Int64
	gate := make(chan struct{})
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		dispatched.Add(1)
		return func(ctx context.Context) api.Response {
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return api.Response{Message: r.Body.ResponseKind()}
		}
	}, nil)
	c := dial(t, s)
	const n = 300
	for i := range int32(n) {
		c.send(i, heartbeat("g"))
	}
	most := int64(s.opts.Limits.QueuedReplies) + 2 // one is being answered, one waits for its place
	eventually(t, "the queue fills", func() bool { return dispatched.Load() == most })
	time.Sleep(20 * time.Millisecond)
	if got := dispatched.Load(); got != most {
		t.Fatalf("%d requests were dispatched, the bound is %d", got, most)
	}
	close(gate)
	for i := range int32(n) {
		if id, _ := c.receive(); id != i {
			t.Fatalf("answer %d came in place of %d", id, i)
		}
	}
}

func TestProduceWithoutAcksHasNoAnswer(t *testing.T) {
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		if p, ok := r.Body.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
			return func(context.Context) api.Response { return api.Response{} }
		}
		return empty(ctx, r)
	}, nil)
	c := dial(t, s)
	for i := range int32(100) {
		p := produce(9, "t", []byte("records"))
		p.Acks = 0
		c.send(i, p)
	}
	c.send(777, heartbeat("g"))
	if id, _ := c.receive(); id != 777 {
		t.Fatalf("answer %d", id)
	}
	eventually(t, "frames are released", func() bool { return s.Stats().RequestBytesHeld == 0 })
}

// The records of a request are the ones that were sent, also while other requests use the pooled memory.
func TestRequestsKeepTheirBytesUntilAnswered(t *testing.T) {
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		p := r.Body.(*kmsg.ProduceRequest)
		return func(context.Context) api.Response {
			time.Sleep(50 * time.Microsecond)
			m := r.Body.ResponseKind().(*kmsg.ProduceResponse)
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic = p.Topics[0].Topic + ":" + string(p.Topics[0].Partitions[0].Records)
			m.Topics = append(m.Topics, topic)
			return api.Response{Message: m}
		}
	}, nil)
	for range 4 {
		c := dial(t, s)
		go func() {
			for i := range int32(500) {
				_, _ = c.Write(formatter.AppendRequest(nil, produce(9, fmt.Sprint(i), []byte(strings.Repeat(fmt.Sprint(i%10), int(i)*7%3000))), i))
			}
		}()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for i := range int32(500) {
				_, body := c.receive()
				got := decode(t, produce(9, "", nil), body).(*kmsg.ProduceResponse).Topics[0].Topic
				if want := fmt.Sprint(i) + ":" + strings.Repeat(fmt.Sprint(i%10), int(i)*7%3000); got != want {
					t.Errorf("request %d: %.40s instead of %.40s", i, got, want)
					return
				}
			}
		})
	}
}

func TestHandlersSeeTheConnection(t *testing.T) {
	seen := make(chan api.Request, 1)
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		seen <- *r
		return empty(ctx, r)
	}, nil)
	dial(t, s).ask(1, heartbeat("g"))
	request := <-seen
	got := request.Conn
	port := int32(s.Addrs()[0].(*net.TCPAddr).Port)
	if got.Listener != "127.0.0.1:0" || got.Local != (api.Address{Host: "127.0.0.1", Port: port}) ||
		got.Remote.String() != "127.0.0.1" || got.TLS || got.Principal != "User:ANONYMOUS" || got.ID == 0 {
		t.Errorf("%+v", got)
	}
	if request.ClientID != "test" || request.Key != 12 || request.Version != 4 {
		t.Errorf("%+v", request)
	}
}

func TestAClientThatLeavesEndsItsReplies(t *testing.T) {
	ended := make(chan struct{}, 10)
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		return func(ctx context.Context) api.Response {
			<-ctx.Done()
			ended <- struct{}{}
			return api.Response{Message: r.Body.ResponseKind()}
		}
	}, nil)
	c := dial(t, s)
	for i := range int32(3) {
		c.send(i, heartbeat("g"))
	}
	eventually(t, "the requests arrive", func() bool { return s.Stats().BytesIn > 60 })
	_ = c.Close()
	for range 3 { // every reply runs
		<-ended
	}
	eventually(t, "the connection is forgotten", func() bool { return s.Stats().ConnectionsOpen == 0 })
	if in := s.Stats().BytesIn; in < 60 {
		t.Errorf("the bytes of a closed connection are forgotten: %d", in)
	}
}

func TestAHandlerCanCloseAfterAnswering(t *testing.T) {
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		return func(context.Context) api.Response {
			return api.Response{Message: r.Body.ResponseKind(), Close: r.Body.(*kmsg.HeartbeatRequest).Group == "last"}
		}
	}, nil)
	c := dial(t, s)
	c.send(1, heartbeat("g"))
	c.send(2, heartbeat("last"))
	var more []byte
	for i := range int32(2000) { // unread requests must not turn the close into a reset
		more = append(more, formatter.AppendRequest(nil, heartbeat("g"), 3+i)...)
	}
	if _, err := c.Write(more); err != nil {
		t.Fatal(err)
	}
	for want := range int32(2) {
		if id, _ := c.receive(); id != want+1 {
			t.Fatalf("answer %d", id)
		}
	}
	if _, _, err := c.tryReceive(); err != io.EOF {
		t.Fatalf("after the last answer: %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := start(t, empty, func(o *Options) { o.Limits.Connections = 20 })
	var open []*client
	for range 20 {
		c := dial(t, s)
		c.ask(1, heartbeat("g"))
		open = append(open, c)
	}
	for range 100 { // a storm
		dial(t, s).closed()
	}
	for _, c := range open {
		c.ask(2, heartbeat("g"))
	}
	if got := s.Stats(); got.ConnectionsRefused != 100 || got.ConnectionsOpen != 20 {
		t.Errorf("%d refused, %d open", got.ConnectionsRefused, got.ConnectionsOpen)
	}
	_ = open[0].Close()
	eventually(t, "a place is free again", func() bool { return s.Stats().ConnectionsOpen == 19 })
	dial(t, s).ask(3, heartbeat("g"))
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	clock := newManualClock()
	gate := make(chan struct{})
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		if r.Body.(*kmsg.HeartbeatRequest).Group == "wait" {
			return func(context.Context) api.Response {
				<-gate
				return api.Response{Message: r.Body.ResponseKind()}
			}
		}
		return empty(ctx, r)
	}, func(o *Options) { o.Clock = clock })
	silent, used, waiting := dial(t, s), dial(t, s), dial(t, s)
	used.ask(1, heartbeat("g"))
	waiting.send(1, heartbeat("wait"))
	eventually(t, "all connected", func() bool { return s.Stats().ConnectionsAccepted == 3 && s.Stats().BytesIn > 50 })
	clock.pass(t, "the idle ones are closed", func() bool { return s.Stats().ConnectionsIdle == 2 })
	silent.closed()
	used.closed()
	close(gate)
	waiting.receive() // an unanswered request keeps its connection
}

func TestStatsCountRequests(t *testing.T) {
	s := start(t, empty, nil)
	c := dial(t, s)
	for i := range int32(5) {
		c.ask(i, heartbeat("g"))
	}
	c.ask(9, produce(9, "t", []byte("x")))
	eventually(t, "the last answer is counted", func() bool {
		st := s.Stats()
		return len(st.APIs) == 2 && st.APIs[0].Key == 0 && st.APIs[0].Requests == 1 && st.APIs[1].Name == "Heartbeat" && st.APIs[1].Requests == 5
	})
	st := s.Stats()
	if st.BytesOut == 0 || st.BytesIn == 0 || st.APIs[1].LatencySum <= 0 {
		t.Errorf("%+v", st)
	}
}
