package group

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/coordinator"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/store"
	"chronik/internal/vfs"
)

var commits = flag.Int("commits", 100_000, "offset commits of TestLoadAfterManyCommits")

// onDisk is a log of the storage that this node leads alone.
type onDisk struct {
	*store.Partition
	read *int
}

func (l onDisk) Held() bool                          { return true }
func (l onDisk) Watch(chan<- struct{}) func()        { return func() {} }
func (l onDisk) Append([]byte) (kafka.Offset, error) { return 0, kafka.ErrNotLeaderOrFollower }
func (l onDisk) Offsets() (coordinator.Offsets, error) {
	return coordinator.Offsets{Start: l.LogStart(), HighWatermark: l.LogEnd(), End: l.LogEnd()}, nil
}

func (l onDisk) Read(dst []byte, from kafka.Offset, maxBytes int) ([]byte, error) {
	b, _, err := l.ReadStretch(dst, from, maxBytes, l.LogEnd(), true)
	*l.read += len(b)
	return b, err
}

// However many commits there were, a coordinator that loads reads about what the groups are, once the log was compacted, and
// has the last offset of each partition.
func TestLoadAfterManyCommits(t *testing.T) {
	const groups, partitions, batch = 20, 5, 100
	cfg := config.Default()
	cfg.Topic.SegmentBytes, cfg.Topic.CleanupPolicy = 1<<20, config.CleanupPolicy{Compact: true}
	cfg.Topic.MinCleanableDirtyRatio = 0.01
	s, err := store.Open(t.Context(), store.Options{FS: vfs.NewMem(0), Dir: "/data", NodeID: 1, Config: cfg, NoBackground: true,
		Fatal: func(err error) { t.Errorf("%v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := s.CreatePartition(kafka.TopicPartition{Topic: kafka.TopicID{1}}, cfg.Topic)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBuilder()
	for n := 0; n < *commits; {
		b.Reset()
		for range batch {
			g, part := n%groups, n/groups%partitions
			rec := offsetRecord(fmt.Sprint("group-", g), "orders", &committed{partition: int32(part), offset: kafka.Offset(n), expireTime: -1})
			b.Add(time.Now().UnixMilli(), rec.Key, rec.Value)
			n++
		}
		if _, err := p.Append(b.Build(), 0, record.FromCoordinator); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	p.SetHighWatermark(p.LogEnd())
	before := p.Size()
	for s.Clean() {
	}
	read := 0
	rt := coordinator.New(coordinator.Options[*Machine]{
		Topic: kafka.OffsetsTopic,
		New: func(int32) *Machine {
			return New(func() Limits { return Limits{MaxSize: 10} }, rand.Text, slog.New(slog.DiscardHandler))
		},
		Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler), CommitTimeout: func() time.Duration { return time.Minute },
		Open: func(context.Context, int32, kafka.LeaderEpoch) (coordinator.Log, error) {
			return onDisk{p, &read}, nil
		},
	})
	defer rt.Close()
	started := time.Now()
	rt.Elect(0, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rt.WaitServing(ctx, 0)
	t.Logf("%d commits, %d bytes, %d after compaction: loaded in %v, from %d bytes", *commits, before, p.Size(), time.Since(started), read)
	// What was not compacted yet is the segment that is appended to.
	if int64(read) > int64(cfg.Topic.SegmentBytes)+200<<10 {
		t.Errorf("%d bytes were read", read)
	}
	found, err := coordinator.Do(rt, 0, func(m *Machine, tx *coordinator.Tx, p *coordinator.Promise[map[string]kafka.Offset]) {
		have := map[string]kafka.Offset{}
		for g := range groups {
			name := fmt.Sprint("group-", g)
			for _, c := range m.offsets[name].all() {
				have[fmt.Sprint(name, "/", c.partition)] = c.offset
			}
		}
		coordinator.Answer(tx, p, have)
	}).Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for n := *commits - groups*partitions; n < *commits; n++ {
		key := fmt.Sprint("group-", n%groups, "/", n/groups%partitions)
		if found[key] != kafka.Offset(n) {
			t.Errorf("%s: offset %d was committed last, %d is there", key, n, found[key])
		}
	}
}
