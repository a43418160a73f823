package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	var notReady error = errors.New("partitions are being opened")
	s, err := New(Options{
		Addr: "127.0.0.1:0", Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
		Ready: func() error { return notReady },
		Samples: func(add func(Sample)) {
			add(Sample{Name: "chronik_things", Help: "Things.", Value: 7, Labels: []string{"kind", "red"}})
			add(Sample{Name: "chronik_done_total", Help: "Done.", Kind: Counter, Value: 3})
			add(Sample{Name: "chronik_seconds", Help: "Time.", Kind: Histogram, Bounds: []float64{0.1, 1}, Buckets: []int64{2, 0, 5}, Sum: 9})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := client.Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "being opened") {
		t.Errorf("readyz: %d %q", code, body)
	}
	notReady = nil
	for path, want := range map[string]string{"/readyz": "ready", "/healthz": "healthy", "/": "/metrics", "/debug/pprof/": "goroutine"} {
		if code, body := get(path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	code, body := get("/metrics")
	if code != 200 {
		t.Errorf("metrics: %d %s", code, body)
	}
	for _, want := range []string{
		`chronik_things{kind="red"} 7`, "chronik_done_total 3", `chronik_info{version="1.2.3"} 1`, "go_goroutines", "process_resident_memory_bytes",
		`chronik_seconds_bucket{le="0.1"} 2`, `chronik_seconds_bucket{le="1"} 2`, `chronik_seconds_bucket{le="+Inf"} 7`, "chronik_seconds_sum 9",
	} {
		if !strings.Contains(body, want+"\n") && !strings.Contains(body, want+" ") {
			t.Errorf("metrics lack %q:\n%s", want, body)
		}
	}
	if code, _ := get("/nothing"); code != 404 {
		t.Errorf("unknown path: %d", code)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestPortInUse(t *testing.T) {
	first, err := New(Options{Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close(context.Background()) }()
	if _, err := New(Options{Addr: first.Addr().String(), Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), first.Addr().String()) {
		t.Errorf("got %v", err)
	}
}
