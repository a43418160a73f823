package server

import (
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FuzzConnection sends bytes to a server as a client's whole life. Whatever they are, the server lives on and holds
// nothing afterwards.
func FuzzConnection(f *testing.F) {
	r := rand.New(rand.NewPCG(21, 22))
	for key := range int16(128) {
		if _, version, ok := (fake)(nil).Lookup(key); ok {
			req := kmsg.RequestForKey(key)
			req.SetVersion(version)
			frame := formatter.AppendRequest(nil, req, 1)
			f.Add(append(frame, frame...))
			frame = append([]byte(nil), frame...)
			frame[4+r.IntN(len(frame)-4)] ^= 0xff
			f.Add(frame)
		}
	}
	for _, frame := range hostileFrames() {
		f.Add(frame)
	}
	network := newPipes()
	s, err := New(Options{
		Listeners: []string{"10.0.0.1:9092"}, Handlers: fake(empty), Logger: slog.New(slog.DiscardHandler),
		Listen: func(string, string) (net.Listener, error) { return network, nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	s.Start()
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		conn := network.dial()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, conn)
		}()
		_, _ = conn.Write(b)
		_ = conn.Close()
		<-done
		eventually(t, "nothing is held", func() bool {
			st := s.Stats()
			return st.ConnectionsOpen == 0 && st.RequestBytesHeld == 0 && st.DecodedBytesHeld == 0 && st.ResponseBytesHeld == 0
		})
	})
}
