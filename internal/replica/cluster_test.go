package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/record"
)

// testCluster is one partition with a replica on each of three nodes, a controller that is a few lines, and streams that
// move when the test says so: all in one goroutine.
type testCluster struct {
	t      fatal
	now    time.Time
	image  *metadata.Image
	meta   *metadata.Partition // as the controller has it
	nodes  []*testReplica      // of broker 1 and so on
	acked  []Appended          // acks=all, answered with success
	sent   []Appended          // acks=all, not answered yet
	values int
	// minInsync is min.insync.replicas.
	minInsync int
	// known is the record at each offset that was below any high watermark.
	known map[kafka.Offset]record.Batch
	// gone are the offsets that any replica's compaction took.
	keys     int
	gone     map[kafka.Offset]bool
	unclean  bool // a leader was elected that was not in sync
	answers  func() error
	writings []string
}

type fatal interface {
	Fatalf(format string, args ...any)
	Helper()
}

// testReplica is a node's replica, and the node's streams.
type testReplica struct {
	c       *testCluster
	id      kafka.BrokerID
	disk    *memDisk
	p       *Partition
	node    *node
	applied *metadata.Partition
	epoch   kafka.BrokerEpoch

	// As a follower.
	leader  kafka.BrokerID
	follows kafka.LeaderEpoch
	session *Session // at the leader; nil: to follow (again)
	next    kafka.Offset
	late    []lateAppend // what was read for it and may come again
}

// lateAppend is something that a leader sent.
type lateAppend struct {
	epoch kafka.LeaderEpoch
	from  kafka.Offset
	Stretch
}

// deliver gives it to a follower.
func (l lateAppend) deliver(p *Partition) error {
	switch {
	case l.Gaps:
		s := log.Stretch{From: l.from, Next: l.Next, Epochs: l.Epochs, Deletes: l.Deletes, Batches: l.Records}
		return p.AppendStretch(l.epoch, &s, l.HighWatermark, l.LogStart)
	case l.Next > l.from:
		return p.AppendFollower(l.epoch, l.from, l.Records, l.HighWatermark, l.LogStart, false)
	}
	return p.FollowerWatermark(l.epoch, l.HighWatermark, l.LogStart)
}

func (r *testReplica) Follow(_ *Partition, leader kafka.BrokerID, epoch kafka.LeaderEpoch) {
	r.leader, r.follows, r.session = leader, epoch, nil
}
func (r *testReplica) Stop(*Partition)                    { r.leader, r.session = kafka.NoLeader, nil }
func (r *testReplica) Lead(*Partition, kafka.LeaderEpoch) {}
func (r *testReplica) Appended(*Partition, int)           {}
func (r *testReplica) Changed(*Partition)                 {}
func (r *testReplica) Watermark(*Partition)               {}
func (r *testReplica) Durable(*Partition)                 {}

// stopped is the clock of the cluster.
type stopped struct {
	clock.System
	c *testCluster
}

func (s stopped) Now() time.Time { return s.c.now }

const testLagMax = 10 * time.Second

func newTestCluster(t fatal, minInsync int32) *testCluster {
	c := &testCluster{t: t, minInsync: int(minInsync), now: time.Unix(1_700_000_000, 0), image: metadata.Empty(), known: map[kafka.Offset]record.Batch{}, gone: map[kafka.Offset]bool{}, keys: 5}
	c.meta = &metadata.Partition{Replicas: []kafka.BrokerID{1, 2, 3}, ISR: []kafka.BrokerID{1, 2, 3}, Leader: 1}
	c.note("created")
	for id := kafka.BrokerID(1); id <= 3; id++ {
		r := &testReplica{c: c, id: id, disk: newMemDisk()}
		c.nodes = append(c.nodes, r)
		r.start(minInsync)
	}
	return c
}

func (c *testCluster) node(id kafka.BrokerID) *testReplica { return c.nodes[id-1] }

