package server

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"chronik/internal/api"
	"chronik/internal/wire"
)

// segment is a file of random bytes whose own position stands at 17.
func segment(t *testing.T, size int) (*os.File, []byte) {
	t.Helper()
	content := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(content)
	name := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Seek(17, 0); err != nil {
		t.Fatal(err)
	}
	return f, content
}

func testPayload(t *testing.T, connect func(*Server) *client, change func(*Options), sendfile bool) {
	f, content := segment(t, 9<<20)
	large := bytes.Repeat([]byte("large"), 100_000)
	var released atomic.Int64
	s := start(t, func(context.Context, *api.Request) api.Reply {
		return func(context.Context) api.Response {
			return api.Response{Payload: &wire.Payload{
				Parts: []wire.Part{
					{Bytes: []byte("head")}, {File: f, Off: 100, Len: 5 << 20}, {Bytes: []byte("middle")}, {Bytes: large},
					{File: f, Off: 7, Len: 33}, {File: f, Off: 8 << 20, Len: 1 << 20}, {Bytes: []byte("tail")},
				},
				Release: func() { released.Add(1) },
			}}
		}
	}, change)
	want := append([]byte("head"), content[100:100+5<<20]...)
	want = append(append(want, "middle"...), large...)
	want = append(append(want, content[7:40]...), content[8<<20:]...)
	want = append(want, "tail"...)
	for range 3 {
		c := connect(s)
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for i := range int32(3) {
				c.send(i, heartbeat("g"))
				id, body := c.receive()
				if id != i || body[0] != 0 || !bytes.Equal(body[1:], want) {
					t.Errorf("answer %d has %d bytes that differ from the %d sent", id, len(body)-1, len(want))
				}
			}
		})
	}
	t.Cleanup(func() {
		// A client has its answer a moment before the server gives back what it held for it.
		eventually(t, "all 9 payloads are released", func() bool { return released.Load() == 9 && s.Stats().ResponseBytesHeld == 0 })
		if at, _ := f.Seek(0, 1); at != 17 {
			t.Errorf("the file's position moved to %d", at)
		}
		if got := s.Stats().BytesSendfile > 0; got != sendfile {
			t.Errorf("sendfile carried bytes: %v", got)
		}
	})
}

func TestFileSectionsGoOutBySendfile(t *testing.T) {
	testPayload(t, func(s *Server) *client { return dial(t, s) }, nil, true)
}

// The length of the answer is out before the file turns out to be too short: only closing tells the client.
func TestAShortFileClosesTheConnection(t *testing.T) {
	f, _ := segment(t, 1000)
	released := make(chan struct{})
	s := start(t, func(context.Context, *api.Request) api.Reply {
		return func(context.Context) api.Response {
			return api.Response{Payload: &wire.Payload{
				Parts:   []wire.Part{{Bytes: []byte("head")}, {File: f, Off: 500, Len: 501}, {Bytes: []byte("tail")}},
				Release: func() { close(released) },
			}}
		}
	}, nil)
	c := dial(t, s)
	c.send(1, heartbeat("g"))
	if _, body, err := c.tryReceive(); err == nil || isTimeout(err) || bytes.Contains(body, []byte("tail")) {
		t.Fatalf("got %d bytes, %v", len(body), err)
	}
	<-released
}

func TestAClosedFileClosesTheConnection(t *testing.T) {
	f, _ := segment(t, 1000)
	_ = f.Close()
	s := start(t, func(context.Context, *api.Request) api.Reply {
		return func(context.Context) api.Response {
			return api.Response{Payload: &wire.Payload{Parts: []wire.Part{{File: f, Len: 10}}}}
		}
	}, nil)
	c := dial(t, s)
	c.send(1, heartbeat("g"))
	if _, _, err := c.tryReceive(); err == nil || isTimeout(err) {
		t.Fatal("the connection lives:", err)
	}
}
