package stream

import (
	"bytes"
	"context"
	"encoding/binary"
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
	"chronik/internal/record"
	"chronik/internal/replica"
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

	mu     sync.Mutex
	parts  map[kafka.TopicPartition]*fakePart
	sync   time.Duration // what the disk takes
	append time.Duration // what an append by a follower takes
	dirty  map[*fakePart]bool
	work   *sync.Cond
	down   bool
	done   sync.WaitGroup
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
	truncs   int
	resets   int
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
	n.down = false
	n.work = sync.NewCond(&n.mu)
	n.dirty = map[*fakePart]bool{}
	n.mu.Unlock()
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

// disk is group commit: whatever is dirty becomes durable together.
func (n *fakeNode) disk() {
	for {
		n.mu.Lock()
		for len(n.dirty) == 0 && !n.down {
			n.work.Wait()
		}
		if n.down {
			n.mu.Unlock()
			return
		}
		dirty := n.dirty
		n.dirty = map[*fakePart]bool{}
		wait := n.sync
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
		time.Sleep(wait)
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
	}
}

func (n *fakeNode) soil(p *fakePart) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dirty[p] = true
	n.work.Signal()
}

func (n *fakeNode) find(id kafka.TopicPartition) (partition, error) {
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
		p.epochs = append(p.epochs, log.EpochOffset{Epoch: epoch, Offset: p.end})
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

// produce appends a batch as the leader does and returns its end; NoOffset if the partition is not led here.
func (p *fakePart) produce(records int, size int) kafka.Offset {
	b := record.NewBuilder()
	for i := range records {
		b.Add(1, nil, binary.LittleEndian.AppendUint64(make([]byte, max(size-8, 0), size+8), uint64(i)))
	}
	batch := record.Batch(b.Build())
	p.mu.Lock()
	if !p.led {
		p.mu.Unlock()
		return kafka.NoOffset
	}
	batch.SetBaseOffset(p.end)
	batch.SetLeaderEpoch(p.epoch)
	p.batches = append(p.batches, fakeBatch{p.end, batch.NextOffset(), p.epoch, batch})
	p.end = batch.NextOffset()
	end := p.end
	p.mu.Unlock()
	p.n.streams.appended(p.id, len(batch))
	p.n.soil(p)
	return end
}

// committed waits for the watermark; false if leadership ended.
func (p *fakePart) committed(end kafka.Offset) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	epoch := p.epoch
	for p.hw < end {
		if !p.led || p.epoch != epoch {
			return false
		}
		p.change.Wait()
	}
	return true
}

// advanceLocked moves the watermark: what all replicas have on their disks.
func (p *fakePart) advanceLocked() {
	if !p.led {
		return
	}
	hw := p.durable
	for _, r := range p.replicas {
		if r != p.n.id {
			hw = min(hw, p.acked[r])
		}
	}
	if hw > p.hw {
		p.hw = hw
		p.change.Broadcast()
		p.n.streams.watermark(p.id)
	}
}

func (p *fakePart) lastEpochLocked() kafka.LeaderEpoch {
	if len(p.batches) == 0 {
		return kafka.NoLeaderEpoch
	}
	return p.batches[len(p.batches)-1].epoch
}

// endOfLocked is the end of the largest epoch not above the one asked for.
func (p *fakePart) endOfLocked(epoch kafka.LeaderEpoch) replica.EpochEnd {
	e := replica.EpochEnd{Epoch: kafka.NoLeaderEpoch, End: p.logStart}
	for _, b := range p.batches {
		if b.epoch <= epoch {
			e = replica.EpochEnd{Epoch: b.epoch, End: b.next}
		}
	}
	for i, x := range p.epochs { // an epoch of which nothing is left ends where the next begins
		if x.Epoch <= epoch && x.Epoch > e.Epoch {
			end := p.end
			if i+1 < len(p.epochs) {
				end = p.epochs[i+1].Offset
			}
			e = replica.EpochEnd{Epoch: x.Epoch, End: min(end, p.end)}
		}
	}
	return e
}

func (p *fakePart) cutLocked(end kafka.Offset) {
	for len(p.batches) > 0 && p.batches[len(p.batches)-1].next > end {
		p.batches = p.batches[:len(p.batches)-1]
	}
	p.end = p.logStart
	if n := len(p.batches); n > 0 {
		p.end = p.batches[n-1].next
	}
	for len(p.epochs) > 0 && p.epochs[len(p.epochs)-1].Offset > p.end {
		p.epochs = p.epochs[:len(p.epochs)-1]
	}
	p.durable = min(p.durable, p.end)
	p.cuts++
}

func (p *fakePart) ID() kafka.TopicPartition { return p.id }
func (p *fakePart) Topic() string            { return "topic" }

