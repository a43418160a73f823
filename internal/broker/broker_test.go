package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/vfs"
	"chronik/test/cert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

type testNode struct {
	*Broker
	log   *lines
	fatal chan error
}

func load(t *testing.T, dir string, set ...string) *config.Config {
	t.Helper()
	cfg, err := config.Load(config.Sources{Set: append([]string{"data=" + dir, "kafka=127.0.0.1:0", "http=127.0.0.1:0"}, set...)})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func newNode(cfg *config.Config, fs vfs.FS) *testNode {
	n := &testNode{log: &lines{}, fatal: make(chan error, 1)}
	n.Broker = New(cfg, Deps{FS: fs, Clock: clock.System{}, Logger: slog.New(slog.NewTextHandler(n.log, nil)), Version: "test",
		Fatal: func(err error) { n.fatal <- err }})
	return n
}

func startNode(t *testing.T, cfg *config.Config, fs vfs.FS) *testNode {
	t.Helper()
	n := newNode(cfg, fs)
	if err := n.Start(t.Context()); err != nil {
		t.Fatalf("start: %v\n%s", err, n.log)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", n.log)
		}
	})
	return n
}

func (n *testNode) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.Close(ctx); err != nil {
		t.Errorf("close: %v\n%s", err, n.log)
	}
}

func (n *testNode) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	addrs, _ := n.Serves()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addrs...), kgo.AllowAutoTopicCreation(),
		kgo.RetryTimeout(10 * time.Second), kgo.RecordDeliveryTimeout(20 * time.Second)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func produce(t *testing.T, n *testNode, topic string, from, to int) {
	t.Helper()
	c := n.client(t, kgo.DefaultProduceTopic(topic))
	defer c.Close()
	for i := from; i < to; i++ {
		c.Produce(within(t), &kgo.Record{Value: fmt.Appendf(nil, "record %d", i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce %d: %v", i, err)
			}
		})
	}
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
}

// consume reads count records and checks that they are "record 0", "record 1", ...
func consume(t *testing.T, n *testNode, count int, opts ...kgo.Opt) {
	t.Helper()
	c := n.client(t, append(opts, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))...)
	defer c.Close()
	ctx := within(t)
	for next := 0; next < count; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("after %d records: %v", next, err)
		}
		for _, e := range fetches.Errors() {
			t.Fatalf("after %d records: %v", next, e.Err)
		}
		for _, r := range fetches.Records() {
			if want := fmt.Sprintf("record %d", next); string(r.Value) != want || r.Offset != int64(next) {
				t.Fatalf("offset %d: %q, want %q", r.Offset, r.Value, want)
			}
			next++
		}
	}
}

func TestProduceConsumeRestart(t *testing.T) {
	dir := t.TempDir()
	cfg := load(t, dir, "offsets.topic.num.partitions=3")
	n := startNode(t, cfg, vfs.OS{})
	if pid, err := os.ReadFile(filepath.Join(dir, "chronik.pid")); err != nil || string(pid) != fmt.Sprintf("%d\n", os.Getpid()) {
		t.Errorf("process file: %q, %v", pid, err)
	}
	produce(t, n, "events", 0, 500)
	consume(t, n, 500, kgo.ConsumeTopics("events"))
	consume(t, n, 500, kgo.ConsumeTopics("events"), kgo.ConsumerGroup("g"))
	id := n.ClusterID()
	n.stop(t)
	if _, err := os.Stat(filepath.Join(dir, "chronik.pid")); !os.IsNotExist(err) {
		t.Errorf("process file after the stop: %v", err)
	}

	n = startNode(t, cfg, vfs.OS{})
	defer n.stop(t)
	if n.ClusterID() != id || id == "" {
		t.Errorf("cluster ID %q, was %q", n.ClusterID(), id)
	}
	produce(t, n, "events", 500, 600)
	consume(t, n, 600, kgo.ConsumeTopics("events"))
	if text := n.log.String(); text != "" && strings.Contains(text, "ERROR") {
		t.Errorf("log:\n%s", text)
	}
}

func TestHTTP(t *testing.T) {
	n := startNode(t, load(t, t.TempDir()), vfs.OS{})
	_, addr := n.Serves()
	produce(t, n, "events", 0, 10)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(path); code != 200 {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	// An answer is counted a moment after the client has it.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, body := get("/metrics")
		missing := ""
		for _, want := range []string{"chronik_serving 1", `chronik_requests_total{api="Produce",key="0"}`, "chronik_wal_commits_total", "chronik_topics 1",
			"chronik_replicas_led 1", `chronik_info{version="test"} 1`} {
			if !strings.Contains(body, want) {
				missing = want
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("metrics lack %s:\n%s", missing, body)
		}
	}
	n.stop(t)
}

func TestClearErrors(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, load(t, dir), vfs.OS{})
	defer n.stop(t)
	addrs, httpAddr := n.Serves()
	for _, tc := range []struct {
		what string
		set  []string
		dir  string
		want []string
	}{
		{"Kafka port in use", []string{"kafka=" + addrs[0]}, t.TempDir(), []string{addrs[0], "address already in use", "--kafka"}},
		{"HTTP port in use", []string{"http=" + httpAddr}, t.TempDir(), []string{httpAddr, "address already in use", "--http"}},
		{"data directory in use", nil, dir, []string{dir, fmt.Sprintf("process %d", os.Getpid()), "--data"}},
	} {
		err := newNode(load(t, tc.dir, tc.set...), vfs.OS{}).Start(t.Context())
		if err == nil {
			t.Errorf("%s: started", tc.what)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v lacks %q", tc.what, err, want)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "chronik.pid")); err != nil {
		t.Errorf("the process file of who uses the directory is gone: %v", err)
	}
	produce(t, n, "still-works", 0, 10)
}

func TestOtherNodeID(t *testing.T) {
	dir := t.TempDir()
	n := startNode(t, load(t, dir), vfs.OS{})
	n.stop(t)
	err := newNode(load(t, dir, "node.id=2"), vfs.OS{}).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "node.id") {
		t.Errorf("got %v", err)
	}
}