// start starts a process on what the disk holds.
func (r *testReplica) start(minInsync int32) {
	c := r.c
	c.image, _ = c.image.Apply(c.image.Offset()+1, &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_BrokerRegistered{
		BrokerRegistered: metadata.BrokerMessage(&metadata.Broker{ID: r.id, Directory: [16]byte{byte(r.id)}, Incarnation: [16]byte{1}}),
	}}}})
	r.epoch = c.image.Broker(r.id).Epoch
	cfg := config.Default().Topic
	cfg.MinInsyncReplicas = minInsync
	r.node = &node{
		broker: r.id, codecs: &codecs, clock: stopped{c: c}, log: slog.New(complaints{c}), streams: r, lagMax: testLagMax,
		background: &background{ctx: context.Background(), done: new(sync.WaitGroup)}, // no workers: the test does the jobs
		metadata:   &testMetadata{updateISR: c.updateISR, setLeader: c.setLeader},
	}
	r.applied = nil
	r.leader, r.session = kafka.NoLeader, nil
	r.p = newPartition(testID, "orders", r.disk, cfg, r.node)
}

// complaints fails the test at what must never happen.
type complaints struct{ c *testCluster }

func (l complaints) Enabled(context.Context, slog.Level) bool { return true }
func (l complaints) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l complaints) WithGroup(string) slog.Handler            { return l }
func (l complaints) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError || r.Level >= slog.LevelWarn && !l.c.unclean {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool { text += fmt.Sprint(" ", a); return true })
		l.c.t.Fatalf("%s\n%s", text, strings.Join(l.c.writings, "\n"))
	}
	return nil
}

func (c *testCluster) note(format string, args ...any) {
	m := c.meta
	c.writings = append(c.writings, fmt.Sprintf(format, args...)+fmt.Sprintf(" | leader %d epoch %d/%d isr %v", m.Leader, m.LeaderEpoch, m.PartitionEpoch, m.ISR))
}

// change makes the controller's next version of the partition.
func (c *testCluster) change(reason string, f func(*metadata.Partition)) {
	next := *c.meta
	f(&next)
	next.PartitionEpoch++
	history := slices.Clone(next.History)
	next.History = append(history, metadata.Change{Leader: next.Leader, LeaderEpoch: next.LeaderEpoch, ISR: next.ISR, Reason: reason})
	next.History = next.History[max(0, len(next.History)-8):]
	c.meta = &next
	c.note("controller: %s", reason)
}

// updateISR decides like the controller.
func (c *testCluster) updateISR(u metadata.UpdateISR) error {
	lost := error(nil)
	if c.answers != nil {
		lost = c.answers()
		if errors.Is(lost, errBefore) {
			return kafka.ErrRequestTimedOut
		}
	}
	switch {
	case u.LeaderEpoch != c.meta.LeaderEpoch:
		return kafka.ErrFencedLeaderEpoch
	case u.Base != c.meta.PartitionEpoch:
		return kafka.ErrInvalidUpdateVersion
	}
	var isr []kafka.BrokerID
	for _, m := range u.ISR {
		if c.image.Broker(m.Broker).Epoch != m.Epoch || c.node(m.Broker).p.damaged.Load() {
			return kafka.ErrIneligibleReplica
		}
		isr = append(isr, m.Broker)
	}
	c.change(u.Reason, func(p *metadata.Partition) { p.ISR = slices.Sorted(slices.Values(isr)) })
	return lost
}

// errBefore: the proposal never reached the controller. errAfter: it did, and the answer was lost.
var errBefore, errAfter = errors.New("before"), kafka.ErrRequestTimedOut

func (c *testCluster) setLeader(s metadata.SetPartitionLeader) error {
	if s.Base != c.meta.PartitionEpoch {
		return kafka.ErrInvalidUpdateVersion
	}
	c.change(s.Reason, func(p *metadata.Partition) { p.Leader, p.LeaderEpoch = s.Leader, p.LeaderEpoch+1 })
	return nil
}

// fence takes a broker out: another leads what it led.
func (c *testCluster) fence(id kafka.BrokerID) {
	c.change(fmt.Sprintf("broker %d fenced", id), func(p *metadata.Partition) {
		if len(p.ISR) > 1 {
			p.ISR = slices.DeleteFunc(slices.Clone(p.ISR), func(b kafka.BrokerID) bool { return b == id })
		}
		if p.Leader == id {
			p.Leader, p.LeaderEpoch = p.ISR[0], p.LeaderEpoch+1
		}
	})
}

