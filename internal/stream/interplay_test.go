package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/vfs"
)

// What a follower has appended becomes durable, and is acknowledged in the next epoch, also where the epoch ends before the
// append has returned.
func TestEpochEndsWithinAnAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		id := partitionID(0)
		c.elect(id, 1, 0, 1, 2)
		leader, follower := c.nodes[1].part(id), c.nodes[2].part(id)
		time.Sleep(time.Second)
		follower.mu.Lock()
		follower.pause = time.Second
		follower.mu.Unlock()
		end := leader.produce(1, 100)
		time.Sleep(100 * time.Millisecond)
		c.elect(id, 1, 1, 1, 2)
		time.Sleep(time.Minute)
		leader.mu.Lock()
		defer leader.mu.Unlock()
		if leader.hw != end {
			t.Fatalf("the watermark is %d, both logs end at %d; acknowledged: %v", leader.hw, end, leader.acked)
		}
	})
}

// A broker that was removed from the cluster while it ran, and registers again, is taken into the in-sync sets again: its
// streams, which never ended, are of its earlier registration.
func TestBrokerRegistersAgainUnderItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.meta.createTopic(realID(0).Topic, "orders", 1, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
		c.start()
		defer c.stop()
		_, p := c.waitLeader(realID(0))
		if _, err := produce(context.Background(), p, payload(1, 100, "first")); err != nil {
			t.Fatal(err)
		}
		n := c.nodes[3]
		c.meta.fence(3)
		c.meta.mu.Lock()
		c.meta.commitLocked(&pb.Record{Kind: &pb.Record_BrokerRemoved{BrokerRemoved: &pb.BrokerRemoved{Id: 3}}})
		c.meta.mu.Unlock()
		time.Sleep(5 * time.Second)
		c.meta.register(3, n.life)
		time.Sleep(100 * time.Millisecond) // until the answer is there
		n.epoch.Store(int64(n.view.Image().Broker(3).Epoch))
		if _, err := produce(context.Background(), p, payload(1, 100, "second")); err != nil {
			t.Fatal(err)
		}
		c.converge(realID(0))
	})
}

// With sync = interval a follower acknowledges what is in its page cache, and reads on: it waits for no disk.
func TestSyncIntervalWaitsForNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.meta.createTopic(realID(0).Topic, "orders", 1, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2", "sync": "interval"})
		c.start()
		defer c.stop()
		_, p := c.waitLeader(realID(0))
		if _, err := produce(context.Background(), p, payload(1, 100, "first")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, id := range []kafka.BrokerID{1, 2, 3} {
			c.nodes[id].faults.Add(vfs.Rule{Path: "/wal/", Op: vfs.OpSync, Delay: time.Second})
		}
		began := time.Now()
		for range 20 {
			if _, err := produce(context.Background(), p, payload(1, 100, "x")); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("20 records that need no sync took %v", took)
		}
	})
}
