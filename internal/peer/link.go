package peer

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is what all connections have: the socket, and what the sweeper needs to know to cut it off.
type link struct {
	node *Node
	conn net.Conn
	kind Kind
	seq  uint64 // in the order of connecting
	peer atomic.Pointer[Identity]

	heardHere  atomic.Int64  // as Node.sinceBase tells the time
	heardThere *atomic.Int64 // the same of any connection with that broker
	writes     atomic.Uint64 // counts begins and ends of writes: odd while one is under way

	sweep struct { // the sweeper's
		writes   uint64
		writesAt time.Duration
		pingedAt time.Duration
	}
	onClose func() // may be nil
	closing struct {
		sync.Mutex
		done   bool
		reason error
	}
}

// writeStep is how much one write takes at most, so that a slow peer's progress shows.
const writeStep = 1 << 20

// write sends b on the caller's goroutine. One caller at a time.
func (l *link) write(b []byte) error {
	for len(b) > 0 {
		step := b[:min(len(b), writeStep)]
		l.writes.Add(1)
		_, err := l.conn.Write(step)
		l.writes.Add(1)
		if err != nil {
			l.close(err)
			return l.reason()
		}
		b = b[len(step):]
	}
	return nil
}

func (l *link) heard() {
	now := int64(l.node.sinceBase())
	l.heardHere.Store(now)
	l.heardThere.Store(now)
}

// close ends the connection; the first reason counts.
func (l *link) close(reason error) {
	l.closing.Lock()
	first := !l.closing.done
	if first {
		l.closing.done, l.closing.reason = true, reason
	}
	l.closing.Unlock()
	if first {
		_ = l.conn.Close()
		if l.onClose != nil {
			l.onClose()
		}
	}
}

func (l *link) reason() error {
	l.closing.Lock()
	defer l.closing.Unlock()
	return l.closing.reason
}

// identity is who is at the other end.
func (l *link) identity() Identity { return *l.peer.Load() }
