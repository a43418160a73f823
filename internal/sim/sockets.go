package sim

import (
	"context"
	"net"

	"chronik/internal/sim/simnet"
)

// sockets are a node's: they wait while it is paused.
type sockets struct {
	gate    *gate
	process *simnet.Process
}

func (s sockets) listen(network, address string) (net.Listener, error) {
	l, err := s.process.Listen(network, address)
	if err != nil {
		return nil, err
	}
	return gatedListener{l, s.gate}, nil
}

func (s sockets) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.gate.wait()
	c, err := s.process.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return gatedConn{c, s.gate}, nil
}

type gatedListener struct {
	net.Listener
	gate *gate
}

func (l gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	l.gate.wait()
	if err != nil {
		return nil, err
	}
	return gatedConn{c, l.gate}, nil
}

type gatedConn struct {
	net.Conn
	gate *gate
}

func (c gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.wait()
	return n, err
}

func (c gatedConn) Write(b []byte) (int, error) {
	c.gate.wait()
	return c.Conn.Write(b)
}
