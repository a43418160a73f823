package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var directory = [16]byte{7}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustOpen(t testing.TB, o Options) *Controller {
	t.Helper()
	o.Dir, o.NodeID, o.Directory = "/data/metadata", 1, directory
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func register(t testing.TB, c *Controller, incarnation byte) kafka.BrokerEpoch {
	t.Helper()
	epoch, err := c.RegisterBroker(within(t), metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{incarnation}, Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func create(t testing.TB, c *Controller, name string, partitions int32) *metadata.Topic {
	t.Helper()
	r := c.CreateTopics(within(t), []metadata.CreateTopic{{Name: name, Partitions: partitions, ReplicationFactor: -1}}, false)
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	return r[0].Topic
}

func mustClose(t testing.TB, c *Controller) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStoreOnOneNode(t *testing.T) {
	c := mustOpen(t, Options{FS: vfs.NewMem(0)})
	defer mustClose(t, c)
	ctx := within(t)
	cursor := c.Subscribe("test", 0)
	defer cursor.Close()
	if batch, ok := cursor.Poll(); !ok || len(batch.Events) != 1 {
		t.Fatal("a cursor from 0 does not get the image that there is")
	}
	if len(c.Image().ClusterID()) != 22 {
		t.Fatalf("cluster ID %q", c.Image().ClusterID())
	}
	epoch := register(t, c, 1)
	if b := c.Image().Broker(1); b == nil || b.Epoch != epoch || epoch != kafka.BrokerEpoch(c.Image().Offset()) {
		t.Fatalf("broker %+v, epoch %d", b, epoch)
	}
	if c.Controller() != 1 {
		t.Fatalf("controller %d", c.Controller())
	}
	topic := create(t, c, "orders", 3)
	if got := c.Image().TopicByID(topic.ID); got == nil || got.Partitions.Len() != 3 {
		t.Fatalf("the image has %+v when the answer is there", got)
	}
	checked := c.CreateTopics(ctx, []metadata.CreateTopic{{Name: "x", Partitions: 2, ReplicationFactor: -1}, {Name: "orders", Partitions: 1, ReplicationFactor: 1}}, true)
	if checked[0].Err != nil || checked[0].Topic.Partitions.Len() != 2 || !errors.Is(checked[1].Err, kafka.ErrTopicAlreadyExists) {
		t.Fatalf("validated: %+v", checked)
	}
	if c.Image().Topic("x") != nil {
		t.Fatal("validateOnly created the topic")
	}
	if err := c.CreatePartitions(ctx, metadata.CreatePartitions{Topic: "orders", Count: 5}, false); err != nil || c.Image().Topic("orders").Partitions.Len() != 5 {
		t.Fatal(err)
	}
	value := "1000"
	if err := c.SetConfig(ctx, metadata.SetConfig{Resource: metadata.Resource{Type: metadata.TopicResource, Name: "orders"},
		Values: map[string]*string{"retention.ms": &value}}, false); err != nil || c.Image().Topic("orders").Config["retention.ms"] != "1000" {
		t.Fatal(err)
	}
	for i := range 3 {
		first, count, err := c.AllocateProducerIDs(ctx)
		if err != nil || first != kafka.ProducerID(i*1000) || count != 1000 {
			t.Fatal(first, count, err)
		}
	}
	p := c.Image().Topic("orders").Partitions.At(0)
	at, err := c.UpdateISR(ctx, metadata.UpdateISR{Partition: topic.TopicPartition(0), LeaderEpoch: p.LeaderEpoch, Base: p.PartitionEpoch,
		ISR: []metadata.ISRMember{{Broker: 1, Epoch: epoch}}})
	if err != nil || at != p.PartitionEpoch+1 { // the same set again settles what is unknown
		t.Fatal(at, err)
	}
	if err := c.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopic(ctx, topic.ID); err != nil || c.Image().TopicCount() != 0 {
		t.Fatal(err)
	}
	if err := c.UnregisterBroker(ctx, 1); err != nil {
		t.Fatal(err)
	}
	want := "BrokerRegistered TopicCreated PartitionAssigned PartitionAssigned PartitionAssigned " +
		"PartitionAssigned PartitionAssigned ConfigChanged ISRUpdated TopicDeleted BrokerRemoved"
	var got []string
	for batch, ok := cursor.Poll(); ok; batch, ok = cursor.Poll() {
		for _, e := range batch.Events {
			got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", e), "metadata."))
		}
	}
	if strings.Join(got, " ") != want {
		t.Fatalf("events %v", got)
	}
}

// TestRestart: what was answered is there again, under a new leader epoch, and the image is the same byte for byte as one folded
// from the log.
func TestRestart(t *testing.T) {
	fs := vfs.NewMem(0)
	c := mustOpen(t, Options{FS: fs})
	register(t, c, 1)
	id := create(t, c, "orders", 2).ID
	cluster := c.Image().ClusterID()
	before := c.Image()
	mustClose(t, c)
	inspected, err := Inspect(fs, "/data/metadata")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(inspected.Image.EncodeSnapshot(), before.EncodeSnapshot()) {
		t.Fatalf("Inspect has offset %d, the image had %d", inspected.Image.Offset(), before.Offset())
	}
	for start := byte(2); start < 5; start++ {
		c := mustOpen(t, Options{FS: fs, ClusterID: cluster})
		epoch := register(t, c, start)
		topic := c.Image().Topic("orders")
		if topic == nil || topic.ID != id || c.Image().ClusterID() != cluster {
			t.Fatalf("start %d: topic %+v of cluster %s", start, topic, c.Image().ClusterID())
		}
		if p := topic.Partitions.At(1); p.LeaderEpoch != kafka.LeaderEpoch(start-1) || p.Leader != 1 || c.Image().Broker(1).Epoch != epoch {
			t.Fatalf("start %d: %+v", start, p)
		}
		mustClose(t, c)
	}
}

// TestBarrierAfterOpen: a barrier right after Open waits for the replay, no longer.
func TestBarrierAfterOpen(t *testing.T) {
	fs := vfs.NewMem(0)
	for start := range 20 {
		c := mustOpen(t, Options{FS: fs, tick: time.Hour}) // without a tick nothing is tried again
		if err := c.Barrier(within(t)); err != nil {
			t.Fatal(err)
		}
		if start > 0 && c.Image().Topic(fmt.Sprint("t", start-1)) == nil {
			t.Fatalf("start %d: after a barrier the image stands at offset %d", start, c.Image().Offset())
		}
		register(t, c, byte(start+1))
		create(t, c, fmt.Sprint("t", start), 1)
		mustClose(t, c)
	}
}

// TestManyStarts: files do not pile up although each start begins one.
func TestManyStarts(t *testing.T) {
	fs := vfs.NewMem(0)
	var id kafka.TopicID
	for start := byte(1); start <= 40; start++ {
		c := mustOpen(t, Options{FS: fs})
		register(t, c, start)
		if start == 1 {
			id = create(t, c, "orders", 1500).ID // its snapshot takes several chunks
		}
		if p := c.Image().TopicByID(id).Partitions.At(2); p.LeaderEpoch != kafka.LeaderEpoch(start-1) {
			t.Fatalf("start %d: %+v", start, p)
		}
		mustClose(t, c)
		if names, _ := fs.ReadDir("/data/metadata"); len(names) > walFilesMany+4 {
			t.Fatalf("start %d: %d files", start, len(names))
		}
	}
}

func TestOpenRefusesAnotherCluster(t *testing.T) {
	fs := vfs.NewMem(0)
	c := mustOpen(t, Options{FS: fs, ClusterID: "mine"})
	register(t, c, 1)
	mustClose(t, c)
	if _, err := Open(Options{FS: fs, Dir: "/data/metadata", Directory: directory, ClusterID: "theirs"}); err == nil || !strings.Contains(err.Error(), "cluster mine") {
		t.Fatal(err)
	}
}

// TestCompaction: snapshots replace the log, files are used again, and the image read back is the same.
// TestOpenRefusesLostMetadata: to form the cluster anew would be to delete every topic in it.
func TestOpenRefusesLostMetadata(t *testing.T) {
	fs := vfs.NewMem(0)
	c := mustOpen(t, Options{FS: fs, ClusterID: "mine"})
	register(t, c, 1)
	mustClose(t, c)
	mustClose(t, mustOpen(t, Options{FS: fs, ClusterID: "mine", Joined: true}))
	if err := fs.RemoveAll("/data/metadata"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{FS: fs, Dir: "/data/metadata", Directory: directory, ClusterID: "mine", Joined: true}); err == nil || !strings.Contains(err.Error(), "/data/metadata are gone") {
		t.Errorf("opened with lost metadata: %v", err)
	}
}

func TestCompaction(t *testing.T) {
	fs := vfs.NewMem(0)
	o := Options{FS: fs, SnapshotBytes: 64 << 10, WALFileBytes: 128 << 10}
	c := mustOpen(t, o)
	register(t, c, 1)
	topic := create(t, c, "orders", 50)
	var most int64
	for round := range 60 {
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() { create(t, c, "t"+kafka.NewTopicID().Hex(), 3) })
		}
		wait.Wait()
		for other := range c.Image().Topics() {
			if other.ID != topic.ID {
				if err := c.DeleteTopic(within(t), other.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		if most = max(most, fs.Used()); most > 4<<20 {
			t.Fatalf("round %d: the metadata takes %d bytes", round, fs.Used())
		}
	}
	want := c.Image()
	mustClose(t, c)
	inspected, err := Inspect(fs, "/data/metadata")
	if err != nil {
		t.Fatal(err)
	}
	if inspected.SnapshotOffset < 1000 {
		t.Fatalf("the snapshot stands at %d of %d", inspected.SnapshotOffset, want.Offset())
	}
	if !bytes.Equal(inspected.Image.EncodeSnapshot(), want.EncodeSnapshot()) {
		t.Fatal("the image from snapshot and log differs from the one that was")
	}
	c = mustOpen(t, o)
	register(t, c, 2)
	if got := c.Image().Topic("orders"); got == nil || got.ID != topic.ID || got.Partitions.At(49).LeaderEpoch != 1 {
		t.Fatalf("%+v", got)
	}
	mustClose(t, c)
}

// seeds is how many histories to run: CHRONIK_SEEDS, or the number given.
func seeds(otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("CHRONIK_SEEDS"), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// TestCrashHistory opens, changes and crashes again and again, dying in the middle of random file system calls, by kill or power
// loss: every change that was answered is there, and nothing is there twice.
func TestCrashHistory(t *testing.T) {
	for seed := range seeds(100) {
		rng := rand.New(rand.NewPCG(seed, 5))
		fs := vfs.NewMem(0)
		if err := errors.Join(fs.MkdirAll("/data"), fs.SyncDir("/")); err != nil { // the store's part
			t.Fatal(err)
		}
		known := map[string]kafka.TopicID{} // answered
		unsure := map[string]kafka.TopicID{}
		var cluster string
		var lastEpoch kafka.BrokerEpoch
		lastID := kafka.ProducerID(-1)
		for life := byte(1); life <= 6; life++ {
			fs.KillAfter(1+rng.Int64N(120), rand.New(rand.NewPCG(rng.Uint64(), 6)))
			var fatal atomic.Bool
			c, err := Open(Options{FS: fs, Dir: "/data/metadata", NodeID: 1, Directory: directory, SnapshotBytes: 4 << 10, WALFileBytes: 16 << 10,
				Fatal: func(error) { fatal.Store(true) }})
			if err == nil {
				if cluster == "" {
					cluster = c.Image().ClusterID()
				}
				if len(known) > 0 && c.Image().ClusterID() != cluster {
					t.Fatalf("seed %d, life %d: another cluster was formed", seed, life)
				}
				cluster = c.Image().ClusterID()
				crashLife(t, c, rng, life, known, unsure, &lastEpoch, &lastID)
				_ = c.Close()
			} else if !errors.Is(err, vfs.ErrKilled) {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			switch rng.IntN(3) {
			case 0:
				fs = fs.Kill()
			case 1:
				fs = fs.PowerLoss(rand.New(rand.NewPCG(rng.Uint64(), 7)))
			case 2:
				fs = fs.Kill().PowerLoss(rand.New(rand.NewPCG(rng.Uint64(), 8)))
			}
		}
		c, err := Open(Options{FS: fs, Dir: "/data/metadata", NodeID: 1, Directory: directory})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		register(t, c, 200)
		for name, id := range known {
			if topic := c.Image().Topic(name); topic == nil || topic.ID != id {
				t.Fatalf("seed %d: topic %s was answered and is %+v", seed, name, topic)
			}
		}
		for topic := range c.Image().Topics() {
			if known[topic.Name] != topic.ID && unsure[topic.Name] != topic.ID {
				t.Fatalf("seed %d: topic %s appeared by itself", seed, topic.Name)
			}
		}
		mustClose(t, c)
	}
}

func crashLife(t *testing.T, c *Controller, rng *rand.Rand, life byte, known, unsure map[string]kafka.TopicID, lastEpoch *kafka.BrokerEpoch, lastID *kafka.ProducerID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	epoch, err := c.RegisterBroker(ctx, metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{life}, Directory: directory})
	if err == nil {
		if epoch <= *lastEpoch {
			t.Fatalf("life %d: broker epoch %d after %d", life, epoch, *lastEpoch)
		}
		*lastEpoch = epoch
	}
	for i := 0; err == nil && i < 200; i++ {
		name := fmt.Sprintf("t-%d-%d", life, i)
		id := kafka.TopicID{life, byte(i), byte(rng.IntN(250))}
		unsure[name] = id
		r := c.CreateTopics(ctx, []metadata.CreateTopic{{Name: name, ID: id, Partitions: 1 + rng.Int32N(5), ReplicationFactor: 1}}, false)
		if err = r[0].Err; err == nil {
			known[name] = id
		}
		if first, _, e := c.AllocateProducerIDs(ctx); e == nil {
			if first <= *lastID {
				t.Fatalf("life %d: producer ID %d was given out already", life, first)
			}
			*lastID = first + 999
		}
	}
	if err != nil && kafka.CodeOf(err) != kafka.ErrRequestTimedOut.Code && kafka.CodeOf(err) != kafka.ErrKafkaStorageError.Code {
		t.Fatalf("life %d: %v", life, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("life %d: a command hung: %v", life, err)
	}
}

func TestFailedSyncIsFatal(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
	var fatal atomic.Int32
	c := mustOpen(t, Options{FS: fault, Fatal: func(error) { fatal.Add(1) }})
	register(t, c, 1)
	create(t, c, "before", 1)
	fault.Add(vfs.Rule{Op: vfs.OpSync, Err: syscall.EIO})
	r := c.CreateTopics(within(t), []metadata.CreateTopic{{Name: "lost", Partitions: 1, ReplicationFactor: 1}}, false)
	if code := kafka.CodeOf(r[0].Err); code != kafka.ErrRequestTimedOut.Code {
		t.Fatalf("a topic whose sync failed is answered with %v", r[0].Err)
	}
	r = c.CreateTopics(within(t), []metadata.CreateTopic{{Name: "later", Partitions: 1, ReplicationFactor: 1}}, false)
	if !errors.Is(r[0].Err, kafka.ErrKafkaStorageError) {
		t.Fatalf("after a failed sync: %v", r[0].Err)
	}
	if err := c.Barrier(within(t)); err == nil {
		t.Fatal("a barrier succeeds after a failed sync")
	}
	if c.Image().Topic("lost") != nil || c.Image().Topic("before") == nil {
		t.Fatal("the image does not hold what is committed")
	}
	if n := fatal.Load(); n != 1 {
		t.Fatalf("Fatal was called %d times", n)
	}
	_ = c.Close()
}

func TestCloseAnswersEverybody(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
	c := mustOpen(t, Options{FS: fault})
	register(t, c, 1)
	fault.Add(vfs.Rule{Op: vfs.OpSync, Delay: 20 * time.Millisecond})
	var wait sync.WaitGroup
	started := make(chan struct{}, 50)
	for i := range 50 {
		wait.Go(func() {
			started <- struct{}{}
			r := c.CreateTopics(context.Background(), []metadata.CreateTopic{{Name: fmt.Sprint("t", i), Partitions: 1, ReplicationFactor: 1}}, false)
			if r[0].Err != nil && !errors.Is(r[0].Err, kafka.ErrRequestTimedOut) {
				t.Error(r[0].Err)
			}
			if err := c.Barrier(context.Background()); err != nil && !errors.Is(err, kafka.ErrRequestTimedOut) {
				t.Error(err)
			}
		})
	}
	for range 50 {
		<-started
	}
	mustClose(t, c)
	wait.Wait()
	if _, _, err := c.AllocateProducerIDs(context.Background()); !errors.Is(err, kafka.ErrRequestTimedOut) {
		t.Fatal(err)
	}
}

// TestCancelledCommands: who gives up before the decision leaves no trace.
func TestCancelledCommands(t *testing.T) {
	c := mustOpen(t, Options{FS: vfs.NewMem(0)})
	defer mustClose(t, c)
	register(t, c, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := c.CreateTopics(ctx, []metadata.CreateTopic{{Name: "never", Partitions: 1, ReplicationFactor: 1}}, false)
	if !errors.Is(r[0].Err, kafka.ErrRequestTimedOut) {
		t.Fatal(r[0].Err)
	}
	if err := c.Barrier(within(t)); err != nil || c.Image().Topic("never") != nil {
		t.Fatal(err)
	}
}

// TestBatching: commands that come together share entries.
func TestBatching(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
	c := mustOpen(t, Options{FS: fault})
	defer mustClose(t, c)
	register(t, c, 1)
	fault.Add(vfs.Rule{Op: vfs.OpSync, Delay: 2 * time.Millisecond})
	before := c.Image().Offset()
	var wait sync.WaitGroup
	for range 1000 {
		wait.Go(func() {
			if _, _, err := c.AllocateProducerIDs(within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if entries := c.Image().Offset() - before; entries > 100 {
		t.Errorf("1,000 concurrent commands took %d entries", entries)
	}
	if next := c.Image().NextProducerID(); next != 1_000_000 {
		t.Errorf("the next producer ID is %d", next)
	}
}

// TestRegistrationsNeedTheirOwnEntry: two processes of one broker never share an epoch, however close they come.
func TestRegistrationsNeedTheirOwnEntry(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
	c := mustOpen(t, Options{FS: fault})
	defer mustClose(t, c)
	fault.Add(vfs.Rule{Op: vfs.OpSync, Delay: time.Millisecond})
	var mu sync.Mutex
	seen := map[kafka.BrokerEpoch]bool{}
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Go(func() {
			epoch := register(t, c, byte(i+1))
			mu.Lock()
			defer mu.Unlock()
			if seen[epoch] {
				t.Errorf("epoch %d was given twice", epoch)
			}
			seen[epoch] = true
		})
	}
	wait.Wait()
}

func TestBarrierIsShared(t *testing.T) {
	c := mustOpen(t, Options{FS: vfs.NewMem(0)})
	defer mustClose(t, c)
	register(t, c, 1)
	start := time.Now()
	var wait sync.WaitGroup
	for range 2000 {
		wait.Go(func() {
			if err := c.Barrier(within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	rounds := make(chan uint64, 1)
	c.inbox.post(func() { rounds <- c.loop.barrier.round })
	if got, most := <-rounds, uint64(time.Since(start)/barrierInterval)+2; got > most {
		t.Fatalf("%d rounds, more than the %d that the time allows", got, most)
	}
}

func TestOpenMemory(t *testing.T) {
	c, err := OpenMemory(Options{NodeID: 1, Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	register(t, c, 1)
	create(t, c, "orders", 3)
	mustClose(t, c)
}

func BenchmarkChanges(b *testing.B) {
	for _, parallel := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			c, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/metadata", NodeID: 1, Directory: directory})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { mustClose(b, c) }()
			register(b, c, 1)
			b.SetParallelism(parallel / 2)
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					create(b, c, "t"+kafka.NewTopicID().Hex(), 1)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// BenchmarkThousandTopics creates 1,000 topics in requests of 50.
func BenchmarkThousandTopics(b *testing.B) {
	for b.Loop() {
		c, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/metadata", NodeID: 1, Directory: directory})
		if err != nil {
			b.Fatal(err)
		}
		register(b, c, 1)
		for i := range 20 {
			var topics []metadata.CreateTopic
			for k := range 50 {
				topics = append(topics, metadata.CreateTopic{Name: fmt.Sprintf("t-%d-%d", i, k), Partitions: 3, ReplicationFactor: -1})
			}
			for _, r := range c.CreateTopics(within(b), topics, false) {
				if r.Err != nil {
					b.Fatal(r.Err)
				}
			}
		}
		mustClose(b, c)
	}
}

// BenchmarkStart is from nothing to a registered broker, and with 10,000 partitions.
func BenchmarkStart(b *testing.B) {
	b.Run("empty", func(b *testing.B) {
		for b.Loop() {
			c, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/metadata", NodeID: 1, Directory: directory})
			if err != nil {
				b.Fatal(err)
			}
			register(b, c, 1)
			b.StopTimer()
			mustClose(b, c)
			b.StartTimer()
		}
	})
	b.Run("10000 partitions", func(b *testing.B) {
		dir := b.TempDir() + "/metadata"
		open := func() *Controller {
			c, err := Open(Options{FS: vfs.OS{}, Dir: dir, NodeID: 1, Directory: directory})
			if err != nil {
				b.Fatal(err)
			}
			return c
		}
		c := open()
		register(b, c, 1)
		for i := range 100 {
			create(b, c, fmt.Sprint("t", i), 100)
		}
		mustClose(b, c)
		incarnation := byte(1)
		for b.Loop() {
			incarnation++
			c := open()
			register(b, c, incarnation)
			b.StopTimer()
			mustClose(b, c)
			b.StartTimer()
		}
	})
}
