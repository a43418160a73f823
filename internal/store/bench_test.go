package store

import (
	"fmt"
	"sync"
	"testing"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// Appends on a real disk, each waited for as acks=1 does, without a network.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		writers, partitions, size, window int
		sync                              config.SyncMode
	}{
		{1, 1, 100, 1, config.SyncCommit},
		{128, 1, 1024, 1, config.SyncCommit},
		{128, 64, 1024, 1, config.SyncCommit},
		{128, 1, 1024, 1, config.SyncInterval},
		{1, 1, 1 << 20, 5, config.SyncCommit},
		{4, 4, 1 << 20, 5, config.SyncCommit},
	} {
		name := fmt.Sprintf("writers=%d/partitions=%d/size=%d/sync=%d", c.writers, c.partitions, c.size, c.sync)
		b.Run(name, func(b *testing.B) {
			cfg := *config.Default()
			s, err := Open(background, Options{FS: vfs.OS{}, Dir: b.TempDir(), Config: &cfg, Fatal: func(err error) { panic(err) }})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			topic := cfg.Topic
			topic.Sync = c.sync
			ends := make([]*waiter, c.partitions)
			for i := range ends {
				p, err := s.CreatePartition(id(i), topic)
				if err != nil {
					b.Fatal(err)
				}
				ends[i] = newWaiter(p)
			}
			b.SetBytes(int64(c.size))
			run := func(n int) {
				var wait sync.WaitGroup
				for w := range c.writers {
					wait.Go(func() {
						data := batch(c.size, "")
						end := ends[w%c.partitions]
						var unacked []kafka.Offset
						for range n / c.writers {
							r, err := end.p.Append(data, 0, record.FromCoordinator)
							if err != nil {
								b.Error(err)
								return
							}
							unacked = append(unacked, r.EndOffset())
							if len(unacked) >= c.window {
								end.wait(unacked[0])
								unacked = unacked[:copy(unacked, unacked[1:])]
							}
						}
						for _, o := range unacked {
							end.wait(o)
						}
					})
				}
				wait.Wait()
			}
			run(c.writers * 20)
			before := s.Stats().WAL
			b.ReportAllocs()
			b.ResetTimer()
			run(max(b.N, c.writers))
			b.StopTimer()
			after := s.Stats().WAL
			b.ReportMetric(float64(after.Records-before.Records)/float64(max(after.Groups-before.Groups, 1)), "records/sync")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}

type waiter struct {
	p *Partition
	sync.Mutex
	cond *sync.Cond
	end  kafka.Offset
}

func newWaiter(p *Partition) *waiter {
	w := &waiter{p: p}
	w.cond = sync.NewCond(w)
	p.OnDurable(func(end kafka.Offset) {
		w.Lock()
		w.end = max(w.end, end)
		w.Unlock()
		w.cond.Broadcast()
	})
	return w
}

func (w *waiter) wait(end kafka.Offset) {
	w.Lock()
	defer w.Unlock()
	for w.end < end {
		w.cond.Wait()
	}
}
