package stream

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/peer"
	"chronik/internal/record"
	"chronik/internal/replica"
	"chronik/internal/store"
	"chronik/internal/vfs"
)

// The real stores, replicas and connections, under metadata that the test writes.

// testMeta is a metadata WAL that nothing can happen to; each node sees it through a view that may lag.
type testMeta struct {
	mu    sync.Mutex
	image *metadata.Image // the newest
	views []*view
}

// view is what one node knows.
type view struct {
	metadata.Store // nil: what the nodes do not call here
	m              *testMeta
	mu             sync.Mutex
	bus            *metadata.Bus
	pending        []metadata.Batch
	delay          time.Duration
}

func newTestMeta(brokers int) *testMeta {
	m := &testMeta{image: metadata.Empty()}
	for b := 1; b <= brokers; b++ {
		m.register(kafka.BrokerID(b), 0)
	}
	return m
}

func (m *testMeta) view() *view {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := &view{m: m, bus: metadata.NewBus(m.image, 0)}
	m.views = append(m.views, v)
	return v
}

func (m *testMeta) commitLocked(records ...*pb.Record) {
	image, events := m.image.Apply(m.image.Offset()+1, &pb.Entry{Records: records})
	m.image = image
	for _, v := range m.views {
		v.mu.Lock()
		v.pending = append(v.pending, metadata.Batch{Image: image, Events: events})
		delay := v.delay
		v.mu.Unlock()
		if delay == 0 {
			v.deliver()
		} else {
			time.AfterFunc(delay, v.deliver)
		}
	}
}

// deliver publishes what is pending, in order.
func (v *view) deliver() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, b := range v.pending {
		v.bus.Publish(b)
	}
	v.pending = nil
}

func (v *view) Image() *metadata.Image { return v.bus.Image() }
func (v *view) Subscribe(name string, after metadata.Offset) *metadata.Cursor {
	return v.bus.Subscribe(name, after)
}
func (v *view) Barrier(context.Context) error { v.deliver(); return nil }
func (v *view) WaitApplied(ctx context.Context, o metadata.Offset) error {
	return v.bus.WaitApplied(ctx, o)
}

func (v *view) UpdateISR(ctx context.Context, cmd metadata.UpdateISR) (kafka.PartitionEpoch, error) {
	v.m.mu.Lock()
	p := v.m.image.Partition(cmd.Partition)
	if p.PartitionEpoch != cmd.Base || p.LeaderEpoch != cmd.LeaderEpoch {
		v.m.mu.Unlock()
		return 0, kafka.ErrInvalidUpdateVersion
	}
	var isr []int32
	for _, member := range cmd.ISR {
		if b := v.m.image.Broker(member.Broker); b == nil || b.Epoch != member.Epoch {
			v.m.mu.Unlock()
			return 0, kafka.ErrIneligibleReplica
		}
		isr = append(isr, int32(member.Broker))
	}
	slices.Sort(isr)
	v.m.commitLocked(changeOf(cmd.Partition, func(c *pb.PartitionChanged) { c.Isr = &pb.BrokerList{Ids: isr} }))
	image := v.m.image
	v.m.mu.Unlock()
	return image.Partition(cmd.Partition).PartitionEpoch, v.WaitApplied(ctx, image.Offset())
}

// SetPartitionLeader is what a leader asks for that cannot go on: any other member of the in-sync set, or the next epoch.
func (v *view) SetPartitionLeader(ctx context.Context, cmd metadata.SetPartitionLeader) error {
	v.m.mu.Lock()
	p := v.m.image.Partition(cmd.Partition)
	if p.PartitionEpoch != cmd.Base {
		v.m.mu.Unlock()
		return kafka.ErrInvalidUpdateVersion
	}
	leader := cmd.Leader
	if leader == kafka.NoLeader {
		leader = p.Leader
		for _, b := range p.ISR {
			if b != p.Leader {
				leader = b
				break
			}
		}
	}
	plusOne := int32(leader) + 1
	v.m.commitLocked(changeOf(cmd.Partition, func(c *pb.PartitionChanged) { c.LeaderPlusOne, c.NextLeaderEpoch = &plusOne, true }))
	offset := v.m.image.Offset()
	v.m.mu.Unlock()
	return v.WaitApplied(ctx, offset)
}

