package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

// network joins controllers in one process. It loses what the test tells it to.
type network struct {
	mu    sync.Mutex
	nodes map[uint64]*Controller
	cut   map[uint64]bool
	drop  raftpb.MessageType // not delivered; 0 for none
}

type link struct {
	n    *network
	from uint64
}

func (l link) reach(to uint64) *Controller {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.cut[l.from] || l.n.cut[to] {
		return nil
	}
	return l.n.nodes[to]
}

func (l link) Send(to uint64, message []byte) {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(message, m); err != nil {
		panic(err)
	}
	l.n.mu.Lock()
	dropped := l.n.drop != 0 && m.GetType() == l.n.drop
	l.n.mu.Unlock()
	if c := l.reach(to); c != nil && !dropped {
		_ = c.Receive(message)
	}
}

func (l link) Forward(ctx context.Context, to uint64, command Command) (Answer, error) {
	c := l.reach(to)
	if c == nil {
		return Answer{}, errors.New("connection refused")
	}
	return c.Execute(ctx, command), nil
}

func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

type testCluster struct {
	t       *testing.T
	network *network
	fs      []*vfs.Mem
	nodes   []*Controller
	dirs    [][16]byte
}

func newCluster(t *testing.T) *testCluster {
	c := &testCluster{t: t, network: &network{nodes: map[uint64]*Controller{}, cut: map[uint64]bool{}}}
	for i := range 3 {
		c.dirs = append(c.dirs, [16]byte{byte(i + 1)})
		c.fs = append(c.fs, vfs.NewMem(0))
		c.nodes = append(c.nodes, nil)
	}
	for i := range 3 {
		c.start(i)
	}
	return c
}

func (c *testCluster) id(i int) uint64 { return RaftID(c.dirs[i]) }

func (c *testCluster) start(i int) {
	c.t.Helper()
	node, err := Open(Options{FS: c.fs[i], Dir: "/data/metadata", NodeID: kafka.BrokerID(i + 1), Directory: c.dirs[i], ClusterID: "three",
		voters: c.dirs, tick: 10 * time.Millisecond, SnapshotBytes: 8 << 10, WALFileBytes: 64 << 10, Transport: link{c.network, c.id(i)},
		Logger: slog.New(slog.DiscardHandler), EventsRetained: 16,
		Fatal: func(err error) { c.t.Errorf("node %d: %v", i+1, err) }})
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i] = node
	c.network.set(func() { c.network.nodes[c.id(i)] = node })
}

func (c *testCluster) stop(i int) {
	c.network.set(func() { delete(c.network.nodes, c.id(i)) })
	mustClose(c.t, c.nodes[i])
}

func (c *testCluster) close() {
	for i := range c.nodes {
		c.stop(i)
	}
}

