package replica

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/metadata"
	"chronik/internal/record"
	"chronik/internal/store"
)

// Without the lease another leader may be at work: reads and acks=1 are refused, what is committed is not, and neither are
// the node's own coordinators.
func TestLease(t *testing.T) {
	c := newTestCluster(t, 1)
	c.settle()
	r := c.node(1)
	held := true
	r.node.lease = func() bool { return held }
	r.append()
	a := c.sent[0]
	c.settle()
	held = false
	if _, err := r.p.Fetch(FetchRequest{LeaderEpoch: kafka.NoLeaderEpoch, LastFetchedEpoch: kafka.NoLeaderEpoch}); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
		t.Errorf("fetch: %v", err)
	}
	if _, err := r.p.OffsetForTimestamp(TimestampLatest, ReadUncommitted, kafka.NoLeaderEpoch); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
		t.Errorf("list offsets: %v", err)
	}
	if err := r.p.Wait(t.Context(), AcksLeader, a, time.Now().Add(time.Minute)); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
		t.Errorf("acks=1: %v", err)
	}
	if r.p.Acknowledged(AcksLeader, a) || !r.p.Acknowledged(AcksAll, a) {
		t.Error("Acknowledged disagrees")
	}
	if err := r.p.Wait(t.Context(), AcksAll, a, time.Now().Add(time.Minute)); err != nil {
		t.Errorf("acks=all: %v", err)
	}
	got, err := r.p.Fetch(FetchRequest{LeaderEpoch: kafka.NoLeaderEpoch, LastFetchedEpoch: kafka.NoLeaderEpoch, Isolation: ReadToEnd, MaxBytes: 1 << 20})
	if err != nil || got.Records.Len() == 0 {
		t.Errorf("a coordinator reads %d bytes, %v", got.Records.Len(), err)
	}
}

// Producers that wait for replicas which are no longer in sync are told so; coordinators wait on.
func TestTooFewInSyncAfterAppend(t *testing.T) {
	c := newTestCluster(t, 2)
	c.settle()
	r := c.node(1)
	r.append()
	a := c.sent[0]
	producer, coordinator := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { producer <- r.p.Wait(ctx, AcksAll, a, time.Now().Add(time.Minute)) }()
	go func() { coordinator <- r.p.WaitCommitted(ctx, a.LeaderEpoch, a.EndOffset) }()
	for r.waiting() < 2 {
		time.Sleep(time.Millisecond)
	}
	c.change("all others fenced", func(p *metadata.Partition) { p.ISR = []kafka.BrokerID{1} })
	r.deliver()
	if err := <-producer; !errors.Is(err, kafka.ErrNotEnoughReplicasAfterAppend) {
		t.Errorf("the producer got %v", err)
	}
	if err := r.p.Wait(ctx, AcksAll, a, time.Now().Add(time.Minute)); !errors.Is(err, kafka.ErrNotEnoughReplicasAfterAppend) {
		t.Errorf("a producer that waits now gets %v", err)
	}
	if n := r.waiting(); n != 1 {
		t.Errorf("%d wait, not the coordinator alone", n)
	}
	cancel()
	if err := <-coordinator; !errors.Is(err, context.Canceled) {
		t.Errorf("the coordinator got %v", err)
	}
}

func (r *testReplica) waiting() int {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return r.p.mu.committed.len()
}

// A leader whose disk refuses an append after its space was reserved hands over.
func TestLeaderResigns(t *testing.T) {
	c := newTestCluster(t, 2)
	c.settle()
	r := c.node(1)
	refuse := fmt.Errorf("%w (%w)", kafka.ErrKafkaStorageError, store.ErrAppendFailed)
	r.disk.refusing = refuse
	try := func() error {
		_, err := r.p.Append(AppendRequest{Batches: batch(1), LeaderEpoch: kafka.NoLeaderEpoch, Origin: record.FromCoordinator})
		return err
	}
	if err := try(); !errors.Is(err, kafka.ErrKafkaStorageError) {
		t.Fatalf("got %v", err)
	}
	if err := try(); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
		t.Fatalf("it goes on appending: %v", err)
	}
	r.jobs()
	if c.meta.Leader != 2 || !strings.Contains(c.meta.History[len(c.meta.History)-1].Reason, "refused an append") {
		t.Fatalf("leader %d: %s", c.meta.Leader, c.meta.History[len(c.meta.History)-1].Reason)
	}
	r.disk.refusing = nil
	c.settle()
	c.node(2).append()
	c.converged()

	// Alone it goes on: there is nobody to hand over to.
	for _, id := range []kafka.BrokerID{1, 3} {
		c.fence(id)
	}
	c.node(2).deliver()
	c.node(2).disk.refusing = refuse
	r = c.node(2)
	_ = try()
	c.node(2).jobs()
	c.node(2).disk.refusing = nil
	if err := try(); err != nil || c.meta.Leader != 2 {
		t.Fatalf("leader %d, %v", c.meta.Leader, err)
	}
}

