package stream

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/peer"
)

// A model of package replica, small enough to be seen through: logs in memory, a disk that takes its time, the watermark
// over all replicas.

type fakeCluster struct {
	t     *testing.T
	net   *memnet
	nodes map[kafka.BrokerID]*fakeNode
	o     Options
}

type fakeNode struct {
	c       *fakeCluster
	id      kafka.BrokerID
	life    int
	peers   *peer.Node
	streams *Streams

	mu      sync.Mutex
	parts   map[kafka.TopicPartition]*fakePart
	sync    time.Duration // what the disk takes
	append  time.Duration // what an append by a follower takes
	finding time.Duration // what it takes to find a partition
	dirty   map[*fakePart]bool
	wanted  bool // the disk is to take what is dirty
	busy    bool // it syncs, or a committer does
	groups  int
	work    *sync.Cond
	down    bool
	dead    chan struct{}
	done    sync.WaitGroup
}

type fakeBatch struct {
	base, next kafka.Offset
	epoch      kafka.LeaderEpoch
	bytes      []byte
}

type fakePart struct {
	n  *fakeNode
	id kafka.TopicPartition

	mu       sync.Mutex
	change   *sync.Cond
	batches  []fakeBatch
	epochs   []log.EpochOffset
	end      kafka.Offset
	logStart kafka.Offset
	durable  kafka.Offset
	cuts     int
	hw       kafka.Offset
	epoch    kafka.LeaderEpoch
	leader   kafka.BrokerID
	led      bool
	replicas []kafka.BrokerID
	acked    map[kafka.BrokerID]kafka.Offset
	sessions map[kafka.BrokerID]*fakeSession
	refuse   error // of appends by a follower
	stubborn bool  // a cut does nothing
	truncs   int
	resets   int
	linger   time.Duration // between what FollowPosition has seen and its return
	pause    time.Duration // of AppendFollower, between the append and what it does next
}

type fakeSession struct {
	p        *fakePart
	follower kafka.BrokerID
	epoch    kafka.LeaderEpoch
}

func testLogger() *slog.Logger {
	if os.Getenv("STREAM_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func newFakeCluster(t *testing.T, n int, o Options) *fakeCluster {
	c := &fakeCluster{t: t, net: newMemnet(), nodes: map[kafka.BrokerID]*fakeNode{}, o: o}
	for id := kafka.BrokerID(1); id <= kafka.BrokerID(n); id++ {
		c.nodes[id] = &fakeNode{c: c, id: id, parts: map[kafka.TopicPartition]*fakePart{}}
	}
	for _, node := range c.ordered() {
		node.start()
	}
	t.Cleanup(c.close)
	return c
}

func (c *fakeCluster) ordered() []*fakeNode {
	var out []*fakeNode
	for id := kafka.BrokerID(1); int(id) <= len(c.nodes); id++ {
		out = append(out, c.nodes[id])
	}
	return out
}

func (c *fakeCluster) close() {
	for _, n := range c.ordered() {
		n.stop()
	}
}

func address(id kafka.BrokerID) string { return fmt.Sprintf("node-%d", id) }

func (n *fakeNode) start() {
	n.life++
	identity := peer.Identity{Broker: n.id, ClusterID: "test", Address: address(n.id)}
	identity.Directory[0] = byte(n.id)
	identity.Incarnation[0], identity.Incarnation[1] = byte(n.id), byte(n.life)
	peers, err := peer.New(peer.Options{
		Self: identity, Listener: n.c.net.listen(address(n.id)), Dial: n.c.net.dialFrom(address(n.id)), Clock: clock.System{},
		Logger: testLogger().With("node", n.id),
	})
	if err != nil {
		n.c.t.Fatal(err)
	}
	o := n.c.o
	o.Clock = clock.System{}
	o.Peers = peers
	o.Logger = testLogger().With("node", n.id)
	life := n.life
	o.BrokerEpoch = func() kafka.BrokerEpoch { return kafka.BrokerEpoch(life) }
	n.mu.Lock()
	n.down, n.dead = false, make(chan struct{})
	n.wanted, n.busy = false, false
	n.work = sync.NewCond(&n.mu)
	n.dirty = map[*fakePart]bool{}
	n.mu.Unlock()
	for _, p := range n.all() { // a recovery syncs what it finds
		p.mu.Lock()
		p.durable = p.end
		p.mu.Unlock()
	}
	n.peers = peers
	n.streams = New(o)
	for _, other := range n.c.ordered() {
		peers.SetPeer(other.id, address(other.id))
	}
	peers.Start()
	n.streams.start(n)
	n.done.Go(n.disk)
}

// stop ends the process; what is on the disk stays.
func (n *fakeNode) stop() {
	n.mu.Lock()
	if n.down {
		n.mu.Unlock()
		return
	}
	n.down = true
	close(n.dead)
	n.work.Broadcast()
	n.mu.Unlock()
	n.streams.Close()
	_ = n.peers.Close()
	n.done.Wait()
	for _, p := range n.all() {
		p.mu.Lock()
		p.led = false
		p.leader = kafka.NoLeader
		p.sessions = nil
		p.change.Broadcast()
		p.mu.Unlock()
	}
}

// crash stops, and loses what was not durable.
func (n *fakeNode) crash() {
	n.stop()
	for _, p := range n.all() {
		p.mu.Lock()
		p.cutLocked(p.durable)
		p.mu.Unlock()
	}
}

func (n *fakeNode) all() []*fakePart {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*fakePart
	for _, p := range n.parts {
		out = append(out, p)
	}
	return out
}

func (n *fakeNode) setSync(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sync = d
}

// dawdle has other goroutines run between what this node looks at and what it does then.
func (n *fakeNode) dawdle(draw func() time.Duration) {
	n.mu.Lock()
	n.finding = draw()
	n.mu.Unlock()
	for i := range len(n.all()) {
		p := n.part(partitionID(i))
		p.mu.Lock()
		p.linger, p.pause = draw(), draw()
		p.mu.Unlock()
	}
}

// disk is group commit: whatever is dirty becomes durable together.
func (n *fakeNode) disk() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		for !n.down && (n.busy || !n.wanted) {
			n.work.Wait()
		}
		if n.down {
			return
		}
		n.groupLocked()
	}
}

