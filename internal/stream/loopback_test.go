package stream

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/kafka"
)

// Real files and sockets: leaders move and connections are cut while producers run; the replicas end up the same.
func TestLoopback(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := newRealCluster(t, 3, nil, Options{Limits: Limits{PartitionWindow: 100_000, CatchUpBytes: 200_000, FrameBytes: 20_000}})
	const partitions = 8
	c.meta.createTopic(realID(0).Topic, "orders", partitions, []int32{1, 2, 3}, nil)
	c.start()
	ctx, cancel := context.WithCancel(context.Background())
	var acked [partitions]int
	var done sync.WaitGroup
	for i := range partitions {
		done.Go(func() {
			for n := 0; n < 200 || ctx.Err() == nil; n++ {
				_, p := c.waitLeader(realID(i))
				if _, err := produce(context.Background(), p, payload(5, 200, "x")); err == nil {
					acked[i]++
				}
			}
		})
	}
	for i := range 30 {
		time.Sleep(10 * time.Millisecond)
		c.meta.elect(realID(i%partitions), kafka.BrokerID(i%3+1))
		if i%5 == 0 {
			for _, o := range c.nodes[kafka.BrokerID(i%3+1)].streams.outbounds() {
				_ = o.conn.Close()
			}
		}
	}
	cancel()
	done.Wait()
	for i := range partitions {
		c.converge(realID(i))
		if acked[i] == 0 {
			t.Errorf("partition %d: nothing was acknowledged", i)
		}
	}
	c.stop()
}