func TestDeleteRecordsWaitsForTheInSync(t *testing.T) {
	c := newTestCluster(t, 2)
	c.settle()
	for range 10 {
		c.node(1).append()
	}
	c.settle()
	p := c.node(1).p
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := p.DeleteRecords(ctx, 5); !errors.Is(err, kafka.ErrRequestTimedOut) {
		t.Fatalf("the followers have not deleted: %v", err)
	}
	c.settle()
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if low, err := p.DeleteRecords(ctx, 5); err != nil || low != 5 {
		t.Fatalf("low watermark %d, %v", low, err)
	}
	for _, r := range c.nodes {
		if start := r.disk.LogStart(); start != 5 {
			t.Errorf("the log of broker %d starts at %d", r.id, start)
		}
	}
}

func TestStatusTellsWhatIsWaitedFor(t *testing.T) {
	c := newTestCluster(t, 2)
	c.settle()
	leader, slow := c.node(1), c.node(3)
	leader.append()
	leader.disk.sync()
	c.node(2).stream(1 << 20)
	c.node(2).disk.sync()
	c.node(2).ack()
	s := leader.p.Status()
	if !s.Leads || s.LogEnd != 1 || s.Durable != 1 || s.HighWatermark != 0 || len(s.Followers) != 2 {
		t.Fatalf("%+v", s)
	}
	if want := "waits for broker 3, which has acknowledged offsets up to 0"; s.Waiting != want {
		t.Errorf("%q, want %q", s.Waiting, want)
	}
	slow.session.Close()
	if want := "follows no more"; !strings.Contains(leader.p.Status().Waiting, want) {
		t.Errorf("%q, want %q", leader.p.Status().Waiting, want)
	}
	c.now = c.now.Add(testLagMax)
	leader.p.look(c.now)
	if s = leader.p.Status(); s.Proposal == nil || !slices.Equal(s.Proposal.ISR, []kafka.BrokerID{1, 2}) || !strings.Contains(s.Proposal.Reason, "broker 3") {
		t.Errorf("proposal %+v", s.Proposal)
	}
	leader.jobs()
	leader.deliver()
	if s = leader.p.Status(); s.Waiting != "" || s.HighWatermark != 1 || s.Proposal != nil || !slices.Equal(s.ISR, []kafka.BrokerID{1, 2}) {
		t.Errorf("%+v", s)
	}
	if s.Followers[1].InSync || s.Followers[1].Lagging == "" || !s.Followers[0].InSync {
		t.Errorf("%+v", s.Followers)
	}
	c.change("alone", func(p *metadata.Partition) { p.ISR = []kafka.BrokerID{1} })
	leader.deliver()
	if _, err := leader.p.Append(AppendRequest{Batches: batch(1), Acks: AcksLeader, LeaderEpoch: kafka.NoLeaderEpoch, Origin: record.FromCoordinator}); err != nil {
		t.Fatal(err)
	}
	if want := "1 replicas are in sync, 2 have to be (min.insync.replicas)"; leader.p.Status().Waiting != want {
		t.Errorf("%q", leader.p.Status().Waiting)
	}
	if s := slow.p.Status(); s.Leads || !s.Follows || s.Leader != 1 {
		t.Errorf("%+v", s)
	}
}