// commit is the caller's own group commit, unless one is under way or asked for.
func (n *fakeNode) commit() {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case len(n.dirty) == 0 || n.down:
	case n.busy:
		n.wanted = true
	case !n.wanted:
		n.groupLocked()
		n.work.Signal()
	}
}

// groupLocked unlocks meanwhile.
func (n *fakeNode) groupLocked() {
	dirty := n.dirty
	n.dirty, n.wanted, n.busy = map[*fakePart]bool{}, false, true
	n.groups++
	wait, dead := n.sync, n.dead
	n.mu.Unlock()
	type mark struct {
		p    *fakePart
		end  kafka.Offset
		cuts int
	}
	var marks []mark
	for p := range dirty {
		p.mu.Lock()
		marks = append(marks, mark{p, p.end, p.cuts})
		p.mu.Unlock()
	}
	select {
	case <-time.After(wait):
	case <-dead:
		marks = nil // whatever was under way
	}
	for _, m := range marks {
		m.p.mu.Lock()
		if m.p.cuts == m.cuts {
			m.p.durable = max(m.p.durable, m.end)
		}
		led := m.p.led
		m.p.advanceLocked()
		m.p.mu.Unlock()
		if !led {
			n.streams.durable(m.p.id)
		}
	}
	n.mu.Lock()
	n.busy = false
}

// soil takes note of what is to be synced, and asks the disk to, unless the caller commits.
func (n *fakeNode) soil(p *fakePart, want bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dirty[p] = true
	if want {
		n.wanted = true
		n.work.Signal()
	}
}

func (n *fakeNode) find(id kafka.TopicPartition) (partition, error) {
	n.mu.Lock()
	delay := n.finding
	n.mu.Unlock()
	time.Sleep(delay)
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.parts[id]; p != nil {
		return p, nil
	}
	return nil, kafka.ErrUnknownTopicID
}

func partitionID(i int) kafka.TopicPartition {
	id := kafka.TopicPartition{Partition: int32(i)}
	id.Topic[0] = 1
	return id
}

// apply is what the metadata do: the partition is made if it is not there.
func (n *fakeNode) apply(id kafka.TopicPartition, leader kafka.BrokerID, epoch kafka.LeaderEpoch, replicas ...kafka.BrokerID) *fakePart {
	n.mu.Lock()
	p := n.parts[id]
	if p == nil {
		p = &fakePart{n: n, id: id, leader: kafka.NoLeader, epoch: kafka.NoLeaderEpoch}
		p.change = sync.NewCond(&p.mu)
		n.parts[id] = p
	}
	n.mu.Unlock()
	p.mu.Lock()
	p.leader, p.epoch, p.replicas = leader, epoch, replicas
	wasLed := p.led
	p.led = leader == n.id
	p.sessions = map[kafka.BrokerID]*fakeSession{}
	p.acked = map[kafka.BrokerID]kafka.Offset{}
	for _, r := range replicas {
		p.acked[r] = kafka.NoOffset
	}
	if p.led {
		p.beginLocked(epoch, p.end)
		p.advanceLocked()
	}
	led := p.led
	p.change.Broadcast()
	p.mu.Unlock()
	if wasLed {
		n.streams.changed(id)
	}
	switch {
	case led:
		n.streams.unfollow(id)
		n.streams.leads(id)
	case leader == kafka.NoLeader:
		n.streams.unfollow(id)
	default:
		n.streams.follow(p, leader, epoch)
	}
	return p
}

// elect applies a leader on all nodes that are up.
func (c *fakeCluster) elect(id kafka.TopicPartition, leader kafka.BrokerID, epoch kafka.LeaderEpoch, replicas ...kafka.BrokerID) {
	for _, n := range c.ordered() {
		if slices.Contains(replicas, n.id) && !n.isDown() {
			n.apply(id, leader, epoch, replicas...)
		}
	}
}

func (n *fakeNode) isDown() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

func (n *fakeNode) part(id kafka.TopicPartition) *fakePart {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.parts[id]
}

func (p *fakePart) content() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []byte
	for _, b := range p.batches {
		out = append(out, b.bytes...)
	}
	return out
}

// equal fails unless all replicas that are up hold the same bytes.
func (c *fakeCluster) equal(id kafka.TopicPartition) {
	c.t.Helper()
	var first *fakePart
	for _, n := range c.ordered() {
		p := n.part(id)
		if p == nil || n.isDown() {
			continue
		}
		if first == nil {
			first = p
			continue
		}
		if !bytes.Equal(first.content(), p.content()) {
			c.t.Fatalf("partition %s differs: %d bytes on node %d, %d on node %d", id, len(first.content()), first.n.id, len(p.content()), n.id)
		}
	}
}
