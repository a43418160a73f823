package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

func FuzzFrames(f *testing.F) {
	two := beginFrame(nil, 3)
	two = append(two, "body"...)
	endFrame(two, 0)
	at := len(two)
	two = append(beginFrame(two, 4), make([]byte, 300)...)
	endFrame(two, at)
	f.Add(two, 3)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		r := newFrameReader(&steps{stream, 1 + max(0, step)%200}, 1<<20, func() {})
		r.buf = make([]byte, 128) // the large path too
		var again []byte
		for {
			typ, body, err := r.next()
			if err != nil {
				break
			}
			start := len(again)
			again = append(beginFrame(again, typ), body...)
			endFrame(again, start)
		}
		if !bytes.HasPrefix(stream, again) {
			t.Error("frames were read that nobody sent")
		}
	})
}

// steps gives a few bytes at a time.
type steps struct {
	left []byte
	step int
}

func (s *steps) Read(b []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), s.step)], s.left)
	s.left = s.left[n:]
	return n, nil
}

func FuzzHandshake(f *testing.F) {
	f.Add(hello{1, 1, Control, 2, identity(1, 1, "cluster", "host:1")}.encode())
	f.Add(welcome{1, true, identity(1, 1, "cluster", "host:1"), "no"}.encode())
	f.Fuzz(func(t *testing.T, stream []byte) {
		message, err := readSealed(bytes.NewReader(stream))
		if err != nil {
			return
		}
		if len(message) > handshakeMax {
			t.Fatal("too long a message was read")
		}
		if h, err := decodeHello(message); err == nil {
			if again, err := decodeHello(h.encode()[12:]); err != nil || again != h {
				t.Errorf("%+v is written as %+v, %v", h, again, err)
			}
			_ = h.objection(identity(2, 1, "c", ""), true)
		}
		if w, err := decodeWelcome(message); err == nil && len(w.text) <= textMax {
			if again, err := decodeWelcome(w.encode()[12:]); err != nil || again != w {
				t.Errorf("%+v is written as %+v, %v", w, again, err)
			}
		}
	})
}

// FuzzControl feeds an accepted control connection with frames whose CRC is right.
func FuzzControl(f *testing.F) {
	call := binary.LittleEndian.AppendUint64(nil, 1)
	call = append(call, byte(Forward), 1, 0, 0, 0, 'x')
	f.Add(byte(frameCall), call, true)
	f.Add(byte(frameNotify), []byte{byte(Raft)}, true)
	f.Add(byte(frameCluster), []byte("other"), false)
	f.Add(byte(frameAnswer), []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}, false)
	f.Add(byte(framePing), []byte{}, true)
	f.Fuzz(func(t *testing.T, typ byte, body []byte, accepted bool) {
		n, err := New(Options{Self: identity(2, 1, "c", "")})
		if err != nil {
			t.Fatal(err)
		}
		n.Handle(Forward, func(context.Context, Identity, []byte) ([]byte, error) { return nil, nil })
		n.OnNotify(Raft, func(Identity, []byte) {})
		ours, theirs := net.Pipe()
		c := newControl(n, ours, !accepted, identity(1, 1, "c", ""), "c")
		if !n.register(&c.link, c) {
			t.Fatal("not registered")
		}
		w := &waiter{answered: make(chan struct{})}
		c.mu.calls[1], c.mu.lastCall = w, 1
		n.goroutines.Add(2)
		go func() { defer n.goroutines.Done(); _ = c.serve() }()
		go func() { defer n.goroutines.Done(); _, _ = io.Copy(io.Discard, theirs) }()
		frame := append(beginFrame(nil, typ), body...)
		endFrame(frame, 0)
		for range 2 {
			_, _ = theirs.Write(frame)
		}
		_ = theirs.Close()
		_ = n.Close()
		select {
		case <-w.answered:
		case <-time.After(5 * time.Second):
			t.Error("a call waits for a connection that is gone")
		}
	})
}
