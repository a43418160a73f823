package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/node"
)

// Clients of all kinds produce, and consume in groups, while the controller, leaders and coordinators are killed with SIGKILL and come
// back. What was acknowledged is there once, in order, on every replica; every group has got all of it.
func TestClientsUnderKills(t *testing.T) {
	c := started(t)
	topics := []string{"work-kafka-python", "work-confluent", "work-java", "franz", "kcat"}
	create(t, c, workPartitions, topics...)
	pairs := programs(t, c.Bootstrap())
	franz := newProducer(t, c.Bootstrap(), "franz", workPartitions)
	group := consumeInGroup(t, c.Bootstrap(), "franz", 3)
	kcat := newKcat(t, c.Bootstrap())

	await := func(n int) {
		t.Helper()
		franz.await(t, int64(n))
		for _, p := range pairs {
			before := p.producer.counted("ack")
			c.Eventually(fmt.Sprintf("%s produces", p.name), func(context.Context) error {
				if got := p.producer.counted("ack"); got < before+n {
					return fmt.Errorf("%d acks, after %d before", got, before)
				}
				return nil
			})
			p.producer.check(t)
		}
	}
	await(100) // all have begun
	for i, victim := range []func() int32{
		func() int32 { return mustMetadata(t, c.Member(1)).Controller },
		func() int32 { return mustMetadata(t, c.Member(1)).Topics["franz"].Partitions[0].Leader },
		func() int32 { return coordinator(t, c, "group-java") },
		func() int32 { return mustMetadata(t, c.Member(2)).Controller },
	} {
		inSync(t, c, topics...)
		m := c.Member(int(victim()))
		t.Logf("kill %d: node %d", i+1, m.ID)
		m.Kill()
		if i%2 == 0 { // once while it is away, once at once
			await(50)
		}
		m.Start()
		await(50)
	}
	inSync(t, c, topics...)
	away := c.Member(int(mustMetadata(t, c.Member(1)).Controller))
	t.Logf("all are killed; node %d comes back last", away.ID)
	c.Kill()
	for _, m := range c.Members {
		if m != away {
			m.Launch()
		}
	}
	await(100) // also those who were told of no broker but the one that is away
	away.Start()
	await(50)
	inSync(t, c, topics...)
	franz.stop(t)
	franz.verify(t, c)
	group.verify(t, c, franz)
	for _, p := range pairs {
		p.verify(t, c)
	}
	kcat.verify(t)
	counts := map[string]int{}
	for _, topic := range topics {
		counts[topic] = -1
	}
	inSync(t, c, topics...)
	stopAndCompare(t, c, counts)
}

func coordinator(t *testing.T, c *node.Cluster, group string) int32 {
	t.Helper()
	id := int32(1)
	admin := kadm.NewClient(client(t, c.Bootstrap()))
	c.Eventually("the group has a coordinator", func(ctx context.Context) error {
		found := admin.FindGroupCoordinators(ctx, group)[group]
		id = found.NodeID
		return found.Err
	})
	return id
}

// franzGroup is a group of franz-go consumers, and what they got.
type franzGroup struct {
	mu  sync.Mutex
	got map[[2]int64]string // by partition and offset
	err error
}

func consumeInGroup(t *testing.T, addrs []string, topic string, members int) *franzGroup {
	t.Helper()
	g := &franzGroup{got: map[[2]int64]string{}}
	ctx := within(t, 10*time.Minute)
	for range members {
		c := client(t, addrs, kgo.ConsumerGroup("group-"+topic), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.AutoCommitInterval(200*time.Millisecond), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond))
		go func() {
			for {
				fetches := c.PollFetches(ctx)
				if fetches.IsClientClosed() || ctx.Err() != nil {
					return
				}
				fetches.EachRecord(g.add)
			}
		}()
	}
	return g
}

func (g *franzGroup) add(r *kgo.Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := [2]int64{int64(r.Partition), r.Offset}
	if old, ok := g.got[at]; ok && old != string(r.Value) && g.err == nil {
		g.err = fmt.Errorf("%s/%d: offset %d was %q, and then %q", r.Topic, r.Partition, r.Offset, old, r.Value)
	}
	g.got[at] = string(r.Value)
}

// verify waits until the group has what the producer sent.
func (g *franzGroup) verify(t *testing.T, c *node.Cluster, p *producer) {
	t.Helper()
	c.Eventually("the group of franz-go has got every record", func(context.Context) error {
		g.mu.Lock()
		defer g.mu.Unlock()
		for partition, values := range p.values {
			for offset, want := range values {
				if got := g.got[[2]int64{int64(partition), offset}]; got != want {
					return fmt.Errorf("%s/%d offset %d: got %q, stored is %q", p.topic, partition, offset, got, want)
				}
			}
		}
		return g.err
	})
}

// kcatRuns runs one kcat after another; acked is what those that ended well had sent.
type kcatRuns struct {
	addrs   string
	stopped chan struct{}
	ended   chan struct{}
	acked   []string
}

func newKcat(t *testing.T, addrs []string) *kcatRuns {
	t.Helper()
	k := &kcatRuns{addrs: strings.Join(addrs, ","), stopped: make(chan struct{}), ended: make(chan struct{})}
	if installed(t, "kcat") == "" {
		k.ended = nil
		return k
	}
	ctx := within(t, 10*time.Minute)
	go func() {
		defer close(k.ended)
		for run := 0; ctx.Err() == nil; run++ {
			select {
			case <-k.stopped:
				if len(k.acked) > 0 {
					return
				}
			default:
			}
			var lines []string
			for i := range 100 {
				lines = append(lines, fmt.Sprintf("run %d line %d", run, i))
			}
			short, cancel := context.WithTimeout(ctx, time.Minute)
			cmd := exec.CommandContext(short, "kcat", "-P", "-b", k.addrs, "-t", "kcat", "-p", fmt.Sprint(run%workPartitions), "-X", "acks=all", "-X", "enable.idempotence=true")
			cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
			if cmd.Run() == nil {
				k.acked = append(k.acked, lines...)
			}
			cancel()
		}
	}()
	return k
}

func (k *kcatRuns) verify(t *testing.T) {
	t.Helper()
	if k.ended == nil {
		return
	}
	close(k.stopped)
	<-k.ended
	count := map[string]int{}
	for p := range workPartitions {
		var errs bytes.Buffer
		cmd := exec.CommandContext(within(t, 2*time.Minute), "kcat", "-C", "-b", k.addrs, "-t", "kcat", "-p", fmt.Sprint(p), "-o", "beginning", "-e", "-q")
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kcat: %v\n%s", err, errs.String())
		}
		for line := range strings.Lines(string(out)) {
			count[strings.TrimSuffix(line, "\n")]++
		}
	}
	for _, line := range k.acked {
		if count[line] != 1 {
			t.Errorf("kcat: %q was acknowledged and is there %d times", line, count[line])
		}
	}
	t.Logf("kcat: %d lines acknowledged", len(k.acked))
}