// What a client sets is acted on at once, by the very next request, and survives a restart.
func TestConfigAtRunTime(t *testing.T) {
	cfg := load(t, t.TempDir())
	n := startNode(t, cfg, vfs.OS{})
	produce(t, n, "events", 0, 1)
	alter := func(set func(a *kadm.Client) (kadm.AlterConfigsResponses, error)) {
		t.Helper()
		c := n.client(t)
		defer c.Close()
		resps, err := set(kadm.NewClient(c))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resps {
			if r.Err != nil {
				t.Fatalf("%s: %v", r.ErrMessage, r.Err)
			}
		}
	}
	tryLarge := func() error {
		c := n.client(t, kgo.DefaultProduceTopic("events"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableIdempotentWrite())
		defer c.Close()
		return c.ProduceSync(within(t), &kgo.Record{Value: make([]byte, 5000)}).FirstErr()
	}
	if err := tryLarge(); err != nil {
		t.Fatal(err)
	}
	alter(func(a *kadm.Client) (kadm.AlterConfigsResponses, error) {
		return a.AlterBrokerConfigs(within(t), []kadm.AlterConfig{{Name: "message.max.bytes", Value: kadm.StringPtr("3000")}})
	})
	if err := tryLarge(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("after the brokers' limit was lowered: %v", err)
	}
	n.stop(t)
	n = startNode(t, cfg, vfs.OS{})
	defer func() { n.stop(t) }()
	if err := tryLarge(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("after a restart: %v", err)
	}
	alter(func(a *kadm.Client) (kadm.AlterConfigsResponses, error) {
		return a.AlterTopicConfigs(within(t), []kadm.AlterConfig{{Name: "max.message.bytes", Value: kadm.StringPtr("9000")}}, "events")
	})
	if err := tryLarge(); err != nil {
		t.Errorf("after the topic's limit was raised: %v", err)
	}
}

func TestUnreachableAdvertisedAddress(t *testing.T) {
	log := &lines{}
	tried := make(chan string, 2)
	b := New(load(t, t.TempDir(), "advertise=nowhere.example"), Deps{FS: vfs.OS{}, Clock: clock.System{}, Version: "test",
		Logger: slog.New(slog.NewTextHandler(log, nil)),
		Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			tried <- addr
			return nil, errors.New("no such host")
		}})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	addrs, _ := b.Serves()
	_, port, _ := net.SplitHostPort(addrs[0])
	if addr := <-tried; addr != "nowhere.example:"+port {
		t.Errorf("tried %s", addr)
	}
	if err := b.Close(within(t)); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "nowhere.example:"+port) || !strings.Contains(log.String(), "--advertise") {
		t.Errorf("log: %s", log)
	}
}

// A sync that fails ends the node: nothing that could not be made durable is acknowledged.
func TestSyncErrorIsFatal(t *testing.T) {
	disk := vfs.NewFault(vfs.OS{}, clock.System{})
	dir := t.TempDir()
	n := startNode(t, load(t, dir), disk)
	produce(t, n, "events", 0, 10)
	disk.Add(vfs.Rule{Path: dir + "/wal/", Op: vfs.OpSync, Err: syscall.EIO})
	c := n.client(t, kgo.DefaultProduceTopic("events"))
	acked := make(chan error, 1)
	c.Produce(within(t), &kgo.Record{Value: []byte("lost")}, func(_ *kgo.Record, err error) { acked <- err })
	select {
	case err := <-n.fatal:
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("fatal: %v", err)
		}
	case <-within(t).Done():
		t.Fatal("the node goes on")
	}
	if n.Ready() == nil {
		t.Error("it says that it is ready")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = n.Close(ctx)
	c.Close()
	if err := <-acked; err == nil {
		t.Error("acknowledged although the sync failed")
	}
}

// Each listener tells its clients its own addresses: all that a TLS client does stays on the TLS listener.
func TestTLSBesidePlain(t *testing.T) {
	certFile, keyFile, pool := cert.Write(t, t.TempDir(), "chronik test", 1)
	n := startNode(t, load(t, t.TempDir(), "kafka=127.0.0.1:0,tls://127.0.0.1:0", "tls.cert="+certFile, "tls.key="+keyFile), vfs.OS{})
	defer n.stop(t)
	addrs, _ := n.Serves()
	plain, secure := addrs[0], strings.TrimPrefix(addrs[1], "tls://")
	produce(t, n, "events", 0, 50)
	for addr, opts := range map[string][]kgo.Opt{plain: nil, secure: {kgo.DialTLSConfig(&tls.Config{RootCAs: pool})}} {
		opts = append(opts, kgo.SeedBrokers(addr), kgo.ConsumeTopics("events"))
		consume(t, n, 50, opts...)
		c := n.client(t, opts...)
		brokers, err := kadm.NewClient(c).ListBrokers(within(t))
		c.Close()
		if err != nil || len(brokers) != 1 || fmt.Sprintf("%s:%d", brokers[0].Host, brokers[0].Port) != addr {
			t.Errorf("on %s: brokers %v, %v", addr, brokers, err)
		}
	}
}
