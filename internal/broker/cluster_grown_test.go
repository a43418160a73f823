package broker

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

// One node with groups is joined by two: __consumer_offsets gets three replicas, while a group goes on to commit, and then any
// node may go.
func TestClusterGrownFromOneNode(t *testing.T) {
	cluster, addrs := freePorts(t, 3), freePorts(t, 3)
	c := &testCluster{t: t, nodes: make([]*testNode, 3)}
	for i := range 3 {
		keys := []string{fmt.Sprintf("node.id=%d", i+1), "kafka=" + addrs[i], "cluster.listen=" + cluster[i], "wal.file.bytes=1048576", "wal.max.bytes=16777216"}
		if i > 0 {
			keys = append(keys, "cluster.join="+cluster[0])
		}
		c.cfgs = append(c.cfgs, load(t, "/data", keys...))
		c.disks = append(c.disks, vfs.NewMem(0))
	}
	t.Cleanup(func() {
		for i, n := range c.nodes {
			if n != nil {
				if t.Failed() {
					t.Logf("log of node %d:\n%s", i+1, n.log)
				}
				c.stop(i)
			}
		}
	})
	c.start(0)
	adm := kadm.NewClient(c.client())
	if _, err := adm.CreateTopic(within(t), 1, 1, nil, "jobs"); err != nil {
		t.Fatal(err)
	}
	commit := func(adm *kadm.Client, at int64) error {
		offsets := kadm.Offsets{}
		offsets.AddOffset("jobs", 0, at, -1)
		return adm.CommitAllOffsets(within(t), "workers", offsets)
	}
	if err := commit(adm, 1); err != nil {
		t.Fatal(err)
	}
	topic := func() (replicas, partitions int) {
		o := c.nodes[0].controller.Image().Topic(kafka.OffsetsTopic)
		return len(o.Partitions.At(0).Replicas), o.Partitions.Len()
	}
	if replicas, partitions := topic(); replicas != 1 || partitions != 4 {
		t.Fatalf("one node: %d partitions with %d replicas", partitions, replicas)
	}
	c.start(1)
	c.start(2)
	if t.Failed() {
		return
	}
	var last, slowest atomic.Int64
	last.Store(1)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // a group that never stops to commit
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			began := time.Now()
			if err := commit(adm, last.Load()+1); err == nil {
				last.Add(1)
			}
			slowest.Store(max(slowest.Load(), int64(time.Since(began))))
		}
	}()
	await(t, "__consumer_offsets has three replicas", func() bool { replicas, _ := topic(); return replicas == 3 })
	c.awaitFullISR(kafka.OffsetsTopic)
	await(t, "three voters", func() bool { return len(c.nodes[0].controller.Image().Voters()) == 3 })
	close(stop)
	<-stopped
	t.Logf("%d commits while it grew, the slowest took %v", last.Load(), time.Duration(slowest.Load()))
	if _, partitions := topic(); partitions != 4 {
		t.Errorf("%d partitions", partitions)
	}
	for i := range c.nodes {
		c.stop(i)
		adm := kadm.NewClient(c.client())
		fetched, err := adm.FetchOffsets(within(t), "workers")
		if err != nil {
			t.Fatalf("without node %d: %v", i+1, err)
		}
		if o, ok := fetched.Lookup("jobs", 0); !ok || o.At != last.Load() {
			t.Errorf("without node %d: %+v, committed is %d", i+1, o, last.Load())
		}
		if err := commit(adm, last.Add(1)); err != nil {
			t.Fatalf("without node %d: %v", i+1, err)
		}
		c.start(i)
		c.awaitFullISR(kafka.OffsetsTopic)
	}
}
