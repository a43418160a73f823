package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// fakeCluster is a node of a cluster whose metadata the test writes.
type fakeCluster struct {
	bus *metadata.Bus
	mu  struct {
		sync.Mutex
		quorum   Quorum
		replicas map[kafka.TopicPartition]Replica
	}
}

func (f *fakeCluster) Self() kafka.BrokerID   { return 1 }
func (f *fakeCluster) Image() *metadata.Image { return f.bus.Image() }
func (f *fakeCluster) Subscribe(name string, after metadata.Offset) *metadata.Cursor {
	return f.bus.Subscribe(name, after)
}
func (f *fakeCluster) Quorum() Quorum { return f.mu.quorum }
func (f *fakeCluster) Replica(tp kafka.TopicPartition) (Replica, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.mu.replicas[tp]
	return r, ok
}

func newFake(retained int) *fakeCluster {
	f := &fakeCluster{bus: metadata.NewBus(metadata.Empty(), retained)}
	f.mu.quorum = Quorum{Controller: 2, Term: 7, Voters: []kafka.BrokerID{1, 2, 3}, Applied: map[kafka.BrokerID]metadata.Offset{1: 5, 2: 6}}
	f.mu.replicas = map[kafka.TopicPartition]Replica{}
	return f
}

// apply commits records, all in one entry.
func (f *fakeCluster) apply(reason string, records ...*pb.Record) {
	for _, r := range records {
		r.Reason = reason
	}
	img, events := f.bus.Image().Apply(f.bus.Image().Offset()+1, &pb.Entry{TimeMs: 1_000_000 * int64(f.bus.Image().Offset()+1), Records: records})
	f.bus.Publish(metadata.Batch{Image: img, Events: events})
}

func registered(id int32) *pb.Record {
	return &pb.Record{Kind: &pb.Record_BrokerRegistered{BrokerRegistered: &pb.BrokerRegistered{Id: id, Incarnation: make([]byte, 16), Directory: make([]byte, 16),
		Endpoints: []*pb.Endpoint{{Listener: "tcp", Host: "h", Port: 9092}}}}}
}

func fenced(id int32, f bool) *pb.Record {
	return &pb.Record{Kind: &pb.Record_BrokerFencing{BrokerFencing: &pb.BrokerFencing{Id: id, Fenced: f}}}
}

var topicID = []byte("0123456789abcdef")

func created(name string, partitions int) *pb.Record {
	t := &pb.TopicCreated{Name: name, Id: append([]byte(name), topicID...)[:16]}
	for range partitions {
		t.Partitions = append(t.Partitions, &pb.Partition{Replicas: []int32{1, 2, 3}, Isr: []int32{1, 2, 3}, LeaderPlusOne: 2})
	}
	return &pb.Record{Kind: &pb.Record_TopicCreated{TopicCreated: t}}
}

func (f *fakeCluster) changed(topic string, index int32, leader int32, isr ...int32) *pb.Record {
	t := f.bus.Image().Topic(topic)
	c := &pb.PartitionChanged{TopicId: t.ID[:], Index: index, Isr: &pb.BrokerList{Ids: isr}}
	if now := int32(t.Partitions.At(index).Leader); now != leader {
		plusOne := leader + 1
		c.LeaderPlusOne, c.NextLeaderEpoch = &plusOne, true
	}
	return &pb.Record{Kind: &pb.Record_PartitionChanged{PartitionChanged: c}}
}

// three is a cluster of three brokers with the topic orders; broker 3 was lost, and led partition 2 before.
func three() *fakeCluster {
	f := newFake(0)
	f.apply("began", registered(1), registered(2), registered(3))
	f.apply("a client created it", created("orders", 3))
	f.apply("spread", f.changed("orders", 2, 3, 1, 2, 3))
	f.apply("broker 3: its connection was closed and a redial refused", fenced(3, true), f.changed("orders", 0, 1, 1, 2), f.changed("orders", 1, 1, 1, 2), f.changed("orders", 2, 1, 1, 2))
	return f
}

func serve(t *testing.T, cluster Cluster) (base string, s *Server) {
	t.Helper()
	opts := Options{Addr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler), Cluster: func() Cluster { return cluster },
		Ready: func() error { return fmt.Errorf("it waits for the voters 2 and 3") }}
	s, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return "http://" + s.Addr().String(), s
}

