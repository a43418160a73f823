package peer

import (
	"context"
	"log/slog"
	"net"
	"time"

	"chronik/internal/clock"
)

// Options of a [Node].
type Options struct {
	Self Identity
	// Listener accepts the connections of peers; the node closes it. Nil for a node that nobody can dial.
	Listener net.Listener
	// Dial opens connections to peers; net.Dialer.DialContext if nil.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Clock  clock.Clock
	Logger *slog.Logger
	Limits Limits
}

// Limits bound what peers, and whoever else reaches the cluster port, can make this node hold. Zero means the default.
type Limits struct {
	Connections  int   // accepted at a time; 512
	Handshakes   int   // accepted and not yet introduced; 64
	Calls        int   // of one peer that run here, and of this node that wait for one peer; 1,024 each
	ControlFrame int   // bytes of one call, answer or notification; 64 MiB
	ControlQueue int   // bytes that wait to be written to one control connection; 64 MiB
	LargeFrames  int64 // bytes of control frames above 64 KiB that are being received together; 256 MiB
	DataFrame    int   // bytes of one frame of a data connection; 128 MiB

	Handshake  time.Duration // a new connection must have introduced itself; 5 s
	Dial       time.Duration // one attempt to connect; 1 s
	Ping       time.Duration // between two pings; 1 s
	Silence    time.Duration // a peer that says nothing for so long is cut off; 3 s
	WriteStall time.Duration // a peer that takes nothing for so long is cut off; 5 s
	RedialMin  time.Duration // before the second attempt to connect again (the first is at once); 10 ms
	RedialMax  time.Duration // between two attempts at most; 500 ms
}

func (l Limits) withDefaults() Limits {
	count := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	count(&l.Connections, 512)
	count(&l.Handshakes, 64)
	count(&l.Calls, 1024)
	count(&l.ControlFrame, 64<<20)
	count(&l.ControlQueue, 64<<20)
	count(&l.DataFrame, 128<<20)
	if l.LargeFrames == 0 {
		l.LargeFrames = max(256<<20, int64(l.ControlFrame))
	}
	duration := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	duration(&l.Handshake, 5*time.Second)
	duration(&l.Dial, time.Second)
	duration(&l.Ping, time.Second)
	duration(&l.Silence, 3*time.Second)
	duration(&l.WriteStall, 5*time.Second)
	duration(&l.RedialMin, 10*time.Millisecond)
	duration(&l.RedialMax, 500*time.Millisecond)
	return l
}
