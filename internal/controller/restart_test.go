package controller

import (
	"bytes"
	"context"
	"encoding/binary"
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

	"go.etcd.io/raft/v3"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

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

// TestCompaction: snapshots replace the log, files are used again, and the image read back is the same.
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

// TestBarrierOfAnEarlierProcess: the answer to a round of the process before is not taken for that to a round of this one, which
// began when more was committed.
func TestBarrierOfAnEarlierProcess(t *testing.T) {
	rounds := map[uint64]bool{}
	for range 100 {
		b := newBarrier()
		if b.round == 0 || rounds[b.round] {
			t.Fatalf("round %d once more", b.round)
		}
		rounds[b.round] = true
	}
	b := newBarrier()
	b.active = []waiter{{}}
	old := b
	old.round = newBarrier().round
	b.readable(raft.ReadState{Index: 7, RequestCtx: binary.BigEndian.AppendUint64(nil, old.round)})
	if b.index != 0 {
		t.Fatal("an answer to another process's round counts")
	}
	b.readable(raft.ReadState{Index: 7, RequestCtx: binary.BigEndian.AppendUint64(nil, b.round)})
	if b.index != 7 {
		t.Fatal("the answer does not count")
	}
}
