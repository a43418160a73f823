package peer

import (
	"fmt"
	"net"
)

// Frame is one message of a data connection. Body is valid until the next ReadFrame.
type Frame struct {
	Type byte
	Body []byte
}

// Conn is a data connection: frames in both directions, each with its CRC. One goroutine may read while one other
// writes; neither side has a lock of its own. Close may be called by anybody.
type Conn struct {
	link
	reader *frameReader

	out     []byte // ended frames, then the one that is begun
	begun   int    // where that starts; -1 if none is
	tooLong error
}

func newConn(n *Node, conn net.Conn, kind Kind, peer Identity) *Conn {
	c := &Conn{begun: -1}
	c.node, c.conn, c.kind = n, conn, kind
	c.peer.Store(&peer)
	c.reader = newFrameReader(conn, n.opts.Limits.DataFrame, c.heard)
	return c
}

// Peer is who is at the other end.
func (c *Conn) Peer() Identity { return c.identity() }

// Kind is Hot or CatchUp.
func (c *Conn) Kind() Kind { return c.kind }

// ReadFrame waits for the next frame. Any error ends the connection; io.EOF is a peer that closed it between two frames.
func (c *Conn) ReadFrame() (Frame, error) {
	typ, body, err := c.reader.next()
	if err != nil {
		c.close(err)
		return Frame{}, c.reason()
	}
	return Frame{Type: typ, Body: body}, nil
}

// Ready tells whether ReadFrame would return without waiting. It is for the goroutine that reads.
func (c *Conn) Ready() bool { return c.reader.ready() }

// BeginFrame starts a frame: append its body to the slice that it returns, which may hold frames before it, and hand
// the result to EndFrame. Nothing is sent before Flush.
//
//	b := c.BeginFrame(typeAppend)
//	b = binary.LittleEndian.AppendUint64(b, offset)
//	c.EndFrame(b)
func (c *Conn) BeginFrame(typ byte) []byte {
	if c.begun >= 0 {
		panic("peer: BeginFrame while another frame is begun")
	}
	c.begun = len(c.out)
	return beginFrame(c.out, typ)
}

// EndFrame ends the frame that BeginFrame started; b is its slice with the body appended. A body above
// Limits.DataFrame, which the peer would refuse, fails the next Flush.
func (c *Conn) EndFrame(b []byte) {
	if c.begun < 0 || len(b) < c.begun+headerSize {
		panic("peer: EndFrame without BeginFrame")
	}
	if size := len(b) - c.begun - headerSize; size > c.node.opts.Limits.DataFrame {
		c.tooLong = fmt.Errorf("a frame of %d bytes for broker %d is longer than the %d that are possible", size, c.Peer().Broker, c.node.opts.Limits.DataFrame)
		b = b[:c.begun]
	} else {
		endFrame(b, c.begun)
	}
	c.out, c.begun = b, -1
}

// CancelFrame drops the frame that BeginFrame started. b is its slice, grown or not; its memory is kept for the next.
func (c *Conn) CancelFrame(b []byte) {
	if c.begun < 0 || len(b) < c.begun {
		panic("peer: CancelFrame without BeginFrame")
	}
	c.out, c.begun = b[:c.begun], -1
}

// Buffered is how many bytes wait for Flush.
func (c *Conn) Buffered() int { return len(c.out) }

// Flush writes all frames that were ended, in one write, on the caller's goroutine. A peer that takes nothing for
// Limits.WriteStall ends the connection, and the write with it. Any error ends the connection.
func (c *Conn) Flush() error {
	if c.begun >= 0 {
		panic("peer: Flush while a frame is begun")
	}
	if c.tooLong != nil {
		c.close(c.tooLong)
		return c.tooLong
	}
	if len(c.out) == 0 {
		return nil
	}
	err := c.write(c.out)
	if c.out = c.out[:0]; cap(c.out) > keptBufferSize {
		c.out = nil
	}
	return err
}

// Close ends the connection; reads and writes under way return with an error.
func (c *Conn) Close() error {
	c.close(net.ErrClosed)
	c.node.forget(&c.link)
	return nil
}