// A damaged replica stays as it is while somebody may rely on it, then loses what lies behind the damage and gets it again.
// What it had acknowledged before does not bring it back.
func TestDamagedReplicaIsRefilled(t *testing.T) {
	c := newTestCluster(t, 2)
	c.settle()
	for range 10 {
		c.node(1).append()
	}
	c.settle()
	r := c.node(2)
	told := 0
	r.node.onDamage = func() { told++ }
	r.disk.damage = []log.Damage{{First: 4, End: 6}}
	r.p.onDamaged()
	r.jobs()
	if r.disk.LogEnd() != 10 || told != 1 || !r.p.damaged.Load() {
		t.Fatalf("a member of the in-sync set ends at %d, told %d times", r.disk.LogEnd(), told)
	}
	c.fence(2)
	c.change("eligible", func(p *metadata.Partition) { p.ELR = []kafka.BrokerID{2} })
	r.deliver()
	r.jobs()
	if r.disk.LogEnd() != 10 {
		t.Fatal("an eligible leader drops what it has")
	}
	c.change("not eligible", func(p *metadata.Partition) { p.ELR = nil })
	r.deliver()
	r.jobs()
	if r.disk.LogEnd() != 4 || told != 1 || !r.p.damaged.Load() || r.p.HighWatermark() != 4 {
		t.Fatalf("it ends at %d with a high watermark of %d, told %d times", r.disk.LogEnd(), r.p.HighWatermark(), told)
	}
	c.node(1).deliver()
	r.stream(1) // follows
	r.stream(1) // takes the first record: far from what the leader may believe that it has
	r.disk.sync()
	if !r.p.damaged.Load() || told != 1 {
		t.Fatalf("it is not reported any more before it is whole (told %d times)", told)
	}
	c.node(1).p.look(c.now)
	c.node(1).jobs()
	if slices.Contains(c.meta.ISR, 2) {
		t.Fatal("in sync again with what it had before")
	}
	c.converged()
	if told != 2 || r.p.damaged.Load() {
		t.Fatalf("it is whole, and was told %d times", told)
	}
}

// The acknowledgements of a process that is gone bring nobody into the in-sync set.
func TestStaleBrokerEpochIsNotAdmitted(t *testing.T) {
	c := newTestCluster(t, 2)
	c.settle()
	c.node(1).append()
	c.settle()
	c.fence(3)
	r := c.node(3)
	session := r.session
	c.node(1).deliver()
	old := r.epoch
	r.start(2) // registers again; the leader hears of it later
	if err := session.Acked(1, 0); err != nil {
		t.Fatal(err)
	}
	c.node(1).jobs()
	if slices.Contains(c.meta.ISR, 3) {
		t.Fatal("the controller admitted a process that is gone")
	}
	c.node(1).node.metadata.(*testMetadata).image = c.image
	c.now = c.now.Add(time.Minute)
	c.node(1).p.look(c.now)
	if p := c.node(1).p.Status().Proposal; p != nil && slices.Contains(p.ISR, 3) {
		t.Fatal("proposed with a broker epoch that is over")
	}
	if d := c.node(1).p.Follow(FollowRequest{Follower: 3, BrokerEpoch: old, LeaderEpoch: 0}); d.Action != FollowRefuse || !errors.Is(d.Err, kafka.ErrStaleBrokerEpoch) {
		t.Fatalf("%+v", d)
	}
}

func TestFollowIsParkedOrRefused(t *testing.T) {
	c := newTestCluster(t, 1)
	p := c.node(1).p
	follow := func(epoch kafka.LeaderEpoch, broker kafka.BrokerID) FollowDecision {
		return p.Follow(FollowRequest{Follower: broker, BrokerEpoch: 99, LeaderEpoch: epoch, LastEpoch: kafka.NoLeaderEpoch})
	}
	if d := follow(0, 2); d.Action != FollowPark {
		t.Errorf("before the metadata are applied: %+v", d)
	}
	c.change("epoch", func(p *metadata.Partition) { p.LeaderEpoch = 4 })
	c.node(1).deliver()
	if d := follow(5, 2); d.Action != FollowPark {
		t.Errorf("a newer epoch: %+v", d)
	}
	if d := follow(3, 2); d.Action != FollowRefuse || !errors.Is(d.Err, kafka.ErrFencedLeaderEpoch) || d.LeaderEpoch != 4 {
		t.Errorf("an older epoch: %+v", d)
	}
	if d := follow(4, 7); d.Action != FollowPark {
		t.Errorf("no replica yet: %+v", d)
	}
	if d := follow(4, 2); d.Action != FollowStream {
		t.Errorf("%+v", d)
	}
	c.change("moved", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch = 2, 5 })
	c.node(1).deliver()
	if d := follow(5, 3); d.Action != FollowRefuse || !errors.Is(d.Err, kafka.ErrNotLeaderOrFollower) {
		t.Errorf("not the leader: %+v", d)
	}
}

