package wire

import "fmt"

// Frames is the memory of request frames: a byte budget for all of them and the buffers behind it.
//
// The budget is divided, so that large frames, read or stalled, do not stop the small: frames up to SmallFrame bytes and
// those of middling size have a part of their own beside what the large ones leave. The beginning of a frame of which the
// rest has not arrived holds bytes of a fourth part; for more it takes the whole of its size at once, waiting in line.
// Whoever waits for the whole holds nothing of what it waits for, so no two half-read frames wait for each other,
// however many there are.
type Frames struct {
	Buffers
	large  *Budget // of everybody, and the only one for large frames
	middle *Budget
	small  *Budget
	begun  *Budget // beginnings
	most   int64   // bytes of a middling frame
}

// SmallFrame is the largest frame that counts as small, in bytes.
const SmallFrame = 64 << 10

// NewFrames makes the memory for request frames of limit bytes in all. A frame must not be larger than [Frames.MaxFrame].
func NewFrames(limit int64) *Frames {
	part := limit / 32
	return &Frames{
		large: NewBudget(limit - 6*part), middle: NewBudget(2 * part), small: NewBudget(3 * part), begun: NewBudget(part), most: part,
	}
}

// Held is the number of bytes that frames hold now.
func (f *Frames) Held() int64 {
	return f.large.Used() + f.middle.Used() + f.small.Used() + f.begun.Used()
}

// Waiting tells whether a connection waits for budget: the time to give up on those that hold it and send nothing.
func (f *Frames) Waiting() bool {
	return f.large.Waiting() || f.middle.Waiting() || f.small.Waiting() || f.begun.Waiting()
}

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

// whole takes the budget for all of a frame, and gives back that of its beginning.
func (f *Frame) whole(frames *Frames, size int64, done <-chan struct{}) error {
	from := frames.large
	if !from.TryAcquire(size) {
		switch {
		case size <= SmallFrame:
			from = frames.small
		case size <= frames.most:
			from = frames.middle
		}
		if err := from.Acquire(size, done); err != nil {
			return err
		}
	}
	if f.from != nil {
		f.from.Release(f.held)
	}
	f.frames, f.from, f.held = frames, from, size
	return nil
}

// begin takes the budget for a frame's beginning.
func (f *Frame) begin(frames *Frames, n int64, done <-chan struct{}) error {
	if err := frames.begun.Acquire(n, done); err != nil {
		return err
	}
	f.frames, f.from, f.held = frames, frames.begun, n
	return nil
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
