package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"chronik/internal/kafka"
)

// call asks the peer that this node dialled.
func (c *control) call(ctx context.Context, m Method, body []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	w := &waiter{answered: make(chan struct{})}
	id, err := c.sendCall(ctx, w, m, body)
	if err != nil {
		return nil, err
	}
	select {
	case <-w.answered:
	case <-ctx.Done():
		c.mu.Lock()
		_, waiting := c.mu.calls[id]
		delete(c.mu.calls, id)
		c.mu.Unlock()
		if waiting {
			return nil, fmt.Errorf("%w: broker %d has not answered %s: %w", ErrOutcomeUnknown, c.identity().Broker, m, ctx.Err())
		}
		<-w.answered // the answer arrived in this moment
	}
	if w.err != nil {
		return nil, w.err
	}
	return decodeAnswer(c.identity().Broker, m, w.status, w.body)
}

func (c *control) sendCall(ctx context.Context, w *waiter, m Method, body []byte) (uint64, error) {
	limits := &c.node.opts.Limits
	if len(body) > limits.ControlFrame-callHead {
		return 0, fmt.Errorf("%w: %s of %d bytes is longer than the %d that are possible", ErrNotSent, m, len(body), limits.ControlFrame-callHead)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.calls) >= limits.Calls {
		return 0, fmt.Errorf("%w: %d calls wait for broker %d already", ErrNotSent, len(c.mu.calls), c.identity().Broker)
	}
	id := c.mu.lastCall + 1
	var head [callHead]byte
	binary.LittleEndian.PutUint64(head[:], id)
	head[8] = byte(m)
	binary.LittleEndian.PutUint32(head[9:], millisLeft(ctx))
	if !c.sendLocked(frameCall, true, head[:], body) {
		return 0, fmt.Errorf("%w: the connection to %s is over, or its queue is full", ErrNotSent, c.identity())
	}
	c.mu.lastCall = id
	c.mu.calls[id] = w
	return id, nil
}

// millisLeft is how long the caller waits, rounded up; 0 for one without a deadline.
func millisLeft(ctx context.Context) uint32 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	left := (time.Until(deadline) + time.Millisecond - 1) / time.Millisecond
	return uint32(min(max(left, 1), math.MaxUint32))
}

// run starts a handler for a call that arrived, or answers that it cannot.
func (c *control) run(id uint64, m Method, millis uint32, body []byte, release func()) error {
	handler := c.node.handlers[m].Load()
	self := c.node.Self().Broker
	var why string
	switch {
	case handler == nil:
		why = fmt.Sprintf("broker %d does not answer %s", self, m)
	case !c.admitCall():
		why = fmt.Sprintf("broker %d runs as many calls as it may (%d of one peer)", self, c.node.opts.Limits.Calls)
	}
	if why != "" {
		release()
		return c.answer(id, statusNotRun, []byte(why))
	}
	from := c.identity()
	c.node.goroutines.Add(1)
	go func() {
		defer c.node.goroutines.Done()
		ctx, cancel := c.ctx, context.CancelFunc(func() {})
		if millis > 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(millis)*time.Millisecond)
		}
		result, err := (*handler)(ctx, from, body)
		interrupted := err != nil && ctx.Err() != nil
		cancel()
		release()
		c.callDone()
		if interrupted {
			return // the caller has given up, or hears that the connection ended: an outcome that it must take for unknown
		}
		status, payload := encodeResult(result, err)
		if len(payload) > c.node.opts.Limits.ControlFrame-9 {
			status, payload = statusError, fmt.Appendf(nil, "the answer of %d bytes is longer than possible", len(payload))
		}
		if err := c.answer(id, status, payload); err != nil {
			c.close(err)
		}
	}()
	return nil
}

// admitCall counts a handler that starts, unless there are too many, of this peer or of all.
func (c *control) admitCall() bool {
	limit := c.node.opts.Limits.Calls
	if c.node.running.Add(1) > int64(4*limit) {
		c.node.running.Add(-1)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.running >= limit {
		c.node.running.Add(-1)
		return false
	}
	c.mu.running++
	return true
}

func (c *control) callDone() {
	c.node.running.Add(-1)
	c.mu.Lock()
	c.mu.running--
	c.mu.Unlock()
}

// answer queues an answer. A peer that does not read so many of them is cut off.
func (c *control) answer(id uint64, status byte, payload []byte) error {
	var head [9]byte
	binary.LittleEndian.PutUint64(head[:], id)
	head[8] = status
	if !c.send(frameAnswer, true, head[:], payload) {
		return errNotReading
	}
	return nil
}

func encodeResult(result []byte, err error) (status byte, payload []byte) {
	if err == nil {
		return statusOK, result
	}
	var e *kafka.Error
	if errors.As(err, &e) && e.Code != 0 {
		text := e.Msg
		if text == "" && err != error(e) { // wrapped: what was attempted is worth to be known
			text = err.Error()
		}
		return statusKafka, append(binary.LittleEndian.AppendUint16(nil, uint16(e.Code)), text...)
	}
	return statusError, []byte(err.Error())
}
