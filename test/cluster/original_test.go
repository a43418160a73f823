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

// Three nodes are started at once and elect: the first produce with acks=all is acknowledged.
func TestUpAndElecting(t *testing.T) {
	t.Parallel()
	c := node.NewCluster(t, 3)
	began := time.Now()
	for _, m := range c.Members {
		m.Launch()
	}
	producer := client(t, c.Bootstrap(), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err := producer.ProduceSync(within(t, node.Patience), &kgo.Record{Topic: "first", Value: []byte("hello")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	t.Logf("first record acknowledged %v after the start of three processes", time.Since(began))
	c.WaitUp(3)
	controllers := map[int32]bool{}
	c.Eventually("all name one controller", func(ctx context.Context) error {
		clear(controllers)
		for _, m := range c.Members {
			meta, err := m.Metadata(ctx)
			if err != nil {
				return err
			}
			controllers[meta.Controller] = true
		}
		if len(controllers) != 1 || controllers[-1] {
			return fmt.Errorf("controllers %v", controllers)
		}
		return nil
	})
	if got := consume(t, c.Bootstrap(), "first", 1); string(got[0].Value) != "hello" {
		t.Errorf("read %q", got[0].Value)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
}

// A topic that was created at one node is known to all, its partitions are placed on all, and any node takes a produce for it at once.
func TestTopicCreationSeenByAll(t *testing.T) {
	t.Parallel()
	c := started(t)
	const topics = 20
	var slowest time.Duration
	for i := range topics {
		name := fmt.Sprintf("topic-%d", i)
		at := c.Members[i%3]
		admin := kadm.NewClient(client(t, []string{at.Kafka}))
		res, err := admin.CreateTopic(within(t, time.Minute), 3, -1, nil, name)
		if err != nil || res.Err != nil {
			t.Fatal(name, err, res.Err)
		}
		began := time.Now()
		for _, m := range c.Members {
			meta, err := m.Metadata(within(t, time.Minute), name)
			if err != nil {
				t.Fatal(err)
			}
			topic := meta.Topics[name]
			if topic.Err != nil || len(topic.Partitions) != 3 {
				t.Fatalf("%s was created at node %d; node %d says %v and knows %d partitions", name, at.ID, m.ID, topic.Err, len(topic.Partitions))
			}
			leaders := map[int32]int{}
			for _, p := range topic.Partitions {
				if len(p.Replicas) != 3 || p.Leader < 0 {
					t.Errorf("%s/%d: replicas %v, leader %d", name, p.Partition, p.Replicas, p.Leader)
				}
				leaders[p.Leader]++
			}
			if len(leaders) != 3 {
				t.Errorf("%s: three partitions are led by %v", name, leaders)
			}
		}
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest of %d topics was known to all three %v after it was created", topics, slowest)
	inSync(t, c, "topic-0", "topic-19")
}

// acks=1 and acks=all, with and without the topic being there: each record once, in order, at every client.
func TestAcks(t *testing.T) {
	t.Parallel()
	c := started(t, "num.partitions=3")
	for name, opts := range map[string][]kgo.Opt{
		"acks-1":   {kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1)},
		"acks-all": {kgo.RequiredAcks(kgo.AllISRAcks())},
	} {
		t.Run(name, func(t *testing.T) {
			producer := client(t, c.Bootstrap(), opts...)
			for i := range 10 { // the first produce creates the topic
				produce(t, producer, fmt.Sprintf("%s-auto-%d", name, i), 3, 1)
			}
			create(t, c, 3, name)
			produce(t, producer, name, 3, 2000)
			for _, m := range c.Members { // whoever is asked first
				next := map[int32]int{}
				for _, r := range consume(t, []string{m.Kafka}, name, 6000) {
					if want := fmt.Sprintf("%s record %d of partition %d", name, next[r.Partition], r.Partition); string(r.Value) != want {
						t.Fatalf("partition %d offset %d: %q, not %q", r.Partition, r.Offset, r.Value, want)
					}
					next[r.Partition]++
				}
			}
			for i := range 10 {
				consume(t, c.Bootstrap(), fmt.Sprintf("%s-auto-%d", name, i), 3)
			}
		})
	}
}
