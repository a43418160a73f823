package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// limited is a server with short limits and large metrics.
func limited(t *testing.T, cluster Cluster) *Server {
	t.Helper()
	s, err := New(Options{
		Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Cluster: func() Cluster { return cluster },
		Samples: func(add func(Sample)) {
			for i := range 100_000 {
				add(Sample{Name: "chronik_things", Help: "Things.", Labels: []string{"kind", fmt.Sprintf("%0100d", i)}})
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.http.ReadTimeout, s.http.ReadHeaderTimeout, s.answerMax = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	s.Start()
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func connect(t *testing.T, s *Server, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// What each of these clients holds is free again in bounded time, without its doing anything.
func TestUnluckyClientsAreLetGo(t *testing.T) {
	s := limited(t, three())
	slots := s.listener.(*boundedListener).slots
	for name, text := range map[string]string{
		"says nothing":                      "",
		"begins a header":                   "GET /metrics HT",
		"promises a body":                   "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"promises a huge body":              "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc",
		"promises a body of an API request": "GET /v1/cluster HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"does not read":                     "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\n\r\n",
		"says what is no HTTP":              "\x00\x00\x00\x10\x00\x12\x00\x00\x00\x00\x00\x01\x00\x01x\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			_ = connect(t, s, text)
			for deadline := time.Now().Add(time.Minute); len(slots) == 0 && time.Now().Before(deadline) && name != "says what is no HTTP"; {
				time.Sleep(time.Millisecond) // until it is accepted
			}
			for deadline := time.Now().Add(time.Minute); len(slots) > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it is still connected")
				}
			}
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := limited(t, three())
	slots := s.listener.(*boundedListener).slots
	var conns []net.Conn
	for range connectionsMax {
		slots <- struct{}{}
	}
	refused := connect(t, s, "")
	if _, err := refused.Read(make([]byte, 1)); err == nil {
		t.Error("one connection too many was taken")
	}
	for range connectionsMax {
		<-slots
	}
	conns = append(conns, connect(t, s, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
	if line, err := bufio.NewReader(conns[0]).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Errorf("%q %v", line, err)
	}
}

// An event stream outlives the time that a request may take, and profiles say how long is too long.
func TestStreamsOutliveTheirRequest(t *testing.T) {
	f := three()
	s := limited(t, f)
	base := "http://" + s.Addr().String()
	stream := listen(t, base+"/v1/events", "")
	time.Sleep(3 * s.http.ReadTimeout)
	f.apply("late", fenced(3, false))
	stream.want("5 BrokerUnfenced")
	for query, want := range map[string]int{"seconds=1": 200, "seconds=100000": 400, "seconds=NaN": 400, "seconds=-1": 400} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(base + "/debug/pprof/trace?" + query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
			t.Errorf("%s: %s, %v", query, resp.Status, err)
		}
		_ = resp.Body.Close()
	}
}
