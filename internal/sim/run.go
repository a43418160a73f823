package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Report is what a run has found.
type Report struct {
	Seed     uint64
	Failures []string      // broken invariants; empty if all hold
	Acked    int           // records
	Took     time.Duration // of fake time
	Slowest  time.Duration // convergence after faults healed
	Digest   uint64        // of every delivery and every line of the trace: not every run of a seed has the same
	Plan     uint64        // of the plan, and of what the nemesis did when: every run of a seed has the same
	Trace    []byte
}

// Run carries out the plan of a seed. It must be called in a bubble of testing/synctest.
func Run(seed uint64) Report {
	p := drawPlan(seed)
	c, err := newCluster(p)
	if err != nil {
		return Report{Seed: seed, Failures: []string{err.Error()}}
	}
	for _, f := range p.faults {
		c.trace.note("plan: %s", f)
	}
	began := time.Now()
	w := newWorkload(c, newHistory(c))
	m := &nemesis{cluster: c}
	c.phases(w, m)
	c.mu.Lock()
	c.mu.over = true
	c.mu.Unlock()
	for _, n := range c.nodes { // after a failure some may still run
		n.crash(nil, false)
	}
	c.background.Wait()
	return Report{
		Seed: seed, Failures: c.failures(), Acked: w.acked, Took: time.Since(began), Slowest: c.mu.slowest,
		Digest: c.trace.digest() ^ c.net.Digest(), Plan: m.digest(), Trace: c.trace.bytes(),
	}
}

// powerLosses is how often all nodes lose power at the end of a run: each time something else is under way.
const powerLosses = 5

// phases is the run: safety, healing, more losses of power, and what is there afterwards.
func (c *cluster) phases(w *workload, m *nemesis) {
	m.each((*node).start)
	if !c.converge("at the start") || !c.createTopic() || !w.createCompacted() {
		w.cancel()
		return
	}
	images := newImageWatch(c)
	done := make(chan struct{})
	c.background.Go(func() { images.watch(done) })
	defer close(done)
	w.start()
	g := w.startGroups()
	m.run()
	m.healAll()
	close(g.calm)
	c.converge("after the faults")
	time.Sleep(time.Second)
	if c.plan.corrupts { // the scrub has to come by, and a replica to be made whole
		time.Sleep(15 * time.Second)
		c.converge("after the scrub")
	}
	rng := rand.New(rand.NewPCG(c.plan.seed, 77))
	for range powerLosses {
		time.Sleep(between(rng, 100*time.Millisecond, 700*time.Millisecond))
		c.trace.note("everybody loses power, under load")
		m.powerAll(fault{}, rng)()
		if !c.converge("after the loss of power") {
			break
		}
	}
	w.stop(time.Minute)
	g.settle()
	g.check()
	if len(c.failures()) > 0 {
		return
	}
	w.checkLog()
	w.checkMetadata()
	w.checkCompacted()
	if len(c.failures()) > 0 || !c.converge("at the end") {
		return
	}
	c.noteCompacted(c.nodes[0].image(), c.nodes[0].cfg)
	m.each(func(n *node) { n.stop(20 * time.Second) })
	c.checkDisks()
	c.checkFolds()
}

func (c *cluster) createTopic() bool {
	client, err := c.client()
	if err != nil {
		c.fail("create the topic: %v", err)
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp, err := kadm.NewClient(client).CreateTopic(ctx, int32(c.plan.partitions), 3, nil, topic)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		c.fail("create the topic: %v", err)
	}
	return err == nil
}

func (w *workload) producerClient() (*kgo.Client, error) {
	return w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.UnknownTopicRetries(100))
}

func produceOne(ctx context.Context, client *kgo.Client, p partition, value string) (int64, error) {
	r, err := client.ProduceSync(ctx, &kgo.Record{Topic: p.topic, Partition: p.number, Value: []byte(value)}).First()
	if err != nil {
		return 0, fmt.Errorf("produce: %w", err)
	}
	return r.Offset, nil
}
