package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// events records what Watch tells.
type events struct {
	mu   sync.Mutex
	list []Event
	wake chan struct{}
}

func watch(n *Node) *events {
	e := &events{wake: make(chan struct{}, 1)}
	n.Watch(func(event Event) {
		e.mu.Lock()
		e.list = append(e.list, event)
		e.mu.Unlock()
		select {
		case e.wake <- struct{}{}:
		default:
		}
	})
	return e
}

// await waits for an event that wanted accepts, and forgets those before it.
func (e *events) await(t *testing.T, what string, wanted func(Event) bool) Event {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		e.mu.Lock()
		for i, event := range e.list {
			if wanted(event) {
				e.list = e.list[i+1:]
				e.mu.Unlock()
				return event
			}
		}
		e.mu.Unlock()
		select {
		case <-e.wake:
		case <-timeout:
			t.Fatalf("no event: %s; there were %+v", what, e.list)
		}
	}
}

func isUp(e Event) bool      { return e.Kind == Up }
func isRefused(e Event) bool { return e.Kind == Down && e.Refused }

func identity(broker kafka.BrokerID, incarnation byte, cluster, address string) Identity {
	return Identity{Broker: broker, Directory: [16]byte{1, byte(broker)}, Incarnation: [16]byte{2, byte(broker), incarnation}, ClusterID: cluster, Address: address}
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// start makes a node of cluster "c" on the loopback, not started.
func newNode(t *testing.T, broker kafka.BrokerID, change func(*Options)) *Node {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	opts := Options{Self: identity(broker, 1, "c", l.Addr().String()), Listener: l}
	if change != nil {
		change(&opts)
	}
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// pair is two nodes that have dialled each other.
func pair(t *testing.T, change func(*Options)) (a, b *Node) {
	t.Helper()
	a, b = newNode(t, 1, change), newNode(t, 2, change)
	connect(t, a, b)
	return a, b
}

func connect(t *testing.T, a, b *Node) {
	t.Helper()
	ea, eb := watch(a), watch(b)
	a.SetPeer(b.Self().Broker, b.Self().Address)
	a.Start()
	b.Start()
	b.SetPeer(a.Self().Broker, a.Self().Address)
	ea.await(t, "a sees b", isUp)
	eb.await(t, "b sees a", isUp)
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return c
}

func TestCallsAndErrors(t *testing.T) {
	a, b := pair(t, nil)
	b.Handle(Forward, func(_ context.Context, from Identity, body []byte) ([]byte, error) {
		if !from.SameProcess(a.Self()) || from.ClusterID != "c" {
			t.Errorf("the call comes from %+v", from)
		}
		switch string(body) {
		case "kafka":
			return nil, fmt.Errorf("create topic: %w", kafka.ErrTopicAlreadyExists.With("topic x exists"))
		case "bare":
			return nil, kafka.ErrNotController
		case "other":
			return nil, errors.New("disk on fire")
		}
		return append([]byte("re: "), body...), nil
	})
	answer, err := a.Call(ctx(t), 2, Forward, []byte("hello"))
	if err != nil || string(answer) != "re: hello" {
		t.Fatalf("got %q, %v", answer, err)
	}
	large := bytes.Repeat([]byte("x"), 3<<20)
	if answer, err = a.Call(ctx(t), 2, Forward, large); err != nil || !bytes.Equal(answer[4:], large) {
		t.Fatalf("a large call: %d bytes, %v", len(answer), err)
	}
	_, err = a.Call(ctx(t), 2, Forward, []byte("kafka"))
	var e *kafka.Error
	if !errors.As(err, &e) || e.Code != kafka.ErrTopicAlreadyExists.Code || e.Msg != "topic x exists" || e.Name == "" {
		t.Errorf("a Kafka error arrives as %#v", err)
	}
	if _, err = a.Call(ctx(t), 2, Forward, []byte("bare")); !errors.Is(err, kafka.ErrNotController) {
		t.Errorf("a bare Kafka error arrives as %v", err)
	}
	var remote *RemoteError
	if _, err = a.Call(ctx(t), 2, Forward, []byte("other")); !errors.As(err, &remote) || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("another error arrives as %v", err)
	}
	if _, err = a.Call(ctx(t), 2, Join, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("a method without handler gives %v", err)
	}
	if _, err = a.Call(ctx(t), 7, Forward, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("an unknown peer gives %v", err)
	}
	if _, err = a.Call(ctx(t), 2, Forward, make([]byte, 65<<20)); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call that is too large gives %v", err)
	}
}

