package group

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/coordinator"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// twoNodes are the group services of two nodes over one controller and one set of logs.
func twoNodes(t *testing.T) (one *serviceRig, two *Service) {
	one = newServiceRig(t)
	if _, err := one.store.RegisterBroker(t.Context(), metadata.RegisterBroker{ID: 2, Incarnation: [16]byte{2}, Directory: [16]byte{2}}); err != nil {
		t.Fatal(err)
	}
	if err := one.store.FenceBroker(t.Context(), 2, false, "test"); err != nil {
		t.Fatal(err)
	}
	result := one.store.CreateTopics(t.Context(), []metadata.CreateTopic{{Name: kafka.OffsetsTopic, ID: kafka.NewTopicID(), Internal: true,
		Partitions: -1, ReplicationFactor: -1, Assignment: [][]kafka.BrokerID{{1, 2}}}}, false)
	if result[0].Err != nil {
		t.Fatal(result[0].Err)
	}
	c := *config.Default()
	c.GroupInitialRebalanceWait = 10 * time.Millisecond
	two = NewService(Options{NodeID: 2, Store: one.store, Open: one.logs.Open, Config: config.NewLive(&c), Clock: clock.System{},
		Logger: slog.New(slog.DiscardHandler)})
	two.Start()
	t.Cleanup(two.Close)
	return one, two
}

func (r *serviceRig) moveTo(id kafka.BrokerID) {
	r.t.Helper()
	topic := r.store.Image().Topic(kafka.OffsetsTopic)
	err := r.store.SetPartitionLeader(r.t.Context(), metadata.SetPartitionLeader{Partition: topic.TopicPartition(0), Leader: id,
		Base: topic.Partitions.At(0).PartitionEpoch})
	if err != nil {
		r.t.Fatal(err)
	}
}

func commitOf(member string, generation int32, offset int64) *Commit {
	return &Commit{Group: "g", Version: 9, Generation: generation, MemberID: member, RetentionMillis: -1,
		Topics: []CommitTopic{{Name: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 3, Offset: offset}}}}}
}

// settled does an operation until its coordinator has loaded.
func settled[R any](t *testing.T, do func() *coordinator.Promise[R]) (R, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		v, err := do().Wait(ctx)
		if !errors.Is(err, kafka.ErrCoordinatorLoadInProgress) {
			return v, err
		}
		time.Sleep(time.Millisecond)
	}
}

// A group moves with the leadership of its partition: members, generation and offsets are there at the new coordinator, and
// the old one coordinates nothing from the moment on that its image says so, though its events are still to be read.
func TestGroupsMoveWithTheLeader(t *testing.T) {
	one, two := twoNodes(t)
	first, err := settled(t, func() *JoinPromise { return one.join("g", "", 9) })
	if err != nil {
		t.Fatal(err)
	}
	joined := await(t, one.join("g", first.MemberID, 9))
	if joined.ErrorCode != 0 {
		t.Fatalf("join: %+v", joined)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 4, "g", joined.MemberID, joined.Generation
	await(t, one.Sync(&SyncRequest{SyncGroupRequest: sync}))
	if codes := await(t, one.Commit(commitOf(joined.MemberID, joined.Generation, 42))); codes[0][0] != 0 {
		t.Fatalf("commit: %v", codes)
	}
	if _, err := two.Fetch("g", nil).Wait(t.Context()); !coordinator.NeverBegun(err) || !errors.Is(err, kafka.ErrNotCoordinator) {
		t.Errorf("at the other node: %v", err)
	}
	if id, err := two.Coordinator(t.Context(), "g"); id != 1 || err != nil {
		t.Errorf("the other node names %d, %v", id, err)
	}

	one.moveTo(2)
	hb := kmsg.NewPtrHeartbeatRequest()
	hb.Group, hb.MemberID, hb.Generation = "g", joined.MemberID, joined.Generation
	if _, err := one.Heartbeat(hb).Wait(t.Context()); !errors.Is(err, kafka.ErrNotCoordinator) {
		t.Errorf("heartbeat at the old coordinator: %v", err)
	}
	if _, err := one.Commit(commitOf(joined.MemberID, joined.Generation, 43)).Wait(t.Context()); !errors.Is(err, kafka.ErrNotCoordinator) {
		t.Errorf("commit at the old coordinator: %v", err)
	}
	if _, err := two.Heartbeat(hb).Wait(t.Context()); err != nil && !errors.Is(err, kafka.ErrCoordinatorLoadInProgress) {
		t.Errorf("heartbeat at the new coordinator, at once: %v", err)
	}
	if id, err := one.Coordinator(t.Context(), "g"); id != 2 || err != nil {
		t.Errorf("the old one names %d, %v", id, err)
	}
	if _, err := settled(t, func() *coordinator.Promise[struct{}] { return two.Heartbeat(hb) }); err != nil {
		t.Fatalf("heartbeat at the new coordinator: %v", err)
	}
	got := await(t, two.Fetch("g", nil))
	if len(got) != 1 || got[0].Partitions[0].Offset != 42 {
		t.Fatalf("offsets at the new coordinator: %+v", got)
	}
	if codes := await(t, two.Commit(commitOf(joined.MemberID, joined.Generation, 44))); codes[0][0] != 0 {
		t.Fatalf("commit at the new coordinator: %v", codes)
	}

	one.moveTo(1)
	if _, err := settled(t, func() *coordinator.Promise[struct{}] { return one.Heartbeat(hb) }); err != nil {
		t.Fatalf("heartbeat back at the first: %v", err)
	}
	if got := await(t, one.Fetch("g", nil)); got[0].Partitions[0].Offset != 44 {
		t.Fatalf("offsets back at the first: %+v", got)
	}
}
