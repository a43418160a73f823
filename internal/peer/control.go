package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"chronik/internal/kafka"
)

// The frames of a control connection. Calls, notifications and pings go from who dialled to who accepted.
const (
	framePing    = 1
	framePong    = 2
	frameCall    = 3 // id u64, method u8, milliseconds that the caller waits u32 (0: for ever), body
	frameAnswer  = 4 // id u64, status u8, then by status
	frameNotify  = 5 // method u8, body
	frameCluster = 6 // the cluster ID that the sender belongs to from now on
	frameRefuse  = 7 // a text; the connection ends
	frameBye     = 8 // the sender's process stops in good order; the connection ends
)

// control is a control connection of either direction. Frames to be sent gather in mu.pending while its one writing
// goroutine writes those before them: many leave in one write.
type control struct {
	link
	reader   *frameReader
	dialled  bool
	ctx      context.Context // of the handlers; ends with the connection
	cancel   context.CancelFunc
	told     string        // the cluster ID that the handshake told the peer
	refusing atomic.Bool   // what still arrives is dropped
	served   chan struct{} // closed when the connection is over

	mu struct {
		sync.Mutex
		wake    sync.Cond
		pending []byte
		spare   []byte // the buffer that was written last, to be filled again
		last    error  // nothing more is taken; the connection ends with it when pending is written
		closed  bool

		calls    map[uint64]*waiter
		lastCall uint64
		written  uint64 // calls up to this one may have reached the peer
		running  int    // handlers of this peer's calls
	}
}

// waiter is a call under way; answered is closed when the rest is set.
type waiter struct {
	answered chan struct{}
	status   byte
	body     []byte // what follows the status
	err      error  // the connection ended
}

func newControl(n *Node, conn net.Conn, dialled bool, peer Identity, told string) *control {
	c := &control{dialled: dialled, told: told}
	c.node, c.conn, c.kind = n, conn, Control
	c.peer.Store(&peer)
	c.reader = newFrameReader(conn, n.opts.Limits.ControlFrame, c.heard)
	c.ctx, c.cancel = context.WithCancel(n.ctx)
	c.onClose = c.cancel
	c.mu.wake.L = &c.mu.Mutex
	c.mu.calls = map[uint64]*waiter{}
	c.served = make(chan struct{})
	return c
}

// serve runs the connection until it ends, and returns why.
func (c *control) serve() error {
	written := make(chan struct{})
	c.node.goroutines.Add(1)
	go func() {
		defer c.node.goroutines.Done()
		defer close(written)
		c.writeLoop()
	}()
	if self, peer := c.node.Self(), c.identity(); !sameCluster(self.ClusterID, peer.ClusterID) {
		c.refuse(otherCluster(self, peer)) // this node joined a cluster in this moment
	} else if self.ClusterID != c.told {
		c.tellCluster(self.ClusterID)
	}
	err := c.readLoop()
	if last := c.lastReason(); last != nil {
		err = last
	}
	c.close(err)
	err = c.reason()
	c.end(err)
	<-written
	c.node.forget(&c.link)
	close(c.served)
	return err
}

// end fails what waits for the peer, and stops the writer.
func (c *control) end(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.closed = true
	c.mu.pending = nil
	for _, id := range slices.Sorted(maps.Keys(c.mu.calls)) {
		w := c.mu.calls[id]
		w.err = fmt.Errorf("%w: the connection to %s ended: %w", ErrOutcomeUnknown, c.identity(), reason)
		if id > c.mu.written {
			w.err = fmt.Errorf("%w: the connection to %s ended: %w", ErrNotSent, c.identity(), reason)
		}
		delete(c.mu.calls, id)
		close(w.answered)
	}
	c.mu.wake.Broadcast()
}

func (c *control) writeLoop() {
	for {
		c.mu.Lock()
		for len(c.mu.pending) == 0 && !c.mu.closed && c.mu.last == nil {
			c.mu.wake.Wait()
		}
		if c.mu.closed {
			c.mu.Unlock()
			return
		}
		out, last := c.mu.pending, c.mu.last
		c.mu.pending, c.mu.spare = c.mu.spare[:0], nil
		c.mu.written = c.mu.lastCall
		c.mu.Unlock()
		if len(out) > 0 && c.write(out) != nil {
			return // the reader fails too, and ends everything
		}
		if last != nil {
			c.depart(last)
			return
		}
		c.mu.Lock()
		if cap(out) <= keptBufferSize {
			c.mu.spare = out
		}
		c.mu.Unlock()
	}
}

// depart ends the connection so that the peer gets what was written last: this side's half first, the rest when the peer has
// closed its own. To close at once, with bytes unread here, is a reset, and that takes from the peer what it has not read yet.
func (c *control) depart(last error) {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		timer := c.node.opts.Clock.NewTimer(byeLimit / 2)
		defer timer.Stop()
		select {
		case <-c.ctx.Done():
		case <-timer.C():
		}
	}
	c.close(last)
}

// lastReason is why this side ends the connection; nil if it does not.
func (c *control) lastReason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.last
}

// send queues a frame whose body is made of parts; false if the connection is over or bound is exceeded.
func (c *control) send(typ byte, bound bool, parts ...[]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sendLocked(typ, bound, parts...)
}

