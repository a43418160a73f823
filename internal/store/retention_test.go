package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

func TestRetention(t *testing.T) {
	fs := vfs.NewMem(0)
	s := openStore(t, fs, nil)
	p := create(t, s, 1)
	for i := range 40 {
		produce(t, p, 0, 10<<10, fmt.Sprint(i))
	}
	waitDurable(t, p)
	c := s.o.Config.Topic
	c.CleanupPolicy.Delete, c.RetentionMillis, c.RetentionBytes = true, -1, 150<<10
	s.Reconfigure(id(1), c)
	s.ApplyRetention()
	if p.LogStart() != 0 {
		t.Fatal("retention above the high watermark")
	}
	p.SetHighWatermark(p.LogEnd())
	used := fs.Used()
	s.ApplyRetention()
	if p.LogStart() == 0 || p.Size() > 250<<10 || fs.Used() >= used {
		t.Errorf("log start %d, %d bytes are left", p.LogStart(), p.Size())
	}
	kept := content(t, p)
	c.RetentionMillis, c.RetentionBytes = 1, -1
	s.Reconfigure(id(1), c)
	s.ApplyRetention()
	if p.LogStart() != p.LogEnd() || len(kept) == 0 || p.Size() != 0 {
		t.Errorf("log start %d, end %d, %d bytes are left", p.LogStart(), p.LogEnd(), p.Size())
	}
	produce(t, p, 0, 10, "after")
	waitDurable(t, p)
	fs = fs.PowerLoss(rand.New(rand.NewPCG(3, 1)))
	s.Close()
	s = openStore(t, fs, nil)
	defer s.Close()
	p = s.Partition(id(1))
	if got := content(t, p); fmt.Sprint(got) != "[after]" || p.LogStart() != 40 {
		t.Errorf("after a power loss: from %d, %v", p.LogStart(), got)
	}
}

// Partitions that were written to and deleted must not wait in memory for a checkpoint that may be far away.
func TestDeletedPartitionsAreForgotten(t *testing.T) {
	s := openStore(t, vfs.NewMem(0), nil)
	defer s.Close()
	for i := range 2000 {
		id := kafka.TopicPartition{Topic: kafka.TopicID{2}, Partition: int32(i)}
		p, err := s.CreatePartition(id, s.o.Config.Topic)
		if err != nil {
			t.Fatal(err)
		}
		p.markDirty()
		if i < 10 {
			continue // these stay
		}
		if err := s.DeletePartition(background, id); err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.mu.dirty); n < 10 || n > 1000 || int64(n) != s.dirtyCount.Load() {
		t.Errorf("%d partitions are kept as dirty, %d counted, of 10 that there are", n, s.dirtyCount.Load())
	}
}
