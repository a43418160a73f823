package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/record"
	"chronik/internal/store"
	"chronik/internal/vfs"
)

// wired is one partition on three nodes with real stores (in memory), and streams that are goroutines: what is between
// Partition and package stream, under the race detector. The leader and the in-sync set are the test's.
type wired struct {
	t     *testing.T
	image *metadata.Image
	nodes []*wiredNode

	mu   sync.Mutex
	meta *metadata.Partition
}

type wiredNode struct {
	w     *wired
	id    kafka.BrokerID
	store *store.Store
	p     *Partition
	wake  chan struct{} // capacity 1

	mu     sync.Mutex
	leader kafka.BrokerID
	epoch  kafka.LeaderEpoch
	anew   bool
}

func (n *wiredNode) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *wiredNode) Follow(_ *Partition, leader kafka.BrokerID, epoch kafka.LeaderEpoch) {
	n.mu.Lock()
	n.leader, n.epoch, n.anew = leader, epoch, true
	n.mu.Unlock()
	n.signal()
}

func (n *wiredNode) Stop(*Partition) {
	n.mu.Lock()
	n.leader = kafka.NoLeader
	n.mu.Unlock()
}

func (n *wiredNode) all() {
	for _, other := range n.w.nodes {
		other.signal()
	}
}
func (n *wiredNode) Lead(*Partition, kafka.LeaderEpoch) { n.all() }
func (n *wiredNode) Changed(*Partition)                 { n.all() }
func (n *wiredNode) Appended(*Partition, int)           { n.all() }
func (n *wiredNode) Watermark(*Partition)               { n.all() }
func (n *wiredNode) Durable(*Partition)                 { n.signal() }

// run is the stream to this node.
func (n *wiredNode) run(ctx context.Context) {
	var session *Session
	var next kafka.Offset
	var buf []byte
	for ctx.Err() == nil {
		n.mu.Lock()
		leader, epoch := n.leader, n.epoch
		if n.anew {
			n.anew, session = false, nil
		}
		n.mu.Unlock()
		if leader == kafka.NoLeader {
			n.wait(ctx, time.Hour)
			continue
		}
		lp := n.w.nodes[leader-1].p
		if session == nil {
			at, err := n.p.FollowPosition(epoch)
			if err != nil {
				n.wait(ctx, time.Millisecond)
				continue
			}
			d := lp.Follow(FollowRequest{Follower: n.id, BrokerEpoch: n.w.image.Broker(n.id).Epoch, LeaderEpoch: epoch, LogEnd: at.LogEnd, LastEpoch: at.LastEpoch})
			switch d.Action {
			case FollowStream:
				session, next = d.Session, d.From
			case FollowTruncate:
				_ = n.p.TruncateFollower(ctx, epoch, d.Truncate)
			case FollowReset:
				_ = n.p.ResetFollower(ctx, epoch, d.Reset)
			default:
				n.wait(ctx, time.Millisecond)
			}
			continue
		}
		idle := false
		st, err := lp.ReadForFollower(session, buf[:0], next, 8<<10)
		switch {
		case err != nil:
			session = nil
			continue
		default:
			buf = st.Records
			err = lateAppend{epoch, next, st}.deliver(n.p)
			idle = next == st.Next
			next = st.Next
		}
		if err != nil {
			session.Close()
			session = nil
			continue
		}
		if durable, start, err := n.p.AckPosition(epoch); err == nil {
			if err := session.Acked(durable, start); err != nil {
				n.w.t.Errorf("broker %d: %v", n.id, err)
			}
		}
		if idle {
			n.wait(ctx, time.Hour)
		}
	}
}

func (n *wiredNode) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-n.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

