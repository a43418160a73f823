package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/metadata"
	"chronik/internal/record"
	"chronik/internal/store"
)

// testDisk counts records and becomes durable when the test says so.
type testDisk struct {
	disk // what the test does not need panics

	mu      sync.Mutex
	start   kafka.Offset
	end     kafka.Offset
	durable kafka.Offset
	epoch   kafka.LeaderEpoch
	heard   func(kafka.Offset)
	high    kafka.Offset
	hold    chan struct{} // StartEpoch waits for it, if set
}

func (d *testDisk) Append(b []byte, epoch kafka.LeaderEpoch, _ Origin) (store.Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if epoch < d.epoch {
		return store.Result{}, log.ErrNotAtEnd
	}
	base := d.end
	d.end += kafka.Offset(record.Batch(b).Count())
	return store.Result{BaseOffset: base, LastOffset: d.end - 1, LogAppendTime: -1, LogStart: d.start}, nil
}

func (d *testDisk) StartEpoch(ctx context.Context, epoch kafka.LeaderEpoch) error {
	if d.hold != nil {
		select {
		case <-d.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch = epoch
	return nil
}

func (d *testDisk) Follow(epoch kafka.LeaderEpoch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.epoch = max(d.epoch, epoch)
}

func (d *testDisk) sync(to kafka.Offset) {
	d.mu.Lock()
	d.durable = to
	d.mu.Unlock()
	d.heard(to)
}

func (d *testDisk) OnDurable(f func(kafka.Offset))   { d.heard = f }
func (d *testDisk) SetHighWatermark(hw kafka.Offset) { d.high = hw }
func (d *testDisk) FirstUnstable() kafka.Offset      { return kafka.NoOffset }
func (d *testDisk) LogStart() kafka.Offset           { d.mu.Lock(); defer d.mu.Unlock(); return d.start }
func (d *testDisk) LogEnd() kafka.Offset             { d.mu.Lock(); defer d.mu.Unlock(); return d.end }
func (d *testDisk) DurableEnd() kafka.Offset         { d.mu.Lock(); defer d.mu.Unlock(); return d.durable }

var (
	testID = kafka.TopicPartition{Topic: kafka.TopicID{1}, Partition: 3}
	codecs record.Codecs
)

func leading(epoch kafka.LeaderEpoch, version kafka.PartitionEpoch, isr ...kafka.BrokerID) *metadata.Partition {
	return &metadata.Partition{Index: 3, Replicas: []kafka.BrokerID{1, 2, 3}[:max(1, len(isr))], ISR: isr, Leader: 1, LeaderEpoch: epoch, PartitionEpoch: version}
}

func newTestPartition(t *testing.T, minInsync int32) (*Partition, *testDisk) {
	t.Helper()
	c := config.Default().Topic
	c.MinInsyncReplicas = minInsync
	d := &testDisk{}
	return newPartition(testID, "orders", d, c, testNode(1)), d
}

// testNode is a node without peers.
func testNode(id kafka.BrokerID) *node {
	return &node{
		broker: id, codecs: &codecs, clock: clock.System{}, log: slog.New(slog.DiscardHandler), streams: noStreams{}, lagMax: defaultLagMax,
		background: &background{ctx: context.Background(), workers: 1, done: new(sync.WaitGroup)},
		metadata:   &testMetadata{image: metadata.Empty()},
	}
}

// testMetadata answers as the test says.
type testMetadata struct {
	metadata.Store // what the test does not need panics
	image          *metadata.Image
	updateISR      func(metadata.UpdateISR) error
	setLeader      func(metadata.SetPartitionLeader) error
}

func (m *testMetadata) Image() *metadata.Image { return m.image }

func (m *testMetadata) UpdateISR(_ context.Context, c metadata.UpdateISR) (kafka.PartitionEpoch, error) {
	return c.Base + 1, m.updateISR(c)
}

func (m *testMetadata) SetPartitionLeader(_ context.Context, c metadata.SetPartitionLeader) error {
	return m.setLeader(c)
}

func apply(t *testing.T, p *Partition, m *metadata.Partition) {
	t.Helper()
	if err := p.apply(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func batch(records int) []byte {
	b := record.NewBuilder()
	for range records {
		b.Add(time.Now().UnixMilli(), nil, []byte("v"))
	}
	return b.Build()
}

func mustAppend(t *testing.T, p *Partition, records int, acks Acks) Appended {
	t.Helper()
	a, err := p.Append(AppendRequest{Batches: batch(records), Acks: acks, LeaderEpoch: kafka.NoLeaderEpoch})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCommittedOnceDurableOnAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPartition(t, 1)
		apply(t, p, leading(0, 0, 1, 2))
		a := mustAppend(t, p, 4, AcksAll)
		if a.BaseOffset != 0 || a.EndOffset != 4 {
			t.Fatalf("appended %+v", a)
		}
		one, all := make(chan error, 1), make(chan error, 1)
		go func() { one <- p.Wait(t.Context(), AcksLeader, a, time.Now().Add(time.Minute)) }()
		go func() { all <- p.Wait(t.Context(), AcksAll, a, time.Now().Add(time.Minute)) }()
		synctest.Wait()
		d.sync(4)
		synctest.Wait()
		if len(one) != 1 || len(all) != 0 {
			t.Fatalf("acks=1 answered %d times, acks=all %d times, with one of two disks", len(one), len(all))
		}
		if !p.Acknowledged(AcksLeader, a) || p.Acknowledged(AcksAll, a) {
			t.Fatal("Acknowledged disagrees with Wait")
		}
		p.mu.Lock()
		p.mu.progress.durable(2, 4)
		p.advanceLocked()
		p.mu.Unlock()
		synctest.Wait()
		if len(all) != 1 || <-all != nil || <-one != nil || d.high != 4 {
			t.Fatalf("not committed by the second disk; the store knows a watermark of %d", d.high)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPartition(t, 1)
		apply(t, p, leading(0, 0, 1))
		a := mustAppend(t, p, 1, AcksAll)

		began := time.Now()
		if err := p.Wait(t.Context(), AcksAll, a, time.Now().Add(3*time.Second)); !errors.Is(err, kafka.ErrRequestTimedOut) {
			t.Fatalf("got %v, want a timeout", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Fatalf("timed out after %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Wait(ctx, AcksAll, a, time.Now().Add(time.Second)); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want the context's error", err)
		}
		if n := p.mu.committed.len(); n != 0 {
			t.Fatalf("%d who gave up are still waited for", n)
		}
		d.sync(1)
		if err := p.Wait(t.Context(), AcksAll, a, time.Now()); err != nil {
			t.Fatalf("committed, and no time to wait: %v", err)
		}
	})
}

// A waiter's timer runs on when its answer comes; it ends later waits when their time is up, neither before nor after.
func TestWaitersUseTheirTimersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPartition(t, 1)
		apply(t, p, leading(0, 0, 1))
		for _, timeout := range []time.Duration{10 * time.Second, 2 * time.Second, 40 * time.Second, 15 * time.Second} {
			for _, longer := range []time.Duration{time.Hour, timeout} {
				a := mustAppend(t, p, 1, AcksAll)
				done := make(chan error, 1)
				go func() { done <- p.Wait(t.Context(), AcksAll, a, time.Now().Add(longer)) }()
				synctest.Wait()
				d.sync(a.EndOffset)
				if err := <-done; err != nil {
					t.Fatalf("answered in time: %v", err)
				}
			}
			a := mustAppend(t, p, 1, AcksAll)
			began := time.Now()
			err := p.Wait(t.Context(), AcksAll, a, began.Add(timeout+time.Second))
			if took := time.Since(began); !errors.Is(err, kafka.ErrRequestTimedOut) || took != timeout+time.Second {
				t.Fatalf("%v after %v, want a timeout after %v", err, took, timeout+time.Second)
			}
			d.sync(a.EndOffset)
		}
		p.leave(kafka.ErrNotLeaderOrFollower)
		if len(p.mu.committed.free) != 0 {
			t.Fatal("waiters, and their timers, outlive the service")
		}
	})
}

// Records of one epoch may be replaced in the next: the watermark passing their offset proves nothing then.
func TestWaitCountsForOneEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPartition(t, 1)
		apply(t, p, leading(4, 0, 1))
		a := mustAppend(t, p, 2, AcksAll)
		done := make(chan error, 1)
		go func() { done <- p.WaitCommitted(t.Context(), a.LeaderEpoch, a.EndOffset) }()
		synctest.Wait()
		apply(t, p, leading(5, 1, 1))
		if err := <-done; !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
			t.Fatalf("got %v", err)
		}
		d.sync(2)
		if err := p.WaitCommitted(t.Context(), a.LeaderEpoch, a.EndOffset); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
			t.Fatalf("got %v", err)
		}
		if hw := p.HighWatermark(); hw != 2 {
			t.Fatalf("watermark %d", hw)
		}
	})
}

func TestLeadsOnlyOnceTheEpochIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newTestPartition(t, 1)
		d.hold = make(chan struct{})
		d.end, d.durable = 7, 7
		applied := make(chan error, 1)
		go func() { applied <- p.apply(t.Context(), leading(2, 0, 1)) }()
		synctest.Wait()
		if _, err := p.Append(AppendRequest{Batches: batch(1), LeaderEpoch: kafka.NoLeaderEpoch}); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
			t.Fatalf("appended before the epoch was durable: %v", err)
		}
		if _, err := p.Snapshot(kafka.NoLeaderEpoch); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
			t.Fatalf("answered before the epoch was durable: %v", err)
		}
		close(d.hold)
		if err := <-applied; err != nil {
			t.Fatal(err)
		}
		s, err := p.Snapshot(2)
		if err != nil || s.HighWatermark != 7 {
			t.Fatalf("%+v, %v: what was recovered is committed on one node", s, err)
		}
		if _, err := p.Snapshot(1); !errors.Is(err, kafka.ErrFencedLeaderEpoch) {
			t.Fatalf("got %v", err)
		}
		if _, err := p.Snapshot(3); !errors.Is(err, kafka.ErrUnknownLeaderEpoch) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestMinInsyncReplicas(t *testing.T) {
	p, d := newTestPartition(t, 2)
	apply(t, p, &metadata.Partition{Index: 3, Replicas: []kafka.BrokerID{1, 2}, ISR: []kafka.BrokerID{1}, Leader: 1})
	if _, err := p.Append(AppendRequest{Batches: batch(1), Acks: AcksAll, LeaderEpoch: kafka.NoLeaderEpoch}); !errors.Is(err, kafka.ErrNotEnoughReplicas) {
		t.Fatalf("got %v", err)
	}
	mustAppend(t, p, 1, AcksLeader)
	d.sync(1)
	if hw := p.HighWatermark(); hw != 0 {
		t.Fatalf("the watermark moved to %d below min.insync.replicas", hw)
	}
	c := *p.Config()
	c.MinInsyncReplicas = 1
	p.reconfigure(c)
	if hw := p.HighWatermark(); hw != 1 {
		t.Fatalf("watermark %d once one replica is enough", hw)
	}
}

