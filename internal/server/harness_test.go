package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"chronik/internal/api"
	"chronik/internal/clock"
	"chronik/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake serves every key that the guard knows with one function.
type fake func(ctx context.Context, r *api.Request) api.Reply

func (f fake) Lookup(key int16) (int16, int16, bool) {
	if key == 1 {
		return 4, 18, true // as the node does
	}
	return wire.Versions(key)
}

func (f fake) Dispatch(ctx context.Context, r *api.Request) api.Reply { return f(ctx, r) }

// empty answers at once with an empty response.
func empty(_ context.Context, r *api.Request) api.Reply {
	m := r.Body.ResponseKind()
	return func(context.Context) api.Response { return api.Response{Message: m} }
}

// start runs a server until the test ends.
func start(t testing.TB, f fake, change func(*Options)) *Server {
	t.Helper()
	opts := Options{Listeners: []string{"127.0.0.1:0"}, Handlers: f, Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// client is one connection to it.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, s *Server) *client {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn)
}

func newClient(t testing.TB, conn net.Conn) *client {
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	t.Cleanup(func() { _ = conn.Close() })
	return &client{t: t, Conn: conn, r: bufio.NewReader(conn)}
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("test"))

func (c *client) send(id int32, r kmsg.Request) {
	c.t.Helper()
	if _, err := c.Write(formatter.AppendRequest(nil, r, id)); err != nil {
		c.t.Fatal(err)
	}
}

// receive reads one answer: its correlation ID and what follows.
func (c *client) receive() (int32, []byte) {
	c.t.Helper()
	id, body, err := c.tryReceive()
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return id, body
}

func (c *client) tryReceive() (int32, []byte, error) {
	var h [8]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, int(binary.BigEndian.Uint32(h[:]))-4)
	_, err := io.ReadFull(c.r, body)
	return int32(binary.BigEndian.Uint32(h[4:])), body, err
}

// ask sends a request and decodes the answer.
func (c *client) ask(id int32, r kmsg.Request) kmsg.Response {
	c.t.Helper()
	c.send(id, r)
	got, body := c.receive()
	if got != id {
		c.t.Fatalf("answer %d to request %d", got, id)
	}
	return decode(c.t, r, body)
}

func decode(t testing.TB, r kmsg.Request, body []byte) kmsg.Response {
	t.Helper()
	m := r.ResponseKind()
	m.SetVersion(r.GetVersion())
	if r.IsFlexible() && r.Key() != apiVersionsKey {
		if len(body) == 0 || body[0] != 0 {
			t.Fatalf("no tag section in the response header: %x", body)
		}
		body = body[1:]
	}
	if err := m.ReadFrom(body); err != nil {
		t.Fatalf("%T version %d: %v: %x", m, m.GetVersion(), err, body)
	}
	return m
}

// closed waits until the server has closed the connection.
func (c *client) closed() {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c.r); err != nil && isTimeout(err) {
		c.t.Fatalf("the connection is still open (%d bytes came)", n)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func heartbeat(group string) *kmsg.HeartbeatRequest {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group = group
	r.SetVersion(4)
	return r
}

func minimalFetch() *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.SetVersion(4)
	return r
}

func produce(version int16, topic string, records []byte) *kmsg.ProduceRequest {
	r := kmsg.NewPtrProduceRequest()
	r.SetVersion(version)
	r.Acks = -1
	rt, rp := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	rt.Topic, rp.Records = topic, records
	rt.Partitions = append(rt.Partitions, rp)
	r.Topics = append(r.Topics, rt)
	return r
}

// eventually polls for a condition, because what it waits for happens on another goroutine.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// manualClock moves only when told.
type manualClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*manualTimer]struct{}
}

type manualTimer struct {
	clock *manualClock
	at    time.Time
	every time.Duration
	c     chan time.Time
	f     func()
}

func newManualClock() *manualClock {
	return &manualClock{now: time.Now(), timers: map[*manualTimer]struct{}{}}
}

func (m *manualClock) add(d, every time.Duration, f func()) *manualTimer {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &manualTimer{clock: m, at: m.now.Add(d), every: every, c: make(chan time.Time, 1), f: f}
	m.timers[t] = struct{}{}
	return t
}

func (m *manualClock) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}
func (m *manualClock) AfterFunc(d time.Duration, f func()) clock.Timer { return m.add(d, 0, f) }
func (m *manualClock) NewTimer(d time.Duration) clock.Timer            { return m.add(d, 0, nil) }
func (m *manualClock) NewTicker(d time.Duration) clock.Ticker          { return ticker{m.add(d, d, nil)} }

// Advance moves the clock by d and runs what is due.
func (m *manualClock) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
	for t := range m.timers {
		if t.at.After(m.now) {
			continue
		}
		if t.every > 0 {
			t.at = m.now.Add(t.every)
		} else {
			delete(m.timers, t)
		}
		if t.f != nil {
			go t.f()
			continue
		}
		select {
		case t.c <- m.now:
		default:
		}
	}
}

func (t *manualTimer) C() <-chan time.Time { return t.c }
func (t *manualTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, ok := t.clock.timers[t]
	delete(t.clock.timers, t)
	return ok
}
func (t *manualTimer) Reset(time.Duration) bool { panic("not used here") }

type ticker struct{ *manualTimer }

func (t ticker) Stop() { t.manualTimer.Stop() }

// pass lets time go by until a condition holds, a sweep's length at a time.
func (m *manualClock) pass(t testing.TB, what string, ok func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		m.Advance(sweepInterval)
		time.Sleep(time.Millisecond)
		return ok()
	})
}

func hex(b []byte) string { return fmt.Sprintf("%x", b) }