func getJSON(t *testing.T, url string, v any) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if kind := resp.Header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("%s: content type %s", url, kind)
	}
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func TestCluster(t *testing.T) {
	base, _ := serve(t, three())
	var v ClusterView
	if code := getJSON(t, base+"/v1/cluster", &v); code != 200 {
		t.Fatal(code, v)
	}
	if v.Controller != 2 || v.Term != 7 || v.Node != 1 || v.Offset != 4 || len(v.Voters) != 3 || v.Learners == nil || v.Topics != 1 ||
		v.Health != (Health{Partitions: 3, UnderReplicated: 3}) || len(v.Brokers) != 3 {
		t.Errorf("%+v", v)
	}
	lost, kept := v.Brokers[2], v.Brokers[0]
	if lost.State != StateFenced || lost.Why != "broker 3: its connection was closed and a redial refused" || lost.Since.UnixMilli() != 4_000_000 ||
		lost.Leads != 0 || lost.Replicas != 3 || lost.InSync != 0 || lost.Offset != nil || !lost.Voter {
		t.Errorf("broker 3: %+v", lost)
	}
	if kept.State != StateLive || kept.Why != "began" || kept.Leads != 3 || *kept.Offset != 5 || kept.Endpoints[0] != (EndpointView{"tcp", "h", 9092, false}) {
		t.Errorf("broker 1: %+v", kept)
	}
}

func TestTopics(t *testing.T) {
	f := three()
	for i := range 5 {
		f.apply("made", created(fmt.Sprintf("t%d", i), 1))
	}
	base, _ := serve(t, f)
	var v TopicsView
	var names []string
	for after := ""; ; after = v.Next {
		v = TopicsView{}
		if code := getJSON(t, base+"/v1/topics?limit=2&after="+after, &v); code != 200 || len(v.Topics) > 2 {
			t.Fatal(code, v)
		}
		for _, topic := range v.Topics {
			names = append(names, topic.Name)
		}
		if v.Next == "" {
			break
		}
	}
	if strings.Join(names, " ") != "orders t0 t1 t2 t3 t4" {
		t.Errorf("pages gave %v", names)
	}
	var d TopicDetail
	if code := getJSON(t, base+"/v1/topics/orders", &d); code != 200 || len(d.Detail) != 3 || d.MinInsync != 2 || d.UnderReplicated != 3 || d.Detail[2].Leader != 1 {
		t.Errorf("%d %+v", code, d)
	}
}

func TestAskedWrongly(t *testing.T) {
	base, _ := serve(t, three())
	for path, want := range map[string]string{
		"/v1/topics/nope":       "404 there is no topic nope",
		"/v1/explain/nope/0":    "404 there is no topic nope",
		"/v1/explain/orders/7":  "404 topic orders has partitions 0 to 2, no 7",
		"/v1/explain/orders/-1": "404 topic orders has partitions 0 to 2, no -1",
		"/v1/explain/orders/x":  `400 "x" is not a partition's number`,
		"/v1/topics?limit=0":    "400 limit=0: want 1 to 10000",
		"/v1/events?after=x":    "400 after=x is not a metadata offset",
		"/v1/nothing":           "404 there is no GET /v1/nothing; see docs/admin.md",
		"/v1/explain/a%2Fb/0":   `404 "a/b" is no topic's name`,
	} {
		var p Problem
		if code := getJSON(t, base+path, &p); fmt.Sprint(code, " ", p.Error) != want {
			t.Errorf("%s: %d %s, want %s", path, code, p.Error, want)
		}
	}
	starting, _ := serve(t, nil)
	for _, path := range []string{"/v1/cluster", "/v1/events"} {
		var p Problem
		if code := getJSON(t, starting+path, &p); code != 503 || p.Error != "it waits for the voters 2 and 3" {
			t.Errorf("%s while starting: %d %s", path, code, p.Error)
		}
	}
}

// A node that answers as many as it may refuses more at once.
func TestRequestsAreBounded(t *testing.T) {
	base, s := serve(t, three())
	for range requestsMax {
		s.slots <- struct{}{}
	}
	var p Problem
	if code := getJSON(t, base+"/v1/cluster", &p); code != 503 || !strings.Contains(p.Error, "the limit") {
		t.Errorf("%d %s", code, p.Error)
	}
	<-s.slots
	var v ClusterView
	if code := getJSON(t, base+"/v1/cluster", &v); code != 200 {
		t.Error(code)
	}
}

// sse is an open event stream.
type sse struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Scanner
	// began is the ID that came before any event.
	began string
}

func listen(t *testing.T, url, lastID string) *sse {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %d %s", url, resp.StatusCode, body)
	}
	return &sse{t, resp, bufio.NewScanner(resp.Body), ""}
}

