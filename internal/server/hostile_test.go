package server

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
)

// memory is what the process holds of the heap, after a collection.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// allocated is what the process has allocated since it started.
func allocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.TotalAlloc)
}

func TestFramesOfImpossibleSizeCloseTheConnection(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	s := start(t, empty, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
		o.Limits.RequestBytes = 1 << 20
	})
	for _, frame := range [][]byte{
		{0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}, {0x7f, 0xff, 0xff, 0xff}, {0, 0x10, 0, 1}, // 1 MiB and one
		{0, 0, 0, 0}, {0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0}, // less than a header
		[]byte("GET / HTTP/1.1\r\n\r\n"), {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3},
	} {
		c := dial(t, s)
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		c.closed()
	}
	dial(t, s).ask(1, heartbeat("g"))
	if got := s.Stats().Refused; got != 8 {
		t.Errorf("%d requests refused", got)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, hint := range []string{"speak HTTP", "speak TLS", "127.0.0.1"} {
		if !strings.Contains(log.String(), hint) {
			t.Errorf("the log does not say %q:\n%s", hint, log.String())
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// A frame that claims 2^26 tagged fields or 2^31 array elements is refused at once and for next to nothing, before
// authentication too.
func TestHostileCountsCloseTheConnection(t *testing.T) {
	for _, authentication := range []bool{false, true} {
		s := start(t, empty, func(o *Options) { o.RequireAuthentication = authentication })
		for name, frame := range hostileFrames() {
			c := dial(t, s)
			c.ask(1, heartbeat("warm")) // the connection's own memory
			before := allocated()
			if _, err := c.Write(frame); err != nil {
				t.Fatal(err)
			}
			c.closed()
			if got := allocated() - before; got > 64<<10 {
				t.Errorf("%s: %d bytes were allocated", name, got)
			}
		}
		if got := s.Stats().Refused; got != int64(len(hostileFrames())) {
			t.Errorf("%d of %d frames refused", got, len(hostileFrames()))
		}
		dial(t, s).ask(1, heartbeat("g"))
	}
}

// A frame full of the leanest elements is honest about their number, and would still decode to far more than it is.
func TestAmplificationClosesTheConnection(t *testing.T) {
	s := start(t, empty, nil)
	const n = 30_000
	frame := binary.BigEndian.AppendUint32(nil, 10+4+2*n)
	frame = append(frame, 0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff)
	frame = append(binary.BigEndian.AppendUint32(frame, n), make([]byte, 2*n)...) // topics without a name
	c := dial(t, s)
	before := allocated()
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	c.closed()
	if got := allocated() - before; got > int64(2*len(frame))+64<<10 {
		t.Errorf("%d bytes were allocated for a frame of %d", got, len(frame))
	}
}

func hostileFrames() map[string][]byte {
	frame := func(key, version int16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint16(make([]byte, 4, 4096), uint16(key))
		b = binary.BigEndian.AppendUint16(b, uint16(version))
		b = append(b, 0, 0, 0, 9, 0xff, 0xff) // no client ID
		b = append(append(b, rest...), make([]byte, 3000)...)
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
		return b
	}
	return map[string][]byte{
		"2^26 header tags":         frame(3, 12, 0x80, 0x80, 0x80, 0x20),
		"2^26 body tags":           frame(60, 0, 0, 0, 0x80, 0x80, 0x80, 0x20),
		"2^31 elements":            frame(3, 1, 0x7f, 0xff, 0xff, 0xff),
		"2^31 elements, compact":   frame(3, 12, 0, 0xff, 0xff, 0xff, 0xff, 0x07),
		"2^31 inside an element":   frame(1, 12, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0xff, 0xff, 0xff, 0xff, 0x07),
		"tags of 2^32 bytes":       frame(18, 3, 0, 1, 1, 1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"3,000 elements of 1 byte": frame(15, 5, 0, 0xff, 0xff, 0x03),
	}
}

func TestRandomBytesNeverHurt(t *testing.T) {
	s := start(t, empty, nil)
	r := rand.New(rand.NewPCG(11, 12))
	steady := dial(t, s)
	rounds := 400
	if testing.Short() {
		rounds = 50
	}
	for i := range rounds {
		c := dial(t, s)
		var b []byte
		for range 1 + r.IntN(4) {
			body := make([]byte, r.IntN(300))
			for j := range body {
				body[j] = byte(r.Uint32() >> r.IntN(25))
			}
			if i%2 == 0 && len(body) >= 4 { // past the first checks
				binary.BigEndian.PutUint16(body, uint16(r.IntN(76)))
				binary.BigEndian.PutUint16(body[2:], uint16(r.IntN(14)))
			}
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(body))), body...)
		}
		_, _ = c.Write(b)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.closed()
		if i%50 == 0 {
			steady.ask(int32(i), heartbeat("g"))
		}
	}
	eventually(t, "nothing is held", func() bool {
		st := s.Stats()
		return st.ConnectionsOpen == 1 && st.RequestBytesHeld == 0 && st.DecodedBytesHeld == 0
	})
}

func TestPromisesCostNoMemory(t *testing.T) {
	s := start(t, empty, nil)
	n := 2000
	if testing.Short() {
		n = 200
	}
	connect := func(b []byte) []net.Conn {
		var conns []net.Conn
		for range n {
			conn, err := net.Dial("tcp", s.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if _, err := conn.Write(b); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		want := s.Stats().ConnectionsAccepted + 0
		eventually(t, "all are connected", func() bool { return s.Stats().ConnectionsAccepted >= want && s.Stats().ConnectionsOpen >= int64(n) })
		return conns
	}
	// What a connection costs without a promise.
	quiet := connect(nil)
	eventually(t, "all are connected", func() bool { return s.Stats().ConnectionsOpen == int64(n) })
	idle := memory()
	for _, c := range quiet {
		if _, err := c.Write([]byte{6, 0x40, 0, 0}); err != nil { // 100 MiB
			t.Fatal(err)
		}
	}
	eventually(t, "the promises arrive", func() bool { return s.Stats().BytesIn == int64(4*n) })
	if got := memory() - idle; got > 4<<20 {
		t.Errorf("%d promises moved memory by %d KiB", n, got>>10)
	}
	for _, c := range quiet {
		if _, err := c.Write([]byte{0, 0, 0, 9, 0, 0, 0, 1}); err != nil { // a little of it
			t.Fatal(err)
		}
	}
	eventually(t, "a little arrives", func() bool { return s.Stats().BytesIn == int64(12*n) })
	if got := memory() - idle; got > int64(n)*1024+4<<20 {
		t.Errorf("%d started promises moved memory by %d KiB", n, got>>10)
	}
	dial(t, s).ask(1, produce(9, "t", make([]byte, 1<<20))) // others are served
}

// Two half-sent large requests fill the budget for large ones: small requests do not notice, and once another large
// one waits, those that send nothing are given up.
func TestStalledLargeFramesDoNotStarveOthers(t *testing.T) {
	clock := newManualClock()
	s := start(t, empty, func(o *Options) {
		o.Clock = clock
		o.Limits.RequestBytes = 3 << 20
		o.Limits.RequestsInFlightBytes = 4 << 20
	})
	stalled := dial(t, s)
	frame := formatter.AppendRequest(nil, produce(9, "t", make([]byte, 3<<20-1000)), 1)
	if _, err := stalled.Write(frame[:1<<20]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stalled request holds its budget", func() bool { return s.Stats().RequestBytesHeld > 2<<20 })
	small := dial(t, s)
	for i := range int32(100) {
		small.ask(i, produce(9, "t", make([]byte, 10_000)))
	}
	for range 30 { // nobody waits: a slow client is left alone
		clock.Advance(sweepInterval)
		time.Sleep(time.Millisecond)
	}
	if got := s.Stats(); got.ConnectionsStalled != 0 || got.ConnectionsOpen != 2 {
		t.Fatalf("given up without need: %+v", got)
	}
	waiting := dial(t, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = waiting.Write(frame)
		if id, _, err := waiting.tryReceive(); id != 1 || err != nil {
			t.Errorf("the waiting request: answer %d, %v", id, err)
		}
	}()
	clock.pass(t, "the stalled one is given up", func() bool { return s.Stats().ConnectionsStalled == 1 })
	<-done
	stalled.closed()
	small.ask(1, heartbeat("g"))
}

// A large request that keeps coming is not given up, however long it takes in all.
func TestASteadyLargeFrameIsNotGivenUp(t *testing.T) {
	clock := newManualClock()
	s := start(t, empty, func(o *Options) {
		o.Clock = clock
		o.Limits.RequestBytes = 3 << 20
		o.Limits.RequestsInFlightBytes = 4 << 20
	})
	frame := formatter.AppendRequest(nil, produce(9, "t", make([]byte, 3<<20-1000)), 1)
	steady, waiting := dial(t, s), dial(t, s)
	_, _ = steady.Write(frame[:1<<20])
	eventually(t, "the first holds its budget", func() bool { return s.Stats().RequestBytesHeld > 2<<20 })
	go func() { _, _ = waiting.Write(frame) }()
	eventually(t, "the second waits", s.frames.Waiting)
	in, now := s.Stats().BytesIn, clock.Now()
	for at := 1 << 20; at < len(frame); {
		for _, c := range s.open() { // the sweeper itself sleeps: its clock stands still
			s.sweepOne(c, now, s.frames.Waiting(), false)
		}
		now = now.Add(sweepInterval)
		n := min(len(frame)-at, 512<<10)
		_, _ = steady.Write(frame[at : at+n])
		at += n
		in += int64(n)
		eventually(t, "it arrives", func() bool { return s.Stats().BytesIn >= in })
	}
	for _, c := range []*client{steady, waiting} {
		if id, _ := c.receive(); id != 1 {
			t.Errorf("answer %d", id)
		}
	}
}

// What waits in the replies holds the frames; those who wait for memory are served as it comes free.
func TestRequestsInFlightAreBounded(t *testing.T) {
	gate := make(chan struct{})
	s := start(t, func(_ context.Context, r *api.Request) api.Reply {
		return func(ctx context.Context) api.Response {
			select {
			case <-gate:
			case <-ctx.Done():
			}
			return api.Response{Message: r.Body.ResponseKind()}
		}
	}, func(o *Options) {
		o.Limits.RequestBytes = 3 << 20
		o.Limits.RequestsInFlightBytes = 4 << 20
	})
	const n = 20
	var clients []*client
	for range n {
		c := dial(t, s)
		clients = append(clients, c)
		go func() { _, _ = c.Write(formatter.AppendRequest(nil, produce(9, "t", make([]byte, 1<<20)), 1)) }()
	}
	eventually(t, "some wait", s.frames.Waiting)
	time.Sleep(20 * time.Millisecond)
	if held := s.Stats().RequestBytesHeld; held > 4<<20 {
		t.Errorf("%d bytes are in flight", held)
	}
	close(gate)
	for _, c := range clients {
		c.receive()
	}
	eventually(t, "all is released", func() bool { return s.Stats().RequestBytesHeld == 0 })
}

func TestAClientThatDoesNotReadIsClosed(t *testing.T) {
	clock := newManualClock()
	large := make([]byte, 32<<20)
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		m, ok := r.Body.ResponseKind().(*kmsg.SyncGroupResponse)
		if !ok {
			return empty(ctx, r)
		}
		return func(context.Context) api.Response {
			m.MemberAssignment = large
			return api.Response{Message: m}
		}
	}, func(o *Options) { o.Clock = clock })
	slow, other := dial(t, s), dial(t, s)
	r := kmsg.NewPtrSyncGroupRequest()
	r.SetVersion(3)
	for i := range int32(5) {
		slow.send(i, r)
	}
	eventually(t, "the answer is under way", func() bool { return s.Stats().BytesOut > 0 })
	for i := range int32(50) {
		other.ask(i, heartbeat("g"))
	}
	clock.pass(t, "the slow client is closed", func() bool { return s.Stats().ConnectionsStalled == 1 })
	other.ask(99, heartbeat("g"))
	eventually(t, "its memory is free", func() bool { return s.Stats().ConnectionsOpen == 1 && s.Stats().ResponseBytesHeld == 0 })
}

// A client that trickles its answers while large requests are queued behind them is given up once others need the
// memory, not before.
func TestQueuedRequestsBehindASlowReaderAreGivenUp(t *testing.T) {
	clock := newManualClock()
	large := make([]byte, 32<<20)
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		m, ok := r.Body.ResponseKind().(*kmsg.SyncGroupResponse)
		if !ok {
			return empty(ctx, r)
		}
		return func(context.Context) api.Response {
			m.MemberAssignment = large
			return api.Response{Message: m}
		}
	}, func(o *Options) {
		o.Clock = clock
		o.Limits.RequestBytes = 3 << 20
		o.Limits.RequestsInFlightBytes = 4 << 20
		o.Limits.WriteStall = 24 * time.Hour
	})
	slow := dial(t, s)
	r := kmsg.NewPtrSyncGroupRequest()
	r.SetVersion(3)
	slow.send(1, r)
	for i := range int32(3) {
		slow.send(2+i, produce(9, "t", make([]byte, 1<<20)))
	}
	eventually(t, "the queue holds the budget", func() bool { return s.Stats().RequestBytesHeld > 3<<20 })
	trickle := func() { // what keeps it from being stalled
		_, _ = io.CopyN(io.Discard, slow.Conn, 1000)
		clock.Advance(sweepInterval)
		time.Sleep(time.Millisecond)
	}
	for range 10 {
		trickle()
	}
	if got := s.Stats().ConnectionsStalled; got != 0 {
		t.Fatal("given up without need")
	}
	waiting := dial(t, s)
	go func() { _, _ = waiting.Write(formatter.AppendRequest(nil, produce(9, "t", make([]byte, 1<<20)), 1)) }()
	eventually(t, "another waits", s.frames.Waiting)
	eventually(t, "the slow one is given up", func() bool { trickle(); return s.Stats().ConnectionsStalled == 1 })
	waiting.receive()
}

func TestRequestsBeforeAuthenticationAreSmall(t *testing.T) {
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		r.Conn.Principal = "User:someone" // what SaslAuthenticate will do
		return empty(ctx, r)
	}, func(o *Options) { o.RequireAuthentication = true })
	c := dial(t, s)
	c.send(1, produce(9, "t", make([]byte, 64<<10)))
	c.closed()
	c = dial(t, s)
	c.ask(1, heartbeat("g"))
	c.ask(2, produce(9, "t", make([]byte, 1<<20)))
}