func newWired(t *testing.T) *wired {
	w := &wired{t: t, image: metadata.Empty()}
	w.meta = &metadata.Partition{Index: 3, Replicas: []kafka.BrokerID{1, 2, 3}, ISR: []kafka.BrokerID{1, 2, 3}, Leader: 1}
	for id := kafka.BrokerID(1); id <= 3; id++ {
		w.image, _ = w.image.Apply(w.image.Offset()+1, &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_BrokerRegistered{
			BrokerRegistered: metadata.BrokerMessage(&metadata.Broker{ID: id, Directory: [16]byte{byte(id)}, Incarnation: [16]byte{1}}),
		}}}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running, jobs sync.WaitGroup
	for id := kafka.BrokerID(1); id <= 3; id++ {
		n := &wiredNode{w: w, id: id, wake: make(chan struct{}, 1), leader: kafka.NoLeader}
		cfg := config.Default()
		cfg.Topic.SegmentBytes = 64 << 10
		var err error
		n.store, err = store.Open(ctx, store.Options{FS: vfs.NewMem(0), Dir: "/data", NodeID: int32(id), Config: cfg, NoBackground: true,
			Fatal: func(err error) { t.Errorf("broker %d: %v", id, err) }})
		if err != nil {
			t.Fatal(err)
		}
		d, err := onStore{n.store}.create(testID, cfg.Topic)
		if err != nil {
			t.Fatal(err)
		}
		n.p = newPartition(testID, "orders", d, cfg.Topic, &node{
			broker: id, codecs: &codecs, clock: clock.System{}, log: slog.New(slog.DiscardHandler), streams: n, lagMax: time.Hour,
			background: &background{ctx: ctx, workers: 2, done: &jobs},
			metadata:   &testMetadata{image: w.image, updateISR: func(metadata.UpdateISR) error { return kafka.ErrIneligibleReplica }},
		})
		w.nodes = append(w.nodes, n)
	}
	for _, n := range w.nodes {
		running.Go(func() { n.run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		jobs.Wait()
		for _, n := range w.nodes {
			n.p.leave(kafka.ErrNotLeaderOrFollower)
			if err := n.store.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	w.apply(func(*metadata.Partition) {}, w.nodes...)
	return w
}

// apply changes the metadata and tells nodes.
func (w *wired) apply(f func(*metadata.Partition), nodes ...*wiredNode) {
	w.mu.Lock()
	next := *w.meta
	f(&next)
	next.PartitionEpoch++
	next.History = append(slices.Clone(next.History), metadata.Change{Leader: next.Leader, LeaderEpoch: next.LeaderEpoch, ISR: next.ISR})
	w.meta = &next
	w.mu.Unlock()
	for _, n := range nodes {
		if err := n.p.apply(context.Background(), &next); err != nil {
			w.t.Error(err)
		}
	}
}

func (n *wiredNode) produce(value string) (Appended, error) {
	b := record.NewBuilder()
	b.Add(time.Now().UnixMilli(), nil, []byte(value))
	return n.p.Append(AppendRequest{Batches: b.Build(), Acks: AcksAll, LeaderEpoch: kafka.NoLeaderEpoch, Origin: record.FromCoordinator})
}

func (n *wiredNode) contents(t *testing.T) []byte {
	var all []byte
	for from := n.p.disk.LogStart(); from < n.p.disk.LogEnd(); {
		b, next, err := n.p.disk.ReadStretch(nil, from, 1<<20, n.p.disk.LogEnd(), true)
		if err != nil {
			t.Fatal(err)
		}
		from = next
		all = append(all, b...)
	}
	return all
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// Producers go on while the leader changes many times: what was acknowledged is there in the end, once in each log, and
// the logs are the same.
func TestWiredLeaderChanges(t *testing.T) {
	w := newWired(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var producers sync.WaitGroup
	var mu sync.Mutex
	acked := map[kafka.Offset]string{}
	stop := make(chan struct{})
	for i := range 4 {
		producers.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				value := fmt.Sprintf("%d-%d", i, k)
				w.mu.Lock()
				leader := w.nodes[w.meta.Leader-1]
				w.mu.Unlock()
				a, err := leader.produce(value)
				if err == nil {
					err = leader.p.Wait(ctx, AcksAll, a, time.Now().Add(30*time.Second))
				}
				switch {
				case err == nil:
					mu.Lock()
					if other, twice := acked[a.BaseOffset]; twice {
						t.Errorf("offset %d was acknowledged for %s and for %s", a.BaseOffset, other, value)
					}
					acked[a.BaseOffset] = value
					mu.Unlock()
				case !errors.Is(err, kafka.ErrNotLeaderOrFollower):
					t.Error(err)
				}
			}
		})
	}
	for i := range 12 {
		time.Sleep(10 * time.Millisecond)
		next := kafka.BrokerID(1 + (i+1)%3)
		order := []*wiredNode{w.nodes[next-1], w.nodes[next%3], w.nodes[(next+1)%3]} // the new leader hears first, or last
		if i%2 == 0 {
			slices.Reverse(order)
		}
		w.apply(func(p *metadata.Partition) { p.Leader, p.LeaderEpoch = next, p.LeaderEpoch+1 }, order...)
	}
	time.Sleep(20 * time.Millisecond)
	close(stop)
	producers.Wait()
	leader := w.nodes[w.meta.Leader-1]
	for _, n := range w.nodes {
		eventually(t, fmt.Sprintf("broker %d does not catch up", n.id), func() bool {
			return n.p.disk.LogEnd() == leader.p.disk.LogEnd() && n.p.HighWatermark() == leader.p.disk.LogEnd()
		})
		if !bytes.Equal(n.contents(t), leader.contents(t)) {
			t.Errorf("the log of broker %d is not its leader's", n.id)
		}
	}
	if len(acked) < 12 {
		t.Errorf("only %d acknowledged", len(acked))
	}
	all := leader.contents(t)
	for offset, value := range acked {
		if !bytes.Contains(all, []byte(value)) {
			t.Errorf("%s, acknowledged at offset %d, is gone", value, offset)
		}
	}
}

// A replica that is below its leader's log start begins anew, with the producers that the leader knows: a batch from before
// the log's start is a duplicate there too.
func TestWiredReset(t *testing.T) {
	w := newWired(t)
	out := w.nodes[2]
	w.apply(func(p *metadata.Partition) { p.ISR = []kafka.BrokerID{1, 2} }, w.nodes...)
	out.Stop(nil) // it hears of nothing more
	leader := w.nodes[0]
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = 7, 0, 0
	b.Add(time.Now().UnixMilli(), nil, []byte("once"))
	once := b.Build()
	a, err := leader.p.Append(AppendRequest{Batches: slices.Clone(once), Acks: AcksAll, LeaderEpoch: kafka.NoLeaderEpoch, Version: 9})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if a, err = leader.produce(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := leader.p.Wait(t.Context(), AcksAll, a, time.Now().Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.p.DeleteRecords(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	out.Follow(nil, 1, 0)
	eventually(t, "the replica does not begin anew", func() bool { return out.p.disk.LogEnd() == leader.p.disk.LogEnd() })
	if start := out.p.disk.LogStart(); start != 10 {
		t.Errorf("its log starts at %d", start)
	}
	if e := out.p.disk.EpochForOffset(9); e != 0 {
		t.Errorf("it does not know the epoch before its log start: %d", e)
	}
	eventually(t, "nothing durable", func() bool { return out.p.disk.DurableEnd() == leader.p.disk.LogEnd() })
	w.apply(func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 3, 1, []kafka.BrokerID{3} }, w.nodes...)
	again, err := out.p.Append(AppendRequest{Batches: slices.Clone(once), Acks: AcksAll, LeaderEpoch: kafka.NoLeaderEpoch, Version: 9})
	if err != nil || !again.Duplicate || again.BaseOffset != 0 {
		t.Fatalf("a batch that was appended before: %+v, %v", again, err)
	}
}

// Consumers may read from a follower, up to its own high watermark.
func TestWiredFetchFromFollower(t *testing.T) {
	w := newWired(t)
	leader, f := w.nodes[0], w.nodes[1]
	a, err := leader.produce("value")
	if err != nil {
		t.Fatal(err)
	}
	if err := leader.p.Wait(t.Context(), AcksAll, a, time.Now().Add(10*time.Second)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the follower's high watermark stands", func() bool { return f.p.HighWatermark() == 1 })
	fetch := func(from kafka.Offset, epoch kafka.LeaderEpoch, any bool) (FetchResult, error) {
		return f.p.Fetch(FetchRequest{From: from, MaxBytes: 1 << 20, LeaderEpoch: epoch, LastFetchedEpoch: kafka.NoLeaderEpoch, AnyReplica: any})
	}
	got, err := fetch(0, 0, true)
	if err != nil || got.Records.Len() == 0 || got.HighWatermark != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	got.Records.Release()
	if got, err := fetch(1, kafka.NoLeaderEpoch, true); err != nil || got.Records.Len() != 0 {
		t.Errorf("at the end: %+v, %v", got, err)
	}
	for _, test := range []struct {
		from  kafka.Offset
		epoch kafka.LeaderEpoch
		any   bool
		want  error
	}{
		{0, kafka.NoLeaderEpoch, false, kafka.ErrNotLeaderOrFollower},
		{2, kafka.NoLeaderEpoch, true, kafka.ErrOffsetNotAvailable}, // the leader may have it
		{-1, kafka.NoLeaderEpoch, true, kafka.ErrOffsetOutOfRange},
		{0, 1, true, kafka.ErrUnknownLeaderEpoch},
	} {
		if _, err := fetch(test.from, test.epoch, test.any); !errors.Is(err, test.want) {
			t.Errorf("%+v: got %v", test, err)
		}
	}
	if _, err := f.p.OffsetForTimestamp(TimestampLatest, ReadUncommitted, kafka.NoLeaderEpoch); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
		t.Errorf("list offsets: %v", err)
	}
}
