package controller

import (
	"context"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

func TestSmoke(t *testing.T) {
	fs := vfs.NewMem(0)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for i := range 3 {
		start := time.Now()
		c, err := Open(Options{FS: fs, Dir: "/data/metadata", NodeID: 1, Directory: [16]byte{1}})
		if err != nil {
			t.Fatal(err)
		}
		epoch, err := c.RegisterBroker(ctx, metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{byte(i + 1)}, Directory: [16]byte{1}})
		t.Log(epoch, err, time.Since(start))
		res := c.CreateTopics(ctx, []metadata.CreateTopic{{Name: "a", ID: kafka.NewTopicID(), Partitions: 3, ReplicationFactor: -1}}, false)
		t.Logf("%+v %v", res[0].Topic, res[0].Err)
		t.Log(c.Barrier(ctx), c.Controller(), c.Image().Offset())
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