// next is "ID TYPE" of the next event, without an ID where it has none.
func (s *sse) next() (string, EventView) {
	s.t.Helper()
	var id, kind string
	var v EventView
	for s.in.Scan() {
		name, value, _ := strings.Cut(s.in.Text(), ": ")
		switch name {
		case "id":
			id = value + " "
		case "event":
			kind = value
		case "data":
			if err := json.Unmarshal([]byte(value), &v); err != nil {
				s.t.Fatal(err)
			}
			if v.Type != kind {
				s.t.Errorf("event %s has type %s in its data", kind, v.Type)
			}
			if !slices.Contains(EventTypes, v.Type) {
				s.t.Errorf("%s is not among EventTypes", v.Type)
			}
		case "":
			if kind != "" {
				return id + kind, v
			}
			s.began, id = id, ""
		}
	}
	return "the end", v
}

func (s *sse) want(events ...string) {
	s.t.Helper()
	for i, want := range events {
		if got, _ := s.next(); got != want {
			s.t.Fatalf("event %d is %q, want %q", i, got, want)
		}
	}
}

func TestEvents(t *testing.T) {
	f := three()
	base, _ := serve(t, f)
	fromStart := listen(t, base+"/v1/events?after=0", "")
	// Only the last event of an offset has the ID that a client resumes with.
	fromStart.want(
		"BrokerRegistered", "BrokerRegistered", "1 BrokerRegistered",
		"TopicCreated", "PartitionAssigned", "PartitionAssigned", "2 PartitionAssigned",
		"PartitionLeaderChanged", "3 ISRUpdated",
		"BrokerFenced", "ISRUpdated", "ISRUpdated", "PartitionLeaderChanged", "4 ISRUpdated")
	now := listen(t, base+"/v1/events", "")
	f.apply("it is back", fenced(3, false))
	fromStart.want("5 BrokerUnfenced")
	got, v := now.next()
	if got != "5 BrokerUnfenced" || now.began != "4 " || *v.Broker != 3 || v.Cause != "it is back" {
		t.Errorf("%q %+v", got, v)
	}
	resumed := listen(t, base+"/v1/events?after=1", "4")
	resumed.want("5 BrokerUnfenced")
	// A client that comes from a node that is ahead misses what it has seen, and nothing else.
	ahead := listen(t, base+"/v1/events", "6")
	f.apply("seen elsewhere", fenced(2, true))
	f.apply("new", fenced(2, false))
	ahead.want("7 BrokerUnfenced")
}

func TestEventsOfALaggingClient(t *testing.T) {
	f := newFake(2)
	f.apply("began", registered(1))
	for range 5 {
		f.apply("x", fenced(1, true))
		f.apply("y", fenced(1, false))
	}
	f.apply("made", created("orders", 1))
	base, _ := serve(t, f)
	s := listen(t, base+"/v1/events?after=1", "")
	got, v := s.next()
	if got != "SnapshotInstalled" || *v.From != 0 || v.Offset != 12 {
		t.Fatalf("%q %+v", got, v)
	}
	s.want("BrokerRegistered", "TopicCreated", "12 PartitionAssigned")
	f.apply("after", fenced(1, true))
	s.want("13 BrokerFenced")
}

func TestStreamsEndWithTheServer(t *testing.T) {
	base, s := serve(t, three())
	stream := listen(t, base+"/v1/events", "")
	done := make(chan error, 1)
	go func() { done <- s.Close(context.Background()) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Close waits for a stream")
	}
	stream.want("the end")
}

func TestStreamsAreBounded(t *testing.T) {
	base, s := serve(t, three())
	s.streams.Store(streamsMax)
	var p Problem
	if code := getJSON(t, base+"/v1/events", &p); code != 503 {
		t.Error(code)
	}
	s.streams.Store(streamsMax - 1)
	stream := listen(t, base+"/v1/events", "")
	_ = stream.resp.Body.Close()
	for range 1000 {
		if s.streams.Load() == streamsMax-1 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a stream whose client is gone still counts")
}

// A question's deadline must not outlive it on a connection that is used again.
func TestDeadlineEndsWithItsRequest(t *testing.T) {
	base, s := serve(t, three())
	s.answerMax = 100 * time.Millisecond
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for i, path := range []string{"/v1/cluster", "/v1/cluster", "/metrics"} {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s on a connection that was used before (%v): %v", path, reused, err)
		}
		if !reused && i > 0 { // the client tries again on another connection where one breaks
			t.Errorf("%s: the connection did not outlive the deadline of the request before", path)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		_ = resp.Body.Close()
		time.Sleep(3 * s.answerMax)
	}
}
