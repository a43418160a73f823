package server

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
)

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestShutdownLetsRepliesFinish(t *testing.T) {
	gate := make(chan struct{})
	var dispatched atomic.Int32
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		dispatched.Add(1)
		return func(ctx context.Context) api.Response {
			select {
			case <-gate:
			case <-ctx.Done():
				t.Error("a reply was told to give up")
			}
			return api.Response{Message: r.Body.ResponseKind()}
		}
	}, nil)
	c, quiet := dial(t, s), dial(t, s)
	for i := range int32(10) {
		c.send(i, produce(9, "t", []byte("x")))
	}
	eventually(t, "the requests are read", func() bool { return dispatched.Load() == 10 && s.Stats().ConnectionsOpen == 2 })
	stopped := make(chan error)
	go func() { stopped <- s.Shutdown(within(t, 30*time.Second)) }()
	quiet.closed() // has nothing to wait for
	if _, err := net.DialTimeout("tcp", s.Addrs()[0].String(), time.Second); err == nil {
		t.Error("a connection was accepted during the shutdown")
	}
	close(gate)
	for i := range int32(10) {
		if id, _ := c.receive(); id != i {
			t.Fatalf("answer %d in place of %d", id, i)
		}
	}
	if _, _, err := c.tryReceive(); err != io.EOF {
		t.Errorf("after the last answer: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A reply that waits for something that does not come is called back, and what it then says is sent.
func TestShutdownCallsWaitingRepliesBack(t *testing.T) {
	waiting := make(chan struct{})
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		return func(ctx context.Context) api.Response {
			close(waiting)
			<-ctx.Done()
			m := r.Body.ResponseKind().(*kmsg.HeartbeatResponse)
			m.ErrorCode = 15
			return api.Response{Message: m}
		}
	}, nil)
	c := dial(t, s)
	c.send(1, heartbeat("g"))
	<-waiting
	if err := s.Shutdown(within(t, time.Minute)); err != nil {
		t.Error(err)
	}
	_, body := c.receive()
	if code := decode(t, heartbeat(""), body).(*kmsg.HeartbeatResponse).ErrorCode; code != 15 {
		t.Errorf("error code %d", code)
	}
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	waiting, release := make(chan struct{}), make(chan struct{})
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		return func(ctx context.Context) api.Response {
			close(waiting)
			<-ctx.Done()
			large := make([]byte, 64<<20) // more than the socket takes from a client that does not read
			m := r.Body.ResponseKind().(*kmsg.SyncGroupResponse)
			m.MemberAssignment = large
			<-release
			return api.Response{Message: m}
		}
	}, nil)
	c := dial(t, s)
	r := kmsg.NewPtrSyncGroupRequest()
	r.SetVersion(3)
	c.send(1, r)
	<-waiting
	close(release)
	if err := s.Shutdown(within(t, 300*time.Millisecond)); err == nil {
		t.Error("the shutdown says that nothing was cut off")
	}
}

func TestCloseEndsEverything(t *testing.T) { // goleak looks after the test
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		return func(ctx context.Context) api.Response {
			<-ctx.Done()
			return api.Response{}
		}
	}, nil)
	for range 10 {
		c := dial(t, s)
		for i := range int32(100) {
			_, _ = c.Write(formatter.AppendRequest(nil, heartbeat("g"), i))
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if got := s.Stats(); got.ConnectionsOpen != 0 || got.RequestBytesHeld != 0 || got.DecodedBytesHeld != 0 {
		t.Errorf("left behind: %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Error("closing twice:", err)
	}
}

func TestATakenPortIsAnError(t *testing.T) {
	s := start(t, empty, nil)
	_, err := New(Options{Listeners: []string{"127.0.0.1:0", s.Addrs()[0].String()}, Handlers: fake(empty)})
	if err == nil {
		t.Fatal("two servers on one port")
	}
}

func TestSeveralListeners(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir, "first")
	s := start(t, empty, func(o *Options) {
		withTLS(dir)(o)
		o.Listeners = []string{"127.0.0.1:0", "tls://127.0.0.1:0", "127.0.0.1:0"}
	})
	if n := len(s.Addrs()); n != 3 {
		t.Fatalf("%d addresses", n)
	}
	dial(t, s).ask(1, heartbeat("g"))
	conn, err := net.Dial("tcp", s.Addrs()[2].String())
	if err != nil {
		t.Fatal(err)
	}
	newClient(t, conn).ask(1, heartbeat("g"))
}
