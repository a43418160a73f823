package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
	"chronik/test/node"
)

// Every partition's data are on every replica: 1,000 records of 1,000, over all partitions, byte for byte.
func TestDataOnEveryReplica(t *testing.T) {
	t.Parallel()
	c := started(t, "log.segment.bytes=1048576")
	const partitions, each = 12, 1000
	create(t, c, partitions, "small", "large")
	producer := client(t, c.Bootstrap(), kgo.RequiredAcks(kgo.AllISRAcks()))
	produce(t, producer, "small", partitions, each)
	large(t, producer, "large", partitions, each) // so much at once that it is logged by reference
	inSync(t, c, "small", "large")
	stopAndCompare(t, c, map[string]int{"small": each, "large": each})
}

// large sends n records of up to 2 KiB to each partition.
func large(t *testing.T, c *kgo.Client, topic string, partitions, n int) {
	t.Helper()
	var records []*kgo.Record
	for i := range n * partitions {
		value := bytes.Repeat(fmt.Appendf(nil, "%d ", i), 300)
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: value[:min(len(value), 2048)]})
	}
	if err := c.ProduceSync(within(t, 2*time.Minute), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// stopAndCompare stops the nodes and demands of every partition that its replicas are byte-identical, whole, and hold so many
// records (-1: any number).
func stopAndCompare(t *testing.T, c *node.Cluster, want map[string]int) {
	t.Helper()
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for topic, records := range want {
		replicas := map[int32][][]byte{}
		for _, m := range c.Members {
			out, err := exec.Command(m.Bin, "log", "verify", m.Dir).CombinedOutput()
			if err != nil {
				t.Errorf("log verify of node %d: %v\n%s", m.ID, err, out)
			}
			for p, data := range stored(t, m, topic) {
				replicas[p] = append(replicas[p], data)
			}
		}
		for p, data := range replicas {
			if len(data) != 3 || !bytes.Equal(data[0], data[1]) || !bytes.Equal(data[0], data[2]) {
				t.Errorf("%s/%d: %d replicas, which are not byte-identical", topic, p, len(data))
				continue
			}
			if got := count(t, data[0]); records >= 0 && got != records {
				t.Errorf("%s/%d: every replica holds %d records, not %d", topic, p, got, records)
			}
		}
	}
}

// stored reads the segments of a stopped node's replicas of a topic.
func stored(t *testing.T, m *node.Member, name string) map[int32][]byte {
	t.Helper()
	in, err := controller.Inspect(vfs.OS{}, filepath.Join(m.Dir, "metadata"))
	if err != nil {
		t.Fatal(err)
	}
	topic := in.Image.Topic(name)
	if topic == nil {
		t.Fatalf("node %d knows no topic %s", m.ID, name)
	}
	all := map[int32][]byte{}
	for p := range topic.Partitions.All() {
		files, err := filepath.Glob(filepath.Join(m.Dir, "partitions", kafka.TopicPartition{Topic: topic.ID, Partition: p.Index}.String(), "*.log"))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(files)
		all[p.Index] = []byte{}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all[p.Index] = append(all[p.Index], raw...)
		}
	}
	return all
}

// count adds up the records of whole batches that follow one another.
func count(t *testing.T, data []byte) int {
	t.Helper()
	records, next := 0, kafka.Offset(0)
	for len(data) > 0 {
		b, rest, err := record.Next(data)
		if err != nil || b == nil || b.BaseOffset() != next || !b.VerifyCRC() {
			t.Fatalf("no batch with offset %d: %v", next, err)
		}
		records, next, data = records+int(b.Count()), b.NextOffset(), rest
	}
	return records
}