func changeOf(id kafka.TopicPartition, set func(*pb.PartitionChanged)) *pb.Record {
	c := &pb.PartitionChanged{TopicId: id.Topic[:], Index: id.Partition}
	set(c)
	return &pb.Record{Reason: "test", Kind: &pb.Record_PartitionChanged{PartitionChanged: c}}
}

func (m *testMeta) register(id kafka.BrokerID, process byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	incarnation, directory := [16]byte{byte(id), process}, [16]byte{byte(id)}
	m.commitLocked(
		&pb.Record{Kind: &pb.Record_BrokerRegistered{BrokerRegistered: &pb.BrokerRegistered{Id: int32(id), Incarnation: incarnation[:], Directory: directory[:]}}},
		&pb.Record{Kind: &pb.Record_LeaderEpochsRaised{LeaderEpochsRaised: &pb.LeaderEpochsRaised{Broker: int32(id)}}})
}

// createTopic makes partitions whose replicas are all brokers; the leaders go round.
func (m *testMeta) createTopic(id kafka.TopicID, name string, partitions int, replicas []int32, config map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &pb.TopicCreated{Name: name, Id: id[:]}
	for key, value := range config {
		t.Config = append(t.Config, &pb.ConfigEntry{Key: key, Value: value})
	}
	for i := range partitions {
		t.Partitions = append(t.Partitions, &pb.Partition{Replicas: replicas, Isr: replicas, LeaderPlusOne: replicas[i%len(replicas)] + 1})
	}
	m.commitLocked(&pb.Record{Kind: &pb.Record_TopicCreated{TopicCreated: t}})
}

// elect makes a member of the in-sync set the leader, unless it is already.
func (m *testMeta) elect(id kafka.TopicPartition, leader kafka.BrokerID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.image.Partition(id); !slices.Contains(p.ISR, leader) || p.Leader == leader {
		return false
	}
	plusOne := int32(leader) + 1
	m.commitLocked(changeOf(id, func(c *pb.PartitionChanged) { c.LeaderPlusOne, c.NextLeaderEpoch = &plusOne, true }))
	return true
}

// fence takes a broker out of the in-sync sets and moves what it leads, where another can do it.
func (m *testMeta) fence(id kafka.BrokerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var records []*pb.Record
	for t := range m.image.Topics() {
		for i := range t.Partitions.Len() {
			p := t.Partitions.At(int32(i))
			tp := kafka.TopicPartition{Topic: t.ID, Partition: int32(i)}
			var isr []int32
			for _, b := range p.ISR {
				if b != id {
					isr = append(isr, int32(b))
				}
			}
			if len(isr) == 0 || len(isr) == len(p.ISR) {
				continue
			}
			records = append(records, changeOf(tp, func(c *pb.PartitionChanged) {
				c.Isr = &pb.BrokerList{Ids: isr}
				if p.Leader == id {
					plusOne := isr[0] + 1
					c.LeaderPlusOne, c.NextLeaderEpoch = &plusOne, true
				}
			}))
		}
	}
	m.commitLocked(records...)
}

func (m *testMeta) partition(id kafka.TopicPartition) *metadata.Partition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.image.Partition(id)
}

// realCluster is nodes of the real packages; net is nil where they use loopback.
type realCluster struct {
	t     testing.TB
	net   *memnet
	meta  *testMeta
	nodes map[kafka.BrokerID]*realNode
	o     Options
	lag   time.Duration
	set   func(*config.Config)
	// compacted: replicas are equal in what they mean only.
	compacted bool
}

type realNode struct {
	c       *realCluster
	id      kafka.BrokerID
	life    byte
	fs      *vfs.Mem // nil: files
	faults  *vfs.Fault
	dir     string
	address string
	up      bool

	epoch   atomic.Int64 // as a broker
	view    *view
	store   *store.Store
	manager *replica.Manager
	peers   *peer.Node
	streams *Streams
	serves  atomic.Pointer[replica.Manager] // nil while it is down; for other goroutines than the test's
}

func newRealCluster(t testing.TB, n int, network *memnet, o Options) *realCluster {
	c := &realCluster{t: t, net: network, meta: newTestMeta(n), nodes: map[kafka.BrokerID]*realNode{}, o: o}
	for id := kafka.BrokerID(1); id <= kafka.BrokerID(n); id++ {
		node := &realNode{c: c, id: id, dir: "/data"}
		if network != nil {
			node.fs = vfs.NewMem(0)
		}
		c.nodes[id] = node
	}
	return c
}

