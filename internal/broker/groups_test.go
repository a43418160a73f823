package broker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/vfs"
)

// worker is a member of a group that notes what it consumes.
type worker struct {
	*kgo.Client
	cancel context.CancelFunc
	done   chan struct{}
}

// tally is what all workers of a group have consumed.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

func (y *tally) count() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.seen)
}

func startWorker(t *testing.T, n *testNode, y *tally, opts ...kgo.Opt) *worker {
	t.Helper()
	w := &worker{done: make(chan struct{})}
	w.Client = n.client(t, append([]kgo.Opt{
		kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("jobs"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.HeartbeatInterval(100 * time.Millisecond), kgo.SessionTimeout(10 * time.Second),
		kgo.RebalanceTimeout(10 * time.Second), kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll(),
	}, opts...)...)
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			fetches := w.PollRecords(ctx, 100)
			for _, r := range fetches.Records() {
				y.mu.Lock()
				y.seen[fmt.Sprintf("%d/%d %s", r.Partition, r.Offset, r.Value)]++
				y.mu.Unlock()
				w.MarkCommitRecords(r)
			}
			_ = w.CommitMarkedOffsets(ctx)
			w.AllowRebalance()
		}
	}()
	return w
}

func (w *worker) stop() {
	w.cancel()
	<-w.done
	w.CloseAllowingRebalance()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func createTopic(t *testing.T, adm *kadm.Client, topic string, partitions int32) {
	t.Helper()
	if _, err := adm.CreateTopic(within(t), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// group describes the group; what is not there is not an error.
func describe(t *testing.T, adm *kadm.Client, group string) kadm.DescribedGroup {
	t.Helper()
	all, err := adm.DescribeGroups(within(t), group)
	if err != nil {
		t.Fatal(err)
	}
	return all[group]
}

func stableWith(t *testing.T, adm *kadm.Client, members int) func() bool {
	return func() bool {
		g := describe(t, adm, "workers")
		return g.State == "Stable" && len(g.Members) == members
	}
}

// A group over its life: members come and go, every record is consumed, the node restarts, and nothing is consumed again
// that was committed.
func TestGroupLifeAndRestart(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{"cooperative": kgo.CooperativeStickyBalancer(), "eager": kgo.RangeBalancer()} {
		t.Run(name, func(t *testing.T) {
			cfg := load(t, t.TempDir(), "offsets.topic.num.partitions=3", "group.initial.rebalance.delay.ms=20")
			n := startNode(t, cfg, vfs.OS{})
			cl := n.client(t)
			adm := kadm.NewClient(cl)
			createTopic(t, adm, "jobs", 6)
			y := &tally{seen: map[string]int{}}
			a := startWorker(t, n, y, kgo.Balancers(balancer))
			b := startWorker(t, n, y, kgo.Balancers(balancer))
			produce(t, n, "jobs", 0, 500)
			eventually(t, "500 records", func() bool { return y.count() == 500 })
			eventually(t, "two members", stableWith(t, adm, 2))
			c := startWorker(t, n, y, kgo.Balancers(balancer))
			eventually(t, "three members", stableWith(t, adm, 3))
			produce(t, n, "jobs", 500, 1000)
			a.stop()
			eventually(t, "1000 records", func() bool { return y.count() == 1000 })
			eventually(t, "two members again", stableWith(t, adm, 2))
			b.stop()
			c.stop()
			eventually(t, "an empty group", func() bool { return describe(t, adm, "workers").State == "Empty" })
			cl.Close()
			before := committedTotal(t, n)
			if before != 1000 {
				t.Errorf("offsets committed for %d records", before)
			}
			n.stop(t)

			n = startNode(t, cfg, vfs.OS{})
			defer n.stop(t)
			if after := committedTotal(t, n); after != before {
				t.Errorf("offsets committed for %d records after the restart, %d before", after, before)
			}
			y.seen = map[string]int{}
			d := startWorker(t, n, y, kgo.Balancers(balancer))
			defer d.stop()
			produce(t, n, "jobs", 1000, 1100)
			eventually(t, "100 records", func() bool { return y.count() >= 100 })
			if y.count() != 100 {
				t.Errorf("%d records consumed after the restart, 100 are new", y.count())
			}
		})
	}
}

func committedTotal(t *testing.T, n *testNode) (total int64) {
	cl := n.client(t)
	defer cl.Close()
	offsets, err := kadm.NewClient(cl).FetchOffsets(within(t), "workers")
	if err != nil {
		t.Fatal(err)
	}
	offsets.Each(func(o kadm.OffsetResponse) {
		if o.Err != nil {
			t.Errorf("%s-%d: %v", o.Topic, o.Partition, o.Err)
		}
		total += o.At
	})
	return total
}

// A member goes on over a restart of the node, in the same generation: the group is in the log.
func TestMemberSurvivesRestart(t *testing.T) {
	addr := freeAddress(t)
	cfg := load(t, t.TempDir(), "offsets.topic.num.partitions=3", "group.initial.rebalance.delay.ms=0", "kafka="+addr)
	n := startNode(t, cfg, vfs.OS{})
	cl := n.client(t)
	createTopic(t, kadm.NewClient(cl), "jobs", 2)
	y := &tally{seen: map[string]int{}}
	assigned := make(chan struct{}, 100)
	w := startWorker(t, n, y, kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))
	defer w.stop()
	produce(t, n, "jobs", 0, 50)
	eventually(t, "50 records", func() bool { return y.count() == 50 })
	before := describe(t, kadm.NewClient(cl), "workers")
	cl.Close()
	n.stop(t)

	n = startNode(t, cfg, vfs.OS{})
	defer n.stop(t)
	produce(t, n, "jobs", 50, 100)
	eventually(t, "100 records", func() bool { return y.count() == 100 })
	cl = n.client(t)
	defer cl.Close()
	after := describe(t, kadm.NewClient(cl), "workers")
	if len(before.Members) != 1 || len(after.Members) != 1 || before.Members[0].MemberID != after.Members[0].MemberID {
		t.Errorf("members before %+v, after %+v", before.Members, after.Members)
	}
	if len(assigned) != 1 {
		t.Errorf("%d assignments, the first was enough", len(assigned))
	}
}

// A static member that is started again takes its place without a rebalance, and the older process is fenced.
func TestStaticMemberTakesItsPlace(t *testing.T) {
	n := startNode(t, load(t, t.TempDir(), "offsets.topic.num.partitions=3", "group.initial.rebalance.delay.ms=0"), vfs.OS{})
	defer n.stop(t)
	cl := n.client(t)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	createTopic(t, adm, "jobs", 4)
	y := &tally{seen: map[string]int{}}
	a := startWorker(t, n, y, kgo.InstanceID("one"), kgo.Balancers(kgo.RangeBalancer()))
	defer a.stop()
	eventually(t, "one member", stableWith(t, adm, 1))
	b := startWorker(t, n, y, kgo.InstanceID("two"), kgo.Balancers(kgo.RangeBalancer()))
	eventually(t, "two members", stableWith(t, adm, 2))
	_, generation := a.GroupMetadata()
	b.stop() // a static member does not leave
	c := startWorker(t, n, y, kgo.InstanceID("two"), kgo.Balancers(kgo.RangeBalancer()))
	defer c.stop()
	eventually(t, "the new process", func() bool { id, _ := c.GroupMetadata(); return id != "" })
	if _, after := c.GroupMetadata(); after != generation {
		t.Errorf("generation %d, was %d", after, generation)
	}
	produce(t, n, "jobs", 0, 100)
	eventually(t, "100 records", func() bool { return y.count() == 100 })
	if _, err := adm.LeaveGroup(within(t), kadm.LeaveGroup("workers").InstanceIDs("two")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a group without the removed member", func() bool {
		for _, m := range describe(t, adm, "workers").Members {
			if m.InstanceID != nil && *m.InstanceID == "one" {
				return true
			}
		}
		return false
	})
}

func TestGroupAdministration(t *testing.T) {
	n := startNode(t, load(t, t.TempDir(), "offsets.topic.num.partitions=3", "group.initial.rebalance.delay.ms=0"), vfs.OS{})
	defer n.stop(t)
	cl := n.client(t)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	createTopic(t, adm, "jobs", 2)
	createTopic(t, adm, "other", 1)
	var offsets kadm.Offsets
	offsets.AddOffset("jobs", 0, 7, 1)
	offsets.AddOffset("other", 0, 3, -1)
	if err := adm.CommitAllOffsets(within(t), "simple", offsets); err != nil {
		t.Fatal(err)
	}
	y := &tally{seen: map[string]int{}}
	w := startWorker(t, n, y)
	eventually(t, "a member", stableWith(t, adm, 1))

	list, err := adm.ListGroups(within(t))
	if err != nil || len(list) != 2 || list["simple"].State != "Empty" || list["workers"].ProtocolType != "consumer" {
		t.Errorf("list: %+v, %v", list, err)
	}
	if list, err = adm.ListGroups(within(t), "Stable"); err != nil || len(list) != 1 {
		t.Errorf("list of the stable: %+v, %v", list, err)
	}
	g := describe(t, adm, "workers")
	if c, ok := g.Members[0].Assigned.AsConsumer(); !ok || len(c.Topics) != 1 || len(c.Topics[0].Partitions) != 2 || g.Members[0].ClientHost != "/127.0.0.1" {
		t.Errorf("assigned: %+v, host %s", c, g.Members[0].ClientHost)
	}
	if err := adm.CommitAllOffsets(within(t), "workers", offsets); err == nil {
		t.Error("who is no member commits to a group that has members")
	}
	deleted, err := adm.DeleteGroups(within(t), "workers", "none")
	if err != nil || deleted["workers"].Err != kerr.NonEmptyGroup || deleted["none"].Err != kerr.GroupIDNotFound {
		t.Errorf("delete: %+v, %v", deleted, err)
	}
	var jobs kadm.TopicsSet
	jobs.Add("jobs", 0)
	removed, err := adm.DeleteOffsets(within(t), "workers", jobs)
	if err != nil || removed["jobs"][0] != kerr.GroupSubscribedToTopic {
		t.Errorf("delete of offsets in use: %+v, %v", removed, err)
	}
	removed, err = adm.DeleteOffsets(within(t), "simple", jobs)
	if err != nil || removed["jobs"][0] != nil {
		t.Errorf("delete of offsets: %+v, %v", removed, err)
	}
	lags, err := adm.Lag(within(t), "simple")
	if err != nil || len(lags["simple"].Lag["jobs"]) != 0 || lags["simple"].Lag["other"][0].Commit.At != 3 {
		t.Errorf("lag: %+v, %v", lags, err)
	}
	if _, err := adm.DeleteTopics(within(t), "other"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "offsets gone with their topic", func() bool {
		o, err := adm.FetchOffsets(within(t), "simple")
		return err == nil && len(o) == 0
	})
	w.stop()
	eventually(t, "an empty group", func() bool { return describe(t, adm, "workers").State == "Empty" })
	if deleted, err = adm.DeleteGroups(within(t), "workers", "simple"); err != nil || deleted.Error() != nil {
		t.Errorf("delete: %+v, %v", deleted, err)
	}
	if list, err = adm.ListGroups(within(t)); err != nil || len(list) != 0 {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// A connection that goes while its JoinGroup waits leaves neither a goroutine (goleak) nor a place in the group for ever.
func TestJoinGroupOfALostConnection(t *testing.T) {
	n := startNode(t, load(t, t.TempDir(), "offsets.topic.num.partitions=1", "group.min.session.timeout.ms=100", "group.initial.rebalance.delay.ms=0"), vfs.OS{})
	defer n.stop(t)
	cl := n.client(t)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	join := func(cl *kgo.Client, ctx context.Context, member string) (*kmsg.JoinGroupResponse, error) {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", member, "x", 60_000, 60_000
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name = "p"
		req.Protocols = append(req.Protocols, p)
		return req.RequestWith(ctx, cl)
	}
	first, err := join(cl, within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if first, err = join(cl, within(t), first.MemberID); err != nil || first.ErrorCode != 0 {
		t.Fatalf("%+v %v", first, err)
	}
	lost := n.client(t)
	second, err := join(lost, within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = join(lost, ctx, second.MemberID)
	}()
	eventually(t, "a join that waits", func() bool { return len(describe(t, adm, "g").Members) == 2 })
	cancel()
	lost.Close()
	<-done
	// The first member leaves, so that nobody is missing any more.
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = "g"
	row := kmsg.NewLeaveGroupRequestMember()
	row.MemberID = first.MemberID
	leave.Members = append(leave.Members, row)
	if resp, err := leave.RequestWith(within(t), cl); err != nil || resp.Members[0].ErrorCode != 0 {
		t.Fatalf("leave: %+v, %v", resp, err)
	}
	eventually(t, "the next generation", func() bool { return describe(t, adm, "g").State == "CompletingRebalance" })
}

// freeAddress is a loopback address that nobody listens on; a client of a node that restarts needs it to stay the same.
func freeAddress(t *testing.T) string {
	t.Helper()
	return freePorts(t, 1)[0]
}
