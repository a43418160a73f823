package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two ends of a connection: of a socket, or in memory (where the reader has no file descriptor).
func pair(t *testing.T, socket bool) (near, far net.Conn) {
	t.Helper()
	if !socket {
		near, far = net.Pipe()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if far, err = net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if near, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

// Frames of all sizes come out as they went in, however the bytes are cut up on the way.
func TestFramesComeWhole(t *testing.T) {
	for _, socket := range []bool{true, false} {
		near, far := pair(t, socket)
		r := rand.New(rand.NewPCG(1, 2))
		var sent [][]byte
		var stream []byte
		for i := range 400 {
			size := r.IntN(3000)
			switch {
			case i%40 == 39:
				size = r.IntN(3 << 20)
			case i%10 == 9:
				size = r.IntN(200_000)
			case i%7 == 0:
				size = r.IntN(3)
			}
			frame := make([]byte, size)
			for j := 0; j < size; j += 1 + size/100 {
				frame[j] = byte(r.Uint32())
			}
			sent = append(sent, frame)
			stream = append(binary.BigEndian.AppendUint32(stream, uint32(size)), frame...)
		}
		go func() {
			for at := 0; at < len(stream); {
				n := 1 + r.IntN(5)
				if r.IntN(3) > 0 {
					n = 1 + r.IntN(1<<uint(r.IntN(22)))
				}
				n = min(n, len(stream)-at)
				if _, err := far.Write(stream[at : at+n]); err != nil {
					return
				}
				at += n
			}
			_ = far.Close()
		}()
		frames := NewFrames(8 << 20)
		reader := NewFrameReader(near, frames, 4<<20)
		var f Frame
		for i, want := range sent {
			if err := reader.Next(&f, nil); err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			if !bytes.Equal(f.Bytes, want) {
				t.Fatalf("frame %d of %d bytes came as another of %d", i, len(want), len(f.Bytes))
			}
			f.Release()
		}
		if err := reader.Next(&f, nil); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
		reader.Close()
		if frames.Held() != 0 || reader.BytesRead() != int64(len(stream)) {
			t.Fatalf("%d bytes held, %d of %d read", frames.Held(), reader.BytesRead(), len(stream))
		}
	}
}

func TestAFrameCutShort(t *testing.T) {
	for _, socket := range []bool{true, false} {
		for _, sent := range [][]byte{{0}, {0, 0, 0}, {0, 0, 0, 2, 1}, append([]byte{0, 1, 0x11, 0x70}, make([]byte, 65_000)...)} {
			near, far := pair(t, socket)
			go func() { _, _ = far.Write(sent); _ = far.Close() }()
			frames := NewFrames(8 << 20)
			reader := NewFrameReader(near, frames, 1<<20)
			var f Frame
			if err := reader.Next(&f, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes: %v", len(sent), err)
			}
			reader.Close()
			if frames.Held() != 0 {
				t.Errorf("%d bytes: %d are held", len(sent), frames.Held())
			}
		}
	}
}

func TestWaitingForMemoryCanBeGivenUp(t *testing.T) {
	near, far := pair(t, true)
	frames := NewFrames(8 << 20)
	frames.large.Force(7 << 20)
	reader := NewFrameReader(near, frames, 4<<20)
	go func() { _, _ = far.Write(append([]byte{0, 0x20, 0, 0}, make([]byte, 2<<20)...)) }()
	done := make(chan struct{})
	time.AfterFunc(20*time.Millisecond, func() { close(done) })
	var f Frame
	if err := reader.Next(&f, done); err != ErrGivenUp {
		t.Fatal(err)
	}
	reader.Close()
	frames.large.Release(7 << 20)
	if frames.Held() != 0 || frames.Waiting() {
		t.Errorf("%d bytes held", frames.Held())
	}
}

func TestBudgetIsFirstComeFirstServed(t *testing.T) {
	b := NewBudget(100)
	b.Force(90)
	var mu sync.Mutex
	var order []int64
	var wg sync.WaitGroup
	for i, n := range []int64{60, 5, 30} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := b.Acquire(n, nil); err != nil {
				t.Error(err)
			}
			mu.Lock()
			order = append(order, n)
			mu.Unlock()
		}()
		for int(b.waiting.Load()) != i+1 {
			time.Sleep(time.Millisecond)
		}
	}
	if b.TryAcquire(1) {
		t.Error("somebody overtook those who wait")
	}
	b.Release(20) // 30 are free: not enough for the first
	time.Sleep(5 * time.Millisecond)
	mu.Lock()
	if len(order) != 0 {
		t.Errorf("%v were served before the first", order)
	}
	mu.Unlock()
	b.Release(70)
	wg.Wait()
	if b.Used() != 95 {
		t.Errorf("%d used", b.Used())
	}
}

