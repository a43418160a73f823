package clients

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/cert"
	"chronik/test/node"
)

// A TLS listener serves franz-go, kcat and the command line, and takes a new certificate without a restart.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, roots := cert.Write(t, dir, "chronik test", 1)
	addr := node.FreeAddr(t)
	n := node.New(t, filepath.Join(dir, "data"), "--kafka", "tls://"+addr, "--tls-cert", certFile, "--tls-key", keyFile)
	n.Start()

	t.Run("franz-go", func(t *testing.T) { tlsRoundTrip(t, addr, roots, "franz") })
	t.Run("kcat", func(t *testing.T) {
		installed(t, "kcat")
		conf := []string{"-b", addr, "-t", "kcat", "-p", "0", "-X", "security.protocol=ssl", "-X", "ssl.ca.location=" + certFile}
		kcat(t, lines(100), append([]string{"-P"}, conf...)...)
		if got := kcat(t, "", append([]string{"-C", "-o", "beginning", "-c", "100"}, conf...)...); got != lines(100) {
			t.Errorf("consumed %d bytes, want %d", len(got), len(lines(100)))
		}
	})
	t.Run("chronik", func(t *testing.T) {
		for _, args := range [][]string{{"produce", "cli"}, {"consume", "cli", "--from", "start"}} {
			cmd := exec.Command(n.Bin, append(args, "-b", addr, "--tls-ca", certFile)...)
			cmd.Stdin = strings.NewReader("hello\n")
			out, err := cmd.CombinedOutput()
			if err != nil || args[0] == "consume" && string(out) != "hello\n" {
				t.Errorf("chronik %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
	})
	t.Run("a client that does not trust it, or speaks no TLS", func(t *testing.T) {
		for _, opts := range [][]kgo.Opt{{kgo.DialTLSConfig(&tls.Config{RootCAs: x509.NewCertPool()})}, nil} {
			c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			if err := c.Ping(ctx); err == nil {
				t.Error("it gets an answer")
			}
			cancel()
			c.Close()
		}
	})
	t.Run("reload", func(t *testing.T) {
		before := n.Pid()
		_, _, roots := cert.Write(t, dir, "chronik test", 2)
		for deadline := time.Now().Add(time.Minute); serial(t, addr) != 2; time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the node still shows its first certificate")
			}
		}
		tlsRoundTrip(t, addr, roots, "reloaded")
		if err := os.WriteFile(certFile, []byte("no certificate"), 0o600); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(n.Log(), "changed TLS files cannot be used"); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the node does not say that the new file is none")
			}
		}
		tlsRoundTrip(t, addr, roots, "kept")
		if n.Pid() != before || serial(t, addr) != 2 {
			t.Error("the certificate that works is gone")
		}
	})
}

// tlsRoundTrip produces 10 MB and reads them back through one client.
func tlsRoundTrip(t *testing.T, addr string, roots *x509.CertPool, topic string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DialTLSConfig(&tls.Config{RootCAs: roots}), kgo.AllowAutoTopicCreation(),
		kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const count = 100
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 1), 3}, 33_000) }
	for i := range count {
		c.Produce(ctx, &kgo.Record{Value: value(i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < count; {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records: %v", got, count, ctx.Err())
		}
		for _, r := range fetches.Records() {
			if !bytes.Equal(r.Value, value(got)) {
				t.Fatalf("record %d is another one", got)
			}
			got++
		}
	}
}

// serial is that of the certificate that a new connection is shown.
func serial(t *testing.T, addr string) int64 {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}
