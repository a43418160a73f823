package sim

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/store"
)

// imageWatch samples the nodes' images: at one offset there is one image, everywhere and for ever (22), all belong to one
// cluster (26), and a leader epoch belongs to one registration of one broker (4, 24).
type imageWatch struct {
	*cluster
	mu      sync.Mutex
	sums    map[metadata.Offset]uint32
	last    map[int]*metadata.Image // by node: what was looked at already
	id      string
	leaders map[leaderKey]leader
}

type leaderKey struct {
	partition kafka.TopicPartition
	epoch     kafka.LeaderEpoch
}

type leader struct {
	broker kafka.BrokerID
	epoch  kafka.BrokerEpoch
}

func newImageWatch(c *cluster) *imageWatch {
	return &imageWatch{cluster: c, sums: map[metadata.Offset]uint32{}, last: map[int]*metadata.Image{}, leaders: map[leaderKey]leader{}}
}

func (w *imageWatch) sample() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		image := n.image()
		if image == nil || image.Offset() == 0 || image == w.last[n.id] {
			continue
		}
		w.last[n.id] = image
		sum := crc32.ChecksumIEEE(image.EncodeSnapshot())
		before, known := w.sums[image.Offset()]
		if known && before != sum {
			w.fail("invariant 22: node %d has another image at metadata offset %d", n.id, image.Offset())
		}
		w.sums[image.Offset()] = sum
		if id := image.ClusterID(); w.id == "" {
			w.id = id
		} else if id != "" && id != w.id {
			w.fail("invariant 26: node %d belongs to cluster %s, others to %s", n.id, id, w.id)
		}
		if !known {
			w.sampleLeaders(image)
		}
	}
}

func (w *imageWatch) sampleLeaders(image *metadata.Image) {
	for t := range image.Topics() {
		for p := range t.Partitions.All() {
			b := image.Broker(p.Leader)
			if b == nil {
				continue
			}
			key := leaderKey{t.TopicPartition(p.Index), p.LeaderEpoch}
			now := leader{p.Leader, b.Epoch}
			if before, ok := w.leaders[key]; ok && before != now {
				w.fail("invariant 24: leader epoch %d of %s-%d belongs to broker %d of broker epoch %d, and to broker %d of broker epoch %d",
					p.LeaderEpoch, t.Name, p.Index, before.broker, before.epoch, now.broker, now.epoch)
			}
			w.leaders[key] = now
		}
	}
}

// watch samples until done is closed.
func (w *imageWatch) watch(done <-chan struct{}) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			w.sample()
		}
	}
}

// convergeLimit bounds how long a cluster may take after everything healed (23).
const convergeLimit = 90 * time.Second