func (p *fakePart) follow(r replica.FollowRequest) decision {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := decision{}
	d.LeaderEpoch = p.epoch
	switch {
	case r.LeaderEpoch > p.epoch:
		d.Action = replica.FollowPark
	case r.LeaderEpoch < p.epoch || !p.led:
		d.Err = kafka.ErrFencedLeaderEpoch
	case r.LogEnd < p.logStart:
		d.Action, d.Reset = replica.FollowReset, replica.Reset{Offset: p.logStart, Producers: []byte("snapshot")}
	default:
		at := p.endOfLocked(r.LastEpoch)
		if r.LastEpoch == kafka.NoLeaderEpoch && r.LogEnd == p.logStart || at.Epoch == r.LastEpoch && at.End >= r.LogEnd {
			s := &fakeSession{p, r.Follower, r.LeaderEpoch}
			p.sessions[r.Follower] = s
			p.acked[r.Follower] = kafka.NoOffset
			d.Action, d.From, d.session = replica.FollowStream, r.LogEnd, s
			break
		}
		d.Action, d.Truncate = replica.FollowTruncate, at
	}
	return d
}

func (p *fakePart) read(s session, dst []byte, from kafka.Offset, maxBytes int) (replica.Stretch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := s.(*fakeSession)
	if p.sessions[f.follower] != f || !p.led || p.epoch != f.epoch {
		return replica.Stretch{}, kafka.ErrNotLeaderOrFollower
	}
	out := replica.Stretch{Records: dst, Next: from, HighWatermark: p.hw, LogStart: p.logStart, LogEnd: p.end}
	at, _ := slices.BinarySearchFunc(p.batches, from, func(b fakeBatch, o kafka.Offset) int { return int(b.base - o) })
	n := 0
	for _, b := range p.batches[at:] {
		if n > 0 && n+len(b.bytes) > maxBytes {
			break
		}
		n += len(b.bytes)
		out.Records = append(out.Records, b.bytes...)
		out.Next = b.next
	}
	return out, nil
}

func (s *fakeSession) Acked(durable, _ kafka.Offset) error {
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.follower] != s {
		return nil
	}
	if durable > p.end {
		return kafka.ErrInvalidRequest
	}
	p.acked[s.follower] = max(p.acked[s.follower], durable)
	p.advanceLocked()
	return nil
}

func (s *fakeSession) Close() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if s.p.sessions[s.follower] == s {
		delete(s.p.sessions, s.follower)
	}
}

func (p *fakePart) followsLocked(epoch kafka.LeaderEpoch) error {
	if p.led || p.epoch != epoch || p.n.isDown() {
		return kafka.ErrNotLeaderOrFollower
	}
	return nil
}

func (p *fakePart) FollowPosition(epoch kafka.LeaderEpoch) (replica.FollowPosition, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return replica.FollowPosition{LogEnd: p.end, LastEpoch: p.lastEpochLocked(), Durable: p.durable, LogStart: p.logStart}, p.followsLocked(epoch)
}

func (p *fakePart) AckPosition(epoch kafka.LeaderEpoch) (durable, logStart kafka.Offset, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.durable, p.logStart, p.followsLocked(epoch)
}

func (p *fakePart) AppendFollower(epoch kafka.LeaderEpoch, base kafka.Offset, batches []byte, hw, _ kafka.Offset) error {
	if d := p.n.append; d > 0 {
		time.Sleep(d)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	if p.refuse != nil {
		return p.refuse
	}
	if base != p.end {
		return fmt.Errorf("append at %d, the log ends at %d: %w", base, p.end, log.ErrNotAtEnd)
	}
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			return err
		}
		if !b.VerifyCRC() || b.BaseOffset() != p.end {
			return fmt.Errorf("a broken batch at %d", p.end)
		}
		p.batches = append(p.batches, fakeBatch{b.BaseOffset(), b.NextOffset(), b.LeaderEpoch(), bytes.Clone(b)})
		p.end = b.NextOffset()
		batches = rest
	}
	p.hw = max(p.hw, min(hw, p.end))
	p.n.soil(p)
	return nil
}

func (p *fakePart) FollowerWatermark(epoch kafka.LeaderEpoch, hw, _ kafka.Offset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	p.hw = max(p.hw, min(hw, p.end))
	p.change.Broadcast()
	return nil
}

func (p *fakePart) TruncateFollower(_ context.Context, epoch kafka.LeaderEpoch, to replica.EpochEnd) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	p.truncs++
	end := min(to.End, p.endOfLocked(to.Epoch).End)
	if end < p.hw {
		return fmt.Errorf("a cut to %d below the high watermark %d", end, p.hw)
	}
	p.cutLocked(end)
	return nil
}

func (p *fakePart) ResetFollower(_ context.Context, epoch kafka.LeaderEpoch, r replica.Reset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.followsLocked(epoch); err != nil {
		return err
	}
	p.resets++
	p.batches, p.epochs = nil, nil
	p.logStart, p.end, p.durable = r.Offset, r.Offset, r.Offset
	p.cuts++
	return nil
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
