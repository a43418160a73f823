package replica

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// hungDisk takes an hour to be read through.
type hungDisk struct{ testDisk }

func (d *hungDisk) Scrub() error { time.Sleep(time.Hour); return nil }

// What asks the controller does not wait behind what waits for the disk, however much of that there is; and all of it is done.
func TestProposalsDoNotWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, partitions = 8, 50
		ctx, stop := context.WithCancel(context.Background())
		var done sync.WaitGroup
		n := testNode(1)
		n.background = &background{ctx: ctx, workers: workers, done: &done}
		var mu sync.Mutex
		proposed := 0
		n.metadata = &testMetadata{image: metadata.Empty(), updateISR: func(metadata.UpdateISR) error {
			time.Sleep(time.Minute)
			mu.Lock()
			defer mu.Unlock()
			proposed++
			return nil
		}}
		var all []*Partition
		for i := range partitions {
			p := newPartition(kafka.TopicPartition{Topic: kafka.TopicID{1}, Partition: int32(i)}, "orders", &hungDisk{}, config.Default().Topic, n)
			all = append(all, p)
			n.background.add(p, jobScrub)
		}
		began := time.Now()
		for _, p := range all[:workers] {
			p.mu.Lock()
			p.mu.proposal = &proposal{}
			p.tryLocked(p.mu.proposal)
			p.mu.Unlock()
		}
		time.Sleep(2*time.Minute + time.Second)
		mu.Lock()
		if proposed != workers {
			t.Errorf("%d of %d proposals were made beside a disk that hangs", proposed, workers)
		}
		mu.Unlock()
		for {
			time.Sleep(time.Hour)
			n.background.mu.Lock()
			running := n.background.mu.running
			n.background.mu.Unlock()
			if running == 0 {
				break
			}
		}
		if took := time.Since(began); took > (partitions/(workers/2)+3)*time.Hour {
			t.Errorf("all was done after %v", took)
		}
		if len(n.background.mu.queue)+len(n.background.mu.waiting) > 0 {
			t.Error("something was left")
		}
		stop()
		done.Wait()
	})
}
