package broker

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/config"
	"chronik/internal/metadata"
	"chronik/internal/nodes"
	"chronik/internal/vfs"
)

// testCluster is nodes in one process, over loopback, each with a file system in memory.
type testCluster struct {
	t      *testing.T
	nodes  []*testNode // nil while stopped
	cfgs   []*config.Config
	disks  []*vfs.Mem
	voters string
}

// freePorts are addresses that nobody listens on now.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	addrs, err := nodes.FreeAddresses(n)
	if err != nil {
		t.Fatal(err)
	}
	return addrs
}

// newCluster starts nodes that form a cluster. NODE in a setting stands for the node's ID.
func newCluster(t *testing.T, nodes int, set ...string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, nodes: make([]*testNode, nodes)}
	free := freePorts(t, 2*nodes)
	cluster, kafka := free[:nodes], free[nodes:]
	var voters []string
	for i, addr := range cluster {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, addr))
	}
	c.voters = "cluster.voters=" + strings.Join(voters, ",")
	for i := range nodes {
		keys := []string{fmt.Sprintf("node.id=%d", i+1), "kafka=" + kafka[i], c.voters, "wal.file.bytes=1048576", "wal.max.bytes=16777216"}
		for _, s := range set {
			keys = append(keys, strings.ReplaceAll(s, "NODE", fmt.Sprint(i+1)))
		}
		c.cfgs = append(c.cfgs, load(t, "/data", keys...))
		c.disks = append(c.disks, vfs.NewMem(0))
	}
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() { c.start(i) })
	}
	starting.Wait()
	t.Cleanup(func() {
		for i, n := range c.nodes {
			if n != nil {
				if t.Failed() {
					t.Logf("log of node %d:\n%s", i+1, n.log)
				}
				c.stop(i)
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return c
}

func (c *testCluster) start(i int) {
	n := newNode(c.cfgs[i], c.disks[i])
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		c.t.Errorf("start of node %d: %v\n%s", i+1, err, n.log)
		return
	}
	c.nodes[i] = n
}

func (c *testCluster) stop(i int) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.nodes[i].Close(ctx); err != nil {
		c.t.Errorf("stop of node %d: %v", i+1, err)
	}
	c.nodes[i] = nil
}

func (c *testCluster) client(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	var seeds []string
	for _, n := range c.nodes {
		if n != nil {
			addrs, _ := n.Serves()
			seeds = append(seeds, addrs...)
		}
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })}, opts...)...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	return client
}

// await polls for what comes soon.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func (c *testCluster) awaitFullISR(topic string) {
	c.t.Helper()
	await(c.t, "every replica of "+topic+" is in sync", func() bool {
		for _, n := range c.nodes {
			if n == nil {
				continue
			}
			tp := n.controller.Image().Topic(topic)
			if tp == nil {
				return false
			}
			for p := range tp.Partitions.All() {
				if len(p.ISR) != len(p.Replicas) {
					return false
				}
			}
		}
		return true
	})
}

func produceAll(t *testing.T, client *kgo.Client, topic string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: fmt.Append(nil, i)}).FirstErr()
		cancel()
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
}

// consumeSet reads until it has seen count different values.
func consumeSet(t *testing.T, client *kgo.Client, count int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(seen) < count {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d records came", len(seen), count)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	return seen
}

func TestClusterForms(t *testing.T) {
	c := newCluster(t, 3)
	id := c.nodes[0].ClusterID()
	for i, n := range c.nodes {
		if n.ClusterID() != id || id == "" {
			t.Errorf("node %d is in cluster %q, node 1 in %q", i+1, n.ClusterID(), id)
		}
		await(t, "three live brokers", func() bool {
			live := 0
			for b := range n.controller.Image().Brokers() {
				if !b.Fenced {
					live++
				}
			}
			return live == 3
		})
	}
	adm := kadm.NewClient(c.client())
	if _, err := adm.CreateTopic(t.Context(), 6, 3, nil, "events"); err != nil {
		t.Fatal(err)
	}
	c.awaitFullISR("events")
	client := c.client(kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	produceAll(t, client, "events", 0, 100)
	consumeSet(t, client, 100)
	imagesEqual(t, c)
}

// imagesEqual compares what the nodes hold at the same offset.
func imagesEqual(t *testing.T, c *testCluster) {
	t.Helper()
	await(t, "equal images", func() bool {
		var images []*metadata.Image
		for _, n := range c.nodes {
			if n != nil {
				images = append(images, n.controller.Image())
			}
		}
		for _, img := range images[1:] {
			if img.Offset() != images[0].Offset() {
				return false
			}
			if string(img.EncodeSnapshot()) != string(images[0].EncodeSnapshot()) {
				t.Fatalf("images differ at offset %d", img.Offset())
			}
		}
		return true
	})
}

// One node after the other stops in order and comes back, while a producer goes on.
func TestClusterRollingRestart(t *testing.T) {
	c := newCluster(t, 3)
	client := c.client(kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AllowAutoTopicCreation())
	produceAll(t, client, "events", 0, 50)
	for i := range c.nodes {
		c.awaitFullISR("events")
		c.stop(i)
		produceAll(t, client, "events", 50+100*i, 100+100*i)
		c.start(i)
		produceAll(t, client, "events", 100+100*i, 150+100*i)
	}
	for value, times := range consumeSet(t, client, 350) {
		if times != 1 {
			t.Errorf("record %s came %d times", value, times)
		}
	}
	c.awaitFullISR("events")
	imagesEqual(t, c)
}