func TestWatchersAreSignalled(t *testing.T) {
	p, d := newTestPartition(t, 1)
	apply(t, p, leading(0, 0, 1))
	a, b := make(chan struct{}, 1), make(chan struct{}, 1)
	p.Watch(a)
	p.Watch(b)
	mustAppend(t, p, 1, AcksLeader)
	if len(a) != 0 {
		t.Fatal("signalled before anything was committed")
	}
	d.sync(1)
	p.Unwatch(a)
	mustAppend(t, p, 1, AcksLeader)
	d.sync(2) // b was not read: the signals collapse
	if len(a) != 1 || len(b) != 1 {
		t.Fatalf("signals: %d, %d", len(a), len(b))
	}
	<-b
	p.leave(kafka.ErrUnknownTopicOrPartition)
	if len(b) != 1 {
		t.Fatal("no signal at the end of service")
	}
	if _, err := p.Append(AppendRequest{Batches: batch(1), LeaderEpoch: kafka.NoLeaderEpoch}); !errors.Is(err, kafka.ErrUnknownTopicOrPartition) {
		t.Fatalf("got %v", err)
	}
}

func TestAcknowledgingAllocatesNothing(t *testing.T) {
	p, d := newTestPartition(t, 1)
	apply(t, p, leading(0, 0, 1))
	var start, done sync.WaitGroup
	wait := make(chan Appended)
	go func() {
		for a := range wait {
			start.Done()
			_ = p.Wait(context.Background(), AcksAll, a, time.Now().Add(time.Minute))
			done.Done()
		}
	}()
	defer close(wait)
	b := batch(1)
	allocs := testing.AllocsPerRun(200, func() {
		res, _ := d.Append(b, 0, record.FromClient)
		start.Add(1)
		done.Add(1)
		wait <- Appended{EndOffset: res.EndOffset()}
		start.Wait()
		d.sync(res.EndOffset())
		done.Wait()
	})
	if allocs > 0 {
		t.Fatalf("%.1f allocations per acknowledgement", allocs)
	}
}

