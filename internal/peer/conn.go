package peer

// Frame is one message of a data connection. Body is valid until the next ReadFrame.
type Frame struct {
	Type byte
	Body []byte
}

// Conn is a data connection: frames in both directions, each with its CRC. One goroutine may read while one other
// writes; neither side has a lock of its own. Close may be called by anybody.
type Conn struct{}

// Peer is who is at the other end.
func (c *Conn) Peer() Identity { return Identity{} }

// Kind is Hot or CatchUp.
func (c *Conn) Kind() Kind { return 0 }

// ReadFrame waits for the next frame. Any error ends the connection.
func (c *Conn) ReadFrame() (Frame, error) { return Frame{}, nil }

// BeginFrame starts a frame: append its body to the slice that it returns, which may hold frames before it, and hand
// the result to EndFrame. Nothing is sent before Flush.
//
//	b := c.BeginFrame(typeAppend)
//	b = binary.LittleEndian.AppendUint64(b, offset)
//	c.EndFrame(b)
func (c *Conn) BeginFrame(typ byte) []byte { return nil }

// EndFrame ends the frame that BeginFrame started; b is its slice with the body appended.
func (c *Conn) EndFrame(b []byte) {}

// CancelFrame drops the frame that BeginFrame started.
func (c *Conn) CancelFrame() {}

// Buffered is how many bytes wait for Flush.
func (c *Conn) Buffered() int { return 0 }

// Flush writes all frames that were ended, in one write, on the caller's goroutine. A peer that takes nothing for
// Limits.WriteStall ends the connection, and the write with it.
func (c *Conn) Flush() error { return nil }

// Close ends the connection; reads and writes under way return with an error.
func (c *Conn) Close() error { return nil }
