package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var background = context.Background()

func testConfig() *config.Config {
	c := *config.Default()
	c.WALFileBytes, c.WALMaxBytes = 64<<10, 64<<20
	c.WALReferenceMinBytes = 8 << 10
	c.CheckpointBytes = 256 << 10
	c.FreeSpaceReserveBytes = 0
	c.Topic.SegmentBytes = 64 << 10
	return &c
}

func openStore(t testing.TB, fs vfs.FS, change func(*Options)) *Store {
	t.Helper()
	o := Options{FS: fs, Dir: "data", NodeID: 1, Config: testConfig(), Fatal: func(err error) {}}
	if change != nil {
		change(&o)
	}
	s, err := Open(background, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func id(n int) kafka.TopicPartition {
	return kafka.TopicPartition{Topic: kafka.TopicID{byte(n), 1}, Partition: int32(n)}
}

func create(t testing.TB, s *Store, n int) *Partition {
	t.Helper()
	p, err := s.CreatePartition(id(n), s.o.Config.Topic)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// batch is one record batch with values of the given total size.
func batch(size int, values ...string) []byte {
	b := record.NewBuilder()
	for i, v := range values {
		pad := ""
		if i == 0 {
			pad = strings.Repeat("x", max(size-len(v), 0))
		}
		b.Add(1000+int64(i), nil, []byte(v+pad))
	}
	return b.Build()
}

func produce(t testing.TB, p *Partition, epoch kafka.LeaderEpoch, size int, values ...string) Result {
	t.Helper()
	r, err := p.Append(batch(size, values...), epoch, record.FromClient)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// waitDurable waits until everything appended so far is durable.
func waitDurable(t testing.TB, p *Partition) {
	t.Helper()
	end := p.LogEnd()
	for deadline := time.Now().Add(time.Minute); p.DurableEnd() < end; {
		if err := p.s.failed(); err != nil || time.Now().After(deadline) {
			t.Fatalf("offset %d is not durable: at %d, %v", end, p.DurableEnd(), err)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// content reads all values, without their padding.
func content(t testing.TB, p *Partition) []string {
	t.Helper()
	var all []string
	for from := p.LogStart(); from < p.LogEnd(); {
		buf, err := p.ReadCopy(nil, from, 1<<20, p.LogEnd(), true)
		if err != nil {
			t.Fatalf("read from %d: %v", from, err)
		}
		for rest := buf; len(rest) > 0; {
			b, more, err := record.Next(rest)
			if err != nil || !b.VerifyCRC() {
				t.Fatalf("read from %d: %v", from, err)
			}
			for r, err := range new(record.Codecs).Records(b, 1<<30) {
				if err != nil {
					t.Fatal(err)
				}
				if r.Offset >= from {
					all = append(all, string(bytes.TrimRight(r.Value, "x")))
				}
			}
			from, rest = b.NextOffset(), more
		}
	}
	return all
}

func TestProduceRestartRead(t *testing.T) {
	for _, how := range []string{"close", "kill", "power"} {
		t.Run(how, func(t *testing.T) {
			fs := vfs.NewMem(0)
			s := openStore(t, fs, nil)
			p := create(t, s, 1)
			if err := p.StartEpoch(background, 1); err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range 200 {
				v := fmt.Sprint("value-", i)
				size := 100
				if i%20 == 0 {
					size = 20 << 10 // by reference
				}
				if r := produce(t, p, 1, size, v); r.BaseOffset != kafka.Offset(i) {
					t.Fatalf("append %d got offset %d", i, r.BaseOffset)
				}
				want = append(want, v)
			}
			waitDurable(t, p)
			switch how {
			case "close":
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			case "kill":
				fs = fs.Kill()
				s.Close()
			case "power":
				fs = fs.PowerLoss(rand.New(rand.NewPCG(1, 1)))
				s.Close()
			}
			s = openStore(t, fs, nil)
			defer s.Close()
			if s.Unclean() != (how != "close") {
				t.Errorf("unclean is %v", s.Unclean())
			}
			p = s.Partition(id(1))
			if p == nil || p.LogEnd() != 200 || p.DurableEnd() != 200 {
				t.Fatal("the partition is not as it was", p)
			}
			if got := content(t, p); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("content is %v", got)
			}
			if e := p.Epoch(); e.Epoch != 1 || e.Offset != 0 {
				t.Errorf("last epoch is %v", e)
			}
			if _, err := p.Append(batch(1, "old"), 0, record.FromClient); !errors.Is(err, log.ErrNotAtEnd) {
				t.Errorf("append in an old epoch: %v", err)
			}
			if err := p.StartEpoch(background, 2); err != nil {
				t.Fatal(err)
			}
			if r := produce(t, p, 2, 1, "more"); r.BaseOffset != 200 {
				t.Fatal(r)
			}
		})
	}
}

func TestChangesSurvive(t *testing.T) {
	for _, how := range []string{"close", "kill", "power", "checkpoint and power"} {
		t.Run(how, func(t *testing.T) {
			fs := vfs.NewMem(0)
			s := openStore(t, fs, nil)
			cut, started, reset, gone, again := create(t, s, 1), create(t, s, 2), create(t, s, 3), create(t, s, 4), create(t, s, 5)
			for i := range 10 {
				for _, p := range []*Partition{cut, started, reset, gone, again} {
					produce(t, p, 1, 10<<10, fmt.Sprint("a", i))
				}
			}
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			check(cut.Truncate(background, 4))
			check(cut.StartEpoch(background, 2))
			produce(t, cut, 2, 9<<10, "b4")
			started.SetHighWatermark(10)
			check(started.SetLogStart(background, 7))
			check(reset.Reset(background, 1000))
			check(reset.StartEpoch(background, 7))
			produce(t, reset, 7, 10, "c")
			check(s.DeletePartition(background, id(4)))
			check(s.DeletePartition(background, id(5)))
			again = create(t, s, 5)
			produce(t, again, 1, 10, "new")
			empty := create(t, s, 6)
			check(empty.StartEpoch(background, 9))
			for _, p := range []*Partition{cut, reset, again} {
				waitDurable(t, p)
			}
			switch how {
			case "close":
				check(s.Close())
			case "kill":
				fs = fs.Kill()
				s.Close()
			case "checkpoint and power":
				check(s.Checkpoint())
				fallthrough
			case "power":
				fs = fs.PowerLoss(rand.New(rand.NewPCG(1, 1)))
				s.Close()
			}
			s = openStore(t, fs, nil)
			defer s.Close()
			want := map[int]string{1: "[a0 a1 a2 a3 b4]", 2: "[a7 a8 a9]", 3: "[c]", 5: "[new]", 6: "[]"}
			for _, p := range s.Partitions() {
				n := int(p.ID().Partition)
				if got := fmt.Sprint(content(t, p)); got != want[n] {
					t.Errorf("partition %d holds %s, want %s", n, got, want[n])
				}
				delete(want, n)
			}
			if len(want) > 0 {
				t.Errorf("missing: %v", want)
			}
			if p := s.Partition(id(3)); p.LogStart() != 1000 || p.LogEnd() != 1001 {
				t.Errorf("the reset partition goes from %d to %d", p.LogStart(), p.LogEnd())
			}
			if e := s.Partition(id(6)).Epoch(); e.Epoch != 9 {
				t.Errorf("the epoch without records is %v", e)
			}
			if e := s.Partition(id(1)).EndOffsetForEpoch(1); e.Epoch != 1 || e.Offset != 4 {
				t.Errorf("epoch 1 of the truncated partition ends at %v", e)
			}
		})
	}
}

func TestCleanStartWritesNothing(t *testing.T) {
	fs := vfs.NewMem(0)
	s := openStore(t, fs, nil)
	for n := range 50 {
		p := create(t, s, n)
		produce(t, p, 0, 10, "v")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := fs.Operations()
	s = openStore(t, fs, nil)
	if n := fs.Operations() - before; n > 8 {
		t.Errorf("a clean start took %d changes of the file system", n)
	}
	if s.Unclean() || s.Recovery().Records != 0 {
		t.Errorf("a clean start recovered: %+v", s.Recovery())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The clean mark does not outlive what comes after it.
	s = openStore(t, fs, nil)
	produce(t, s.Partition(id(3)), 0, 10, "w")
	waitDurable(t, s.Partition(id(3)))
	fs = fs.PowerLoss(rand.New(rand.NewPCG(1, 1)))
	s.Close()
	s = openStore(t, fs, nil)
	defer s.Close()
	if got := content(t, s.Partition(id(3))); !s.Unclean() || fmt.Sprint(got) != "[v w]" {
		t.Error(s.Unclean(), got)
	}
}

func TestLockAndIdentity(t *testing.T) {
	fs := vfs.NewMem(0)
	s := openStore(t, fs, nil)
	directory := s.Identity().Directory
	if _, err := Open(background, Options{FS: fs, Dir: "data", NodeID: 1}); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	if err := s.SetClusterID("abc"); err != nil {
		t.Fatal(err)
	}
	if err := s.SetClusterID("def"); err == nil {
		t.Error("another cluster ID was taken")
	}
	s.Close()
	if _, err := Open(background, Options{FS: fs, Dir: "data", NodeID: 2}); err == nil || !strings.Contains(err.Error(), "node.id 1") {
		t.Errorf("open with another node ID: %v", err)
	}
	s = openStore(t, fs, nil)
	if s.Identity().Directory != directory || s.Identity().ClusterID != "abc" {
		t.Error("the identity changed")
	}
	s.Close()
	for _, name := range []string{"data/node", "data/checkpoint"} {
		broken := fs.Clone()
		if err := broken.Corrupt(name, 20, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(background, Options{FS: broken, Dir: "data", NodeID: 1}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s with a flipped bit: %v", name, err)
		}
	}
}

func TestManyPartitions(t *testing.T) {
	fs := vfs.NewMem(0)
	slow := vfs.NewFault(fs, clock.System{}) // a busy machine must not make a group of each
	s := openStore(t, slow, func(o *Options) { o.Config.WALFileBytes, o.Config.CheckpointBytes = 1<<20, 64<<20 })
	const n = 10000
	var parts []*Partition
	for i := range n {
		p, err := s.CreatePartition(kafka.TopicPartition{Topic: kafka.TopicID{1}, Partition: int32(i)}, s.o.Config.Topic)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	groups := s.Stats().WAL.Groups
	slow.Add(vfs.Rule{Path: "wal", Op: vfs.OpSync, Delay: 20 * time.Millisecond})
	done := make(chan error, n)
	for _, p := range parts {
		go func() { done <- p.StartEpoch(background, 1) }()
	}
	for range n {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if g := s.Stats().WAL.Groups - groups; g > n/4 {
		t.Errorf("starting %d epochs took %d groups", n, g)
	}
	if names, _ := fs.ReadDir("data/partitions"); len(names) != 0 {
		t.Errorf("%d directories were made for empty partitions", len(names))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, fs, nil)
	defer s.Close()
	if len(s.Partitions()) != n || s.Partitions()[77].Epoch().Epoch != 1 {
		t.Error("partitions or epochs are lost")
	}
}

func TestIntervalSync(t *testing.T) {
	s := openStore(t, vfs.NewMem(0), nil)
	defer s.Close()
	c := s.o.Config.Topic
	c.Sync = config.SyncInterval
	p, err := s.CreatePartition(id(1), c)
	if err != nil {
		t.Fatal(err)
	}
	var heard atomic.Int64
	p.OnDurable(func(end kafka.Offset) { heard.Store(int64(end)) })
	produce(t, p, 0, 10, "a", "b")
	if p.DurableEnd() != 2 || heard.Load() != 2 {
		t.Errorf("durable end %d, heard %d", p.DurableEnd(), heard.Load())
	}
	for s.wal.Durable() < s.wal.Next() { // the disk follows by itself
		time.Sleep(time.Millisecond)
	}
}

func TestNoSpace(t *testing.T) {
	fs := vfs.NewMem(1 << 20)
	var fatal atomic.Int32
	s := openStore(t, fs, func(o *Options) {
		o.Fatal = func(error) { fatal.Add(1) }
		o.Config.FreeSpaceReserveBytes = 256 << 10
	})
	p := create(t, s, 1)
	var want []string
	refused := false
	for i := range 400 {
		v := fmt.Sprint(i)
		_, err := p.Append(batch(4<<10, v), 0, record.FromClient)
		if errors.Is(err, kafka.ErrKafkaStorageError) {
			refused = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, v)
	}
	if !refused {
		t.Fatal("the disk never filled up")
	}
	waitDurable(t, p)
	fs.SetCapacity(8 << 20)
	produce(t, p, 0, 10, "healed")
	waitDurable(t, p)
	if got := content(t, p); fmt.Sprint(got) != fmt.Sprint(append(want, "healed")) {
		t.Error("content differs")
	}
	if err := s.Close(); err != nil || fatal.Load() != 0 {
		t.Error(err, fatal.Load())
	}
}
