package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/internal/admin"
	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
	"chronik/test/node"
)

// Every event comes to every node, in one order; the nodes' images are equal, and equal to what a stopped node's metadata WAL
// folds to.
func TestMetadataOnEveryNode(t *testing.T) {
	t.Parallel()
	c := started(t)
	create(t, c, 1, "before")
	inSync(t, c, "before")
	var offset metadata.Offset
	for _, m := range c.Members {
		offset = max(offset, ask[admin.ClusterView](t, m, "cluster").Offset)
	}
	var streams []*events
	for _, m := range c.Members {
		streams = append(streams, follow(t, m, offset))
	}
	changeMetadata(t, c)
	c.Member(2).Restart() // fenced, unfenced, leaders and in-sync replicas move
	c.WaitUp(3)
	inSync(t, c, "grows", "configured", "last")
	streams[1].wait() // its stream ended with its process: it goes on where it was
	streams[1].resume(t)
	create(t, c, 1, "end")

	var all [][]admin.EventView
	for i, s := range streams {
		all = append(all, s.until(t, "end"))
		if !reflect.DeepEqual(all[i], all[0]) {
			t.Fatalf("node %d saw other events than node 1:\n%s", i+1, firstDifference(all[0], all[i]))
		}
	}
	kinds := map[string]int{}
	for _, e := range all[0] {
		kinds[e.Type]++
		if e.Cause == "" {
			t.Errorf("no cause: %+v", e)
		}
	}
	for kind, least := range map[string]int{"TopicCreated": 32, "TopicDeleted": 10, "PartitionAssigned": 98, "ConfigChanged": 1, "ISRUpdated": 1, "PartitionLeaderChanged": 1,
		"BrokerRegistered": 1, "BrokerUnfenced": 1} {
		if kinds[kind] < least {
			t.Errorf("%d events %s, want at least %d: %v", kinds[kind], kind, least, kinds)
		}
	}
	t.Logf("%d events at each of three nodes: %v", len(all[0]), kinds)
	imagesEqual(t, c)
}

// changeMetadata does what administrators do, at every node in turn.
func changeMetadata(t *testing.T, c *node.Cluster) {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		at := kadm.NewClient(client(t, []string{c.Members[i%3].Kafka}))
		name := fmt.Sprintf("many-%02d", i)
		res, err := at.CreateTopic(ctx, 3, 3, nil, name)
		must(err)
		must(res.Err)
		if i%3 == 2 {
			deleted, err := kadm.NewClient(client(t, []string{c.Members[(i+1)%3].Kafka})).DeleteTopics(ctx, fmt.Sprintf("many-%02d", i-1))
			must(err)
			must(deleted.Error())
		}
	}
	create(t, c, 1, "grows", "configured", "last")
	at := kadm.NewClient(client(t, []string{c.Member(3).Kafka}))
	grown, err := at.CreatePartitions(ctx, 6, "grows")
	must(err)
	must(grown.Error())
	value := "7200000"
	altered, err := at.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, "configured")
	must(err)
	must(altered[0].Err)
}

// imagesEqual compares what the nodes say, kills them all at once, and folds each one's metadata WAL.
func imagesEqual(t *testing.T, c *node.Cluster) {
	t.Helper()
	var live []admin.TopicDetail
	c.Eventually("every node says the same of every topic", func(context.Context) error {
		for _, m := range c.Members {
			topics := ask[admin.TopicsView](t, m, "topics")
			var details []admin.TopicDetail
			for _, topic := range topics.Topics {
				details = append(details, ask[admin.TopicDetail](t, m, "topics/"+topic.Name))
			}
			if m.ID == 1 {
				live = details
			} else if !reflect.DeepEqual(details, live) {
				return fmt.Errorf("nodes 1 and %d differ: %s", m.ID, firstDifference(live, details))
			}
		}
		return nil
	})
	offset := ask[admin.ClusterView](t, c.Member(1), "cluster").Offset
	c.Eventually("all have applied the same", func(context.Context) error {
		for _, m := range c.Members {
			if o := ask[admin.ClusterView](t, m, "cluster").Offset; o < offset {
				return fmt.Errorf("node %d stands at %d, node 1 at %d", m.ID, o, offset)
			}
		}
		return nil
	})
	c.Kill()
	var first *controller.Inspection
	for _, m := range c.Members {
		in, err := controller.Inspect(vfs.OS{}, filepath.Join(m.Dir, "metadata"))
		if err != nil {
			t.Fatalf("node %d: %v", m.ID, err)
		}
		if in.Image.Offset() < offset {
			t.Errorf("node %d had applied offset %d; its WAL folds to %d", m.ID, offset, in.Image.Offset())
		}
		if first == nil {
			first = in
			continue
		}
		sameEntries(t, m.ID, first, in)
		if a, b := first.Image, in.Image; a.Offset() == b.Offset() && !slices.Equal(a.EncodeSnapshot(), b.EncodeSnapshot()) {
			t.Errorf("the metadata WALs of node 1 and node %d fold to different images of offset %d", m.ID, a.Offset())
		}
	}
	foldedAsLive(t, first.Image, live)
}