func TestBudgetNeverExceedsItsLimit(t *testing.T) {
	b := NewBudget(1000)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(i), 3))
			for range 2000 {
				n := int64(1 + r.IntN(600))
				done := make(chan struct{})
				if r.IntN(4) == 0 {
					close(done)
				}
				if err := b.Acquire(n, done); err != nil {
					continue
				}
				if b.Used() > 1000 {
					t.Error("over the limit")
				}
				b.Release(n)
			}
		}()
	}
	wg.Wait()
	if b.Used() != 0 || b.Waiting() {
		t.Errorf("%d used at the end", b.Used())
	}
}

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name, frame string
		want        Header
		err         error
	}{
		{"version 1", "\x00\x03\x00\x08\x00\x00\x00\x07\x00\x02idBODY", Header{3, 8, 7, []byte("id"), []byte("BODY")}, nil},
		{"null client ID", "\x00\x03\x00\x08\x00\x00\x00\x07\xff\xffBODY", Header{3, 8, 7, nil, []byte("BODY")}, nil},
		{"empty client ID", "\x00\x03\x00\x08\x00\x00\x00\x07\x00\x00BODY", Header{3, 8, 7, []byte{}, []byte("BODY")}, nil},
		{"version 2", "\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02id\x00BODY", Header{3, 9, 7, []byte("id"), []byte("BODY")}, nil},
		{"tags", "\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02id\x02\x00\x01x\x05\x00BODY", Header{3, 9, 7, []byte("id"), []byte("BODY")}, nil},
		{"unknown key", "\x01\x03\x00\x09\x00\x00\x00\x07\x00", Header{259, 9, 7, nil, nil}, nil},
		{"too short", "\x00\x03\x00\x09\x00\x00\x00", Header{}, ErrShortHeader},
		{"client ID too long", "\x00\x03\x00\x09\x00\x00\x00\x07\x00\x09id", Header{3, 9, 7, nil, nil}, ErrShortHeader},
		{"2^26 tags", "\x00\x03\x00\x09\x00\x00\x00\x07\xff\xff\x80\x80\x80\x20" + string(make([]byte, 1000)), Header{3, 9, 7, nil, nil}, ErrHeaderTags},
	} {
		got, err := ParseHeader([]byte(tt.frame))
		if err != tt.err || got.Key != tt.want.Key || got.Version != tt.want.Version || got.CorrelationID != tt.want.CorrelationID ||
			!bytes.Equal(got.ClientID, tt.want.ClientID) || !bytes.Equal(got.Body, tt.want.Body) {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("\x00\x03\x00\x09\x00\x00\x00\x07\x00\x02id\x02\x00\x01x\x05\x00BODY"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, err := ParseHeader(frame)
		if err == nil && len(h.Body)+len(h.ClientID) > len(frame) {
			t.Fatalf("%+v", h)
		}
	})
}

func TestResponseHeaders(t *testing.T) {
	for _, tt := range []struct {
		key, version int16
		want         string
	}{
		{3, 8, "\x00\x00\x00\x08\x00\x00\x00\x07BODY"},
		{3, 9, "\x00\x00\x00\x09\x00\x00\x00\x07\x00BODY"},
		{18, 3, "\x00\x00\x00\x08\x00\x00\x00\x07BODY"},
		{999, 3, "\x00\x00\x00\x08\x00\x00\x00\x07BODY"},
	} {
		b := append(BeginResponse([]byte("x"), tt.key, tt.version, 7), "BODY"...)
		EndResponse(b, 1, 0)
		if string(b[1:]) != tt.want {
			t.Errorf("key %d version %d: %q", tt.key, tt.version, b[1:])
		}
	}
}