func (c *testCluster) register(i int, incarnation byte) {
	c.t.Helper()
	ctx := within(c.t)
	for {
		_, err := c.nodes[i].RegisterBroker(ctx, metadata.RegisterBroker{ID: kafka.BrokerID(i + 1), Incarnation: [16]byte{incarnation}, Directory: c.dirs[i]})
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			c.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// leader waits until a node that the others can reach knows that it leads.
func (c *testCluster) leader() int {
	c.t.Helper()
	for ctx := within(c.t); ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		for i, node := range c.nodes {
			if !c.network.cut[c.id(i)] && node.leader.Load() == c.id(i) {
				return i
			}
		}
	}
	c.t.Fatal("there is no leader")
	return 0
}

// converge waits until all nodes have the same offset and checks that they have the same image.
func (c *testCluster) converge() {
	c.t.Helper()
	for ctx := within(c.t); ; time.Sleep(10 * time.Millisecond) {
		a, b, d := c.nodes[0].Image(), c.nodes[1].Image(), c.nodes[2].Image()
		if a.Offset() == b.Offset() && b.Offset() == d.Offset() {
			if x, y, z := a.EncodeSnapshot(), b.EncodeSnapshot(), d.EncodeSnapshot(); !bytes.Equal(x, y) || !bytes.Equal(y, z) {
				c.t.Fatalf("the images of offset %d differ", a.Offset())
			}
			return
		}
		if ctx.Err() != nil {
			c.t.Fatalf("the nodes stand at %d, %d and %d", a.Offset(), b.Offset(), d.Offset())
		}
	}
}

func (c *testCluster) create(i int, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return c.nodes[i].CreateTopics(ctx, []metadata.CreateTopic{{Name: name, Partitions: 2, ReplicationFactor: -1}}, false)[0].Err
}

// TestThreeNodes is not this product; it shows that driver, records and snapshots already carry a cluster: forwarded
// commands, loss of the leader with proposals under way, and a node that comes back behind the others' compaction.
func TestThreeNodes(t *testing.T) {
	c := newCluster(t)
	defer c.close()
	for i := range 3 {
		c.register(i, 1)
	}
	var wait sync.WaitGroup
	for i := range 3 {
		wait.Go(func() {
			for k := range 20 {
				name := fmt.Sprintf("a-%d-%d", i, k)
				if err := c.create(i, name); err != nil {
					t.Error(err)
				} else if c.nodes[i].Image().Topic(name) == nil {
					t.Errorf("topic %s is answered and not seen at the node that was asked", name)
				}
			}
		})
	}
	wait.Wait()
	c.converge()
	if p := c.nodes[0].Image().Topic("a-0-0").Partitions.At(0); len(p.Replicas) != 3 || len(p.ISR) != 3 {
		t.Fatalf("with three brokers the default is three replicas: %+v", p)
	}
	// Create at one, see at another after a barrier.
	for i := range 10 {
		name := fmt.Sprint("seen-", i)
		if err := c.create(i%3, name); err != nil {
			t.Fatal(err)
		}
		other := c.nodes[(i+1)%3]
		if err := other.Barrier(within(t)); err != nil || other.Image().Topic(name) == nil {
			t.Fatalf("topic %s is not seen after a barrier: %v", name, err)
		}
	}

	// The leader is cut off with a command under way: its outcome is not known there, and did not happen.
	old := c.leader()
	c.network.set(func() { c.network.cut[c.id(old)] = true })
	lost := make(chan error, 1)
	go func() { lost <- c.create(old, "lost") }()
	next := c.leader()
	for next == old {
		next = c.leader()
	}
	for k := range 200 { // enough for snapshots
		if err := c.create(next, fmt.Sprint("b-", k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-lost; !errors.Is(err, kafka.ErrRequestTimedOut) {
		t.Fatalf("a command at a leader that is cut off: %v", err)
	}
	cursor := c.nodes[old].Subscribe("test", c.nodes[old].Image().Offset())
	defer cursor.Close()
	c.network.set(func() { clear(c.network.cut) })
	c.converge()
	if c.nodes[next].Image().Topic("lost") != nil {
		t.Fatal("the topic of the old leader came to be")
	}
	batch, err := cursor.Next(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := batch.Events[0].(metadata.SnapshotInstalled); !ok {
		t.Fatalf("the node that lags got %T instead of a snapshot", batch.Events[0])
	}

	// It restarts from what was installed.
	c.stop(old)
	c.start(old)
	c.register(old, 2)
	c.converge()

	// A follower is killed and comes back.
	follower := (c.leader() + 1) % 3
	c.network.set(func() { delete(c.network.nodes, c.id(follower)) })
	killed := c.fs[follower].Kill()
	_ = c.nodes[follower].Close()
	if err := c.create(c.leader(), "meanwhile"); err != nil {
		t.Fatal(err)
	}
	c.fs[follower] = killed
	c.start(follower)
	c.converge()
	if c.nodes[follower].Image().Topic("meanwhile") == nil {
		t.Fatal("the follower lacks what happened meanwhile")
	}
}

// TestDecidesNothingBeforeAnEntryOfItsOwn: a leader that cannot yet commit in its term does not know what is committed, and
// decides nothing.
func TestDecidesNothingBeforeAnEntryOfItsOwn(t *testing.T) {
	c := newCluster(t)
	defer c.close()
	c.register(0, 1)
	old := c.leader()
	c.network.set(func() { // the others elect one of them, who hears from nobody that his entries are there
		c.network.drop = raftpb.MsgAppResp
		c.network.cut[c.id(old)] = true
	})
	next := c.leader()
	for next == old {
		next = c.leader()
	}
	if err := c.create(next, "early"); !errors.Is(err, kafka.ErrRequestTimedOut) {
		t.Fatalf("a topic without a quorum: %v", err)
	}
	type seen struct {
		proposals     int
		leading, term uint64
	}
	for _, i := range []int{0, 1, 2} {
		got := make(chan seen, 1)
		l := c.nodes[i].loop
		c.nodes[i].inbox.post(func() { got <- seen{len(l.commands.proposals), l.leading, l.imageTerm} })
		if s := <-got; s.leading != s.term && s.proposals > 0 {
			t.Fatalf("node %d proposed %d entries in term %d, having applied up to term %d", i+1, s.proposals, s.leading, s.term)
		}
	}
	c.network.set(func() {
		c.network.drop = 0
		clear(c.network.cut)
	})
	if err := c.create(next, "late"); err != nil {
		t.Fatal(err)
	}
	c.converge()
	if c.nodes[old].Image().Topic("early") != nil {
		t.Fatal("the topic that was given up before it was decided came to be")
	}
}
