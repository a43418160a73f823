package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestChurn kills, freezes, stops and wipes nodes, one or all at a time, and has another one join, in random order and under load.
// What was acknowledged is there in the end, once and in order, and the cluster is whole. It goes on for $CHURN, half a
// minute by default, and repeats the order of $CHURN_SEED.
func TestChurn(t *testing.T) {
	length := 30 * time.Second
	if text := os.Getenv("CHURN"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		t.Skip("real nodes for half a minute")
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("CHURN_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	for _, size := range []int{3, 6} { // five voters, and one that joins
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Logf("CHURN_SEED=%d", seed)
			c := &churn{t: t, rng: rand.New(rand.NewPCG(seed, uint64(size))), cluster: NewCluster(t, size)}
			c.run(length / 2)
		})
	}
}

const churnTopic = "churn"

type churn struct {
	t       *testing.T
	rng     *rand.Rand
	cluster *Cluster
	client  *kgo.Client

	mu    sync.Mutex
	acked map[int32]map[int64]string // by partition and offset
	sent  map[string]bool
}

func (c *churn) run(length time.Duration) {
	t := c.t
	voters := c.cluster.Members
	if len(voters) > 5 {
		voters = voters[:5]
	}
	for _, m := range voters {
		m.Launch()
	}
	for _, m := range voters {
		if err := m.AwaitServing(); err != nil {
			t.Fatal(err)
		}
	}
	c.acked, c.sent = map[int32]map[int64]string{}, map[string]bool{}
	var err error
	c.client, err = kgo.NewClient(kgo.SeedBrokers(c.cluster.Bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(2*time.Minute), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer c.client.Close()
	admin := kadm.NewClient(c.client)
	c.cluster.Eventually("the topic made", func(ctx context.Context) error {
		_, err := admin.CreateTopic(ctx, 6, 3, map[string]*string{"min.insync.replicas": kadm.StringPtr("2")}, churnTopic)
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for p := range int32(6) {
		work.Go(func() { c.produce(ctx, p) })
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(time.Duration(c.rng.Int64N(int64(2 * time.Second))))
		c.nemesis()
	}
	for _, m := range c.cluster.Members {
		if m.Running() && m.Frozen() {
			m.Thaw()
		}
		if !m.Running() {
			m.Start()
		}
	}
	c.cluster.WaitUp(len(c.cluster.Members))
	cancel()
	work.Wait()
	c.whole()
	c.check()
}

// produce sends numbered records to a partition, each when the one before is acknowledged or given up.
func (c *churn) produce(ctx context.Context, p int32) {
	for i := 0; ctx.Err() == nil; i++ {
		value := fmt.Sprintf("%d-%d", p, i)
		c.mu.Lock()
		c.sent[value] = true
		c.mu.Unlock()
		r := &kgo.Record{Topic: churnTopic, Partition: p, Value: []byte(value)}
		if err := c.client.ProduceSync(context.WithoutCancel(ctx), r).FirstErr(); err != nil {
			c.t.Logf("%s: %v", value, err)
			continue
		}
		c.mu.Lock()
		if c.acked[p] == nil {
			c.acked[p] = map[int64]string{}
		}
		c.acked[p][r.Offset] = value
		c.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *churn) logf(format string, args ...any) {
	c.t.Logf(time.Now().Format("15:04:05.000 ")+format, args...)
}

// nemesis does one thing, and what it ended may stay away for a while.
func (c *churn) nemesis() {
	all := c.cluster.Members
	var off []*Member
	for _, m := range all {
		if !m.Running() {
			off = append(off, m)
		}
	}
	m := all[c.rng.IntN(len(all))]
	switch what := c.rng.IntN(9); {
	case !m.Running():
		c.logf("start %d", m.ID)
		m.Start()
	case what == 0:
		c.logf("kill all")
		c.cluster.Kill()
		for _, i := range c.rng.Perm(len(all)) {
			all[i].Launch()
			time.Sleep(time.Duration(c.rng.Int64N(int64(300 * time.Millisecond))))
		}
		for _, m := range all {
			if err := m.AwaitServing(); err != nil {
				c.t.Fatal(err)
			}
		}
	case what == 1:
		c.wipe(m)
	case what <= 3:
		d := time.Duration(c.rng.Int64N(int64(6 * time.Second)))
		c.logf("freeze %d for %v", m.ID, d)
		m.Freeze()
		time.Sleep(d)
		m.Thaw()
	case len(off) >= (len(all)-1)/2:
		c.logf("start %d", off[0].ID)
		off[0].Start()
	case what <= 5:
		c.logf("stop %d", m.ID)
		if err := m.Stop(); err != nil {
			c.t.Errorf("node %d: %v", m.ID, err)
		}
	default:
		c.logf("kill %d", m.ID)
		m.Kill()
	}
}

// wipe takes the disk of a node of a whole cluster, which comes back with an empty one.
func (c *churn) wipe(m *Member) {
	for _, o := range c.cluster.Members {
		if !o.Running() {
			o.Start()
		}
	}
	c.cluster.WaitUp(len(c.cluster.Members))
	c.whole()
	c.logf("wipe %d", m.ID)
	m.Kill()
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "node.toml" {
			if err := os.RemoveAll(filepath.Join(m.Dir, e.Name())); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	m.Start()
	c.cluster.WaitUp(len(c.cluster.Members))
	c.whole()
}

// whole waits until all replicas are in sync, by what every node says.
func (c *churn) whole() {
	c.t.Helper()
	c.cluster.Eventually("all replicas in sync", func(ctx context.Context) error {
		for _, m := range c.cluster.Alive() {
			meta, err := m.Metadata(ctx, churnTopic)
			if err != nil {
				return err
			}
			for _, p := range meta.Topics[churnTopic].Partitions {
				if p.Leader < 0 || len(p.ISR) != 3 || p.Err != nil {
					return fmt.Errorf("node %d: partition %d: leader %d, in sync %v, %v", m.ID, p.Partition, p.Leader, p.ISR, p.Err)
				}
			}
		}
		return nil
	})
}

// check reads everything.
func (c *churn) check() {
	t := c.t
	admin := kadm.NewClient(c.client)
	var ends kadm.ListedOffsets
	c.cluster.Eventually("the end offsets listed", func(ctx context.Context) error {
		var err error
		if ends, err = admin.ListEndOffsets(ctx, churnTopic); err == nil {
			err = ends.Error()
		}
		return err
	})
	from := map[int32]kgo.Offset{}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		from[o.Partition] = kgo.NewOffset().At(0)
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.cluster.Bootstrap()...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{churnTopic: from}))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	got := map[int32]map[int64]string{}
	last := map[int32]int{}
	total := 0
	for len(left) > 0 {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("not all could be read: %v left", left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if got[r.Partition] == nil {
				got[r.Partition] = map[int64]string{}
				last[r.Partition] = -1
			}
			got[r.Partition][r.Offset] = string(r.Value)
			total++
			_, text, _ := strings.Cut(string(r.Value), "-")
			if n, err := strconv.Atoi(text); err != nil || n <= last[r.Partition] || !c.sent[string(r.Value)] {
				t.Errorf("partition %d, offset %d: %s after %d", r.Partition, r.Offset, r.Value, last[r.Partition])
			} else {
				last[r.Partition] = n
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	acked := 0
	for p, values := range c.acked {
		for offset, value := range values {
			acked++
			if got[p][offset] != value {
				t.Errorf("partition %d, offset %d: %q was acknowledged, %q is there", p, offset, value, got[p][offset])
			}
		}
	}
	t.Logf("%d records acknowledged, %d there", acked, total)
	if acked == 0 {
		t.Error("nothing was acknowledged")
	}
}