// An ISR member does not drop its log, whoever asks.
func TestMemberIsNotReset(t *testing.T) {
	c := newTestCluster(t, 1)
	c.settle()
	c.node(1).append()
	c.settle()
	r := c.node(2)
	if err := r.p.ResetFollower(t.Context(), 0, Reset{Offset: 9}); !errors.Is(err, kafka.ErrInvalidRequest) || r.disk.LogEnd() != 1 {
		t.Fatalf("%v, and the log ends at %d", err, r.disk.LogEnd())
	}
	d := c.node(1).p.Follow(FollowRequest{Follower: 2, BrokerEpoch: r.epoch, LeaderEpoch: 0, LogEnd: 7, LastEpoch: kafka.NoLeaderEpoch})
	if d.Action != FollowRefuse {
		t.Fatalf("the leader resets a member: %+v", d)
	}
}

// What is committed is not cut, unless somebody was elected who was not in sync.
func TestCommittedIsNotCut(t *testing.T) {
	c := newTestCluster(t, 1)
	c.settle()
	for range 5 {
		c.node(1).append()
	}
	c.settle()
	c.unclean = true // the complaint is what is wanted
	r := c.node(2)
	said := 0
	r.node.log = slogCounting(&said)
	if err := r.p.TruncateFollower(t.Context(), 0, EpochEnd{0, 3}); !errors.Is(err, kafka.ErrKafkaStorageError) || r.disk.LogEnd() != 5 || said != 1 {
		t.Fatalf("%v, and the log ends at %d", err, r.disk.LogEnd())
	}
	c.change("unclean", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 3, 1, []kafka.BrokerID{3} })
	c.change("unclean", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 1, 2, []kafka.BrokerID{1} })
	r.deliver()
	if err := r.p.TruncateFollower(t.Context(), 2, EpochEnd{0, 3}); err != nil || r.disk.LogEnd() != 3 || r.p.HighWatermark() != 3 {
		t.Fatalf("%v, and the log ends at %d with a high watermark of %d", err, r.disk.LogEnd(), r.p.HighWatermark())
	}
}

// movingClock is moved while others look at it.
type movingClock struct {
	clock.System
	seconds atomic.Int64
}

func (c *movingClock) Now() time.Time { return time.Unix(1_700_000_000+c.seconds.Load(), 0) }

// Ten thousand partitions that want another in-sync set at once ask for it a bounded number at a time, each once.
func TestProposalsAreBounded(t *testing.T) {
	const partitions, workers = 10_000, 16
	var running, most, asked atomic.Int64
	n := testNode(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n.background = &background{ctx: ctx, workers: workers, done: new(sync.WaitGroup)}
	n.metadata = &testMetadata{image: metadata.Empty(), updateISR: func(metadata.UpdateISR) error {
		now := running.Add(1)
		for {
			old := most.Load()
			if now <= old || most.CompareAndSwap(old, now) {
				break
			}
		}
		asked.Add(1)
		runtime.Gosched()
		running.Add(-1)
		return nil
	}}
	clk := &movingClock{}
	n.clock = clk
	for range partitions {
		p := newPartition(testID, "orders", &testDisk{}, config.Default().Topic, n)
		apply(t, p, leading(0, 0, 1, 2))
		p.look(clk.Now())
		clk.seconds.Add(int64(defaultLagMax / time.Second))
		p.look(clk.Now())
		p.look(clk.Now()) // one is outstanding
	}
	n.background.done.Wait()
	if asked.Load() != partitions || most.Load() > workers {
		t.Errorf("%d asked, %d at a time", asked.Load(), most.Load())
	}
}
