package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"chronik/internal/api"

	"chronik/test/cert"
)

// certificate writes one for a name, and returns a pool that trusts it.
func certificate(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	_, _, pool := cert.Write(t, dir, name, time.Now().UnixNano())
	return pool
}

func withTLS(dir string) func(*Options) {
	return func(o *Options) {
		o.Listeners = []string{"tls://127.0.0.1:0"}
		o.TLS = TLSOptions{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	}
}

func dialTLS(s *Server, config *tls.Config) (net.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 20 * time.Second}, Config: config}
	return d.Dial("tcp", s.Addrs()[0].String())
}

func TestFileSectionsOverTLS(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir, "first")
	for _, lean := range []bool{false, true} {
		testPayload(t, func(s *Server) *client {
			conn, err := dialTLS(s, &tls.Config{RootCAs: pool})
			if err != nil {
				t.Fatal(err)
			}
			return newClient(t, conn)
		}, func(o *Options) {
			withTLS(dir)(o)
			if lean {
				o.Limits.ResponsesInFlightBytes = 1
			}
		}, false)
	}
}

func TestTLSNamesTheHostThatTheClientDialled(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir, "first")
	seen := make(chan *api.Conn, 1)
	s := start(t, func(ctx context.Context, r *api.Request) api.Reply {
		seen <- r.Conn
		return empty(ctx, r)
	}, withTLS(dir))
	conn, err := dialTLS(s, &tls.Config{RootCAs: pool, ServerName: "first"})
	if err != nil {
		t.Fatal(err)
	}
	newClient(t, conn).ask(1, heartbeat("g"))
	got := <-seen
	if !got.TLS || got.Local.Host != "first" || got.Local.Port == 0 {
		t.Errorf("%+v", got)
	}
}

// lines counts what a logger writes.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

func TestChangedCertificatesAreRead(t *testing.T) {
	dir := t.TempDir()
	first := certificate(t, dir, "first")
	clock := newManualClock()
	var logged lines
	s := start(t, empty, func(o *Options) {
		withTLS(dir)(o)
		o.Clock = clock
		o.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	ask := func(pool *x509.CertPool) error {
		conn, err := dialTLS(s, &tls.Config{RootCAs: pool})
		if err != nil {
			return err
		}
		newClient(t, conn).ask(1, heartbeat("g"))
		return nil
	}
	old, err := dialTLS(s, &tls.Config{RootCAs: first})
	if err != nil {
		t.Fatal(err)
	}
	// Half of a replacement leaves the old one in force.
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		clock.Advance(sweepInterval)
		time.Sleep(time.Millisecond)
	}
	if err := ask(first); err != nil {
		t.Fatalf("a broken file took the old certificate out of force: %v", err)
	}
	if n := logged.count("cannot be used"); n != 1 {
		t.Errorf("a broken file was logged %d times, want once", n)
	}
	second := certificate(t, dir, "second")
	clock.pass(t, "the new certificate is served", func() bool { return ask(second) == nil })
	if ask(first) == nil {
		t.Error("the old certificate is still served")
	}
	newClient(t, old).ask(1, heartbeat("g")) // a connection keeps the one that it has
}

func TestClientCertificates(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	pool := certificate(t, dir, "first")
	certificate(t, other, "stranger")
	s := start(t, empty, func(o *Options) {
		withTLS(dir)(o)
		o.TLS.ClientCAFile = filepath.Join(dir, "cert.pem")
	})
	ask := func(from string) error {
		config := &tls.Config{RootCAs: pool}
		if from != "" {
			pair, err := tls.LoadX509KeyPair(filepath.Join(from, "cert.pem"), filepath.Join(from, "key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		conn, err := dialTLS(s, config)
		if err != nil {
			return err
		}
		c := newClient(t, conn)
		c.send(1, heartbeat("g"))
		_, _, err = c.tryReceive() // TLS 1.3 tells of a refused certificate with the first read
		return err
	}
	if err := ask(dir); err != nil {
		t.Errorf("the right certificate: %v", err)
	}
	if ask("") == nil || ask(other) == nil {
		t.Error("a client without the right certificate was served")
	}
	eventually(t, "the failures are counted", func() bool { return s.Stats().TLSFailures == 2 })
}

func TestOldTLSIsRefused(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir, "first")
	s := start(t, empty, withTLS(dir))
	if _, err := dialTLS(s, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestAHandshakeThatNeverComesIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir, "first")
	clock := newManualClock()
	s := start(t, empty, func(o *Options) { withTLS(dir)(o); o.Clock = clock })
	c := dial(t, s)
	_, _ = c.Write([]byte{0x16, 3, 1})
	eventually(t, "connected", func() bool { return s.Stats().ConnectionsOpen == 1 })
	clock.pass(t, "it is closed", func() bool { return s.Stats().ConnectionsOpen == 0 })
	c.closed()
}

func TestTLSNeedsItsFiles(t *testing.T) {
	dir := t.TempDir()
	for _, o := range []TLSOptions{{}, {CertFile: filepath.Join(dir, "none"), KeyFile: filepath.Join(dir, "none")}} {
		if _, err := New(Options{Listeners: []string{"tls://127.0.0.1:0"}, Handlers: fake(empty), TLS: o}); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