// converge waits until every node serves, every partition has a leader and a full ISR, and all images are equal.
func (c *cluster) converge(what string) bool {
	began := time.Now()
	for {
		why := c.unconverged()
		if why == "" {
			c.trace.note("converged %s after %v", what, time.Since(began))
			c.mu.Lock()
			c.mu.slowest = max(c.mu.slowest, time.Since(began))
			c.mu.Unlock()
			return true
		}
		if time.Since(began) > convergeLimit {
			c.fail("invariant 23: %v after everything healed (%s): %s", convergeLimit, what, why)
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// unconverged tells what is still missing.
func (c *cluster) unconverged() string {
	var first *metadata.Image
	for _, n := range c.nodes {
		image := n.image()
		if image == nil {
			return fmt.Sprintf("node %d does not serve", n.id)
		}
		for b := range image.Brokers() {
			if b.Fenced {
				return fmt.Sprintf("broker %d is fenced, says node %d", b.ID, n.id)
			}
		}
		for t := range image.Topics() {
			for p := range t.Partitions.All() {
				if p.Leader == kafka.NoLeader || len(p.ISR) != len(p.Replicas) {
					return fmt.Sprintf("partition %s-%d has leader %d and ISR %v of %v, says node %d", t.Name, p.Index, p.Leader, p.ISR, p.Replicas, n.id)
				}
			}
		}
		if first == nil {
			first = image
		} else if image.Offset() != first.Offset() {
			return fmt.Sprintf("node %d is at metadata offset %d, node 1 at %d", n.id, image.Offset(), first.Offset())
		}
	}
	return ""
}

// checkLog reads every partition to its end and compares it with what producers were told (1, 2, 9).
func (w *workload) checkLog() {
	r := w.reader("the last reader", false, nil)
	r.full = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ends := w.lastRecords(ctx)
	if r.client == nil || ends == nil {
		return
	}
	defer r.client.Close()
	for p, end := range ends {
		for r.next[p] < end && ctx.Err() == nil {
			r.poll(ctx)
		}
		if r.next[p] < end {
			w.fail("invariant 23: %s is readable up to offset %d of %d only", p, r.next[p], end)
			return
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(ends), func(a, b partition) int { return int(a.number - b.number) }) {
		w.comparePartition(p, r.values[p])
	}
}

// lastRecords produces one more record to each partition, which shows that all can be written, and returns the offsets
// behind them.
func (w *workload) lastRecords(ctx context.Context) map[partition]int64 {
	ends := map[partition]int64{}
	client, err := w.producerClient()
	if err != nil {
		w.fail("the last producer: %v", err)
		return nil
	}
	defer client.Close()
	for i := range int32(w.plan.partitions) {
		p := partition{topic, i}
		s := &sent{value: fmt.Sprintf("last-%d", i), producer: 99, number: int(i)}
		w.history.sending(p, s)
		offset, err := produceOne(ctx, client, p, s.value)
		if err != nil {
			w.fail("invariant 23: nothing can be produced to %s: %v", p, err)
			return nil
		}
		w.history.acked(p, s, offset)
		ends[p] = offset + 1
	}
	return ends
}

func (w *workload) comparePartition(p partition, log []string) {
	where := map[string]int64{}
	for offset, v := range log {
		if before, ok := where[v]; ok {
			w.fail("invariant 9: record %.30q stands at offsets %d and %d of %s", v, before, offset, p)
		}
		where[v] = int64(offset)
	}
	known := map[string]bool{}
	last := map[int]*sent{} // by producer
	for _, s := range w.history.allSent(p) {
		known[s.value] = true
		offset, ok := where[s.value]
		if s.acked && (!ok || offset != s.offset) {
			w.fail("invariant 1: record %.30q was acknowledged at offset %d of %s, which is %d long, and stands at %d (found %v)", s.value, s.offset, p, len(log), offset, ok)
		}
		if !ok {
			continue
		}
		if before := last[s.producer]; before != nil && where[before.value] > offset {
			w.fail("invariant 9: producer %d sent %.20q after %.20q, but they stand at offsets %d and %d of %s", s.producer, s.value, before.value, offset, where[before.value], p)
		}
		last[s.producer] = s
	}
	for v, offset := range where {
		if !known[v] {
			w.fail("invariant 2: nobody sent %.30q, which stands at offset %d of %s", v, offset, p)
		}
	}
}

// checkMetadata compares topics, configuration and committed offsets with what was acknowledged (15, 21).
func (w *workload) checkMetadata() {
	image := w.nodes[0].image()
	h := w.history
	h.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(h.mu.created)) {
		if image.Topic(name) == nil && !h.mu.unknown[name] {
			w.fail("invariant 21: the creation of topic %s was acknowledged, and it is not there", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.mu.deleted)) {
		if image.Topic(name) != nil {
			w.fail("invariant 21: the deletion of topic %s was acknowledged, and it is there", name)
		}
	}
	h.mu.Unlock()
	client, err := w.client()
	if err != nil {
		return
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	admin := kadm.NewClient(client)
	w.checkConfig(ctx, admin)
	if !w.checkOffset(ctx, admin, w.offsetAcked, 1<<40) {
		w.fail("invariant 23: the offsets of group %s cannot be fetched", groupName)
	}
}

func (w *workload) checkConfig(ctx context.Context, admin *kadm.Client) {
	if w.configAcked == 0 {
		return
	}
	resp, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil || len(resp) != 1 || resp[0].Err != nil {
		w.fail("invariant 23: the configuration of %s cannot be read: %v", topic, err)
		return
	}
	for _, c := range resp[0].Configs {
		if c.Key == configKey && (c.Value == nil || len(*c.Value) != len(configValue(0)) || *c.Value < configValue(w.configAcked)) {
			w.fail("invariant 21: %s was acknowledged as %s and is %v", configKey, configValue(w.configAcked), *c.Value)
		}
	}
}

// checkDisks compares the replicas on the disks of stopped nodes, byte by byte of what a dump shows (5).
func (c *cluster) checkDisks() {
	replicas := map[string]string{}
	holder := map[string]int{}
	for _, n := range c.nodes {
		var out bytes.Buffer
		if err := store.Dump(context.Background(), n.disk, dataDir, &out); err != nil {
			c.fail("the disk of node %d cannot be read: %v", n.id, err)
			continue
		}
		for id, batches := range splitDump(out.String()) {
			if strings.Contains(batches, "problem:") || strings.Contains(batches, "crc ok false") {
				c.fail("invariant 19: the disk of node %d holds partition %s broken: %.300s", n.id, id, batches)
			}
			if c.compacted[id] {
				continue // see checkFolds
			}
			if before, ok := replicas[id]; ok && before != batches {
				c.fail("invariant 5: partition %s differs between nodes %d and %d: %s", id, holder[id], n.id, firstDifference(before, batches))
			}
			replicas[id], holder[id] = batches, n.id
		}
	}
}

// splitDump returns the batches of each partition.
func splitDump(dump string) map[string]string {
	partitions := map[string]string{}
	for i, part := range strings.Split("\n"+dump, "\npartition ") {
		if i == 0 {
			continue // of the node
		}
		id, rest, _ := strings.Cut(part, ":")
		_, batches, _ := strings.Cut(rest, "\n")
		partitions[id] = strings.TrimRight(batches, "\n")
	}
	return partitions
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range x {
		if i >= len(y) || x[i] != y[i] {
			other := "nothing"
			if i < len(y) {
				other = y[i]
			}
			return fmt.Sprintf("%q and %q", x[i], other)
		}
	}
	return fmt.Sprintf("nothing and %q", y[len(x)])
}
