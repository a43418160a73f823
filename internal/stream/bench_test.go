package stream

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/record"
)

// Produce with acks=all to three nodes in one process: real files, connections over loopback. What is reported beside the
// time: the median, and how many frames and acks it took per produce.
func BenchmarkProduce(b *testing.B) {
	for _, x := range []struct{ writers, partitions, records, size int }{
		{1, 1, 1, 100}, {16, 1, 1, 1024}, {128, 1, 1, 1024}, {128, 64, 1, 1024}, {5, 1, 870, 1024},
	} {
		b.Run(fmt.Sprintf("writers=%d/partitions=%d/records=%d/size=%d", x.writers, x.partitions, x.records, x.size), func(b *testing.B) {
			c := newRealCluster(b, 3, nil, Options{})
			c.set = func(cfg *config.Config) { *cfg = *config.Default() }
			c.meta.createTopic(realID(0).Topic, "orders", x.partitions, []int32{1, 2, 3}, nil)
			c.start()
			defer c.stop()
			for i := range x.partitions {
				for c.meta.partition(realID(i)).Leader != 1 {
					c.meta.elect(realID(i), 1)
					time.Sleep(time.Millisecond)
				}
				_, p := c.waitLeader(realID(i))
				if _, err := produce(context.Background(), p, payload(1, 10, "first")); err != nil {
					b.Fatal(err)
				}
			}
			var mu sync.Mutex
			var all []time.Duration
			before := c.nodes[1].streams.Stats()
			b.ResetTimer()
			b.ReportAllocs()
			b.SetBytes(int64(x.records * x.size))
			var wait sync.WaitGroup
			for w := range x.writers {
				wait.Go(func() {
					id := realID(w % x.partitions)
					p := c.nodes[1].part(id)
					batch := payload(x.records, x.size, "")
					took := make([]time.Duration, 0, b.N/x.writers)
					for range b.N / x.writers {
						record.Batch(batch).SetBaseOffset(0)
						record.Batch(batch).SetLeaderEpoch(kafka.NoLeaderEpoch)
						t := time.Now()
						if _, err := produce(context.Background(), p, batch); err != nil {
							b.Error(err)
							return
						}
						took = append(took, time.Since(t))
					}
					mu.Lock()
					all = append(all, took...)
					mu.Unlock()
				})
			}
			wait.Wait()
			b.StopTimer()
			if len(all) == 0 {
				return
			}
			slices.Sort(all)
			after := c.nodes[1].streams.Stats()
			n := float64(len(all))
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(after.FramesSent-before.FramesSent)/n, "frames/op")
			b.ReportMetric(float64(after.AckFramesReceived-before.AckFramesReceived)/n, "acks/op")
		})
	}
}
