package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// dataPair is both ends of a data connection.
func dataPair(t *testing.T, change func(*Options)) (dialled, accepted *Conn) {
	t.Helper()
	a, b := pair(t, change)
	got, release := make(chan *Conn), make(chan struct{})
	b.OnData(func(c *Conn) { got <- c; <-release })
	dialled, err := a.DialData(ctx(t), 2, Hot)
	if err != nil {
		t.Fatal(err)
	}
	accepted = <-got
	t.Cleanup(func() { close(release); _ = dialled.Close() })
	if dialled.Peer().Broker != 2 || accepted.Peer().Broker != 1 || accepted.Kind() != Hot {
		t.Fatalf("connected %v with %v, %s", dialled.Peer(), accepted.Peer(), accepted.Kind())
	}
	return dialled, accepted
}

func TestFramesBothWays(t *testing.T) {
	a, b := dataPair(t, nil)
	sizes := []int{0, 1, 100, readBufferSize - headerSize, readBufferSize - headerSize + 1, 1 << 20, 9 << 20, 5}
	content := func(i, size int) []byte { return bytes.Repeat([]byte{byte(i + 1)}, size) }
	exchange := func(from, to *Conn) {
		failed := make(chan error, 1)
		go func() {
			for i, size := range sizes {
				from.EndFrame(append(from.BeginFrame(byte(i)), content(i, size)...))
				from.CancelFrame(append(from.BeginFrame(99), "never seen"...))
				if i%3 == 2 {
					if err := from.Flush(); err != nil {
						failed <- err
						return
					}
				}
			}
			failed <- from.Flush()
		}()
		for i, size := range sizes {
			f, err := to.ReadFrame()
			if err != nil || int(f.Type) != i || !bytes.Equal(f.Body, content(i, size)) {
				t.Fatalf("frame %d: type %d, %d bytes, %v", i, f.Type, len(f.Body), err)
			}
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		if from.Buffered() != 0 {
			t.Errorf("%d bytes left after Flush", from.Buffered())
		}
	}
	exchange(a, b)
	exchange(b, a)
	_ = a.Close()
	if _, err := b.ReadFrame(); err != io.EOF && !errors.Is(err, io.EOF) {
		t.Errorf("an orderly end reads as %v", err)
	}
	if _, err := a.ReadFrame(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection reads as %v", err)
	}
}

// countingConn counts writes.
type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(b []byte) (int, error) { c.writes++; return len(b), nil }

func TestManyFramesAreOneWrite(t *testing.T) {
	n := newNode(t, 1, nil)
	socket := &countingConn{}
	c := newConn(n, socket, Hot, identity(2, 1, "c", ""))
	for range 500 {
		c.EndFrame(append(c.BeginFrame(1), make([]byte, 100)...))
	}
	if err := c.Flush(); err != nil || socket.writes != 1 {
		t.Errorf("500 frames took %d writes, %v", socket.writes, err)
	}
	if err := c.Flush(); err != nil || socket.writes != 1 {
		t.Error("an empty Flush writes")
	}
	allocated := testing.AllocsPerRun(100, func() {
		c.EndFrame(append(c.BeginFrame(1), "ack"...))
		_ = c.Flush()
	})
	if allocated > 0 {
		t.Errorf("a frame costs %.0f allocations", allocated)
	}
}

func TestBrokenFrames(t *testing.T) {
	good := beginFrame(nil, 7)
	good = append(good, "some bytes of a record batch"...)
	endFrame(good, 0)
	if typ, body, err := newFrameReader(bytes.NewReader(good), 100, func() {}).next(); err != nil || typ != 7 || len(body) != 28 {
		t.Fatalf("a whole frame reads as %d, %q, %v", typ, body, err)
	}
	for bit := range len(good) * 8 {
		broken := bytes.Clone(good)
		broken[bit/8] ^= 1 << (bit % 8)
		if _, _, err := newFrameReader(bytes.NewReader(broken), 100, func() {}).next(); err == nil {
			t.Fatalf("bit %d is broken and nobody sees it", bit)
		}
	}
	for cut := range len(good) {
		_, _, err := newFrameReader(bytes.NewReader(good[:cut]), 100, func() {}).next()
		if want := io.ErrUnexpectedEOF; cut > 0 && err != want || cut == 0 && err != io.EOF {
			t.Fatalf("a frame that ends after %d bytes reads as %v", cut, err)
		}
	}
	if _, _, err := newFrameReader(bytes.NewReader(good), 27, func() {}).next(); err == nil {
		t.Error("a frame above the limit is read")
	}
}

func TestClaimedLengthsCostNothing(t *testing.T) {
	header := make([]byte, headerSize)
	binary.LittleEndian.PutUint32(header[4:], 100<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		r := newFrameReader(bytes.NewReader(header), 128<<20, func() {})
		if _, _, err := r.next(); err != io.ErrUnexpectedEOF {
			t.Fatalf("got %v", err)
		}
	}
	runtime.ReadMemStats(&after)
	if used := (after.TotalAlloc - before.TotalAlloc) / 20; used > 1200<<10 {
		t.Errorf("a claim of 100 MiB allocates %d bytes", used)
	}
}

func TestFramesThatAreTooLongAreNotSent(t *testing.T) {
	a, _ := dataPair(t, func(o *Options) { o.Limits.DataFrame = 1000 })
	a.EndFrame(append(a.BeginFrame(1), make([]byte, 1001)...))
	if err := a.Flush(); err == nil {
		t.Error("a frame that the peer would refuse was sent")
	}
}

func TestStalledPeerDoesNotHoldTheWriter(t *testing.T) {
	// The other limits stay as they are: a sweeper that finds itself late by more than a Ping judges nobody for a while.
	a, _ := dataPair(t, func(o *Options) { o.Limits.WriteStall = 100 * time.Millisecond })
	for { // until the sockets' buffers are full, and nobody reads
		a.EndFrame(append(a.BeginFrame(1), make([]byte, 4<<20)...))
		if err := a.Flush(); err != nil {
			if !errors.Is(err, errStalled) {
				t.Errorf("the write ends with %v", err)
			}
			return
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		b.Run(map[int]string{100: "100B", 64 << 10: "64KiB"}[size], func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			x, _ := New(Options{Self: identity(1, 1, "c", "")})
			y, _ := New(Options{Self: identity(2, 1, "c", l.Addr().String()), Listener: l})
			y.OnData(func(c *Conn) {
				for {
					if _, err := c.ReadFrame(); err != nil {
						return
					}
					c.EndFrame(append(c.BeginFrame(2), "ack"...))
					_ = c.Flush()
				}
			})
			x.SetPeer(2, l.Addr().String())
			x.Start()
			y.Start()
			c, err := x.DialData(b.Context(), 2, Hot)
			if err != nil {
				b.Fatal(err)
			}
			body := make([]byte, size)
			b.ResetTimer()
			for b.Loop() {
				c.EndFrame(append(c.BeginFrame(1), body...))
				_ = c.Flush()
				if _, err := c.ReadFrame(); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			_ = x.Close()
			_ = y.Close()
		})
	}
}