// restart loses what is not on the disk, and registers again: what it led gets another epoch.
func (c *testCluster) restart(id kafka.BrokerID, minInsync int32) {
	r := c.node(id)
	for _, other := range c.nodes { // its connections are gone
		if other.session != nil && (other.leader == id || other == r) {
			other.session.Close()
			other.session = nil
		}
	}
	r.p.leave(kafka.ErrNotLeaderOrFollower)
	r.disk.powerLoss()
	r.start(minInsync)
	c.note("broker %d restarts at %d", id, r.disk.LogEnd())
	c.change(fmt.Sprintf("broker %d registered again", id), func(p *metadata.Partition) {
		if p.Leader == id {
			p.LeaderEpoch++
		}
	})
}

// deliver tells a node what the controller has decided.
func (r *testReplica) deliver() {
	r.c.t.Helper()
	if r.applied == r.c.meta {
		return
	}
	r.applied = r.c.meta
	r.node.metadata.(*testMetadata).image = r.c.image
	if err := r.p.apply(context.Background(), r.c.meta); err != nil {
		r.c.t.Fatalf("broker %d applies %+v: %v", r.id, r.c.meta, err)
	}
}

// stream does the next thing that a stream to this follower does, and tells whether there was any.
func (r *testReplica) stream(maxBytes int) bool {
	if r.leader == kafka.NoLeader {
		return false
	}
	ctx, leader := context.Background(), r.c.node(r.leader).p
	if r.session == nil {
		at, err := r.p.FollowPosition(r.follows)
		if err != nil {
			return false
		}
		d := leader.Follow(FollowRequest{Follower: r.id, BrokerEpoch: r.epoch, LeaderEpoch: r.follows, LogEnd: at.LogEnd, LastEpoch: at.LastEpoch})
		r.c.note("%d follows %d in %d from %d/%d: %d %v", r.id, r.leader, r.follows, at.LogEnd, at.LastEpoch, d.Action, d.Err)
		switch d.Action {
		case FollowStream:
			r.session, r.next = d.Session, d.From
		case FollowTruncate:
			r.c.note("  cut to %+v", d.Truncate)
			return r.p.TruncateFollower(ctx, r.follows, d.Truncate) == nil
		case FollowReset:
			r.c.note("  reset to %+v", d.Reset)
			return r.p.ResetFollower(ctx, r.follows, d.Reset) == nil
		default:
			return false
		}
		return true
	}
	st, err := leader.ReadForFollower(r.session, nil, r.next, maxBytes)
	if err != nil {
		r.session.Close()
		r.session = nil
		return true
	}
	late := lateAppend{r.follows, r.next, st}
	if st.Next == r.next {
		before := r.p.HighWatermark()
		_ = late.deliver(r.p)
		return r.p.HighWatermark() != before
	}
	r.late = append(r.late, late)
	if err := late.deliver(r.p); err != nil {
		r.c.note("%d refuses: %v", r.id, err)
		r.session.Close()
		r.session = nil
		return true
	}
	r.next = st.Next
	return true
}

// ack tells the leader what is on the disk.
func (r *testReplica) ack() {
	if r.session == nil {
		return
	}
	if durable, logStart, err := r.p.AckPosition(r.follows); err == nil {
		if err := r.session.Acked(durable, logStart); err != nil {
			r.c.t.Fatalf("broker %d: %v\n%s", r.id, err, strings.Join(r.c.writings, "\n"))
		}
	}
}

// jobs does what the node has to do in the background.
func (r *testReplica) jobs() {
	b := r.node.background
	for {
		b.mu.Lock()
		empty := len(b.mu.urgent)+len(b.mu.queue) == 0
		b.mu.running++
		b.mu.Unlock()
		if empty {
			return
		}
		b.work()
	}
}

// append appends on a node, if it takes it.
func (r *testReplica) append() {
	c := r.c
	c.values++
	b := record.NewBuilder()
	value := fmt.Appendf(nil, "value %d", c.values)
	if c.values%4 == 0 {
		value = nil
	}
	b.Add(c.now.UnixMilli(), fmt.Appendf(nil, "key %d", c.values*c.values%c.keys), value)
	a, err := r.p.Append(AppendRequest{Batches: b.Build(), Acks: AcksAll, LeaderEpoch: kafka.NoLeaderEpoch, Origin: record.FromCoordinator})
	if err == nil {
		c.note("%d appends %d in epoch %d", r.id, a.BaseOffset, a.LeaderEpoch)
		c.sent = append(c.sent, a)
	}
}