// Many wait while the disk proceeds and leadership comes and goes: every wait ends, and none ends well before its
// records are on the disk.
func TestConcurrentWaits(t *testing.T) {
	p, d := newTestPartition(t, 1)
	apply(t, p, leading(0, 0, 1))
	stop := make(chan struct{})
	var disk, producers sync.WaitGroup
	disk.Go(func() {
		for epoch := kafka.LeaderEpoch(1); ; epoch++ {
			for range 200 {
				select {
				case <-stop:
					d.sync(d.LogEnd())
					return
				default:
					d.sync(d.LogEnd())
				}
			}
			if err := p.apply(context.Background(), leading(epoch, kafka.PartitionEpoch(epoch), 1)); err != nil {
				t.Error(err)
			}
		}
	})
	var good, lost sync.Map
	for i := range 16 {
		producers.Go(func() {
			b := batch(1 + i%3)
			began, acked := time.Now(), false
			for n := 0; n < 500 || !acked && time.Since(began) < time.Minute; n++ {
				a, err := p.Append(AppendRequest{Batches: b, Acks: AcksAll, LeaderEpoch: kafka.NoLeaderEpoch, Origin: record.FromCoordinator})
				if err == nil {
					err = p.Wait(context.Background(), Acks(1-2*(n%2)), a, time.Now().Add(time.Minute))
				}
				switch {
				case err == nil && d.DurableEnd() < a.EndOffset:
					t.Errorf("acknowledged up to %d with %d on the disk", a.EndOffset, d.DurableEnd())
				case err == nil:
					acked = true
					good.Store(i, true)
				case errors.Is(err, kafka.ErrNotLeaderOrFollower):
					lost.Store(i, true)
				default:
					t.Error(err)
				}
			}
		})
	}
	producers.Wait()
	close(stop)
	disk.Wait()
	if _, ok := good.Load(0); !ok {
		t.Error("nothing was acknowledged")
	}
	if n := p.mu.committed.len() + p.mu.durable.len(); n != 0 {
		t.Errorf("%d still wait", n)
	}
}

// KIP-207: a new leader does not know the watermark yet, and must not tell a smaller one than its predecessor did.
func TestLatestIsNotAvailableBelowTheEpochStart(t *testing.T) {
	p, d := newTestPartition(t, 1)
	d.end, d.durable = 10, 10
	apply(t, p, leading(3, 0, 1, 2))
	if _, err := p.OffsetForTimestamp(TimestampLatest, ReadUncommitted, kafka.NoLeaderEpoch); !errors.Is(err, kafka.ErrOffsetNotAvailable) {
		t.Fatalf("got %v", err)
	}
	if found, err := p.OffsetForTimestamp(TimestampLatest, ReadToEnd, kafka.NoLeaderEpoch); err != nil || found.Offset != 10 {
		t.Fatalf("a replica asks: %+v, %v", found, err)
	}
	p.mu.Lock()
	p.mu.progress.durable(2, 10)
	p.advanceLocked()
	p.mu.Unlock()
	if found, err := p.OffsetForTimestamp(TimestampLatest, ReadUncommitted, kafka.NoLeaderEpoch); err != nil || found.Offset != 10 || found.LeaderEpoch != 3 {
		t.Fatalf("%+v, %v", found, err)
	}
}

func (d *testDisk) OnDamaged(func())      {}
func (d *testDisk) Damaged() []log.Damage { return nil }

// A partition with one replica pays nothing for those that have more.
func TestAppendingAllocatesNothing(t *testing.T) {
	p, d := newTestPartition(t, 1)
	apply(t, p, leading(0, 0, 1))
	b := batch(1)
	if allocs := testing.AllocsPerRun(200, func() {
		a, err := p.Append(AppendRequest{Batches: b, Acks: AcksAll, LeaderEpoch: kafka.NoLeaderEpoch, Origin: record.FromCoordinator})
		if err != nil {
			t.Fatal(err)
		}
		d.sync(a.EndOffset)
	}); allocs > 0 {
		t.Fatalf("%.1f allocations per append", allocs)
	}
}