// A follower and a leader are stopped, and killed, while producers go on; metadata and data recover, every time.
func TestRestarts(t *testing.T) {
	t.Parallel()
	c := started(t)
	const topic, partitions = "restarts", 3
	create(t, c, partitions, topic)
	p := newProducer(t, c.Bootstrap(), topic, partitions)
	for _, step := range []struct {
		name   string
		leader bool
		kill   bool
	}{{"follower stopped", false, false}, {"follower killed", false, true}, {"leader stopped", true, false}, {"leader killed", true, true}} {
		inSync(t, c, topic)
		d, err := partition(within(t, 10*time.Second), c.Alive()[0], topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		id := d.Leader
		if !step.leader {
			id = d.Replicas[slices.IndexFunc(d.Replicas, func(r int32) bool { return r != d.Leader })]
		}
		m := c.Member(int(id))
		p.await(t, 100)
		if step.kill {
			m.Kill()
		} else if err := m.Stop(); err != nil {
			t.Errorf("%s: node %d: %v", step.name, id, err)
		}
		p.await(t, 200) // without it
		meanwhile := fmt.Sprintf("during-%v-%v", step.leader, step.kill)
		admin := kadm.NewClient(client(t, c.Bootstrap()))
		if res, err := admin.CreateTopic(within(t, time.Minute), 1, 3, nil, meanwhile); err != nil || res.Err != nil {
			t.Errorf("%s: create a topic meanwhile: %v %v", step.name, err, res.Err)
		}
		m.Start()
		p.await(t, 100)
		inSync(t, c, topic, meanwhile)
		if _, ok := mustMetadata(t, m).Topics[meanwhile]; !ok {
			t.Errorf("%s: node %d does not know what was created while it was away", step.name, id)
		}
	}
	p.stop(t)
	p.verify(t, c)
	imagesEqual(t, c)
	c.Start() // after a kill of all
	p.verify(t, c)
	inSync(t, c, topic)
	stopAndCompare(t, c, map[string]int{topic: -1})
}

// A leader whose followers do not move acknowledges nothing: when it is killed, and they are before they have read what it sent them,
// they go on without it, and nothing that was acknowledged is missing.
func TestAcksNeedReplicas(t *testing.T) {
	t.Parallel()
	c := started(t)
	const topic, partitions = "needed", 3
	create(t, c, partitions, topic)
	p := newProducer(t, c.Bootstrap(), topic, partitions)
	for i := range 3 {
		p.await(t, 200)
		inSync(t, c, topic)
		d, err := partition(within(t, 10*time.Second), c.Members[i], topic, int32(i))
		if err != nil {
			t.Fatal(err)
		}
		leader := c.Member(int(d.Leader))
		others := slices.DeleteFunc(slices.Clone(c.Members), func(m *node.Member) bool { return m == leader })
		for _, m := range others {
			m.Freeze()
		}
		time.Sleep(300 * time.Millisecond)
		for _, m := range others {
			m.Kill()
		}
		leader.Kill()
		for _, m := range others {
			m.Launch()
		}
		for _, m := range others {
			if err := m.AwaitServing(); err != nil {
				t.Fatal(err)
			}
		}
		p.await(t, 2000) // more than were on their way
		leader.Start()
	}
	inSync(t, c, topic)
	p.stop(t)
	p.verify(t, c)
	stopAndCompare(t, c, map[string]int{topic: -1})
}

func mustMetadata(t *testing.T, m *node.Member) kadm.Metadata {
	t.Helper()
	meta, err := m.Metadata(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

// producer sends numbered records with acks=all, one batch after another, until it is stopped, and keeps what was acknowledged.
type producer struct {
	topic   string
	client  *kgo.Client
	ended   sync.WaitGroup
	stopped chan struct{}
	count   atomic.Int64

	mu     sync.Mutex
	values []map[int64]string // by offset, of each partition
	sent   []int64
	err    error
}

func newProducer(t *testing.T, addrs []string, topic string, partitions int, opts ...kgo.Opt) *producer {
	t.Helper()
	p := &producer{topic: topic, stopped: make(chan struct{}), sent: make([]int64, partitions)}
	p.client = client(t, addrs, append([]kgo.Opt{kgo.RequiredAcks(kgo.AllISRAcks()), kgo.MaxBufferedRecords(1000), kgo.ProducerLinger(time.Millisecond)}, opts...)...)
	for range partitions {
		p.values = append(p.values, map[int64]string{})
	}
	ctx := within(t, 10*time.Minute)
	for i := range partitions {
		p.ended.Go(func() {
			for n := int64(0); ; n++ {
				select {
				case <-p.stopped:
					return
				default:
				}
				value := fmt.Sprintf("record %d of partition %d of %s", n, i, topic)
				p.mu.Lock()
				p.sent[i] = n + 1
				p.mu.Unlock()
				p.client.Produce(ctx, &kgo.Record{Topic: topic, Partition: int32(i), Value: []byte(value)}, p.ack)
				if n%20 == 0 {
					time.Sleep(5 * time.Millisecond) // there is more to see than how fast it is
				}
			}
		})
	}
	return p
}

func (p *producer) ack(r *kgo.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.note(fmt.Errorf("produce to %s/%d: %w", p.topic, r.Partition, err))
	default:
		if old, ok := p.values[r.Partition][r.Offset]; ok {
			p.note(fmt.Errorf("%s/%d: offset %d was acknowledged for %q and for %q", p.topic, r.Partition, r.Offset, old, r.Value))
		}
		p.values[r.Partition][r.Offset] = string(r.Value)
		p.count.Add(1)
	}
}

func (p *producer) note(err error) {
	if p.err == nil {
		p.err = err
	}
}

// await waits for n more acks.
func (p *producer) await(t *testing.T, n int64) {
	t.Helper()
	enough := p.count.Load() + n
	for end := time.Now().Add(node.Patience); p.count.Load() < enough; time.Sleep(2 * time.Millisecond) {
		p.mu.Lock()
		err := p.err
		p.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %d of %d more records were acknowledged within %v", p.topic, n-(enough-p.count.Load()), n, node.Patience)
		}
	}
}

func (p *producer) stop(t *testing.T) {
	t.Helper()
	close(p.stopped)
	p.ended.Wait()
	if err := p.client.Flush(within(t, 2*time.Minute)); err != nil {
		t.Fatalf("%s: not all records were acknowledged: %v", p.topic, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		t.Fatal(p.err)
	}
}

// verify reads everything: each record that was acknowledged is at its offset, and each that was sent is there once, in order.
func (p *producer) verify(t *testing.T, c *node.Cluster) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	for _, n := range p.sent {
		total += int(n)
	}
	next := make([]int64, len(p.sent))
	for _, r := range consume(t, c.Bootstrap(), p.topic, total) {
		want := fmt.Sprintf("record %d of partition %d of %s", next[r.Partition], r.Partition, p.topic)
		if string(r.Value) != want {
			t.Fatalf("%s/%d: offset %d holds %q, not %q", p.topic, r.Partition, r.Offset, r.Value, want)
		}
		if acked, ok := p.values[r.Partition][r.Offset]; !ok || acked != want {
			t.Fatalf("%s/%d: offset %d holds %q, acknowledged was %q", p.topic, r.Partition, r.Offset, r.Value, acked)
		}
		next[r.Partition]++
	}
	ends, err := kadm.NewClient(client(t, c.Bootstrap())).ListEndOffsets(context.Background(), p.topic)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range p.sent {
		if end, _ := ends.Lookup(p.topic, int32(i)); end.Offset != n {
			t.Errorf("%s/%d ends at offset %d, %d records were sent", p.topic, i, end.Offset, n)
		}
	}
	t.Logf("%s: %d records, each acknowledged and there once, in order", p.topic, total)
}
