package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/nodes"
	"chronik/internal/record"
)

// failoverCluster is what is interrupted: nodes of our own, or others by commands.
type failoverCluster interface {
	bootstrap() []string
	interrupt(ctx context.Context, node int32, kind string) error // kill, pause or stop
	restore(ctx context.Context, node int32) error
	prefer(ctx context.Context, topic string) // gives partitions back to their preferred leaders
	close()
}

func openFailover(ctx context.Context, o *FailoverOptions) (failoverCluster, error) {
	switch {
	case o.Kill == "" && o.Restart == "":
		return startTrio(ctx, o.Binary, o.Dir, o.Set...)
	case o.Kill == "" || o.Restart == "" || len(o.Bootstrap) == 0 || o.Pause > 0 || o.Stop:
		return nil, errors.New("bench failover: --kill and --restart go together, with --bootstrap naming every node, and not with --pause or --stop")
	}
	return &commanded{o}, nil
}

// trio is three nodes on free ports in a directory of their own.
type trio struct {
	binary  string
	dir     string
	laid    []nodes.Node
	running []*nodes.Process
	frozen  bool // the last interruption was a pause
}

// startTrio returns once all three serve.
func startTrio(ctx context.Context, binary, dir string, set ...string) (*trio, error) {
	t := &trio{binary: binary}
	err := t.lay(dir, set...)
	for i := 0; err == nil && i < len(t.laid); i++ {
		err = t.start(i)
	}
	for i := 0; err == nil && i < len(t.running); i++ {
		err = t.running[i].AwaitServing(failoverPatience)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		t.close()
		return nil, fmt.Errorf("bench: %w", err)
	}
	return t, nil
}

// lay makes a directory of the trio's own in dir.
func (t *trio) lay(dir string, set ...string) (err error) {
	if t.dir, err = os.MkdirTemp(dir, "chronik-bench-"); err != nil {
		return err
	}
	t.laid, err = nodes.Lay(nodes.Plan{Dir: t.dir, Nodes: 3, Set: set})
	t.running = make([]*nodes.Process, len(t.laid))
	return err
}

func (t *trio) start(i int) error {
	p, err := nodes.Start(nodes.Command{Binary: t.binary, Node: t.laid[i], Orphan: syscall.SIGKILL})
	if err == nil {
		t.running[i] = p
	}
	return err
}

func (t *trio) bootstrap() []string {
	var addrs []string
	for _, n := range t.laid {
		addrs = append(addrs, n.Kafka)
	}
	return addrs
}

func (t *trio) interrupt(_ context.Context, node int32, kind string) error {
	t.frozen = kind == "pause"
	t.running[node-1].Signal(map[string]syscall.Signal{"kill": syscall.SIGKILL, "pause": syscall.SIGSTOP, "stop": syscall.SIGTERM}[kind])
	return nil
}

func (t *trio) restore(_ context.Context, node int32) error {
	p := t.running[node-1]
	if t.frozen {
		p.Thaw()
		return nil
	}
	<-p.Ended()
	if err := t.start(int(node) - 1); err != nil {
		return err
	}
	return t.running[node-1].AwaitServing(failoverPatience)
}

func (t *trio) prefer(ctx context.Context, topic string) { preferLeaders(ctx, t.bootstrap(), topic) }

func (t *trio) close() {
	for _, p := range t.running {
		if p != nil {
			p.Kill()
		}
	}
	if t.dir != "" {
		_ = os.RemoveAll(t.dir) // scratch
	}
}

// preferLeaders is best effort: without it, the kills go on with the leaders that there are.
func preferLeaders(ctx context.Context, addrs []string, topic string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
	if err != nil {
		return
	}
	defer client.Close()
	set := kadm.TopicsSet{}
	for p := range int32(failoverPartitions) {
		set.Add(topic, p)
	}
	_, _ = kadm.NewClient(client).ElectLeaders(ctx, kadm.ElectPreferredReplica, set)
	_ = sleep(ctx, 100*time.Millisecond)
}

// QuickFailover has franz-go look for a new leader sooner than it does by itself, which is every 5 s at most.
func QuickFailover() []kgo.Opt {
	return []kgo.Opt{
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.DialTimeout(2 * time.Second),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return min(25*time.Millisecond<<min(tries, 5), 500*time.Millisecond) }),
	}
}

// commanded is a cluster that commands interrupt.
type commanded struct{ o *FailoverOptions }

func (c *commanded) bootstrap() []string { return c.o.Bootstrap }

