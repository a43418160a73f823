package api

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/record"
	"chronik/internal/replica"
	"chronik/internal/store"
	"chronik/internal/vfs"
)

// dataCluster is the API over everything below it: controller, store and partitions, on one file system.
type dataCluster struct {
	*cluster
	controller *controller.Controller
	store      *store.Store
	stopped    bool
}

func startData(t testing.TB, fs vfs.FS, dir string, process byte, set ...string) *dataCluster {
	t.Helper()
	cfg, err := config.Load(config.Sources{Set: set})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	fatal := func(err error) { t.Errorf("the node stops: %v", err) }
	s, err := store.Open(t.Context(), store.Options{FS: fs, Dir: dir, NodeID: 1, Config: cfg, Logger: logger, Fatal: fatal})
	if err != nil {
		t.Fatal(err)
	}
	ctrl, err := controller.Open(controller.Options{FS: fs, Dir: dir + "/metadata", NodeID: 1, Directory: [16]byte{1}, Logger: logger, Fatal: fatal, Lifecycle: neverLost})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ctrl.RegisterBroker(t.Context(), metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{process}, Directory: [16]byte{1},
		Endpoints: []metadata.Endpoint{{Listener: "tcp", Port: 9092}}}); err != nil {
		t.Fatal(err)
	}
	m := replica.NewManager(replica.Options{Metadata: ctrl, Store: s, Broker: 1, Config: cfg, Clock: clock.System{}, Logger: logger})
	m.Start()
	if err := m.WaitApplied(t.Context(), ctrl.Image().Offset()); err != nil {
		t.Fatal(err)
	}
	c := &dataCluster{controller: ctrl, store: s, cluster: &cluster{
		t: t,
		Handlers: &Handlers{NodeID: 1, Store: ctrl, Replicas: m, Static: cfg, Config: config.NewLive(cfg), Clock: clock.System{},
			Logger: logger, APIs: Table(), Volume: s.Volume},
		conn: &Conn{Listener: "127.0.0.1:9092", Local: Address{Host: "10.1.2.3", Port: 19092}},
	}}
	t.Cleanup(c.stop)
	return c
}

func newData(t testing.TB, set ...string) *dataCluster {
	t.Helper()
	return startData(t, vfs.NewMem(0), "/data", 1, set...)
}

func (c *dataCluster) stop() {
	if c.stopped {
		return
	}
	c.stopped = true
	c.Replicas.Close()
	if err := c.store.Close(); err != nil {
		c.t.Error(err)
	}
	if err := c.controller.Close(); err != nil {
		c.t.Error(err)
	}
}

// restart is a clean stop and another process.
func (c *dataCluster) restart(fs vfs.FS, dir string, process byte) *dataCluster {
	c.t.Helper()
	c.stop()
	return startData(c.t, fs, dir, process)
}

// dispatch runs a request through decoding and its handler's first half.
func (c *dataCluster) dispatch(version int16, req kmsg.Request) Reply {
	c.t.Helper()
	req.SetVersion(version)
	decoded := kmsg.RequestForKey(req.Key())
	decoded.SetVersion(version)
	if err := decoded.ReadFrom(req.AppendTo(nil)); err != nil {
		c.t.Fatalf("%T v%d: decode: %v", req, version, err)
	}
	return c.Dispatch(c.t.Context(), &Request{Key: req.Key(), Version: version, ClientID: "test", Conn: c.conn, Body: decoded})
}

func (c *dataCluster) fetchReply(version int16, reply Reply) *kmsg.FetchResponse {
	c.t.Helper()
	resp := reply(c.t.Context())
	if resp.Payload == nil {
		c.t.Fatalf("fetch v%d: no payload: %+v", version, resp)
	}
	defer resp.Payload.Release()
	m := kmsg.NewPtrFetchResponse()
	m.Version = version
	if err := m.ReadFrom(body(c.t, resp.Payload)); err != nil {
		c.t.Fatalf("fetch v%d: %v", version, err)
	}
	return m
}

func (c *dataCluster) fetchCall(version int16, req *kmsg.FetchRequest) *kmsg.FetchResponse {
	c.t.Helper()
	return c.fetchReply(version, c.dispatch(version, req))
}

// fetchOf asks for partitions 0 to len(from)-1 of a topic.
func fetchOf(topic *metadata.Topic, from ...int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxBytes, req.MinBytes = 1<<20, 1
	req.SessionEpoch = -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic.Name, topic.ID
	for i, offset := range from {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(i), offset, 1<<20
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func produceOf(topic *metadata.Topic, acks int16, batches ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 10_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic.Name, topic.ID
	for i, b := range batches {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = int32(i), bytes.Clone(b)
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func batchOf(edit func(*record.Builder), values ...string) []byte {
	b := record.NewBuilder()
	if edit != nil {
		edit(b)
	}
	for _, v := range values {
		b.Add(time.Now().UnixMilli(), nil, []byte(v))
	}
	return b.Build()
}

// produceOne produces to partition 0 and returns the partition's answer.
func (c *dataCluster) produceOne(topic *metadata.Topic, acks int16, batch []byte) kmsg.ProduceResponseTopicPartition {
	c.t.Helper()
	return call[*kmsg.ProduceResponse](c.cluster, 12, produceOf(topic, acks, batch)).Topics[0].Partitions[0]
}

func (c *dataCluster) mustProduce(topic *metadata.Topic, values ...string) int64 {
	c.t.Helper()
	p := c.produceOne(topic, -1, batchOf(nil, values...))
	if p.ErrorCode != 0 {
		c.t.Fatalf("produce: %s: %s", codeName(p.ErrorCode), deref(p.ErrorMessage))
	}
	return p.BaseOffset
}

// values reads all records of an answer's partition.
func values(t testing.TB, batches []byte) (out []string) {
	t.Helper()
	var codecs record.Codecs
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err == record.ErrPartial {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for r, err := range codecs.Records(b, 1<<20) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(r.Value))
		}
		batches = rest
	}
	return out
}

func (c *dataCluster) deleteTopic(topic *metadata.Topic) {
	c.t.Helper()
	if err := c.Store.DeleteTopic(context.Background(), topic.ID); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Replicas.WaitApplied(c.t.Context(), c.Store.Image().Offset()); err != nil {
		c.t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, got int16, want *kafka.Error) {
	t.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		t.Errorf("%s: got %s, want %s", what, codeName(got), codeName(code))
	}
}