// check looks at everything that must hold.
func (c *testCluster) check() {
	c.t.Helper()
	fail := func(format string, args ...any) {
		c.t.Helper()
		c.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(c.writings, "\n"))
	}
	for _, r := range c.nodes {
		high := r.p.HighWatermark()
		if high > r.disk.LogEnd() {
			fail("broker %d has a high watermark of %d and ends at %d", r.id, high, r.disk.LogEnd())
		}
		for o := r.disk.LogStart(); o < high; o++ {
			b := r.disk.at(o)
			if b == nil && c.gone[o] {
				continue
			}
			if known := c.known[o]; known == nil {
				c.known[o] = b
			} else if !bytes.Equal(known, b) && !c.unclean {
				fail("offset %d below the high watermark of broker %d is of epoch %d, it was of epoch %d", o, r.id, b.LeaderEpoch(), known.LeaderEpoch())
			}
		}
	}
	c.sent = slices.DeleteFunc(c.sent, func(a Appended) bool {
		for _, r := range c.nodes {
			if r.p.Acknowledged(AcksAll, a) {
				if b := r.disk.at(a.BaseOffset); b == nil && c.gone[a.BaseOffset] {
					return true // nobody waited for the answer for so long
				} else if b.LeaderEpoch() == a.LeaderEpoch {
					c.acked = append(c.acked, a)
					c.note("acknowledged %d of epoch %d", a.BaseOffset, a.LeaderEpoch)
					if n := c.durableOn(a); n < c.minInsync {
						fail("offset %d of epoch %d was acknowledged with %d replicas that have it on their disks, and min.insync.replicas is %d (invariant 8)",
							a.BaseOffset, a.LeaderEpoch, n, c.minInsync)
					}
					return true
				}
			}
		}
		return false
	})
	if c.unclean {
		return
	}
	for _, a := range c.acked {
		for _, id := range c.meta.ISR { // whoever is elected has it
			r := c.node(id)
			if a.BaseOffset < r.disk.LogStart() {
				continue
			}
			b := r.disk.at(a.BaseOffset)
			if b == nil && c.gone[a.BaseOffset] && r.disk.DurableEnd() > a.BaseOffset {
				continue
			}
			if b == nil || b.LeaderEpoch() != a.LeaderEpoch || r.disk.DurableEnd() <= a.BaseOffset {
				fail("offset %d of epoch %d was acknowledged, and broker %d, in the in-sync set, does not have it on its disk (durable %d)",
					a.BaseOffset, a.LeaderEpoch, id, r.disk.DurableEnd())
			}
		}
	}
}

// durableOn counts the disks that have what was appended.
func (c *testCluster) durableOn(a Appended) int {
	n := 0
	for _, r := range c.nodes {
		if b := r.disk.at(a.BaseOffset); b != nil && b.LeaderEpoch() == a.LeaderEpoch && r.disk.DurableEnd() > a.BaseOffset {
			n++
		}
	}
	return n
}

// settle lets everything happen that can.
func (c *testCluster) settle() {
	for range 200 {
		before := len(c.writings)
		moved := false
		for _, r := range c.nodes {
			high, start := r.p.HighWatermark(), r.disk.LogStart()
			r.deliver()
			for range 100 {
				if !r.stream(1 << 20) {
					break
				}
				moved = true
			}
			r.disk.sync()
			r.ack()
			r.jobs()
			moved = moved || r.p.HighWatermark() != high || r.disk.LogStart() != start
		}
		c.check()
		if !moved && len(c.writings) == before {
			return
		}
	}
	c.t.Fatalf("it never settles\n%s", strings.Join(c.writings, "\n"))
}

// converged demands that all is well again.
func (c *testCluster) converged() {
	c.t.Helper()
	c.answers = nil
	c.settle()
	for range 30 { // proposals that wait to be tried again, replicas that lag
		c.now = c.now.Add(time.Second)
		for _, r := range c.nodes {
			r.p.look(c.now)
		}
		c.settle()
	}
	leader := c.node(c.meta.Leader)
	fail := func(format string, args ...any) {
		c.t.Helper()
		c.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(c.writings, "\n"))
	}
	if len(c.meta.ISR) != 3 {
		fail("in the end the in-sync set is %v", c.meta.ISR)
	}
	for _, r := range c.nodes {
		if r.disk.LogEnd() != leader.disk.LogEnd() || r.p.HighWatermark() != leader.disk.LogEnd() {
			fail("in the end broker %d has offsets to %d and a high watermark of %d, the leader ends at %d", r.id, r.disk.LogEnd(), r.p.HighWatermark(), leader.disk.LogEnd())
		}
		for o := max(r.disk.LogStart(), leader.disk.LogStart()); o < leader.disk.LogEnd(); o++ {
			if !c.gone[o] && !bytes.Equal(r.disk.at(o), leader.disk.at(o)) {
				fail("in the end offset %d is not the same on broker %d and its leader", o, r.id)
			}
		}
	}
	if !c.unclean {
		c.same(fail)
	}
}

