package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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
	first := make(chan uint64, 1)
	c.inbox.post(func() { first <- c.loop.barrier.round })
	before := <-first
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
	if got, most := <-rounds-before, uint64(time.Since(start)/barrierInterval)+2; got > most {
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
