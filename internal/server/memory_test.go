package server

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/api"
	"chronik/internal/clock"
	"chronik/internal/wire"
)

// pipes is a listener whose connections are in memory, as a simulation's are.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 9092} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// The server runs without sockets and under a simulated clock: no goroutine is stuck in the kernel, and time decides
// as it does outside.
func TestInASimulation(t *testing.T) {
	f, content := segment(t, 100_000)
	synctest.Test(t, func(t *testing.T) {
		network := newPipes()
		s, err := New(Options{
			Listeners: []string{"10.0.0.1:9092"}, Clock: clock.System{},
			Listen: func(string, string) (net.Listener, error) { return network, nil },
			Handlers: fake(func(ctx context.Context, r *api.Request) api.Reply {
				if r.Key == 1 {
					return func(context.Context) api.Response {
						return api.Response{Payload: &wire.Payload{Parts: []wire.Part{{File: f, Off: 10, Len: 90_000}}}}
					}
				}
				return empty(ctx, r)
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		c := newClient(t, network.dial())
		_ = c.SetDeadline(time.Time{})
		c.ask(1, heartbeat("g"))
		c.ask(2, produce(9, "t", make([]byte, 1<<20)))
		fetch := heartbeat("g")
		frame := formatter.AppendRequest(nil, fetch, 3)
		frame[5], frame[7] = 1, 4 // Fetch version 4, whose body this is not
		go func() { _, _ = c.Write(frame) }()
		c.closed() // and that ends the connection

		c = newClient(t, network.dial())
		_ = c.SetDeadline(time.Time{})
		c.send(4, minimalFetch())
		if _, body := c.receive(); !bytes.Equal(body, content[10:90_010]) {
			t.Errorf("%d bytes that differ", len(body))
		}
		began := time.Now()
		c.closed() // it is idle, and its time passes
		if waited := time.Since(began); waited < 10*time.Minute || waited > 11*time.Minute {
			t.Errorf("an idle connection was closed after %v", waited)
		}
		if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}
