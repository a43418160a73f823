package sim

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/config"
	"chronik/internal/sim/simnet"
	"chronik/internal/vfs"
)

// cluster is a run: machines, network, clients, and what is found.
type cluster struct {
	plan  *plan
	net   *simnet.Network
	nodes []*node
	trace *trace
	// compacted are the partitions that every replica compacts by itself, so that they are equal only to who folds them.
	compacted map[string]bool

	background sync.WaitGroup // what later started
	mu         struct {
		sync.Mutex
		failures []string
		over     bool
		clients  int
		slowest  time.Duration // convergence
	}
}

func newCluster(p *plan) (*cluster, error) {
	c := &cluster{plan: p, trace: newTrace()}
	c.trace.alarm = func(line string) { c.fail("invariant 6: %s", line) }
	c.net = simnet.New(simnet.Options{
		Seed: p.seed, DelayMin: p.delayMin, DelayMax: p.delayMax, SlowOneIn: p.slowOneIn, SlowMax: p.slowMax,
	})
	var voters []string
	for id := 1; id <= p.nodes; id++ {
		voters = append(voters, fmt.Sprintf("%d@%s:%d", id, nodeIP(id), clusterPort))
	}
	for id := 1; id <= p.nodes; id++ {
		cfg, err := config.Load(config.Sources{Set: append([]string{
			"data=" + dataDir, "http=", fmt.Sprintf("kafka=%s:%d", nodeIP(id), kafkaPort), fmt.Sprintf("node.id=%d", id),
			"wal.file.bytes=1048576", "wal.max.bytes=8388608", "metadata.wal.file.bytes=1048576", "checkpoint.bytes=1048576",
			"offsets.topic.num.partitions=3", "group.min.session.timeout.ms=1000",
			"group.consumer.min.session.timeout.ms=1000", "group.consumer.session.timeout.ms=3000",
			"group.consumer.min.heartbeat.interval.ms=100", "group.consumer.heartbeat.interval.ms=400",
			"log.cleaner.backoff.ms=200", "log.cleaner.min.cleanable.ratio=0.01", "log.cleaner.min.compaction.lag.ms=2000", "log.cleaner.max.compaction.lag.ms=3000",
			"log.cleaner.delete.retention.ms=5000",
			"cluster.voters=" + strings.Join(voters, ","),
		}, p.set...)})
		if err != nil {
			return nil, err
		}
		g := newGate()
		n := &node{cluster: c, id: id, ip: nodeIP(id), cfg: cfg, gate: g, clock: &nodeClock{gate: g}, turn: make(chan struct{}, 1), disk: vfs.NewMem(0)}
		n.turn <- struct{}{}
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

// clientsMax is how many clients a run has at most.
const clientsMax = 16

func nodeIP(id int) string   { return fmt.Sprintf("10.0.0.%d", id) }
func clientIP(id int) string { return fmt.Sprintf("10.0.1.%d", id) }

// fail notes that an invariant is broken.
func (c *cluster) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.trace.note("VIOLATION: %s", text)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.failures) < 20 {
		c.mu.failures = append(c.mu.failures, text)
	}
}

func (c *cluster) failures() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.failures
}

func (c *cluster) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.over
}

// later runs f after a while, unless the run is over by then.
func (c *cluster) later(d time.Duration, f func()) {
	c.background.Go(func() {
		time.Sleep(d)
		if !c.ended() {
			f()
		}
	})
}

// client makes a Kafka client on a machine of its own.
func (c *cluster) client(opts ...kgo.Opt) (*kgo.Client, error) {
	c.mu.Lock()
	c.mu.clients++
	id := c.mu.clients
	c.mu.Unlock()
	return c.clientOn(c.net.Host(clientIP(id)).Boot(), fmt.Sprintf("client-%d", id), opts...)
}

// clientOn makes a Kafka client in a process.
func (c *cluster) clientOn(process *simnet.Process, name string, opts ...kgo.Opt) (*kgo.Client, error) {
	var seeds []string
	for _, n := range c.nodes {
		seeds = append(seeds, fmt.Sprintf("%s:%d", n.ip, kafkaPort))
	}
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.ClientID(name),
		kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return process.Dial(ctx, network, address)
		}),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(time.Duration(tries)*50*time.Millisecond, time.Second) }),
		kgo.RequestTimeoutOverhead(3 * time.Second), kgo.RetryTimeout(10 * time.Second),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, opts...)...)
}
