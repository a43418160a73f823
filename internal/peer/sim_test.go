package peer

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/sim/simnet"
)

// lab is a network of nodes in a bubble.
type lab struct {
	t   *testing.T
	net *simnet.Network
	log *bytes.Buffer // of the nodes that are booted then; may be nil
}

// member is one process of a node in a lab.
type member struct {
	*Node
	process *simnet.Process
	mu      sync.Mutex
	events  []Event
	times   []time.Time
}

func inLab(t *testing.T, f func(t *testing.T, l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, net: simnet.New(simnet.Options{DelayMin: time.Millisecond, DelayMax: 2 * time.Millisecond})}
		f(t, l)
	})
}

var ips = []string{1: "10.0.0.1", 2: "10.0.0.2", 3: "10.0.0.3"}

// boot starts a process of a node and has it dial peers; its data connections are read to their end.
func (l *lab) boot(broker int, incarnation byte, peers ...int) *member {
	l.t.Helper()
	m := &member{process: l.net.Host(ips[broker]).Boot()}
	listener, err := m.process.Listen("tcp", ":9291")
	if err != nil {
		l.t.Fatal(err)
	}
	self := identity(1, incarnation, "c", ips[broker]+":9291")
	self.Broker, self.Directory, self.Incarnation[1] = toID(broker), [16]byte{byte(broker)}, byte(broker)
	opts := Options{Self: self, Listener: listener, Dial: m.process.Dial}
	if l.log != nil && broker == 1 {
		opts.Logger = slog.New(slog.NewTextHandler(l.log, nil))
	}
	if m.Node, err = New(opts); err != nil {
		l.t.Fatal(err)
	}
	m.Watch(func(e Event) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.events, m.times = append(m.events, e), append(m.times, time.Now())
	})
	m.OnData(func(c *Conn) {
		for {
			if _, err := c.ReadFrame(); err != nil {
				return
			}
		}
	})
	for _, p := range peers {
		m.SetPeer(toID(p), ips[p]+":9291")
	}
	m.Start()
	l.t.Cleanup(func() { _ = m.Close() })
	return m
}

// since returns the events from a time on, and how long after it each came.
func (m *member) since(began time.Time) (events []Event, after []time.Duration) {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, at := range m.times {
		if !at.Before(began) {
			events, after = append(events, m.events[i]), append(after, at.Sub(began))
		}
	}
	return events, after
}

func (m *member) kill() {
	m.process.Kill()
	_ = m.Close()
}

func kinds(events []Event) (s []string) {
	for _, e := range events {
		switch {
		case e.Kind == Up:
			s = append(s, "up")
		case e.Refused:
			s = append(s, "refused")
		case e.Replaced != nil:
			s = append(s, "replaced")
		default:
			s = append(s, "down")
		}
	}
	return s
}

func (m *member) expect(t *testing.T, began time.Time, within time.Duration, want ...string) {
	t.Helper()
	events, after := m.since(began)
	if got := kinds(events); !slices.Equal(got, want) {
		t.Fatalf("events %v after %v, not %v", got, after, want)
	}
	if len(after) > 0 && after[len(after)-1] > within {
		t.Errorf("events %v came after %v, not within %v", want, after, within)
	}
}

func TestKillIsProvenAtOnce(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.boot(1, 1, 2), l.boot(2, 1, 1)
		time.Sleep(10 * time.Second)
		if events, _ := a.since(time.Time{}); !slices.Equal(kinds(events), []string{"up"}) {
			t.Fatalf("an idle pair has events %v", kinds(events))
		}
		began := time.Now()
		b.kill()
		time.Sleep(20 * time.Millisecond)
		a.expect(t, began, 12*time.Millisecond, "down", "refused")
		time.Sleep(10 * time.Second)
		began = time.Now()
		again := l.boot(2, 2, 1)
		time.Sleep(time.Second)
		a.expect(t, began, 520*time.Millisecond, "replaced", "up")
		began = time.Now()
		again.kill()
		l.boot(2, 3, 1) // faster than any redial
		time.Sleep(100 * time.Millisecond)
		a.expect(t, began, 30*time.Millisecond, "down", "replaced", "up")
	})
}

func TestPingsKeepIdleConnectionsOpen(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.boot(1, 1, 2), l.boot(2, 1, 1)
		time.Sleep(time.Second)
		conn, err := a.DialData(t.Context(), 2, Hot)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		time.Sleep(time.Minute)
		for i, m := range []*member{a, b} {
			if silent := time.Since(m.LastHeard(toID(2 - i))); silent > 2*time.Second {
				t.Errorf("nothing was heard of an idle peer for %v", silent)
			}
		}
		conn.EndFrame(conn.BeginFrame(1))
		if err := conn.Flush(); err != nil {
			t.Errorf("an idle data connection was ended: %v", err)
		}
	})
}

func TestCutIsSilence(t *testing.T) {
	for _, oneWay := range []bool{false, true} {
		inLab(t, func(t *testing.T, l *lab) {
			a, b := l.boot(1, 1, 2), l.boot(2, 1, 1)
			time.Sleep(time.Second)
			data, err := a.DialData(t.Context(), 2, Hot)
			if err != nil {
				t.Fatal(err)
			}
			defer data.Close()
			time.Sleep(10 * time.Second)
			began := time.Now()
			l.net.Cut(ips[1], ips[2])
			if !oneWay {
				l.net.Cut(ips[2], ips[1])
			}
			if _, err := data.ReadFrame(); !errors.Is(err, errSilent) && !oneWay {
				t.Errorf("the data connection ends with %v", err)
			}
			if after := time.Since(began); after > 4500*time.Millisecond || after < 2*time.Second {
				t.Errorf("the data connection ended after %v", after)
			}
			time.Sleep(10 * time.Second)
			a.expect(t, began, 4500*time.Millisecond, "down")
			b.expect(t, began, 4500*time.Millisecond, "down")
			if heard := time.Since(a.LastHeard(2)); heard < 10*time.Second {
				t.Errorf("node 1 believes to have heard of node 2 %v ago", heard)
			}
			began = time.Now()
			l.net.HealAll()
			time.Sleep(5 * time.Second)
			a.expect(t, began, 2*time.Second, "up")
			b.expect(t, began, 2*time.Second, "up")
		})
	}
}