func TestNoErrorBecomesSuccess(t *testing.T) {
	for _, status := range []byte{statusKafka, statusError, statusNotRun, 9, 255} {
		for _, body := range [][]byte{nil, {0}, {0, 0}, {0, 0, 'x'}, {255, 127}} {
			if _, err := decodeAnswer(1, Forward, status, body); err == nil {
				t.Errorf("status %d with %v is taken for success", status, body)
			}
		}
	}
	if status, _ := encodeResult(nil, kafka.ErrUnknownServerError.With("")); status == statusOK {
		t.Error("an error is encoded as success")
	}
	if status, _ := encodeResult(nil, &kafka.Error{}); status == statusOK || status == statusKafka {
		t.Error("an error of code 0 is encoded as success")
	}
}

func TestCallEndsWithItsContextAndItsConnection(t *testing.T) {
	a, b := pair(t, nil)
	entered, ended := make(chan struct{}, 2), make(chan error, 2)
	b.Handle(Forward, func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Call(short, 2, Forward, nil); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that times out gives %v", err)
	}
	<-entered
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the handler's context ends with %v: the caller's deadline has not travelled", err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), 2, Forward, nil)
		result <- err
	}()
	<-entered
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, ErrOutcomeUnknown) || errors.Is(err, ErrNotSent) {
		t.Errorf("a call whose peer goes away gives %v", err)
	}
	over, cancelled := context.WithCancel(context.Background())
	cancelled()
	if _, err := a.Call(over, 2, Forward, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call without time gives %v", err)
	}
}

func TestNotificationsKeepTheirOrder(t *testing.T) {
	a, b := pair(t, nil)
	const count = 20000
	var next uint64
	done := make(chan struct{})
	b.OnNotify(Raft, func(from Identity, body []byte) {
		if got := binary.LittleEndian.Uint64(body); got != next {
			t.Errorf("notification %d where %d is due", got, next)
		}
		if next++; next == count {
			close(done)
		}
	})
	for i := range uint64(count) {
		if !a.Notify(2, Raft, binary.LittleEndian.AppendUint64(nil, i)) {
			t.Fatalf("notification %d was dropped", i)
		}
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("only %d of %d came", next, count)
	}
	if a.Notify(9, Raft, nil) {
		t.Error("a notification to nobody is reported as sent")
	}
}

func TestHandlersAreBounded(t *testing.T) {
	a, b := pair(t, func(o *Options) { o.Limits.Calls = 3 })
	var most, running atomic.Int64
	b.Handle(Forward, func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-ctx.Done()
		return nil, nil
	})
	// Calls that were given up keep their handlers busy: the bound must hold at the side that runs them.
	for range 3 {
		short, cancel := context.WithTimeout(context.Background(), time.Minute)
		go func() { time.Sleep(20 * time.Millisecond); cancel() }()
		_, _ = a.Call(short, 2, Forward, nil)
	}
	if _, err := a.Call(ctx(t), 2, Forward, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call above the bound gives %v", err)
	}
	if most.Load() != 3 {
		t.Errorf("%d handlers ran at once, not 3", most.Load())
	}
}

func TestRestartIsSeenAsReplacedAndDeathAsRefused(t *testing.T) {
	a, b := newNode(t, 1, nil), newNode(t, 2, nil)
	e := watch(a)
	a.SetPeer(2, b.Self().Address)
	a.Start()
	b.Start()
	if up := e.await(t, "up", isUp); !up.Identity.SameProcess(b.Self()) {
		t.Errorf("up with %+v", up)
	}
	address := b.Self().Address
	_ = b.Close()
	if down := e.await(t, "refused", isRefused); !down.Proof() || !down.Identity.SameProcess(b.Self()) {
		t.Errorf("refused with %+v", down)
	}
	if s, _ := a.Status(2); !s.Refused || !s.Left || s.Connected || s.Err == nil || s.LastHeard.IsZero() {
		t.Errorf("status after the death: %+v", s)
	}
	if a.Notify(2, Raft, nil) {
		t.Error("a notification to a dead peer is reported as sent")
	}
	again, err := New(Options{Self: identity(2, 2, "c", address), Listener: listen(t, address)})
	if err != nil {
		t.Fatal(err)
	}
	again.Start()
	down := e.await(t, "replaced", func(e Event) bool { return e.Kind == Down && e.Replaced != nil })
	if !down.Proof() || !down.Replaced.SameProcess(again.Self()) || !down.Identity.SameProcess(b.Self()) {
		t.Errorf("replaced with %+v", down)
	}
	e.await(t, "up again", isUp)
	if s, _ := a.Status(2); s.Refused || s.Left || !s.Connected || s.Err != nil {
		t.Errorf("status after the return: %+v", s)
	}
	a.RemovePeer(2)
	e.await(t, "down", func(e Event) bool { return e.Kind == Down && !e.Proof() })
	if _, ok := a.Status(2); ok || len(a.Peers()) != 0 {
		t.Error("a removed peer is still there")
	}
	_ = again.Close()
}

