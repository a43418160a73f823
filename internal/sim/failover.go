package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Outage is how long producers waited when a node of three failed, on fake time and with nothing else going on.
type Outage struct {
	Fault    string
	Node     int
	Worst    time.Duration // the longest wait of one record with acks=all
	Failures []string
	Trace    []byte
}

// failovers are the faults whose cost is measured, with what they may cost.
var failovers = []struct {
	kind  faultKind
	limit time.Duration
}{
	{faultKill, time.Second},
	{faultTerminate, time.Second},
	{faultPower, 5 * time.Second},
	{faultPause, 5 * time.Second},
	{faultIsolateAll, 5 * time.Second},
}

// RunFailover has one producer for each of six partitions send one record at a time while a node fails and comes back.
// It must be called in a bubble of testing/synctest.
func RunFailover(seed uint64, kind faultKind, id int) Outage {
	p := &plan{seed: seed, nodes: 3, partitions: 6, syncTime: slices.Repeat([]time.Duration{200 * time.Microsecond}, 3), delayMin: 50 * time.Microsecond, delayMax: 200 * time.Microsecond}
	out := Outage{Fault: kind.String(), Node: id}
	c, err := newCluster(p)
	if err != nil {
		out.Failures = []string{err.Error()}
		return out
	}
	m := &nemesis{cluster: c}
	m.each((*node).start)
	if c.converge("at the start") && c.createTopic() && c.converge("with its topic") {
		out.Worst = m.measure(fault{kind: kind, node: id, lasts: 8 * time.Second})
	}
	c.mu.Lock()
	c.mu.over = true
	c.mu.Unlock()
	m.each(func(n *node) { n.crash(nil, false) })
	c.background.Wait()
	out.Failures, out.Trace = c.failures(), c.trace.bytes()
	return out
}

func (m *nemesis) measure(f fault) (worst time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	var producers sync.WaitGroup
	var mu sync.Mutex
	for i := range int32(m.plan.partitions) {
		producers.Go(func() {
			took := m.produceOn(ctx, partition{topic, i})
			mu.Lock()
			worst = max(worst, took)
			mu.Unlock()
		})
	}
	time.Sleep(2 * time.Second)
	m.trace.note("nemesis: %s n%d for %v", f.kind, f.node, f.lasts)
	end := faultKinds[f.kind].begin(m, f, rand.New(rand.NewPCG(m.plan.seed, 1)))
	time.Sleep(f.lasts)
	m.trace.note("nemesis: end of %s n%d", f.kind, f.node)
	end()
	m.converge("after the fault")
	time.Sleep(3 * time.Second)
	stop()
	producers.Wait()
	return worst
}

// produceOn sends one record after the other until ctx ends, and returns the longest that one took.
func (m *nemesis) produceOn(ctx context.Context, p partition) (worst time.Duration) {
	client, err := m.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.ProduceRequestTimeout(time.Second), kgo.RequestTimeoutOverhead(200*time.Millisecond)) // what the client waits for a dead node by itself
	if err != nil {
		m.fail("producer: %v", err)
		return 0
	}
	defer client.Close()
	for i := 0; ctx.Err() == nil; i++ {
		began := time.Now()
		if _, err := produceOne(context.Background(), client, p, fmt.Sprint(i)); err != nil {
			m.fail("record %d of %s: %v", i, p, err)
		}
		if took := time.Since(began); took > worst {
			worst = took
			if took > 100*time.Millisecond {
				m.trace.note("record %d of %s took %v", i, p, took)
			}
		}
		time.Sleep(30 * time.Millisecond)
	}
	return worst
}