// compact does at a replica what log compaction does below the high watermark; with deletions, tombstones go too.
func (r *testReplica) compact(deletions bool) {
	c, below := r.c, r.p.HighWatermark()
	last := map[string]kafka.Offset{}
	for o := r.disk.LogStart(); o < below; o++ {
		if b := r.disk.at(o); b != nil {
			key, _ := keyOf(b)
			last[key] = o
		}
	}
	r.disk.compact(below, func(b record.Batch) (gone, deletion bool) {
		key, deletion := keyOf(b)
		if gone = last[key] > b.BaseOffset() || deletion && deletions; gone {
			c.gone[b.BaseOffset()] = true
		}
		return gone, gone && deletion
	})
	c.note("%d compacts below %d, deletions %v", r.id, below, deletions)
}

func keyOf(b record.Batch) (key string, deletion bool) {
	for r := range codecs.Records(b, 0) {
		return string(r.Key), r.Value == nil
	}
	return "", false
}

// same checks that all replicas mean the same, which is what was committed, and know the leader epoch of every offset.
func (c *testCluster) same(fail func(string, ...any)) {
	start := kafka.Offset(0)
	for _, r := range c.nodes {
		start = max(start, r.disk.LogStart())
	}
	fold := func(at func(kafka.Offset) record.Batch) map[string]string {
		table := map[string]string{}
		for o := start; o < c.nodes[0].disk.LogEnd(); o++ {
			if b := at(o); b != nil {
				key, deletion := keyOf(b)
				if table[key] = string(b); deletion {
					delete(table, key)
				}
			}
		}
		return table
	}
	want := fold(func(o kafka.Offset) record.Batch { return c.known[o] })
	for _, r := range c.nodes {
		if got := fold(r.disk.at); !maps.Equal(got, want) {
			fail("in the end broker %d has the keys %v, those of what was committed are %v", r.id, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for o := start; o < r.disk.LogEnd(); o++ {
			if known := c.known[o]; known != nil && known.LeaderEpoch() != r.disk.EpochForOffset(o) {
				fail("broker %d has offset %d in leader epoch %d, it was written in %d", r.id, o, r.disk.EpochForOffset(o), known.LeaderEpoch())
			}
		}
	}
}

func TestClusterReplicates(t *testing.T) {
	c := newTestCluster(t, 2)
	for range 20 {
		c.settle()
		c.node(1).append()
	}
	c.settle()
	if len(c.acked) != 20 {
		t.Fatalf("%d of 20 acknowledged\n%s", len(c.acked), strings.Join(c.writings, "\n"))
	}
	c.converged()
}

// An append that was admitted before leadership ended does not come after it.
func TestNoAppendOfAnOldEpoch(t *testing.T) {
	for _, next := range []kafka.BrokerID{1, 2, kafka.NoLeader} {
		c := newTestCluster(t, 1)
		c.settle()
		r := c.node(1)
		r.append()
		end := r.disk.LogEnd()
		r.disk.before = func() {
			c.change("elected", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch = next, p.LeaderEpoch+1 })
			r.deliver()
		}
		_, err := r.p.Append(AppendRequest{Batches: batch(1), LeaderEpoch: kafka.NoLeaderEpoch, Origin: record.FromCoordinator})
		if !errors.Is(err, kafka.ErrNotLeaderOrFollower) || r.disk.LogEnd() != end {
			t.Errorf("leader %d elected: %v, and the log ends at %d instead of %d", next, err, r.disk.LogEnd(), end)
		}
	}
}

// slogCounting counts errors.
func slogCounting(n *int) *slog.Logger { return slog.New(counting{n: n}) }

type counting struct {
	slog.Handler
	n *int
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }
func (c counting) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		*c.n++
	}
	return nil
}
