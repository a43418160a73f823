package wire

import "fmt"

// Frames is the memory of request frames: a byte budget for all of them and the buffers behind it.
//
// An eighth of the budget is kept for frames of at most SmallFrame bytes, so that large ones, read or stalled, do not
// stop the small. A frame holds budget for what has arrived until it is SmallFrame bytes long; then it takes the whole
// of its size at once, waiting in line. So whoever waits for the large part holds none of it, and two half-read
// frames cannot wait for each other.
type Frames struct {
	Buffers
	large *Budget
	small *Budget
}

// SmallFrame is what a frame may grow to before it must have the budget for the whole of it, in bytes.
const SmallFrame = 64 << 10

// NewFrames makes the memory for request frames of limit bytes in all. A frame must not be larger than seven eighths
// of it.
func NewFrames(limit int64) *Frames {
	return &Frames{large: NewBudget(limit - limit/8), small: NewBudget(limit / 8)}
}

// Held is the number of bytes that frames hold now.
func (f *Frames) Held() int64 { return f.large.Used() + f.small.Used() }

// Waiting tells whether a connection waits for budget: the time to give up on those that hold it and send nothing.
func (f *Frames) Waiting() bool { return f.large.Waiting() || f.small.Waiting() }

// MaxFrame is the largest frame that the budget can hold, in bytes.
func (f *Frames) MaxFrame() int64 { return f.large.limit }

// Frame is one request as it came, without its length. It belongs to whoever got it from FrameReader.Next, until
// Release.
type Frame struct {
	Bytes  []byte
	frames *Frames
	buffer *Buffer
	from   *Budget // that it holds bytes of
	held   int64
}

// Release gives the frame's memory back. Nobody may touch its bytes afterwards.
func (f *Frame) Release() {
	if f == nil || f.frames == nil {
		return
	}
	f.frames.Free(f.buffer)
	f.from.Release(f.held)
	*f = Frame{}
}

// acquire takes n bytes of budget for a frame that holds none.
func (f *Frame) acquire(frames *Frames, n int64, done <-chan struct{}) error {
	f.frames, f.held = frames, n
	if n > SmallFrame {
		f.from = frames.large
		return f.waitFor(done)
	}
	if f.from = frames.large; frames.large.TryAcquire(n) {
		return nil
	}
	f.from = frames.small
	return f.waitFor(done)
}

func (f *Frame) waitFor(done <-chan struct{}) error {
	err := f.from.Acquire(f.held, done)
	if err != nil {
		*f = Frame{}
	}
	return err
}

// FrameSizeError is a length that no request may have.
type FrameSizeError struct {
	Size, Limit int32
}

func (e *FrameSizeError) Error() string {
	hint := ""
	switch uint32(e.Size) >> 16 {
	case 0x1603:
		hint = "; the client seems to speak TLS to a listener without it"
	case 'G'<<8 | 'E', 'P'<<8 | 'O', 'H'<<8 | 'E':
		hint = "; the client seems to speak HTTP"
	}
	return fmt.Sprintf("a request of %d bytes (the limit is %d)%s", e.Size, e.Limit, hint)
}
