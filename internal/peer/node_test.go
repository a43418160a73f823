package peer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"chronik/internal/kafka"
)

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
	for accepted := 0; accepted == 0; time.Sleep(time.Millisecond) { // the handshake is over for a before b has taken note, and says goodbye to it
		b.mu.Lock()
		accepted = len(b.mu.controls)
		b.mu.Unlock()
	}
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
		o.Limits.Ping, o.Limits.Silence = 200*time.Millisecond, 500*time.Millisecond // late by less than a Ping it judges
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

func TestTooManyConnections(t *testing.T) {
	b := newNode(t, 2, func(o *Options) {
		o.Limits.Handshakes, o.Limits.Handshake = 2, time.Hour
		o.Logger = slog.New(slog.DiscardHandler)
	})
	b.Start()
	ended := make(chan struct{}, 8)
	for range 8 {
		conn, err := net.Dial("tcp", b.Self().Address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			_, _ = conn.Read(make([]byte, 1))
			ended <- struct{}{}
		}()
	}
	for closed := range 6 {
		select {
		case <-ended:
		case <-ctx(t).Done():
			t.Fatalf("%d of 8 strangers were turned away, not 6", closed)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if len(ended) > 0 {
		t.Error("more than 6 of 8 strangers were turned away")
	}
}
