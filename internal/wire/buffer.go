package wire

import (
	"math/bits"
	"sync"
)

// Buffer is a pooled byte slice. Its owner may append to B within its capacity or replace B by a larger slice; Free
// gives it back.
type Buffer struct {
	B     []byte
	class int // of the slice that the pool handed out; -1 for one too large to keep
}

// Sizes are four to a doubling, from 512 B to 8 MiB, so that at most a fifth of a buffer is waste. What is larger is
// left to the garbage collector.
const (
	minBufferBits = 9
	maxBufferBits = 23
	bufferClasses = (maxBufferBits-minBufferBits)*4 + 1
)

// Buffers hands out byte slices by size class.
type Buffers struct{ classes [bufferClasses]sync.Pool }

// classOf is the smallest class of at least n bytes.
func classOf(n int) int {
	if n <= 1<<minBufferBits {
		return 0
	}
	if n > 1<<maxBufferBits {
		return -1
	}
	exp := bits.Len(uint(n-1)) - 1 // 1<<exp < n <= 2<<exp
	step := (n - 1 - 1<<exp) >> (exp - 2)
	return (exp-minBufferBits)*4 + step + 1
}

func classSize(class int) int {
	return (4 + class%4) << (class/4 + minBufferBits - 2)
}

// Get returns an empty buffer with a capacity of at least n bytes.
func (p *Buffers) Get(n int) *Buffer {
	class := classOf(n)
	if class < 0 {
		return &Buffer{B: make([]byte, 0, n), class: -1}
	}
	if b, ok := p.classes[class].Get().(*Buffer); ok {
		b.B = b.B[:0]
		return b
	}
	return &Buffer{B: make([]byte, 0, classSize(class)), class: class}
}

// Free gives a buffer back; the caller must not touch it again. nil is allowed.
func (p *Buffers) Free(b *Buffer) {
	if b == nil {
		return
	}
	// An owner that appended past the capacity has moved B to a slice of the runtime's size: keep it under the class
	// that it can serve.
	if class := classOf(cap(b.B)); class >= 0 {
		if classSize(class) > cap(b.B) {
			class--
		}
		if class >= 0 {
			b.class = class
			p.classes[class].Put(b)
		}
	}
}
