package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/controller"
	"chronik/internal/coordinator"
	"chronik/internal/coordinator/coordtest"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Java's own values.
func TestPartitionFor(t *testing.T) {
	for s, want := range map[string]int32{
		"": 0, "a": 97, "hello": 99162322, "polygenelubricants": -2147483648, "😀": 1772899, "ä": 228,
	} {
		if got := javaHash(s); got != want {
			t.Errorf("hash of %q is %d, want %d", s, got, want)
		}
	}
	if got := PartitionFor("polygenelubricants", 50); got != 0 {
		t.Errorf("partition %d for the smallest integer, want 0", got)
	}
	if got := PartitionFor("hello", 50); got != 22 {
		t.Errorf("partition %d", got)
	}
}

type serviceRig struct {
	*Service
	t     *testing.T
	store *controller.Controller
	logs  *coordtest.Logs
	edit  func(*config.Config) // of the next start; may be nil
}

func newServiceRig(t *testing.T) *serviceRig {
	store, err := controller.OpenMemory(controller.Options{NodeID: 1, Directory: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if _, err := store.RegisterBroker(t.Context(), metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{1}, Directory: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	r := &serviceRig{t: t, store: store, logs: &coordtest.Logs{}}
	r.start()
	return r
}

func (r *serviceRig) start() {
	c := *config.Default()
	c.GroupInitialRebalanceWait = 10 * time.Millisecond
	if r.edit != nil {
		r.edit(&c)
	}
	r.Service = NewService(Options{
		NodeID: 1, Store: r.store, Open: r.logs.Open, Config: config.NewLive(&c), Clock: clock.System{},
		Logger: slog.New(slog.DiscardHandler),
	})
	r.Start()
	r.t.Cleanup(r.Service.Close)
}

func await[R any](t *testing.T, p *coordinator.Promise[R]) R {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, err := p.Wait(ctx)
	if err != nil {
		t.Fatalf("answer: %v", err)
	}
	return v
}

func (r *serviceRig) join(group, member string, version int16) *JoinPromise {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.ProtocolType = version, group, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10000, 10000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", subscription([]string{"t"})
	req.Protocols = append(req.Protocols, p)
	return r.Join(&JoinRequest{JoinGroupRequest: req, ClientID: "c", ClientHost: "/h"})
}

func TestServiceGroupLifeAndRestart(t *testing.T) {
	r := newServiceRig(t)
	if _, err := r.join("g", "", 9).Wait(t.Context()); !errors.Is(err, kafka.ErrNotCoordinator) {
		t.Fatalf("before there is a topic: %v", err)
	}
	if id, err := r.Coordinator(t.Context(), "g"); id != 1 || err != nil {
		t.Fatalf("coordinator %d, %v", id, err)
	}
	topic := r.store.Image().Topic(kafka.OffsetsTopic)
	if topic == nil || topic.Partitions.Len() != 4 || !topic.Internal || topic.Config["cleanup.policy"] != "compact" {
		t.Fatalf("topic: %+v", topic)
	}
	first := await(t, r.join("g", "", 9))
	if first.ErrorCode != kafka.ErrMemberIDRequired.Code {
		t.Fatalf("first join: %+v", first)
	}
	joined := await(t, r.join("g", first.MemberID, 9))
	if joined.ErrorCode != 0 || joined.Generation != 1 || len(joined.Members) != 1 {
		t.Fatalf("join: %+v", joined)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 4, "g", joined.MemberID, 1
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = joined.MemberID, []byte("all")
	sync.GroupAssignment = append(sync.GroupAssignment, a)
	if s := await(t, r.Sync(&SyncRequest{SyncGroupRequest: sync})); string(s.MemberAssignment) != "all" {
		t.Fatalf("sync: %+v", s)
	}
	commit := &Commit{
		Group: "g", Version: 9, Generation: 1, MemberID: joined.MemberID, RetentionMillis: -1,
		Topics: []CommitTopic{{Name: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 3, Offset: 42}}}},
	}
	if codes := await(t, r.Commit(commit)); codes[0][0] != 0 {
		t.Fatalf("commit: %v", codes)
	}

	r.Service.Close()
	r.start()
	if _, err := r.Coordinator(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	hb := kmsg.NewPtrHeartbeatRequest()
	hb.Group, hb.MemberID, hb.Generation = "g", joined.MemberID, 1
	await(t, r.Heartbeat(hb))
	got := await(t, r.Fetch("g", nil))
	if len(got) != 1 || got[0].Name != "t" || got[0].Partitions[0].Offset != 42 {
		t.Fatalf("offsets after the restart: %+v", got)
	}
	if d := await(t, r.Describe("g", 5)); d.State != "Stable" || string(d.Members[0].MemberAssignment) != "all" {
		t.Fatalf("group after the restart: %+v", d)
	}
}

// A JoinGroup that waits is answered when the coordinator goes, and a waiter that goes leaves nothing.
func TestServiceCloseAnswersWaiters(t *testing.T) {
	r := newServiceRig(t)
	if _, err := r.Coordinator(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	await(t, r.join("g", "", 3))
	waits := r.join("g", "", 3) // the first member does not join again
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := waits.Wait(gone); !errors.Is(err, context.Canceled) {
		t.Fatalf("a waiter without connection: %v", err)
	}
	await(t, r.Describe("g", 5))
	if waits.Done() {
		t.Fatal("answered without the first member")
	}
	r.Service.Close()
	if _, err := waits.Wait(t.Context()); !errors.Is(err, kafka.ErrNotCoordinator) {
		t.Fatalf("after the close: %v", err)
	}
}

// Offsets of a deleted topic go with it.
func TestServiceTopicDeleted(t *testing.T) {
	r := newServiceRig(t)
	if _, err := r.Coordinator(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	made := r.store.CreateTopics(t.Context(), []metadata.CreateTopic{{Name: "t", ID: kafka.NewTopicID(), Partitions: 1, ReplicationFactor: 1}}, false)
	if made[0].Err != nil {
		t.Fatal(made[0].Err)
	}
	await(t, r.Commit(&Commit{
		Group: "g", Version: 9, Generation: -1, RetentionMillis: -1,
		Topics: []CommitTopic{{Name: "t", ID: made[0].Topic.ID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 42}}}},
	}))
	if err := r.store.DeleteTopic(t.Context(), made[0].Topic.ID); err != nil {
		t.Fatal(err)
	}
	for len(await(t, r.Fetch("g", nil))) > 0 {
		time.Sleep(time.Millisecond)
	}
}

// So do those of a topic that was deleted while nobody coordinated the group; what exists stays.
func TestServiceTopicDeletedMeanwhile(t *testing.T) {
	r := newServiceRig(t)
	if _, err := r.Coordinator(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	var ids []kafka.TopicID
	for _, name := range []string{"gone", "here"} {
		made := r.store.CreateTopics(t.Context(), []metadata.CreateTopic{{Name: name, ID: kafka.NewTopicID(), Partitions: 1, ReplicationFactor: 1}}, false)
		if made[0].Err != nil {
			t.Fatal(made[0].Err)
		}
		ids = append(ids, made[0].Topic.ID)
		await(t, r.Commit(&Commit{
			Group: "g", Version: 9, Generation: -1, RetentionMillis: -1,
			Topics: []CommitTopic{{Name: name, ID: made[0].Topic.ID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 42}}}},
		}))
	}
	r.Service.Close()
	if err := r.store.DeleteTopic(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	r.start()
	if _, err := r.Coordinator(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		got := await(t, r.Fetch("g", nil))
		if len(got) == 1 && got[0].Name == "here" {
			break
		}
		if len(got) == 0 || time.Now().After(deadline) {
			t.Fatalf("offsets: %+v", got)
		}
	}
}

// Nothing leaves before it is committed, through the whole service.
func TestServiceWaitsForTheCommit(t *testing.T) {
	r := newServiceRig(t)
	if _, err := r.Coordinator(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	for _, l := range r.logs.All() {
		l.Hold(true)
	}
	p := r.Commit(&Commit{
		Group: "g", Version: 9, Generation: -1, RetentionMillis: -1,
		Topics: []CommitTopic{{Name: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 42}}}},
	})
	read := r.Fetch("g", nil)
	time.Sleep(20 * time.Millisecond)
	if p.Done() || read.Done() {
		t.Fatal("answered before the commit")
	}
	for _, l := range r.logs.All() {
		l.Hold(false)
	}
	await(t, p)
	if got := await(t, read); len(got) != 1 {
		t.Fatalf("read: %+v", got)
	}
}

func BenchmarkCommit(b *testing.B) {
	store, err := controller.OpenMemory(controller.Options{NodeID: 1, Directory: [16]byte{1}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	ctx := context.Background()
	if _, err := store.RegisterBroker(ctx, metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{1}, Directory: [16]byte{1}}); err != nil {
		b.Fatal(err)
	}
	s := NewService(Options{
		NodeID: 1, Store: store, Open: (&coordtest.Logs{}).Open, Config: config.NewLive(config.Default()), Clock: clock.System{},
		Logger: slog.New(slog.DiscardHandler),
	})
	s.Start()
	defer s.Close()
	for i := range 1000 {
		if _, err := s.Coordinator(ctx, fmt.Sprint("group", i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		i := 0
		for pb.Next() {
			i++
			p := s.Commit(&Commit{
				Group: fmt.Sprint("group", i%1000), Version: 9, Generation: -1, RetentionMillis: -1,
				Topics: []CommitTopic{{Name: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: int64(i)}}}},
			})
			if _, err := p.Wait(ctx); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// A small message.max.bytes is for producers: groups keep working, and their batches stay below their topic's limit.
func TestServiceBounds(t *testing.T) {
	r := newServiceRig(t)
	c := *r.o.Config.Load()
	c.Topic.MaxMessageBytes = 100
	r.o.Config.Advance(1, &c)
	if _, err := r.Coordinator(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if b := r.bounds(); b.record != recordMin-recordOverhead || b.batch != recordMin {
		t.Errorf("bounds %+v", b)
	}
	small := "2000"
	err := r.store.SetConfig(t.Context(), metadata.SetConfig{
		Resource: metadata.Resource{Type: metadata.TopicResource, Name: kafka.OffsetsTopic},
		Values:   map[string]*string{"max.message.bytes": &small},
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	if b := r.bounds(); b.record != 2000-recordOverhead || b.batch != 2000 {
		t.Errorf("bounds %+v", b)
	}
}