func (c *commanded) interrupt(ctx context.Context, node int32, _ string) error {
	return c.run(ctx, c.o.Kill, node)
}

func (c *commanded) restore(ctx context.Context, node int32) error {
	return c.run(ctx, c.o.Restart, node)
}

func (c *commanded) run(ctx context.Context, command string, node int32) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Env = append(os.Environ(), "NODE="+strconv.Itoa(int(node)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s (NODE=%d): %w: %s", command, node, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (c *commanded) prefer(ctx context.Context, topic string) {
	preferLeaders(ctx, c.o.Bootstrap, topic)
}

func (c *commanded) close() {}

// failoverPartitions: two, so that of three nodes one leads nothing.
const failoverPartitions = 2

// prepare makes the topic and starts the probes.
func (f *failover) prepare(ctx context.Context) error {
	if f.o.Commits {
		return f.prepareCommits(ctx)
	}
	f.topic = fmt.Sprintf("bench-failover-%08x", rand.Uint32())
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cluster.bootstrap()...))
	if err != nil {
		return fmt.Errorf("bench failover: %w", err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, failoverPartitions, 3, nil, f.topic); err != nil {
		return fmt.Errorf("bench failover: create a topic with 3 replicas: %w", err)
	}
	f.watch = watchLeaders(f.topic, f.cluster.bootstrap())
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	for i := range int32(failoverPartitions) {
		p := &probe{topic: f.topic, partition: i, watch: f.watch, ended: make(chan struct{})}
		p.answer = func(response []byte) (int64, error) { return producedAt(response, f.topic) }
		p.produce = p.raw
		closeClient := func() {}
		if f.o.Driver == DriverClient {
			c, err := kgo.NewClient(append(QuickFailover(), kgo.SeedBrokers(f.cluster.bootstrap()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
			if err != nil {
				f.close()
				return fmt.Errorf("bench failover: %w", err)
			}
			p.produce, closeClient = p.client(c), c.Close
		}
		f.probes = append(f.probes, p)
		go func() {
			defer closeClient()
			p.run(running)
		}()
	}
	return nil
}

// verify stops the probes and reads back what they had acknowledged: each record at its offset, with its number.
func (f *failover) verify(ctx context.Context) error {
	if f.o.Commits {
		return f.verifyCommits(ctx)
	}
	f.stop()
	for _, p := range f.probes {
		<-p.ended
	}
	o := Options{Bootstrap: f.cluster.bootstrap(), Topic: f.topic}
	if err := o.Check(); err != nil {
		return err
	}
	t, err := prepare(ctx, &o)
	if err != nil {
		return err
	}
	defer t.admin.Close()
	ends, err := t.ends(ctx)
	if err != nil {
		return err
	}
	var stored int64
	for _, p := range f.probes {
		numbers := map[int64]uint64{}
		r, err := openReader(ctx, t, p.partition, 4<<20, 0)
		if err != nil {
			return err
		}
		for r.next < ends[p.partition] && err == nil {
			_, err = r.fetch(func(b record.Batch) error { return numbersOf(b, numbers) })
		}
		_ = r.conn.Close()
		if err != nil {
			return fmt.Errorf("bench failover: read %s/%d back at offset %d: %w", f.topic, p.partition, r.next, err)
		}
		for _, a := range p.mu.acks {
			if got, ok := numbers[a.offset]; !ok || got != a.number {
				return fmt.Errorf("bench failover: LOST: %s/%d acknowledged record %d at offset %d; there is %d now (the log ends at %d)",
					f.topic, p.partition, a.number, a.offset, got, ends[p.partition])
			}
		}
		stored += int64(len(numbers))
		f.r.Acked += int64(len(p.mu.acks))
	}
	f.r.Verified = fmt.Sprintf("%d acknowledged records, each at its offset (%d stored: attempts whose answer was lost come on top)", f.r.Acked, stored)
	return nil
}

// numbersOf notes each record's number by its offset.
func numbersOf(b record.Batch, numbers map[int64]uint64) error {
	if !b.VerifyCRC() {
		return fmt.Errorf("the batch at offset %d fails its CRC", b.BaseOffset())
	}
	for r, err := range new(record.Codecs).Records(b, 64<<20) {
		if err != nil {
			return err
		}
		if len(r.Value) < 8 {
			return fmt.Errorf("a record of %d bytes at offset %d", len(r.Value), b.BaseOffset())
		}
		numbers[int64(r.Offset)] = binary.BigEndian.Uint64(r.Value)
	}
	return nil
}
