package replica

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

// testStorage makes testDisks.
type testStorage struct {
	mu     sync.Mutex
	disks  map[kafka.TopicPartition]*testDisk
	config map[kafka.TopicPartition]config.Topic
	fail   int // creations to refuse
	// listing, if set, runs once, before the manager is told which partitions there are.
	listing func()
}

func (s *testStorage) create(id kafka.TopicPartition, c config.Topic) (disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return nil, kafka.ErrKafkaStorageError
	}
	if s.disks[id] == nil {
		s.disks[id] = &testDisk{}
	}
	s.config[id] = c
	return s.disks[id], nil
}

func (s *testStorage) reconfigure(id kafka.TopicPartition, c config.Topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config[id] = c
}

func (s *testStorage) remove(_ context.Context, id kafka.TopicPartition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.disks, id)
	return nil
}

func (s *testStorage) partitions() (ids []kafka.TopicPartition) {
	s.mu.Lock()
	if first := s.listing; first != nil {
		s.listing = nil
		s.mu.Unlock()
		first()
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	for id := range s.disks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

func (s *testStorage) awaitPartitions(t *testing.T, want int) {
	t.Helper()
	for range 60_000 {
		if len(s.partitions()) == want {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%d partitions are on the disk, want %d", len(s.partitions()), want)
}

// server is metadata and partitions on a disk of the test's.
type server struct {
	t        *testing.T
	metadata *controller.Controller
	storage  *testStorage
	manager  *Manager
	ctx      context.Context
}

func startNode(t *testing.T, fs vfs.FS, storage *testStorage, process byte) *server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	c, err := controller.Open(controller.Options{FS: fs, Dir: "/data/metadata", NodeID: 1, Directory: [16]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	n := &server{t: t, metadata: c, storage: storage, ctx: ctx}
	if _, err := c.RegisterBroker(ctx, metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{process}, Directory: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	n.manager = newManager(Options{Metadata: c, Broker: 1, Config: config.Default(), Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler)}, storage)
	n.manager.Start()
	n.settle()
	return n
}

func (n *server) settle() {
	n.t.Helper()
	if err := n.manager.WaitApplied(n.ctx, n.metadata.Image().Offset()); err != nil {
		n.t.Fatal(err)
	}
}

func (n *server) stop() {
	n.t.Helper()
	n.manager.Close()
	if err := n.metadata.Close(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *server) createTopic(name string, partitions int32) kafka.TopicID {
	n.t.Helper()
	r := n.metadata.CreateTopics(n.ctx, []metadata.CreateTopic{{Name: name, ID: kafka.NewTopicID(), Partitions: partitions, ReplicationFactor: -1}}, false)
	if r[0].Err != nil {
		n.t.Fatal(r[0].Err)
	}
	n.settle()
	return r[0].Topic.ID
}

func newTestStorage() *testStorage {
	return &testStorage{disks: map[kafka.TopicPartition]*testDisk{}, config: map[kafka.TopicPartition]config.Topic{}}
}

func TestManagerFollowsTheMetadata(t *testing.T) {
	defer goleak.VerifyNone(t)
	storage := newTestStorage()
	n := startNode(t, vfs.NewMem(0), storage, 1)
	id := n.createTopic("orders", 40)
	for i := range int32(40) {
		p, err := n.manager.Partition(kafka.TopicPartition{Topic: id, Partition: i})
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, p, 1, AcksAll)
	}
	for _, test := range []struct {
		id   kafka.TopicPartition
		want error
	}{
		{kafka.TopicPartition{Topic: id, Partition: 40}, kafka.ErrUnknownTopicOrPartition},
		{kafka.TopicPartition{Topic: kafka.TopicID{9}}, kafka.ErrUnknownTopicID},
	} {
		if _, err := n.manager.Partition(test.id); !errors.Is(err, test.want) {
			t.Errorf("%v: got %v, want %v", test.id, err, test.want)
		}
	}

	size := "5000"
	if err := n.metadata.SetConfig(n.ctx, metadata.SetConfig{
		Resource: metadata.Resource{Type: metadata.TopicResource, Name: "orders"},
		Values:   map[string]*string{"max.message.bytes": &size}, Base: n.metadata.Image().Offset()}, false); err != nil {
		t.Fatal(err)
	}
	n.settle()
	last := kafka.TopicPartition{Topic: id, Partition: 39}
	p, _ := n.manager.Partition(last)
	if p.Config().MaxMessageBytes != 5000 || storage.config[last].MaxMessageBytes != 5000 {
		t.Fatalf("max.message.bytes is %d, and %d in the store", p.Config().MaxMessageBytes, storage.config[last].MaxMessageBytes)
	}

	if err := n.metadata.DeleteTopic(n.ctx, id); err != nil {
		t.Fatal(err)
	}
	n.settle()
	if len(n.manager.Partitions()) != 0 {
		t.Fatal("partitions of a deleted topic remain")
	}
	storage.awaitPartitions(t, 0)
	if _, err := p.Append(AppendRequest{Batches: batch(1), LeaderEpoch: kafka.NoLeaderEpoch}); !errors.Is(err, kafka.ErrUnknownTopicOrPartition) {
		t.Fatalf("got %v", err)
	}
	n.stop()
}

// A new process leads in a new epoch; what was deleted while the node was down is deleted at its start, and nothing else.
func TestManagerReconcilesAtStart(t *testing.T) {
	defer goleak.VerifyNone(t)
	fs, storage := vfs.NewMem(0), newTestStorage()
	n := startNode(t, fs, storage, 1)
	id := n.createTopic("orders", 2)
	kept := kafka.TopicPartition{Topic: id, Partition: 1}
	n.stop()
	before := storage.disks[kept].epoch

	gone := kafka.TopicPartition{Topic: kafka.NewTopicID(), Partition: 0}
	storage.disks[gone] = &testDisk{}
	n = startNode(t, fs, storage, 2)
	storage.awaitPartitions(t, 2)
	if storage.disks[gone] != nil {
		t.Fatal("the wrong partition was deleted")
	}
	if after := storage.disks[kept].epoch; after <= before {
		t.Fatalf("leader epoch %d in a new process after %d", after, before)
	}
	n.stop()
}

// A topic that is made while the manager looks for what was deleted before its start is none of that.
func TestATopicMadeDuringTheSweepIsKept(t *testing.T) {
	storage := newTestStorage()
	started, made := make(chan *server, 1), make(chan kafka.TopicID, 1)
	storage.listing = func() { made <- (<-started).createTopic("orders", 1) }
	n := startNode(t, vfs.NewMem(0), storage, 1)
	started <- n
	id := kafka.TopicPartition{Topic: <-made}
	n.stop() // the sweep is over
	if storage.disks[id] == nil {
		t.Fatal("the topic's partition was deleted")
	}
}

func TestManagerTriesAgain(t *testing.T) {
	storage := newTestStorage()
	n := startNode(t, vfs.NewMem(0), storage, 1)
	defer n.stop()
	storage.fail = 1
	id := kafka.TopicPartition{Topic: n.createTopic("orders", 1)}
	if _, err := n.manager.Partition(id); !errors.Is(err, kafka.ErrNotLeaderOrFollower) {
		t.Fatalf("got %v", err)
	}
	for n.ctx.Err() == nil {
		if _, err := n.manager.Partition(id); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("never tried again")
}
