package server

import (
	"context"
	"log/slog"
	"net"
	"time"

	"chronik/internal/api"
	"chronik/internal/clock"
	"chronik/internal/wire"
)

// Handlers are the API behind the listeners.
type Handlers interface {
	// Lookup is the advertised range of an API key.
	Lookup(key int16) (minVersion, maxVersion int16, ok bool)
	// Dispatch runs the first half of a request, in the connection's order, and returns the second. It must not wait
	// for other nodes, for a commit or for data. The server runs every Reply exactly once, with an ended context if
	// the connection is gone by then, so that a reply can give back what its first half took.
	Dispatch(ctx context.Context, r *api.Request) api.Reply
}

// Options configure a Server. Zero limits mean their defaults.
type Options struct {
	// Listeners are the addresses as configured, such as "127.0.0.1:9092" or "tls://0.0.0.0:9093".
	Listeners []string
	Handlers  Handlers
	Clock     clock.Clock
	Logger    *slog.Logger
	// Listen opens a listening socket; nil means net.Listen.
	Listen func(network, address string) (net.Listener, error)
	TLS    TLSOptions
	Limits Limits
	// RequireAuthentication leaves a new connection without a principal, and its requests under PreAuthRequestBytes,
	// until a handler sets Conn.Principal.
	RequireAuthentication bool
}

// TLSOptions are for the tls:// listeners. The files are read again when they change.
type TLSOptions struct {
	CertFile     string // PEM, the chain
	KeyFile      string // PEM
	ClientCAFile string // PEM; if set, clients must show a certificate that one of these signed
}

// Limits bound what clients can make the server hold.
type Limits struct {
	Connections            int               // open at the same time; 10,000
	RequestBytes           int32             // one request; 100 MiB (socket.request.max.bytes)
	PreAuthRequestBytes    int32             // one request before the client has authenticated; 64 KiB
	RequestsInFlightBytes  int64             // frames of all requests being read or answered; 128 MiB
	DecodedInFlightBytes   int64             // what decoding them allocates; 64 MiB
	ResponsesInFlightBytes int64             // encoded answers above 4 KiB; beyond it slow readers lose the connection; 128 MiB
	QueuedReplies          int               // a connection; 64
	Idle                   time.Duration     // a connection without requests or unanswered ones; 10 min (connections.max.idle.ms)
	WriteStall             time.Duration     // a client that takes nothing of its answer; 30 s
	Handshake              time.Duration     // TLS handshake; 10 s
	Guard                  *wire.GuardLimits // nil: wire.DefaultGuardLimits
}

func (l Limits) withDefaults() Limits {
	set(&l.Connections, 10_000)
	set(&l.RequestBytes, 100<<20)
	set(&l.PreAuthRequestBytes, 64<<10)
	set(&l.RequestsInFlightBytes, 128<<20)
	set(&l.DecodedInFlightBytes, 64<<20)
	set(&l.ResponsesInFlightBytes, 128<<20)
	set(&l.QueuedReplies, 64)
	set(&l.Idle, 10*time.Minute)
	set(&l.WriteStall, 30*time.Second)
	set(&l.Handshake, 10*time.Second)
	g := wire.DefaultGuardLimits()
	if l.Guard != nil {
		g = *l.Guard
	}
	g.MaxDecoded = min(g.MaxDecoded, largeDecoded(l.DecodedInFlightBytes)) // else nobody could grant it
	l.Guard = &g
	return l
}

func set[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
