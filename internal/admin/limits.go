package admin

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// What keeps slow, half-dead and too many clients from holding the node's memory and files. Each answer must be taken within
// answerMax; a request must have come within requestMax, its body, which nothing here reads, included; connections beyond
// connectionsMax are closed at once. Event streams and profiles take longer, and say so.
const (
	connectionsMax = 256
	requestMax     = 30 * time.Second
	answerMax      = 30 * time.Second
	profileMax     = 120             // seconds that a profile may be asked to take
	profilesMax    = 4               // at a time
	profileGrace   = 1 * time.Minute // for a client to take a profile
)

// inTime bounds how long a client may take to take an answer.
func (s *Server) inTime(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// The server takes it away again before the next request on the connection.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.answerMax))
		h(w, r)
	}
}

// profile bounds how long a profile may take, and how many are made at a time.
func (s *Server) profile(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if given := r.FormValue("seconds"); given != "" {
			if n, err := strconv.ParseFloat(given, 64); err != nil || !(n > 0 && n <= profileMax) {
				http.Error(w, fmt.Sprintf("seconds=%s: want more than 0 and at most %d", given, profileMax), http.StatusBadRequest)
				return
			}
		}
		select {
		case s.profiles <- struct{}{}:
			defer func() { <-s.profiles }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, fmt.Sprintf("%d profiles are being made, which is the limit", profilesMax), http.StatusServiceUnavailable)
			return
		}
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Time{}) // else the request would end with it
		_ = control.SetWriteDeadline(time.Now().Add(profileMax*time.Second + profileGrace))
		h(w, r)
	}
}

// boundedListener closes connections beyond a number.
type boundedListener struct {
	net.Listener
	slots chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &boundedConn{Conn: conn, listener: l}, nil
		default:
			_ = conn.Close()
		}
	}
}

// boundedConn gives its place back when it is closed.
type boundedConn struct {
	net.Conn
	listener *boundedListener
	once     sync.Once
}

func (c *boundedConn) Close() error {
	c.once.Do(func() { <-c.listener.slots })
	return c.Conn.Close()
}