func (c *control) sendLocked(typ byte, bound bool, parts ...[]byte) bool {
	if c.mu.closed || c.mu.last != nil {
		return false
	}
	size := headerSize
	for _, part := range parts {
		size += len(part)
	}
	if size-headerSize > c.node.opts.Limits.ControlFrame {
		return false
	}
	if bound && len(c.mu.pending) > 0 && len(c.mu.pending)+size > c.node.opts.Limits.ControlQueue {
		return false
	}
	start := len(c.mu.pending)
	b := beginFrame(c.mu.pending, typ)
	for _, part := range parts {
		b = append(b, part...)
	}
	endFrame(b, start)
	c.mu.pending = b
	c.mu.wake.Signal()
	return true
}

// refuse tells the peer why, and ends the connection.
func (c *control) refuse(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendLocked(frameRefuse, false, []byte(text[:min(len(text), textMax)]))
	c.mu.last = &RefusedError{By: c.node.Self(), Text: text}
	c.refusing.Store(true)
	c.mu.wake.Signal()
}

// sayBye tells the peer that this process stops, and ends the connection.
func (c *control) sayBye() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sendLocked(frameBye, false)
	if c.mu.last == nil {
		c.mu.last = net.ErrClosed
	}
	c.mu.wake.Signal()
}

func (c *control) tellCluster(id string) { c.send(frameCluster, false, []byte(id)) }

func (c *control) readLoop() error {
	release := func() {}
	c.reader.admit = func(size int) error {
		if err := c.node.large.Acquire(int64(size), c.ctx.Done()); err != nil {
			return err
		}
		release = sync.OnceFunc(func() { c.node.large.Release(int64(size)) })
		return nil
	}
	defer func() { release() }()
	for {
		typ, body, err := c.reader.next()
		if err != nil {
			return err
		}
		done, err := c.receive(typ, body, release)
		if err != nil {
			return err
		}
		if done {
			release()
		}
		release = func() {}
	}
}

// receive handles a frame. release gives back the memory of body; done tells that this is the caller's to do.
func (c *control) receive(typ byte, body []byte, release func()) (done bool, err error) {
	f := fields{b: body}
	switch {
	case c.refusing.Load():
	case typ == framePing && !c.dialled:
		if !c.send(framePong, true) {
			return true, errNotReading
		}
	case typ == framePong && c.dialled:
	case typ == frameCall && !c.dialled:
		id, method, millis := f.uint64(), Method(f.byte()), f.uint32()
		if f.bad {
			return true, errFrame(typ)
		}
		return false, c.run(id, method, millis, c.reader.own(body)[callHead:], release)
	case typ == frameAnswer && c.dialled:
		id, status := f.uint64(), f.byte()
		if f.bad {
			return true, errFrame(typ)
		}
		c.answered(id, status, body)
	case typ == frameNotify && !c.dialled:
		method := Method(f.byte())
		if f.bad {
			return true, errFrame(typ)
		}
		if receiver := c.node.receivers[method].Load(); receiver != nil {
			(*receiver)(c.identity(), f.b)
		}
	case typ == frameCluster:
		return true, c.clusterChanged(string(body[:min(len(body), stringMax)]))
	case typ == frameBye:
		c.node.noteLeaving(c.identity())
	case typ == frameRefuse:
		return true, &RefusedError{By: c.identity(), Text: string(body[:min(len(body), textMax)])}
	default:
		return true, errFrame(typ)
	}
	return true, nil
}

var errNotReading = errors.New("the peer does not read its answers")

func errFrame(typ byte) error {
	return fmt.Errorf("a control frame of type %d makes no sense here", typ)
}

// clusterChanged notes that the peer has formed or joined a cluster.
func (c *control) clusterChanged(id string) error {
	peer := c.identity()
	peer.ClusterID = id
	c.peer.Store(&peer)
	if self := c.node.Self(); !sameCluster(self.ClusterID, id) {
		c.refuse(otherCluster(self, peer))
	}
	return nil
}

const callHead = 8 + 1 + 4

const (
	statusOK     = 0 // then the answer
	statusKafka  = 1 // code i16, text
	statusError  = 2 // text
	statusNotRun = 3 // text
)

// answered wakes the caller; one that has given up meanwhile is forgotten.
func (c *control) answered(id uint64, status byte, body []byte) {
	c.mu.Lock()
	w := c.mu.calls[id]
	delete(c.mu.calls, id)
	c.mu.Unlock()
	if w == nil {
		return
	}
	w.status, w.body = status, c.reader.own(body)[9:]
	close(w.answered)
}

// decodeAnswer makes of an answer what the handler returned.
func decodeAnswer(from kafka.BrokerID, m Method, status byte, body []byte) ([]byte, error) {
	switch status {
	case statusOK:
		return body, nil
	case statusKafka:
		if len(body) < 2 {
			break
		}
		code := int16(binary.LittleEndian.Uint16(body))
		known, ok := kafka.ByCode(code).(*kafka.Error)
		if !ok {
			break // code 0: no error may become a success
		}
		return nil, &kafka.Error{Code: code, Name: known.Name, Msg: string(body[2:])}
	case statusError:
		return nil, &RemoteError{Broker: from, Method: m, Text: string(body)}
	case statusNotRun:
		return nil, fmt.Errorf("%w: %s", ErrNotSent, body)
	}
	return nil, &RemoteError{Broker: from, Method: m, Text: fmt.Sprintf("answer of status %d not understood", status)}
}
