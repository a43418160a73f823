package server

import (
	"log/slog"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/wire"
)

const (
	// smallBuffer is what an answer's buffer starts with, in bytes.
	smallBuffer = 512
	// flushBytes of encoded answers are sent without waiting for more.
	flushBytes = 64 << 10
	// countedBytes of encoded answers are worth counting.
	countedBytes = 4 << 10
)

// writeLoop runs the replies in the order of the requests and sends what they return, until the queue is closed and
// empty: also when the connection is gone, because a reply may have something to give back.
func (c *connection) writeLoop() {
	defer c.server.goroutines.Done()
	for {
		it, ok := c.next()
		if !ok {
			break
		}
		if c.out != nil && (it.request.Ready == nil || !it.request.Ready()) {
			c.flush() // the reply may wait
		}
		c.answer(it)
	}
	if !c.broken.Load() {
		c.hangUp()
	}
	if c.linger != nil {
		c.linger.Stop()
	}
	c.cancel()
	c.server.forget(c)
}

// next sends what is encoded before it waits for another request.
func (c *connection) next() (*inflight, bool) {
	select {
	case it, ok := <-c.queue:
		if !ok {
			c.flush()
		}
		return it, ok
	default:
	}
	c.flush()
	it, ok := <-c.queue
	return it, ok
}

// answer runs a reply and encodes what it returns, or sends it if it has file sections.
func (c *connection) answer(it *inflight) {
	var response api.Response
	c.awaitAnswers(it)
	if it.reply != nil {
		response = it.reply(c.ctx)
	}
	began, key := it.began, it.key
	switch {
	case c.broken.Load():
	case response.Message != nil:
		c.encode(it, response.Message)
		if len(c.out.B) >= flushBytes {
			c.flush()
		}
	case response.Payload != nil:
		c.sendPayload(it, response.Payload)
	default:
		c.server.counters.count(key, began, c.server.opts.Clock.Now())
	}
	if response.Payload != nil && response.Payload.Release != nil {
		response.Payload.Release()
	}
	c.server.recycle(it)
	if response.Close {
		c.flush()
		c.end()
	}
	c.done.Add(1)
}

func (c *connection) encode(it *inflight, m kmsg.Response) {
	if c.answerGrows(it.key) {
		defer c.takeTurn(it)()
	}
	start := c.begin(it)
	m.SetVersion(it.version)
	if p, ok := m.(*kmsg.ProduceResponse); ok {
		c.out.B = wire.AppendProduceResponse(c.out.B, p)
	} else {
		c.out.B = m.AppendTo(c.out.B)
	}
	wire.EndResponse(c.out.B, start, 0)
	c.unsent = append(c.unsent, answered{it.key, it.began})
	c.holdOut()
}

// begin appends a response header and returns where it starts.
func (c *connection) begin(it *inflight) (start int) {
	if c.out == nil {
		c.out = c.server.frames.Get(smallBuffer)
	}
	start = len(c.out.B)
	c.out.B = wire.BeginResponse(c.out.B, it.key, it.version, it.correlationID)
	return start
}

// sendPayload sends a response that is encoded already. Bytes in front of a file section travel with it.
func (c *connection) sendPayload(it *inflight, p *wire.Payload) {
	defer c.holdPayload(it.key, p)()
	start := c.begin(it)
	wire.EndResponse(c.out.B, start, p.Size())
	c.unsent = append(c.unsent, answered{it.key, it.began})
	for i := range p.Parts {
		part := &p.Parts[i]
		switch {
		case part.File != nil:
			c.flushMore()
			c.check(c.send.file(part.File, part.Off, part.Len))
		case len(part.Bytes) <= smallPart:
			if c.out == nil {
				c.out = c.server.frames.Get(smallBuffer)
			}
			c.out.B = append(c.out.B, part.Bytes...)
		default:
			c.flushMore()
			c.check(c.send.bytes(part.Bytes, i+1 < len(p.Parts)))
		}
		if c.broken.Load() {
			break
		}
	}
	c.flush()
	c.sent()
}

// smallPart is what is cheaper to copy than to send by itself, in bytes.
const smallPart = 16 << 10

// flush sends what is encoded.
func (c *connection) flush() {
	c.flushBuffer(false)
	c.sent()
}

// flushMore sends what is encoded and lets the kernel hold it back for what follows at once.
func (c *connection) flushMore() { c.flushBuffer(true) }

func (c *connection) flushBuffer(more bool) {
	if c.out == nil {
		return
	}
	c.holdOut()
	if !c.broken.Load() {
		c.check(c.send.bytes(c.out.B, more))
	}
	c.dropOut()
	c.server.frames.Free(c.out)
	c.out = nil
}

// sent counts the answers that have left.
func (c *connection) sent() {
	if len(c.unsent) == 0 {
		return
	}
	now := c.server.opts.Clock.Now()
	for _, a := range c.unsent {
		c.server.counters.count(a.key, a.began, now)
	}
	c.unsent = c.unsent[:0]
}

// check ends the connection if a write failed: the client cannot make sense of what would follow.
func (c *connection) check(err error) {
	if err == nil || c.broken.Load() {
		return
	}
	c.log(slog.LevelDebug, "connection lost while answering", err)
	c.abort()
}

// end closes the connection after what was sent; replies still queued are run and dropped.
func (c *connection) end() {
	if c.broken.Load() {
		return
	}
	c.cancel()
	c.broken.Store(true)
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		// The read loop takes what the client still sends, so that closing does not reset the connection.
		c.linger = c.server.opts.Clock.AfterFunc(lingerTime, func() { _ = c.socket.Close() })
		return
	}
	_ = c.socket.Close()
}
