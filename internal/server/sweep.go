package server

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// sweepInterval is how often the connections are looked at.
const sweepInterval = time.Second

// How a half-sent request is judged while others wait for the memory that it holds: it gets frameGrace, then it must
// come at a pace that ends it within frameEnd. A client that does not take its answers, while they or its further
// requests hold memory that others need, gets answerGrace to take answerPace.
const (
	frameGrace  = 2 * time.Second
	frameEnd    = 10 * time.Second
	answerGrace = 2 * time.Second
	answerPace  = 256 << 10 // bytes in each answerGrace
)

// sweepState is what the sweeper remembers of a connection. It belongs to its goroutine.
type sweepState struct {
	activity    int64 // bytes in and out, and requests over, at the last change
	activeAt    time.Time
	written     int64
	writtenAt   time.Time // when written changed last, or a write began
	pressed     int64     // written, when the memory that the client's slowness holds was first needed
	pressedAt   time.Time // zero while it is not
	request     int64     // the number of the half-sent request
	requestAt   time.Time
	requestBase int64 // bytes of it that had arrived by then
	closed      bool  // the sweeper has closed the connection
}

// sweep is one goroutine for all connections: it closes those that are idle, that do not take their answers, or that
// hold memory which others wait for; also those that have never asked for anything, once no more clients can connect. Deadlines on every read and write would cost each request a timer.
func (s *Server) sweep() {
	defer s.goroutines.Done()
	ticker := s.opts.Clock.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C():
		case <-s.ctx.Done():
			return
		}
		now := s.opts.Clock.Now()
		if s.tls != nil {
			s.tls.reload(s.opts.Logger)
		}
		framesWanted := s.frames.Waiting()
		answersOver := s.answersOver()
		open := s.open()
		full := len(open) >= s.opts.Limits.Connections
		for _, c := range open {
			if full && c.silent(now) {
				s.sweepAway(c, "it has asked for nothing, and no more clients can connect", &s.counters.idle)
				continue
			}
			s.sweepOne(c, now, framesWanted, answersOver)
		}
	}
}

func (s *Server) sweepOne(c *connection, now time.Time, framesWanted, answersOver bool) {
	why, counter := "", &s.counters.stalled
	switch {
	case c.answerStalled(now) || c.answerPressed(now, framesWanted, answersOver):
		why = "the client does not take its answers"
	case c.frameStalled(now) && framesWanted:
		why = "the client sends a request too slowly while others wait for memory"
	case c.idle(now):
		why, counter = "idle", &s.counters.idle
	default:
		return
	}
	s.sweepAway(c, why, counter)
}

// sweepAway closes a connection.
func (s *Server) sweepAway(c *connection, why string, counter *atomic.Int64) {
	if c.sweep.closed { // which may take a while where a disk is slow
		return
	}
	c.sweep.closed = true
	counter.Add(1)
	level := slog.LevelInfo
	if counter == &s.counters.idle {
		level = slog.LevelDebug
	}
	s.opts.Logger.Log(s.ctx, level, "connection closed: "+why, "remote", c.api.Remote, "listener", c.api.Listener)
	// Closing waits for a sendfile that is under way, and that may wait for a slow disk: not on the sweeper's time.
	s.goroutines.Add(1)
	go func() {
		defer s.goroutines.Done()
		c.abort()
	}()
}

// silent tells whether a client has not said anything for as long as a handshake may take.
func (c *connection) silent(now time.Time) bool {
	return c.read.Load() == 0 && now.Sub(c.opened) >= c.server.opts.Limits.Handshake
}

func (c *connection) idle(now time.Time) bool {
	st := &c.sweep
	done := c.done.Load()
	activity := c.reader.BytesRead() + c.written.Load() + done
	if activity != st.activity || st.activeAt.IsZero() || done != c.read.Load() {
		st.activity, st.activeAt = activity, now
		return false
	}
	return now.Sub(st.activeAt) >= c.server.opts.Limits.Idle
}

func (c *connection) answerStalled(now time.Time) bool {
	st := &c.sweep
	written := c.written.Load()
	if !c.writing.Load() || written != st.written || st.writtenAt.IsZero() {
		st.written, st.writtenAt = written, now
		return false
	}
	return now.Sub(st.writtenAt) >= c.server.opts.Limits.WriteStall
}

// answerPressed tells whether others need what the connection holds while its client takes next to nothing: copied
// answers, or the requests that are queued behind one.
func (c *connection) answerPressed(now time.Time, framesWanted, answersOver bool) bool {
	st := &c.sweep
	holds := answersOver && c.copied.Load() > 0 || framesWanted && c.read.Load() > c.done.Load()+1
	written := c.written.Load()
	if !holds || !c.writing.Load() || st.pressedAt.IsZero() {
		st.pressed, st.pressedAt = written, time.Time{}
		if holds && c.writing.Load() {
			st.pressedAt = now
		}
		return false
	}
	if now.Sub(st.pressedAt) < answerGrace {
		return false
	}
	if written-st.pressed < answerPace {
		return true
	}
	st.pressed, st.pressedAt = written, now
	return false
}

func (c *connection) frameStalled(now time.Time) bool {
	st := &c.sweep
	promised, arrived := c.reader.Partial()
	request := c.read.Load() + 1
	if promised == 0 {
		st.request = 0
		return false
	}
	if request != st.request {
		st.request, st.requestAt, st.requestBase = request, now, arrived
		return false
	}
	elapsed := now.Sub(st.requestAt)
	pace := float64(arrived-st.requestBase) / elapsed.Seconds()
	return elapsed >= frameGrace && pace*frameEnd.Seconds() < float64(promised-arrived)
}

// counters are the server's, without locks.
type counters struct {
	accepted, refusedConnections atomic.Int64
	idle, stalled                atomic.Int64
	refused, tlsFailures         atomic.Int64
	sendfile                     atomic.Int64
	closedIn, closedOut          atomic.Int64 // bytes of the connections that are gone
	apis                         [maxKeys]apiCounters
}