func TestPowerLossIsNoProofUntilTheReturn(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.boot(1, 1, 2), l.boot(2, 1, 1)
		time.Sleep(time.Second)
		began := time.Now()
		b.process.PowerOff()
		_ = b.Close()
		time.Sleep(10 * time.Second)
		a.expect(t, began, 4500*time.Millisecond, "down")
		began = time.Now()
		l.boot(2, 2, 1)
		time.Sleep(5 * time.Second)
		a.expect(t, began, 2*time.Second, "replaced", "up")
	})
}

func TestLiveNodeThatRefuses(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, _ := l.boot(1, 1, 2), l.boot(2, 1, 1)
		time.Sleep(time.Second)
		began := time.Now()
		l.net.Host(ips[2]).RefuseDials(true)
		time.Sleep(5 * time.Second)
		a.expect(t, began, 0) // what is connected stays
		began = time.Now()
		l.net.Reset(ips[1], ips[2])
		time.Sleep(time.Second)
		a.expect(t, began, 20*time.Millisecond, "down", "refused")
		began = time.Now()
		l.net.HealAll()
		time.Sleep(time.Second)
		a.expect(t, began, 520*time.Millisecond, "up") // the same process: the verdict was wrong, and can be seen to be
	})
}

func TestUnsentCallsFailFast(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.boot(1, 1, 2, 3), l.boot(2, 1, 1)
		b.Handle(Forward, func(ctx context.Context, _ Identity, _ []byte) ([]byte, error) { return []byte("ok"), nil })
		time.Sleep(time.Second)
		began := time.Now()
		if _, err := a.Call(t.Context(), 2, Forward, nil); err != nil || time.Since(began) > 4*time.Millisecond {
			t.Errorf("a call takes %v, %v", time.Since(began), err)
		}
		b.kill()
		time.Sleep(time.Second)
		began = time.Now()
		if _, err := a.Call(t.Context(), 2, Forward, nil); !errors.Is(err, ErrNotSent) || time.Since(began) > 0 {
			t.Errorf("a call to a dead peer takes %v, %v", time.Since(began), err)
		}
		if _, err := a.Call(t.Context(), 3, Forward, nil); !errors.Is(err, ErrNotSent) {
			t.Errorf("a call to a peer that never was gives %v", err)
		}
		if _, err := a.DialData(t.Context(), 2, Hot); !errors.Is(err, ErrNotSent) {
			t.Errorf("a data connection to a dead peer gives %v", err)
		}
	})
}

func TestStalledPeerIsCutOff(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a, b := l.boot(1, 1, 2), l.boot(2, 1, 1)
		release := make(chan struct{})
		b.OnData(func(*Conn) { <-release }) // reads nothing
		time.Sleep(time.Second)
		c, err := a.DialData(t.Context(), 2, CatchUp)
		if err != nil {
			t.Fatal(err)
		}
		c.EndFrame(append(c.BeginFrame(1), make([]byte, 1<<20)...))
		began := time.Now()
		if err := c.Flush(); !errors.Is(err, errStalled) || time.Since(began) > 6*time.Second {
			t.Errorf("a write to a peer that does not read ends after %v with %v", time.Since(began), err)
		}
		if s, _ := a.Status(2); !s.Connected {
			t.Error("and takes the control connection with it")
		}
		close(release)
	})
}

func TestAddressChanges(t *testing.T) {
	inLab(t, func(t *testing.T, l *lab) {
		a := l.boot(1, 1, 2)
		b := l.boot(3, 1) // broker 3 at its own address
		a.SetPeer(3, ips[2]+":9291")
		time.Sleep(time.Second)
		if s, _ := a.Status(3); s.Connected {
			t.Fatal("connected where nobody is")
		}
		began := time.Now()
		a.SetPeer(3, ips[3]+":9291")
		a.SetPeer(3, ips[3]+":9291")
		time.Sleep(100 * time.Millisecond)
		a.expect(t, began, 10*time.Millisecond, "up")
		began = time.Now()
		a.RemovePeer(3)
		a.SetPeer(3, b.Self().Address)
		time.Sleep(time.Second)
		a.expect(t, began, 20*time.Millisecond, "down", "up")
	})
}

func TestOrderlyStopIsNobodysWarning(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		inLab(t, func(t *testing.T, l *lab) {
			var log bytes.Buffer
			l.log = &log
			a, b := l.boot(1, 1, 2), l.boot(2, 1, 1)
			time.Sleep(time.Second)
			began := time.Now()
			if !orderly {
				b.process.Kill()
			}
			_ = b.Close()
			if orderly {
				b.process.Kill()
			}
			time.Sleep(10 * time.Second)
			a.expect(t, began, 200*time.Millisecond, "down", "refused")
			if warned := strings.Count(log.String(), "level=WARN"); orderly && warned != 0 || !orderly && warned != 1 {
				t.Errorf("orderly %v: %d warnings:\n%s", orderly, warned, log.String())
			}
		})
	}
}
