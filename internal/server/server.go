package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"chronik/internal/clock"
	"chronik/internal/wire"
)

// Server is the node's Kafka listeners and their connections.
type Server struct {
	opts      Options
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	listeners []*listener
	tls       *tlsFiles // nil without a TLS listener

	frames    *wire.Frames
	decoded   decodedMemory
	responses *wire.Budget
	encoding  chan struct{} // places for those who encode answers that may be large
	produces  sync.Pool     // *inflight
	counters  counters

	goroutines sync.WaitGroup
	mu         struct {
		sync.Mutex
		connections map[*connection]struct{}
		lastID      uint64
		closing     bool
	}
}

// New opens the listening sockets, so that a taken port is an error here; it accepts nothing before Start.
func New(opts Options) (*Server, error) {
	opts.Limits = opts.Limits.withDefaults()
	if opts.Clock == nil {
		opts.Clock = clock.System{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := checkSchemas(opts.Handlers); err != nil {
		return nil, err
	}
	s := &Server{
		opts:      opts,
		frames:    wire.NewFrames(opts.Limits.RequestsInFlightBytes),
		decoded:   newDecodedMemory(opts.Limits.DecodedInFlightBytes),
		responses: wire.NewBudget(opts.Limits.ResponsesInFlightBytes),
	}
	if most := s.frames.MaxFrame(); int64(opts.Limits.RequestBytes) > most {
		return nil, fmt.Errorf("socket.request.max.bytes=%d does not fit into requests.in.flight.max.bytes=%d, of which a part is kept for small requests: "+
			"raise the latter, or lower the former to %d", opts.Limits.RequestBytes, opts.Limits.RequestsInFlightBytes, most)
	}
	s.encoding = make(chan struct{}, encodersAtOnce)
	s.mu.connections = map[*connection]struct{}{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.listen(); err != nil {
		s.closeListeners()
		s.cancel()
		return nil, err
	}
	return s, nil
}

// checkSchemas makes sure that the guard can walk every version that the table of APIs advertises.
func checkSchemas(h Handlers) error {
	for key := range int16(1 << 10) {
		_, maxVersion, ok := h.Lookup(key)
		if !ok {
			continue
		}
		if _, walked, known := wire.Versions(key); !known || walked < maxVersion {
			return fmt.Errorf("API key %d is served up to version %d, but internal/wire has no schema for that", key, maxVersion)
		}
	}
	return nil
}

// Addrs are the addresses that the listeners are bound to, in the order of Options.Listeners.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Start accepts connections.
func (s *Server) Start() {
	raiseFileLimit(s.opts.Limits.Connections, s.opts.Logger)
	s.goroutines.Add(1 + len(s.listeners))
	go s.sweep()
	for _, l := range s.listeners {
		go s.accept(l)
	}
}

// Shutdown stops accepting and reading, lets the replies in flight finish until ctx ends, then closes what is left.
// Replies that still wait after half of that time, or after two seconds, are told to come back through their context,
// and their answers sent. It returns ctx's error if something had to be cut off. All goroutines have ended when it
// returns.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stopAccepting() {
		c.drain()
	}
	done := s.drained()
	patience := maxPatience
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, deadline.Sub(s.opts.Clock.Now())/2)
	}
	timer := s.opts.Clock.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
		return s.Close()
	case <-timer.C():
	case <-ctx.Done():
	}
	for _, c := range s.open() {
		c.cancel()
	}
	select {
	case <-done:
		return s.Close()
	case <-ctx.Done():
	}
	_ = s.Close()
	return fmt.Errorf("connections were cut off: %w", ctx.Err())
}

const maxPatience = 2 * time.Second

// Close cuts every connection and ends every goroutine.
func (s *Server) Close() error {
	for _, c := range s.stopAccepting() {
		c.abort()
	}
	s.cancel()
	s.goroutines.Wait()
	return nil
}

// stopAccepting closes the listening sockets and returns the connections that are open.
func (s *Server) stopAccepting() []*connection {
	s.mu.Lock()
	s.mu.closing = true
	s.mu.Unlock()
	s.closeListeners()
	return s.open()
}

func (s *Server) closeListeners() {
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.opts.Logger.Warn("a listening socket did not close", "listener", l.name, "error", err)
		}
	}
}

func (s *Server) open() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	connections := make([]*connection, 0, len(s.mu.connections))
	for c := range s.mu.connections {
		connections = append(connections, c)
	}
	return connections
}

// drained is closed once no connection is left.
func (s *Server) drained() <-chan struct{} {
	done := make(chan struct{})
	s.goroutines.Add(1)
	go func() {
		defer s.goroutines.Done()
		defer close(done)
		ticker := s.opts.Clock.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			s.mu.Lock()
			left := len(s.mu.connections)
			s.mu.Unlock()
			if left == 0 {
				return
			}
			select {
			case <-ticker.C():
			case <-s.ctx.Done():
				return
			}
		}
	}()
	return done
}
