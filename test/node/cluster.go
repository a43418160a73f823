package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/nodes"
)

// Patience is how long a cluster's nodes may take for what they are waited for, on a machine that does much else.
const Patience = 60 * time.Second

// Cluster is a set of nodes that form one cluster, as processes on free loopback ports. Its methods are for the test's
// goroutine; a Member's may be called from one goroutine each.
type Cluster struct {
	Dir     string
	Members []*Member // by ID, from 1

	t testing.TB
}

// Member is one node of a Cluster over its restarts. Its addresses stay.
type Member struct {
	nodes.Node
	Bin string
	Env []string

	t  testing.TB
	mu struct {
		sync.Mutex
		log     strings.Builder
		process *nodes.Process // the one that runs, or ran last; nil before the first
		frozen  bool
	}
}

// NewCluster lays out n nodes in a directory of the test, with KEY=VALUE settings for all; Start runs them. At the end
// of the test they are killed, and their logs are shown if it failed.
func NewCluster(t testing.TB, n int, set ...string) *Cluster {
	t.Helper()
	return NewClusterIn(t, t.TempDir(), n, set...)
}

// NewClusterIn is NewCluster in a given directory, which may hold the nodes' data already.
func NewClusterIn(t testing.TB, dir string, n int, set ...string) *Cluster {
	t.Helper()
	c := &Cluster{Dir: dir, t: t}
	bin := Binary(t)
	laid, err := nodes.Lay(nodes.Plan{Dir: dir, Nodes: n, Set: set})
	if err != nil {
		t.Fatal(err)
	}
	for _, laidNode := range laid {
		c.Members = append(c.Members, &Member{Node: laidNode, Bin: bin, t: t})
	}
	t.Cleanup(func() {
		for _, m := range c.Members {
			m.Kill()
		}
		if t.Failed() {
			for _, m := range c.Members {
				t.Logf("log of node %d:\n%s", m.ID, m.Log())
			}
		}
	})
	return c
}

// Member is the node of that ID.
func (c *Cluster) Member(id int) *Member { return c.Members[id-1] }

// Bootstrap is the Kafka address of every node.
func (c *Cluster) Bootstrap() []string {
	var addrs []string
	for _, m := range c.Members {
		addrs = append(addrs, m.Kafka)
	}
	return addrs
}

// Start launches all nodes that do not run and returns once they serve and every one of them knows that all are up.
func (c *Cluster) Start() {
	c.t.Helper()
	for _, m := range c.Members {
		if !m.Running() {
			m.Launch()
		}
	}
	for _, m := range c.Members {
		if err := m.AwaitServing(); err != nil {
			c.t.Fatal(err)
		}
	}
	c.WaitUp(len(c.Members))
}

