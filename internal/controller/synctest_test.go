package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

// TestUnderSynctest: a controller lives in a bubble with a fake clock: no goroutine outlives Close, nothing waits in a way
// that hides from the bubble, and idle hours pass at once.
func TestUnderSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(Options{FS: vfs.NewMem(0), Dir: "/data/metadata", NodeID: 1, Directory: directory})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		epoch, err := c.RegisterBroker(ctx, metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{1}, Directory: directory})
		if err != nil || epoch < 1 {
			t.Fatal(epoch, err)
		}
		if waited := time.Since(start); waited >= tickInterval {
			t.Fatalf("the start waits for a timeout: %v on the fake clock", waited)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		r := c.CreateTopics(context.Background(), []metadata.CreateTopic{{Name: "t", ID: kafka.TopicID{1}, Partitions: 1, ReplicationFactor: 1}}, false)
		if r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
		for range 3 {
			if err := c.Barrier(ctx); err != nil && ctx.Err() == nil {
				t.Fatal(err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