func TestNeverConnectedIsNoProof(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	address := l.Addr().String()
	_ = l.Close()
	a := newNode(t, 1, nil)
	a.Watch(func(e Event) { t.Errorf("an event about a peer that was never there: %+v", e) })
	a.SetPeer(2, address)
	a.Start()
	for s, _ := a.Status(2); s.Err == nil; s, _ = a.Status(2) {
		time.Sleep(time.Millisecond)
	}
}

func TestRefusedByName(t *testing.T) {
	b := newNode(t, 2, nil)
	b.OnData(func(*Conn) {})
	b.Start()
	try := func(self Identity, expected kafka.BrokerID, kind Kind, wants ...string) {
		t.Helper()
		conn, err := net.Dial("tcp", b.Self().Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = introduce(conn, self, kind, expected)
		if len(wants) == 0 && err != nil {
			t.Errorf("refused: %v", err)
		}
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the refusal is %q, without %q", err, want)
			}
		}
	}
	try(identity(1, 1, "c", "x:1"), 2, Control)
	try(identity(1, 1, "", "x:1"), anyBroker, Control)
	try(identity(1, 1, "other", "x:1"), 2, Control, "cluster c", "cluster other", "broker 1")
	try(identity(1, 1, "c", "x:1"), 3, Control, "this is broker 2, not broker 3")
	try(identity(2, 9, "c", "x:1"), 2, Control, "broker ID 2 is used by two nodes", "x:1")
	try(identity(-3, 9, "c", "x:1"), 2, Control, "no broker ID")
	try(identity(1, 1, "", "x:1"), 2, Hot, "needs both nodes in one cluster")
	try(identity(1, 1, "c", "x:1"), 2, Kind(9), "not known")
	try(identity(1, 1, "c", "x:1"), 2, CatchUp)
	stranger := hello{versionMin: 1, versionMax: 1, kind: Control, expected: 2, identity: identity(1, 1, "other", "x:1")}
	if got := stranger.objection(b.Self(), true); !strings.Contains(got, "cluster other") {
		t.Errorf("the accepting side does not refuse another cluster: %q", got)
	}
	late := newControl(b, nil, false, identity(1, 1, "", ""), "c")
	defer late.cancel()
	if err := late.clusterChanged("other"); err != nil || !late.refusing.Load() {
		t.Error("a peer that joins another cluster is not refused")
	}
	future := hello{versionMin: 2, versionMax: 9, kind: Control, expected: 2, identity: identity(1, 1, "c", "x:1")}
	if got := future.objection(b.Self(), true); !strings.Contains(got, "versions 2 to 9") {
		t.Errorf("a later version is answered %q", got)
	}
	newer := hello{versionMin: 1, versionMax: 9, kind: Control, expected: 2, identity: identity(1, 1, "c", "x:1")}
	if got := newer.objection(b.Self(), true); got != "" {
		t.Errorf("a node that also speaks a later version is refused: %q", got)
	}
	silent := newNode(t, 3, nil)
	if got := (hello{versionMin: 1, versionMax: 1, kind: Hot, expected: 3, identity: identity(1, 1, "c", "")}).objection(silent.Self(), silent.data.Load() != nil); got == "" {
		t.Error("a data connection is taken where nobody serves it")
	}
}