// Stop ends all nodes with SIGTERM, all at once, and reports how they exited.
func (c *Cluster) Stop() error {
	errs := make([]error, len(c.Members))
	var group sync.WaitGroup
	for i, m := range c.Members {
		group.Go(func() { errs[i] = m.Stop() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// Kill ends all nodes with SIGKILL, as near to one instant as can be.
func (c *Cluster) Kill() {
	for _, m := range c.Members {
		m.signal(syscall.SIGKILL)
	}
	for _, m := range c.Members {
		m.Kill()
	}
}

// Alive are the nodes that run and are not frozen.
func (c *Cluster) Alive() []*Member {
	var alive []*Member
	for _, m := range c.Members {
		if m.Running() && !m.Frozen() {
			alive = append(alive, m)
		}
	}
	return alive
}

// WaitUp returns once each node that runs tells clients of n brokers, which are those that are not fenced.
func (c *Cluster) WaitUp(n int) {
	c.t.Helper()
	c.Eventually(fmt.Sprintf("every node knows %d brokers that are up", n), func(ctx context.Context) error {
		for _, m := range c.Alive() {
			meta, err := m.Metadata(ctx)
			if err != nil {
				return err
			}
			if len(meta.Brokers) != n {
				return fmt.Errorf("node %d knows brokers %v", m.ID, meta.Brokers.NodeIDs())
			}
		}
		return nil
	})
}

// Eventually tries until check gives nil, for Patience at most; each try has some seconds.
func (c *Cluster) Eventually(what string, check func(context.Context) error) {
	c.t.Helper()
	end := time.Now().Add(Patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := check(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("not within %v: %s: %v", Patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Metadata is what the node itself answers to a Metadata request: brokers, controller and the topics, or all of them.
func (m *Member) Metadata(ctx context.Context, topics ...string) (kadm.Metadata, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(m.Kafka), kgo.RequestRetries(0), kgo.DialTimeout(time.Second))
	if err != nil {
		return kadm.Metadata{}, err
	}
	defer client.Close()
	meta, err := kadm.NewClient(client).Metadata(ctx, topics...)
	if err != nil {
		return meta, fmt.Errorf("metadata of node %d: %w", m.ID, err)
	}
	return meta, nil
}

// Launch starts the node's process and returns at once; AwaitServing waits for it.
func (m *Member) Launch() {
	m.t.Helper()
	p, err := nodes.Start(nodes.Command{Binary: m.Bin, Node: m.Node, Env: m.Env, Orphan: syscall.SIGKILL, Line: m.print})
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.process, m.mu.frozen = p, false
}

// Start launches the node and returns once it serves.
func (m *Member) Start() {
	m.t.Helper()
	m.Launch()
	if err := m.AwaitServing(); err != nil {
		m.t.Fatal(err)
	}
}

// AwaitServing returns once the node says that it serves; the error tells what it does instead.
func (m *Member) AwaitServing() error { return m.process().AwaitServing(Patience) }

// Running tells whether the node's process is there; a frozen one is.
func (m *Member) Running() bool {
	p := m.process()
	if p == nil {
		return false
	}
	select {
	case <-p.Ended():
		return false
	default:
		return true
	}
}

// Pid is that of the process that runs, or ran last.
func (m *Member) Pid() int { return m.process().Pid() }

// Kill ends the node with SIGKILL, if it runs, frozen or not, and returns once it is gone.
func (m *Member) Kill() {
	if p := m.process(); p != nil {
		p.Kill()
	}
}

// Stop ends the node with SIGTERM, if it runs, and reports how it exited.
func (m *Member) Stop() error {
	if p := m.process(); p != nil {
		return p.Stop(Patience)
	}
	return nil
}

// Wait returns once the process has ended by itself, with its exit code.
func (m *Member) Wait(ctx context.Context) (int, error) {
	p := m.process()
	select {
	case <-p.Ended():
		return p.ExitCode(), nil
	case <-ctx.Done():
		return -1, ctx.Err()
	}
}

// Restart kills the node and starts it again.
func (m *Member) Restart() {
	m.t.Helper()
	m.Kill()
	m.Start()
}

// Freeze stops the process where it is (SIGSTOP) and returns once it runs no more.
func (m *Member) Freeze() {
	m.t.Helper()
	if err := m.process().Freeze(); err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.frozen = true
}

// Thaw lets a frozen process go on (SIGCONT).
func (m *Member) Thaw() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.process.Thaw()
	m.mu.frozen = false
}

// Frozen tells whether the process was frozen last.
func (m *Member) Frozen() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.frozen
}

// Log is what the node's processes printed so far.
func (m *Member) Log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.log.String()
}

func (m *Member) process() *nodes.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.process
}

func (m *Member) signal(s syscall.Signal) {
	if p := m.process(); p != nil {
		p.Signal(s)
	}
}

func (m *Member) print(line string, _ bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.log.Len() < 1<<20 {
		m.mu.log.WriteString(time.Now().Format("15:04:05.000 "))
		m.mu.log.WriteString(line)
		m.mu.log.WriteByte('\n')
	}
}
