package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// listener is one configured address.
type listener struct {
	net.Listener
	name   string // as configured
	tls    bool
	config *tls.Config // of a TLS listener
}

const tlsScheme = "tls://"

func (s *Server) listen() error {
	if len(s.opts.Listeners) == 0 {
		return errors.New("no Kafka listener is configured")
	}
	open := s.opts.Listen
	if open == nil {
		open = net.Listen
	}
	for _, name := range s.opts.Listeners {
		l := &listener{name: name}
		address, secure := strings.CutPrefix(name, tlsScheme)
		if secure {
			if s.tls == nil {
				files, err := loadTLS(s.opts.TLS)
				if err != nil {
					return fmt.Errorf("listener %s: %w", name, err)
				}
				s.tls = files
			}
			l.tls, l.config = true, s.tls.serverConfig()
		}
		socket, err := open("tcp", address)
		if err != nil {
			return fmt.Errorf("listener %s: %w", name, err)
		}
		l.Listener = socket
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// accept is a listener's goroutine.
func (s *Server) accept(l *listener) {
	defer s.goroutines.Done()
	for {
		conn, err := l.Accept()
		if err == nil {
			s.admit(l, conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil {
			return
		}
		// Out of file descriptors, most likely: the connections that are open go on, new ones wait in the kernel.
		s.opts.Logger.Error("cannot accept connections; is the limit of open files (ulimit -n) too low?", "listener", l.name, "error", err)
		timer := s.opts.Clock.NewTimer(acceptPause)
		select {
		case <-timer.C():
		case <-s.ctx.Done():
			timer.Stop()
			return
		}
	}
}

const acceptPause = 200 * time.Millisecond

// admit starts a connection, or closes it if there are too many.
func (s *Server) admit(l *listener, conn net.Conn) {
	s.mu.Lock()
	full := len(s.mu.connections) >= s.opts.Limits.Connections
	if full || s.mu.closing {
		s.mu.Unlock()
		if full {
			s.refuseConnection(l)
		}
		_ = conn.Close()
		return
	}
	c := s.newConnection(l, conn)
	s.mu.lastID++
	c.api.ID = s.mu.lastID
	s.mu.connections[c] = struct{}{}
	s.goroutines.Add(1)
	s.mu.Unlock()
	s.counters.accepted.Add(1)
	go c.serve()
}

// refuseConnection counts, and says so once in a while.
func (s *Server) refuseConnection(l *listener) {
	if n := s.counters.refusedConnections.Add(1); n&(n-1) == 0 {
		s.opts.Logger.Warn("connections are refused: too many are open", "listener", l.name,
			"limit", s.opts.Limits.Connections, "refused", n)
	}
}

// forget is the last thing that a connection does.
func (s *Server) forget(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.connections, c)
	s.counters.closedIn.Add(c.reader.BytesRead())
	s.counters.closedOut.Add(c.written.Load())
}
