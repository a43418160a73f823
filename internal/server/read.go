package server

import (
	"errors"
	"io"
	"log/slog"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/wire"
)

const (
	produceKey     = 0
	apiVersionsKey = 18
	// minProduceVersion is the oldest Produce that is served. Older ones are advertised for the sake of old librdkafka,
	// which drops compression otherwise (KAFKA-18659), and answered with UNSUPPORTED_VERSION.
	minProduceVersion = 3
)

// readLoop takes requests off the socket and gives each its order, until the connection ends or a request makes no
// sense: then nothing that follows can be trusted to be a request.
func (c *connection) readLoop() {
	for !c.draining.Load() {
		c.limitFrames()
		if err := c.reader.Next(&c.frame, c.ctx.Done()); err != nil {
			c.readEnded(err)
			return
		}
		c.read.Add(1)
		if c.broken.Load() { // the last answer is sent; what the client still says is not heard
			c.frame.Release()
			continue
		}
		if err := c.accept(); err != nil {
			c.frame.Release()
			c.done.Add(1)
			c.refuse(err)
			return
		}
	}
}

// refuse counts, and says so loudly only once in a while: a hostile client must not fill the log.
func (c *connection) refuse(err error) {
	level := slog.LevelDebug
	if n := c.server.counters.refused.Add(1); n < 100 || n&(n-1) == 0 {
		level = slog.LevelWarn
	}
	c.log(level, "connection closed: a request was refused", err)
}

func (c *connection) limitFrames() {
	if c.server.opts.RequireAuthentication {
		limit := c.server.opts.Limits.RequestBytes
		if c.api.Principal == "" {
			limit = c.server.opts.Limits.PreAuthRequestBytes
		}
		c.reader.SetLimit(limit)
	}
}

// accept checks a frame from the outside in, decodes it and dispatches it. The frame is the request's afterwards.
func (c *connection) accept() error {
	h, err := wire.ParseHeader(c.frame.Bytes)
	if err != nil && len(c.frame.Bytes) < wire.MinHeader {
		return err
	}
	minVersion, maxVersion, known := c.server.opts.Handlers.Lookup(h.Key)
	if h.Key == produceKey {
		minVersion = max(minVersion, minProduceVersion)
	}
	if !known || h.Version < minVersion || h.Version > maxVersion {
		return c.acceptUnsupported(&h, known, minVersion, maxVersion) // whatever its header is like in that version
	}
	if err != nil {
		return err
	}
	cost, err := wire.Check(h.Key, h.Version, h.Body, c.server.opts.Limits.Guard)
	if err != nil {
		return err
	}
	it := c.server.newInflight(h.Key)
	if err := c.decode(it, &h, cost); err != nil {
		return err
	}
	it.reply = c.server.opts.Handlers.Dispatch(c.ctx, &it.request)
	if it.request.Detached {
		it.request.Body = nil
		it.frame.Release()
		it.dropDecoded()
	}
	c.queue <- it
	return nil
}

// decode makes the request of a frame that has passed the guard.
func (c *connection) decode(it *inflight, h *wire.Header, cost wire.Cost) error {
	it.began = c.server.opts.Clock.Now()
	it.key, it.version, it.correlationID = h.Key, h.Version, h.CorrelationID
	if cost.Decoded > 0 {
		if err := c.holdDecoded(it, cost.Decoded); err != nil {
			return err
		}
	}
	body := it.request.Body
	body.SetVersion(h.Version)
	read, holdsFrame := body.ReadFrom, cost.HoldsFrame
	if h.Key == produceKey { // its strings stay in the frame, too
		read, holdsFrame = it.produce.UnsafeReadFrom, true
	}
	if err := read(h.Body); err != nil {
		it.dropDecoded()
		return err
	}
	it.request.Key, it.request.Version = h.Key, h.Version
	it.request.ClientID, it.request.Conn = c.intern(h.ClientID), &c.api
	if holdsFrame {
		it.frame = c.frame
		c.frame = wire.Frame{}
	} else {
		c.frame.Release()
	}
	return nil
}

// holdDecoded takes the memory for decoding a request, and dropDecoded gives it back.
func (c *connection) holdDecoded(it *inflight, n int64) error {
	from, err := c.server.decoded.acquire(n, c.read.Load() == c.done.Load()+1, c.ctx.Done())
	if err == nil {
		it.decoded, it.decodedFrom = n, from
	}
	return err
}

func (it *inflight) dropDecoded() {
	if it.decodedFrom != nil {
		it.decodedFrom.Release(it.decoded)
		it.decodedFrom, it.decoded = nil, 0
	}
}

// intern keeps the string of the last client ID: a connection rarely has a second one.
func (c *connection) intern(id []byte) string {
	if c.clientID != string(id) {
		c.clientID = string(id)
	}
	return c.clientID
}

// readEnded decides what the end of the requests means for those that are not answered yet.
func (c *connection) readEnded(err error) {
	var size *wire.FrameSizeError
	switch {
	case c.draining.Load():
		return // they are answered
	case errors.As(err, &size):
		c.refuse(err)
		return
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, wire.ErrGivenUp), c.broken.Load():
	default:
		c.log(slog.LevelDebug, "connection lost", err)
	}
	c.abort() // the client is gone: nobody waits for them
}

func (c *connection) log(level slog.Level, message string, err error) {
	c.server.opts.Logger.Log(c.ctx, level, message, "remote", c.api.Remote, "listener", c.api.Listener,
		"client", c.clientID, "error", err)
}

// newInflight is room for a request. For Produce it is used again: between the answer and the next request nobody
// holds it, see Handlers.
func (s *Server) newInflight(key int16) *inflight {
	if key != produceKey {
		return &inflight{request: api.Request{Body: kmsg.RequestForKey(key)}}
	}
	it, _ := s.produces.Get().(*inflight)
	if it == nil {
		it = &inflight{}
	}
	it.request.Body = &it.produce
	return it
}

// recycle gives back what a request held once its answer is encoded.
func (s *Server) recycle(it *inflight) {
	it.frame.Release()
	it.dropDecoded()
	if it.request.Body != kmsg.Request(&it.produce) {
		return
	}
	topics := it.produce.Topics
	if cap(topics) > maxRecycledTopics {
		return
	}
	clear(topics[:cap(topics)]) // they point into the frame
	it.request.Reset()
	*it = inflight{request: it.request, produce: kmsg.ProduceRequest{Topics: topics[:0]}}
	s.produces.Put(it)
}

const maxRecycledTopics = 64