// sameEntries compares what two nodes hold at the same offsets; either may end a little earlier.
func sameEntries(t *testing.T, id int, a, b *controller.Inspection) {
	t.Helper()
	byOffset := map[metadata.Offset]controller.InspectedEntry{}
	for _, e := range a.Entries {
		byOffset[e.Offset] = e
	}
	same := 0
	for _, e := range b.Entries {
		o, ok := byOffset[e.Offset]
		switch {
		case !ok || e.Offset > min(a.Committed, b.Committed):
		case !reflect.DeepEqual(o, e):
			t.Errorf("offset %d of node 1 and node %d:\n%+v\n%+v", e.Offset, id, o, e)
		default:
			same++
		}
	}
	t.Logf("node %d: %d entries as node 1 has them, folded up to offset %d and %d", id, same, b.Image.Offset(), a.Image.Offset())
	if same == 0 {
		t.Errorf("node 1 and node %d have no entry in common", id)
	}
}

// foldedAsLive compares an image that was folded from a WAL with what the nodes had answered.
func foldedAsLive(t *testing.T, img *metadata.Image, live []admin.TopicDetail) {
	t.Helper()
	if img.TopicCount() != len(live) {
		t.Errorf("the WAL folds to %d topics, the nodes knew %d", img.TopicCount(), len(live))
	}
	for _, want := range live {
		topic := img.Topic(want.Name)
		if topic == nil || topic.ID.String() != want.ID {
			t.Errorf("topic %s is not in the folded WAL, or has another ID than %s", want.Name, want.ID)
			continue
		}
		for _, w := range want.Detail {
			p := topic.Partitions.At(w.Partition)
			got := admin.PartitionView{Partition: p.Index, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.PartitionEpoch, Replicas: orEmpty(p.Replicas), ISR: orEmpty(p.ISR), ELR: orEmpty(p.ELR)}
			// After it the killed ones may have seen one another die.
			if got.PartitionEpoch == w.PartitionEpoch && !reflect.DeepEqual(got, w) || got.PartitionEpoch < w.PartitionEpoch {
				t.Errorf("%s: the WAL folds to %+v, the nodes knew %+v", want.Name, got, w)
			}
		}
	}
}

func orEmpty(s []kafka.BrokerID) []kafka.BrokerID { return append([]kafka.BrokerID{}, s...) }

// ask gets an answer of /v1.
func ask[T any](t *testing.T, m *node.Member, path string) T {
	t.Helper()
	var v T
	body, err := get(within(t, time.Minute), m, path)
	if err != nil {
		t.Fatalf("node %d: /v1/%s: %v", m.ID, path, err)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("node %d: /v1/%s: %v: %s", m.ID, path, err, body)
	}
	return v
}

func get(ctx context.Context, m *node.Member, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.HTTP+"/v1/"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", res.Status)
	}
	return body, err
}

// events is one node's event stream.
type events struct {
	m    *node.Member
	done sync.WaitGroup

	mu   sync.Mutex
	last string // id of the last group that came whole
	all  []admin.EventView
	part []admin.EventView // of a group whose id has not come
	err  error
}

// follow reads the events behind an offset until the connection ends.
func follow(t *testing.T, m *node.Member, after metadata.Offset) *events {
	t.Helper()
	s := &events{m: m, last: fmt.Sprint(after)}
	s.resume(t)
	return s
}

func (s *events) wait() { s.done.Wait() }

func (s *events) resume(t *testing.T) {
	t.Helper()
	ctx := within(t, 5*time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.m.HTTP+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	req.Header.Set("Last-Event-ID", s.last)
	s.part = nil
	s.mu.Unlock()
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("node %d: events: %v %v", s.m.ID, res, err)
	}
	s.done.Go(func() {
		defer func() { _ = res.Body.Close() }()
		id := ""
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			line := lines.Text()
			if v, ok := strings.CutPrefix(line, "id: "); ok {
				id = v
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				var e admin.EventView
				err := json.Unmarshal([]byte(data), &e)
				s.add(e, id, err)
				id = ""
			}
		}
	})
}

func (s *events) add(e admin.EventView, id string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.err == nil {
		s.err = err
	}
	if n := len(s.part) - 1; n >= 0 && s.part[n].Offset > e.Offset && s.err == nil {
		s.err = fmt.Errorf("offset %d comes after offset %d", e.Offset, s.part[n].Offset)
	}
	s.part = append(s.part, e)
	if id != "" {
		s.all = append(s.all, s.part...)
		s.part, s.last = nil, id
	}
}

// until waits for the creation of a topic and returns all events up to it, without their offsets: the last of a group carries
// that of what came with it and has no event.
func (s *events) until(t *testing.T, topic string) []admin.EventView {
	t.Helper()
	for end := time.Now().Add(node.Patience); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		all, err := slices.Clone(s.all), s.err
		s.mu.Unlock()
		if err != nil {
			t.Fatalf("events of node %d: %v", s.m.ID, err)
		}
		if i := slices.IndexFunc(all, func(e admin.EventView) bool { return e.Type == "TopicCreated" && e.Topic == topic }); i >= 0 {
			all = all[:i+1]
			for i := range all {
				all[i].Offset = 0
			}
			return all
		}
		if time.Now().After(end) {
			t.Fatalf("node %d never told of topic %q; %d events, the last %+v", s.m.ID, topic, len(all), all[max(len(all)-1, 0):])
		}
	}
}

func firstDifference[T any](a, b []T) string {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("only the second has number %d: %+v", i, b[i])
		case i >= len(b):
			return fmt.Sprintf("only the first has number %d: %+v", i, a[i])
		case !reflect.DeepEqual(a[i], b[i]):
			x, _ := json.Marshal(a[i])
			y, _ := json.Marshal(b[i])
			return fmt.Sprintf("number %d: %s and %s", i, x, y)
		}
	}
	return "none"
}