func TestCallAddressAndBecomingACluster(t *testing.T) {
	empty := func(o *Options) { o.Self.ClusterID = "" }
	a, b := newNode(t, 1, empty), newNode(t, 2, empty)
	answerHello := func(_ context.Context, from Identity, _ []byte) ([]byte, error) { return []byte(from.ClusterID), nil }
	b.Handle(Hello, answerHello)
	a.Start()
	b.Start()
	who, answer, err := a.CallAddress(ctx(t), b.Self().Address, Hello, nil)
	if err != nil || !who.SameProcess(b.Self()) || len(answer) != 0 {
		t.Fatalf("got %+v %q %v", who, answer, err)
	}
	if _, _, err = a.CallAddress(ctx(t), "127.0.0.1:1", Hello, nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("an address where nobody listens gives %v", err)
	}
	if _, err = a.DialData(ctx(t), 2, Hot); !errors.Is(err, ErrNotSent) {
		t.Errorf("a data connection to a stranger gives %v", err)
	}
	e := watch(a)
	a.SetPeer(2, b.Self().Address)
	e.await(t, "up", isUp)
	a.SetClusterID("one") // the peer, which knew none, hears of it over the connection that is open
	for {
		answer, err = a.Call(ctx(t), 2, Hello, nil)
		if err != nil {
			t.Fatal(err)
		}
		if string(answer) == "one" {
			break
		}
	}
	b.SetClusterID("two")
	e.await(t, "down", func(e Event) bool { return e.Kind == Down })
	for { // and it stays away
		s, _ := a.Status(2)
		var refused *RefusedError
		if errors.As(s.Err, &refused) && strings.Contains(s.Err.Error(), "cluster one") && strings.Contains(s.Err.Error(), "cluster two") {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSilenceIsNoProof(t *testing.T) {
	b := listen(t, "127.0.0.1:0") // speaks the handshake and then nothing: what a cut looks like
	defer b.Close()
	var accepted sync.WaitGroup
	accepted.Go(func() {
		for {
			conn, err := b.Accept()
			if err != nil {
				return
			}
			accepted.Go(func() {
				defer conn.Close()
				if _, _, err := welcomePeer(conn, func() Identity { return identity(2, 1, "c", "") }, func() bool { return true }); err == nil {
					_, _ = io.Copy(io.Discard, conn)
				}
			})
		}
	})
	a := newNode(t, 1, func(o *Options) {
		o.Limits.Ping, o.Limits.Silence = 20*time.Millisecond, 100*time.Millisecond
	})
	e := watch(a)
	a.SetPeer(2, b.Addr().String())
	a.Start()
	e.await(t, "up", isUp)
	conn, err := a.DialData(ctx(t), 2, Hot)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if down := e.await(t, "down", func(e Event) bool { return e.Kind == Down }); down.Proof() {
		t.Errorf("silence is taken for a proof of death: %+v", down)
	}
	if _, err := conn.ReadFrame(); !errors.Is(err, errSilent) {
		t.Errorf("the data connection of a silent peer ends with %v", err)
	}
	_ = a.Close()
	_ = b.Close()
	accepted.Wait()
}

func TestPingsKeepIdleConnectionsOpen(t *testing.T) {
	a, b := newNode(t, 1, nil), newNode(t, 2, nil)
	for _, n := range []*Node{a, b} {
		n.opts.Limits.Ping, n.opts.Limits.Silence = 20*time.Millisecond, 400*time.Millisecond
	}
	connect(t, a, b)
	b.OnData(func(c *Conn) { _, _ = c.ReadFrame() })
	conn, err := a.DialData(ctx(t), 2, Hot)
	if err != nil {
		t.Fatal(err)
	}
	before, beforeB := a.LastHeard(2), b.LastHeard(1)
	time.Sleep(1200 * time.Millisecond)
	if !a.LastHeard(2).After(before) || !b.LastHeard(1).After(beforeB) {
		t.Error("nothing was heard of an idle peer")
	}
	if s, _ := a.Status(2); !s.Connected {
		t.Errorf("an idle connection was ended: %+v", s)
	}
	conn.EndFrame(conn.BeginFrame(1))
	if err := conn.Flush(); err != nil {
		t.Errorf("an idle data connection was ended: %v", err)
	}
	_ = conn.Close()
}

func TestTooManyConnections(t *testing.T) {
	b := newNode(t, 2, func(o *Options) { o.Limits.Handshakes = 2; o.Logger = slog.New(slog.DiscardHandler) })
	b.Start()
	var held []net.Conn
	for range 8 {
		conn, err := net.Dial("tcp", b.Self().Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		held = append(held, conn)
	}
	closed := 0
	for _, conn := range held {
		_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				closed++
			}
		}
	}
	if closed != 6 {
		t.Errorf("%d of 8 strangers were turned away, not 6", closed)
	}
}

func toID(n int) kafka.BrokerID { return kafka.BrokerID(n) }
