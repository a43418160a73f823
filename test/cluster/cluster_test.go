package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/node"
)

// started is a cluster of three whose nodes all serve.
func started(t *testing.T, set ...string) *node.Cluster {
	t.Helper()
	c := node.NewCluster(t, 3, set...)
	explain(t, c)
	c.Start()
	return c
}

// explain has a failed test tell what the nodes that still run know.
func explain(t *testing.T, c *node.Cluster) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, m := range c.Alive() {
			for _, what := range []string{"cluster", "topics"} {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				body, err := get(ctx, m, what)
				t.Logf("node %d: /v1/%s: %s %v", m.ID, what, body, err)
				cancel()
			}
		}
	})
}

// client is one that notices a failover soon.
func client(t *testing.T, addrs []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addrs...), kgo.MetadataMinAge(50 * time.Millisecond), kgo.DialTimeout(2 * time.Second), kgo.AllowAutoTopicCreation(),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.AlwaysRetryEOF(), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func create(t *testing.T, c *node.Cluster, partitions int32, topics ...string) {
	t.Helper()
	admin := kadm.NewClient(client(t, c.Bootstrap()))
	res, err := admin.CreateTopics(within(t, time.Minute), partitions, 3, nil, topics...)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatalf("create %v: %v", topics, err)
	}
}

// partition is what a node says of a partition.
func partition(ctx context.Context, m *node.Member, topic string, p int32) (kadm.PartitionDetail, error) {
	meta, err := m.Metadata(ctx, topic)
	if err != nil {
		return kadm.PartitionDetail{}, err
	}
	d, ok := meta.Topics[topic].Partitions[p]
	if !ok || d.Err != nil {
		return d, fmt.Errorf("node %d: partition %s/%d: %v, %w", m.ID, topic, p, ok, d.Err)
	}
	return d, nil
}

// inSync waits until every partition of the topics has a leader and all three replicas in its in-sync set, as every node sees it.
func inSync(t *testing.T, c *node.Cluster, topics ...string) {
	t.Helper()
	c.Eventually(fmt.Sprintf("all replicas of %v are in sync", topics), func(ctx context.Context) error {
		for _, m := range c.Members {
			meta, err := m.Metadata(ctx, topics...)
			if err != nil {
				return err
			}
			for _, topic := range topics {
				if err := meta.Topics[topic].Err; err != nil {
					return fmt.Errorf("node %d: %s: %w", m.ID, topic, err)
				}
				for _, p := range meta.Topics[topic].Partitions {
					if p.Err != nil || p.Leader < 0 || len(p.ISR) != 3 || len(p.OfflineReplicas) != 0 {
						return fmt.Errorf("node %d: %s/%d: leader %d, in-sync replicas %v, offline %v: %v", m.ID, topic, p.Partition, p.Leader, p.ISR, p.OfflineReplicas, p.Err)
					}
				}
			}
		}
		return nil
	})
}

// produce sends n records to each partition, waits for every ack and demands that the offsets follow one another.
func produce(t *testing.T, c *kgo.Client, topic string, partitions, n int) {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	next := make([]int64, partitions)
	var records []*kgo.Record
	for i := range n * partitions {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: fmt.Appendf(nil, "%s record %d of partition %d", topic, i/partitions, i%partitions)})
	}
	for _, r := range c.ProduceSync(ctx, records...) {
		if r.Err != nil {
			t.Fatalf("produce to %s/%d: %v", topic, r.Record.Partition, r.Err)
		}
		p := r.Record.Partition
		if r.Record.Offset < next[p] {
			t.Fatalf("%s/%d: offset %d comes after %d", topic, p, r.Record.Offset, next[p]-1)
		}
		next[p] = r.Record.Offset + 1
	}
}

// consume reads a topic from its start until want records came and demands gapless offsets.
func consume(t *testing.T, addrs []string, topic string, want int, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	c := client(t, addrs, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	defer c.Close()
	ctx := within(t, 2*time.Minute)
	next := map[int32]int64{}
	var all []*kgo.Record
	for len(all) < want {
		fetches := c.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%s: %d of %d records: %v", topic, len(all), want, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != next[r.Partition] {
				t.Fatalf("%s/%d: offset %d follows %d", topic, r.Partition, r.Offset, next[r.Partition]-1)
			}
			next[r.Partition] = r.Offset + 1
			all = append(all, r)
		})
	}
	return all
}
