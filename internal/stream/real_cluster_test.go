package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

func TestRealThreeReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRealCluster(t, 3, newMemnet(), Options{})
		c.meta.createTopic(realID(0).Topic, "orders", 3, []int32{1, 2, 3}, nil)
		c.start()
		for i := range 3 {
			_, p := c.waitLeader(realID(i))
			for range 50 {
				if _, err := produce(context.Background(), p, payload(3, 100, "x")); err != nil {
					t.Fatal(err)
				}
			}
			c.converge(realID(i))
		}
		c.stop()
	})
}

// An acks=all produce takes max(leader's sync, out + follower's sync + back), exactly: with the real store and WAL.
func TestRealLatency(t *testing.T) {
	ms := time.Millisecond
	for _, x := range []struct{ leader, out, follower, back, want time.Duration }{
		{10 * ms, 2 * ms, 3 * ms, 1 * ms, 10 * ms},
		{2 * ms, 2 * ms, 3 * ms, 1 * ms, 6 * ms},
		{6 * ms, 2 * ms, 3 * ms, 1 * ms, 6 * ms},
		{0, 5 * ms, 0, 7 * ms, 12 * ms},
	} {
		synctest.Test(t, func(t *testing.T) {
			network := newMemnet()
			c := newRealCluster(t, 3, network, Options{})
			c.meta.createTopic(realID(0).Topic, "orders", 1, []int32{1, 2, 3}, nil)
			c.start()
			_, p := c.waitLeader(realID(0))
			if _, err := produce(context.Background(), p, payload(1, 100, "first")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			network.setDelay(func(from, to string) time.Duration {
				switch {
				case from == address(1):
					return x.out
				case to == address(1):
					return x.back
				}
				return 0
			})
			for id, d := range map[kafka.BrokerID]time.Duration{1: x.leader, 2: x.follower, 3: x.follower / 2} {
				if d > 0 {
					c.nodes[id].faults.Add(vfs.Rule{Path: "/wal/", Op: vfs.OpSync, Delay: d})
				}
			}
			for range 20 {
				time.Sleep(time.Second)
				before := time.Now()
				if _, err := produce(context.Background(), p, payload(1, 100, "x")); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(before); took != x.want {
					t.Fatalf("%+v: took %v", x, took)
				}
			}
			c.stop()
		})
	}
}
