package api

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// cluster is the API over a real controller in memory, with no partitions behind it.
type cluster struct {
	*Handlers
	t        testing.TB
	conn     *Conn
	requests sync.Pool // *Request, used again as the server does
}

// neverLost keeps brokers that exist in the metadata only from being fenced for their silence.
var neverLost = controller.LifecycleOptions{Lease: time.Hour}

func newCluster(t testing.TB, set ...string) *cluster {
	t.Helper()
	cfg, err := config.Load(config.Sources{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	ctrl, err := controller.OpenMemory(controller.Options{NodeID: 1, Directory: [16]byte{1}, Logger: logger,
		Defaults: controller.Defaults{Partitions: cfg.NumPartitions}, Lifecycle: neverLost})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ctrl.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err = ctrl.RegisterBroker(t.Context(), metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{9}, Directory: [16]byte{1}, Rack: "r1",
		Endpoints: []metadata.Endpoint{{Listener: "tcp", Port: 9092}, {Listener: "tls", Host: "tls.example.org", Port: 9093, TLS: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{
		t: t,
		Handlers: &Handlers{NodeID: 1, Store: ctrl, Static: cfg, Config: config.NewLive(cfg), Clock: clock.System{}, Logger: logger,
			APIs: Table()},
		conn: &Conn{Listener: "127.0.0.1:9092", Local: Address{Host: "10.1.2.3", Port: 19092}},
	}
}

// call sends a request of a version through the same encoding as the server, both ways.
func call[R kmsg.Response](c *cluster, version int16, req kmsg.Request) R {
	c.t.Helper()
	req.SetVersion(version)
	k := lookup(req.Key())
	if k == nil || version < k.MinVersion || version > k.MaxVersion {
		c.t.Fatalf("%T v%d is not served", req, version)
	}
	decoded := kmsg.RequestForKey(req.Key())
	decoded.SetVersion(version)
	frame := req.AppendTo(nil)
	read := decoded.ReadFrom
	if p, ok := decoded.(*kmsg.ProduceRequest); ok { // as the server does
		read = p.UnsafeReadFrom
	}
	if err := read(frame); err != nil {
		c.t.Fatalf("%T v%d: decode: %v", req, version, err)
	}
	r, _ := c.requests.Get().(*Request)
	if r == nil {
		r = &Request{}
	}
	r.Key, r.Version, r.ClientID, r.Conn, r.Body = req.Key(), version, "test", c.conn, decoded
	defer func() { // the next request uses the same memory
		clear(frame)
		r.Reset()
		c.requests.Put(r)
	}()
	resp := c.Dispatch(c.t.Context(), r)(c.t.Context()).Message
	resp.SetVersion(version)
	back := decoded.ResponseKind()
	back.SetVersion(version)
	if err := back.ReadFrom(resp.AppendTo(nil)); err != nil {
		c.t.Fatalf("%T v%d: decode: %v", resp, version, err)
	}
	return back.(R)
}

// every runs a check for each version of an API.
func every(c *cluster, key int16, check func(version int16)) {
	for v := lookup(key).MinVersion; v <= lookup(key).MaxVersion; v++ {
		check(v)
	}
}

func (c *cluster) create(name string, partitions int32, configs ...string) *metadata.Topic {
	c.t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 10_000
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, 1
	for i := 0; i < len(configs); i += 2 {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = configs[i], &configs[i+1]
		topic.Configs = append(topic.Configs, cfg)
	}
	req.Topics = append(req.Topics, topic)
	resp := call[*kmsg.CreateTopicsResponse](c, 7, req)
	if resp.Topics[0].ErrorCode != 0 {
		c.t.Fatalf("create %s: %s: %s", name, codeName(resp.Topics[0].ErrorCode), deref(resp.Topics[0].ErrorMessage))
	}
	return c.Store.Image().Topic(name)
}

func codeName(code int16) string {
	if err := kafka.ByCode(code); err != nil {
		return err.Error()
	}
	return "NONE"
}

func deref(s *string) string {
	if s == nil {
		return "<nil>"
	}
	return *s
}

func (c *cluster) wantCode(what string, got int16, want *kafka.Error) {
	c.t.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		c.t.Errorf("%s: got %s, want %s", what, codeName(got), codeName(code))
	}
}

// A client that is gone must not be waited for.
func TestRepliesEndWithTheirContext(t *testing.T) {
	c := newCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr("t")
	req.Topics = append(req.Topics, topic)
	req.AllowAutoTopicCreation = true
	reply := c.Dispatch(ctx, &Request{Key: 3, Version: 12, Conn: c.conn, Body: req})
	if resp := reply(ctx).Message.(*kmsg.MetadataResponse); len(resp.Topics) != 1 {
		t.Errorf("got %+v", resp)
	}
}
