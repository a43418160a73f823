package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Server.
type Options struct {
	Addr    string // host:port
	Version string
	Logger  *slog.Logger
	// Listen opens the listening socket; nil means net.Listen.
	Listen func(network, address string) (net.Listener, error)
	// Samples calls add for each metric, at each scrape.
	Samples func(add func(Sample))
	// Ready tells what the node still lacks to serve; nil when it serves.
	Ready func() error
	// Healthy tells what keeps the node from going on; nil when it is fine.
	Healthy func() error
	// Cluster is what /v1 asks; it gives nil while the node cannot tell yet. Nil itself for a node without /v1.
	Cluster func() Cluster
	// Groups is what /v1/groups asks, likewise.
	Groups func() Groups
}

// Server is the HTTP listener.
type Server struct {
	opts     Options
	listener net.Listener
	http     *http.Server
	done     sync.WaitGroup
	closing  context.Context // ends with Close: streams end with it
	close    context.CancelFunc
	slots    chan struct{} // of /v1 requests
	profiles chan struct{} // of those being made
	streams  atomic.Int32  // that are open
	// answerMax is how long a client may take to take an answer.
	answerMax time.Duration

	// The registry costs time to make and nobody may ever ask: the first scrape makes it.
	metrics func() http.Handler
}

// New opens the listening socket, so that a taken port is an error here. It serves from Start on.
func New(opts Options) (*Server, error) {
	if opts.Listen == nil {
		opts.Listen = net.Listen
	}
	l, err := opts.Listen("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP on %s: %w", opts.Addr, err)
	}
	l = &boundedListener{Listener: l, slots: make(chan struct{}, connectionsMax)}
	s := &Server{opts: opts, listener: l, slots: make(chan struct{}, requestsMax), profiles: make(chan struct{}, profilesMax), answerMax: answerMax}
	s.closing, s.close = context.WithCancel(context.Background())
	s.metrics = sync.OnceValue(func() http.Handler { return newMetrics(&s.opts) })
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       requestMax,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the address that the listener is bound to.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Start serves.
func (s *Server) Start() {
	s.done.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.opts.Logger.Error("HTTP listener ended", "error", err)
		}
	})
}

// Close ends event streams and lets other requests finish until ctx ends, then cuts them.
func (s *Server) Close(ctx context.Context) error {
	s.close()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	_ = s.listener.Close() // for a server that never started
	s.done.Wait()
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.inTime(func(w http.ResponseWriter, r *http.Request) { s.metrics().ServeHTTP(w, r) }))
	mux.HandleFunc("GET /healthz", s.inTime(state(s.opts.Healthy, "healthy")))
	mux.HandleFunc("GET /readyz", s.inTime(state(s.opts.Ready, "ready")))
	s.apiRoutes(mux)
	mux.HandleFunc("GET /debug/pprof/", s.profile(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", s.profile(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", s.profile(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", s.profile(pprof.Symbol))
	mux.HandleFunc("GET /debug/pprof/trace", s.profile(pprof.Trace))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "chronik %s\n\n/metrics      Prometheus metrics\n/healthz      is the process fine\n"+
			"/readyz       does it serve\n/v1/          the cluster as JSON: cluster, topics, explain/TOPIC/PARTITION, groups, events\n/debug/pprof/ profiles\n", s.opts.Version)
	})
	return mux
}

func state(check func() error, fine string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if check != nil {
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprintln(w, err)
				return
			}
		}
		_, _ = fmt.Fprintln(w, fine)
	}
}