func (c *realCluster) ordered() []*realNode {
	var out []*realNode
	for id := kafka.BrokerID(1); int(id) <= len(c.nodes); id++ {
		out = append(out, c.nodes[id])
	}
	return out
}

func (c *realCluster) start() {
	for _, n := range c.ordered() {
		n.start()
	}
	for _, n := range c.ordered() {
		n.meet()
	}
}

func (c *realCluster) stop() {
	for _, n := range c.ordered() {
		n.stop()
	}
}

func (n *realNode) start() {
	t := n.c.t
	n.life++
	cfg := *config.Default()
	cfg.WALFileBytes, cfg.CheckpointBytes, cfg.WALMaxBytes = 1<<20, 1<<20, 8<<20
	if n.c.set != nil {
		n.c.set(&cfg)
	}
	var fs vfs.FS = vfs.OS{}
	var listener net.Listener
	var dial func(context.Context, string, string) (net.Conn, error)
	var err error
	if n.c.net != nil {
		n.faults = vfs.NewFault(n.fs, clock.System{})
		fs = n.faults
		n.address = address(n.id)
		listener, dial = n.c.net.listen(n.address), n.c.net.dialFrom(n.address)
	} else {
		if n.dir == "/data" {
			n.dir = t.TempDir()
		}
		listener, err = net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n.address = listener.Addr().String()
	}
	logger := testLogger().With("node", n.id)
	n.store, err = store.Open(context.Background(), store.Options{
		FS: fs, Dir: n.dir, NodeID: int32(n.id), Config: &cfg, Clock: clock.System{}, Logger: logger, Fatal: func(error) {},
	})
	if err != nil {
		t.Fatalf("node %d: %v", n.id, err)
	}
	if n.life > 1 {
		n.c.meta.register(n.id, n.life)
	}
	n.view = n.c.meta.view()
	identity := peer.Identity{Broker: n.id, ClusterID: "test", Address: n.address, Directory: [16]byte{byte(n.id)}, Incarnation: [16]byte{byte(n.id), n.life}}
	n.peers, err = peer.New(peer.Options{Self: identity, Listener: listener, Dial: dial, Clock: clock.System{}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	n.epoch.Store(int64(n.view.Image().Broker(n.id).Epoch))
	o := n.c.o
	o.Peers, o.Clock, o.Logger = n.peers, clock.System{}, logger
	o.BrokerEpoch = func() kafka.BrokerEpoch { return kafka.BrokerEpoch(n.epoch.Load()) }
	n.streams = New(o)
	n.manager = replica.NewManager(replica.Options{
		Metadata: n.view, Store: n.store, Broker: n.id, Config: &cfg, Clock: clock.System{}, Logger: logger, Streams: n.streams, LagMax: n.c.lag,
		BrokerEpoch: o.BrokerEpoch,
	})
	n.peers.Start()
	n.streams.Start(n.manager)
	n.manager.Start()
	n.up = true
	n.serves.Store(n.manager)
}

// meet tells everybody that is up of each other.
func (n *realNode) meet() {
	for _, other := range n.c.ordered() {
		if other.up && other != n {
			n.peers.SetPeer(other.id, other.address)
			other.peers.SetPeer(n.id, n.address)
		}
	}
}

func (n *realNode) stop() {
	if !n.up {
		return
	}
	n.up = false
	n.serves.Store(nil)
	n.streams.Close()
	n.manager.Close()
	_ = n.peers.Close()
	_ = n.store.Close()
	n.c.meta.mu.Lock()
	n.c.meta.views = slices.DeleteFunc(n.c.meta.views, func(v *view) bool { return v == n.view })
	n.c.meta.mu.Unlock()
	n.view.bus.Close()
}

// crash kills the process, and cuts the power if rng is not nil.
func (n *realNode) crash(rng *rand.Rand) {
	if !n.up {
		return
	}
	var next *vfs.Mem
	if rng != nil {
		next = n.fs.PowerLoss(rng)
	} else {
		next = n.fs.Kill()
	}
	n.c.net.resetAll(n.address)
	n.stop()
	n.fs = next
}

func (n *realNode) part(id kafka.TopicPartition) *replica.Partition {
	p, err := n.manager.Partition(id)
	if err != nil {
		return nil
	}
	return p
}

// waitLeader waits until a node leads.
func (c *realCluster) waitLeader(id kafka.TopicPartition) (*realNode, *replica.Partition) {
	c.t.Helper()
	for range 20_000 {
		n := c.nodes[c.meta.partition(id).Leader]
		if n != nil && n.up {
			if p := n.part(id); p != nil {
				if _, epoch, led := p.Leader(); led && epoch == c.meta.partition(id).LeaderEpoch {
					return n, p
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
	c.t.Fatalf("partition %s gets no leader: %+v", id, c.meta.partition(id))
	return nil, nil
}

func payload(records, size int, text string) []byte {
	b := record.NewBuilder()
	for i := range records {
		v := append([]byte(text), bytes.Repeat([]byte{byte(i)}, size)...)
		b.Add(1000, []byte(text), v)
	}
	return b.Build()
}

// produce appends with acks=all and waits.
func produce(ctx context.Context, p *replica.Partition, batch []byte) (replica.Appended, error) {
	a, err := p.Append(replica.AppendRequest{Batches: batch, Acks: replica.AcksAll, Origin: record.FromClient, LeaderEpoch: kafka.NoLeaderEpoch, Version: 9})
	if err != nil {
		return a, err
	}
	return a, p.WaitCommitted(ctx, a.LeaderEpoch, a.EndOffset)
}

// content is all that a replica has.
func (n *realNode) content(id kafka.TopicPartition) ([]byte, kafka.Offset, error) {
	p := n.store.Partition(id)
	if p == nil {
		return nil, 0, fmt.Errorf("node %d has no %s", n.id, id)
	}
	var all []byte
	from := p.LogStart()
	for from < p.LogEnd() {
		b, next, err := p.ReadStretch(nil, from, 1<<20, p.LogEnd(), true)
		if err != nil {
			return nil, 0, err
		}
		if next <= from {
			return nil, 0, fmt.Errorf("node %d: nothing at offset %d of %s, which ends at %d", n.id, from, id, p.LogEnd())
		}
		from = next
		all = append(all, b...)
	}
	return all, p.LogStart(), nil
}

// converge waits until all replicas that are up have the same end on their disks and are in sync, and compares every byte.
func (c *realCluster) converge(id kafka.TopicPartition) {
	c.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		if why := c.apart(id); why == "" {
			break
		} else if time.Now().After(deadline) {
			c.t.Fatalf("partition %s does not converge: %s", id, why)
		}
		time.Sleep(5 * time.Millisecond)
	}
	var first []byte
	for _, n := range c.ordered() {
		if !n.up {
			continue
		}
		b, _, err := n.content(id)
		if err != nil {
			c.t.Fatal(err)
		}
		if c.compacted { // each replica compacts by itself
			continue
		}
		if first == nil {
			first = b
		} else if !bytes.Equal(first, b) {
			c.t.Fatalf("partition %s differs on node %d: %d bytes, %d on another", id, n.id, len(b), len(first))
		}
	}
}

func (c *realCluster) apart(id kafka.TopicPartition) string {
	meta := c.meta.partition(id)
	leader := c.nodes[meta.Leader]
	if leader == nil || !leader.up {
		return fmt.Sprintf("leader %d is down", meta.Leader)
	}
	end := leader.store.Partition(id).LogEnd()
	up := 0
	for _, n := range c.ordered() {
		if !n.up {
			continue
		}
		up++
		p := n.store.Partition(id)
		if p == nil {
			return fmt.Sprintf("node %d has none", n.id)
		}
		if p.LogEnd() != end || p.DurableEnd() != end {
			return fmt.Sprintf("node %d ends at %d, durable %d, the leader %d at %d\n%+v\n%+v", n.id, p.LogEnd(), p.DurableEnd(), meta.Leader, end, n.streams.Stats(), leader.streams.Lags())
		}
	}
	if len(meta.ISR) < up {
		return fmt.Sprintf("in sync: %v", meta.ISR)
	}
	for _, n := range c.ordered() {
		if n.up && n.part(id).HighWatermark() != end {
			return fmt.Sprintf("the high watermark on node %d is %d, the log's end %d", n.id, n.part(id).HighWatermark(), end)
		}
	}
	return ""
}

func realID(i int) kafka.TopicPartition {
	return kafka.TopicPartition{Topic: kafka.TopicID{1, 2, 3}, Partition: int32(i)}
}
