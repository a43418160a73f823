package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

func compacted(o *Options) {
	o.Config.Topic.CleanupPolicy = config.CleanupPolicy{Compact: true}
	o.Config.Topic.SegmentBytes = 4 << 10
	o.Config.Topic.IndexIntervalBytes = 500
	o.Config.Topic.MinCleanableDirtyRatio = 0.01
	o.NoBackground = true
}

// put appends a record of a key; no value is a tombstone.
func put(t fataler, p *Partition, key, value string) kafka.Offset {
	t.Helper()
	b := record.NewBuilder()
	var v []byte
	if value != "" {
		v = []byte(value)
	}
	b.Add(1000, []byte(key), v)
	r, err := p.Append(b.Build(), 0, record.FromClient)
	if err != nil {
		t.Fatal(err)
	}
	return r.BaseOffset
}

type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// foldKeys reads a log and returns the last offset and value of each key that has one, and how many records there are.
func foldKeys(t fataler, p *Partition) (map[string]string, int) {
	t.Helper()
	m, n := map[string]string{}, 0
	var codecs record.Codecs
	for from := p.LogStart(); from < p.LogEnd(); {
		s, err := p.Read(from, 4096, p.LogEnd(), true)
		if err != nil {
			t.Fatalf("read from %d: %v", from, err)
		}
		if s.Next <= from {
			t.Fatalf("read from %d to %d: %+v", from, p.LogEnd(), s)
		}
		from = s.Next
		if s.Length == 0 {
			continue
		}
		buf := make([]byte, s.Length)
		if _, err := s.File.ReadAt(buf, s.Position); err != nil {
			t.Fatal(err)
		}
		s.Release()
		for rest := buf; len(rest) > 0; {
			b, more, err := record.Next(rest)
			if err != nil || !b.VerifyCRC() {
				t.Fatalf("below %d: %v", from, err)
			}
			for r, err := range codecs.Records(b, 0) {
				if err != nil {
					t.Fatal(err)
				}
				n++
				if r.Value == nil {
					delete(m, string(r.Key))
				} else {
					m[string(r.Key)] = fmt.Sprintf("%d %s", r.Offset, r.Value)
				}
			}
			rest = more
		}
	}
	return m, n
}

// TestCompaction: a compacted partition is compacted below its high watermark and nowhere else, by itself where it leads as
// where it follows; a checkpoint is made where one is missing; it is the same after a clean stop and after a kill.
func TestCompaction(t *testing.T) {
	fs := vfs.NewMem(0)
	s := openStore(t, fs, compacted)
	p := create(t, s, 1)
	for i := range 1000 {
		put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("v", i))
	}
	waitDurable(t, p)
	if s.Clean() {
		t.Error("nothing is committed, and it was compacted")
	}
	p.SetHighWatermark(500)
	before, n := foldKeys(t, p)
	if n != 1000 || !s.Clean() {
		t.Fatalf("%d records; not compacted", n)
	}
	p.Follow(1)
	after, n := foldKeys(t, p)
	if !maps.Equal(before, after) || n < 520 || n > 620 {
		t.Errorf("%d records: %v, want %v", n, after, before)
	}
	p.SetHighWatermark(p.LogEnd())
	if !s.Clean() || s.Clean() {
		t.Error("what follows is not compacted once")
	}
	after, n = foldKeys(t, p)
	if !maps.Equal(before, after) || n > 120 {
		t.Errorf("%d records: %v, want %v", n, after, before)
	}
	if c := s.Stats().Cleaner; c.Runs != 2 || c.BytesRead == 0 || c.BytesWritten == 0 || c.RecordsRemoved != int64(1000-n) || c.Failures != 0 {
		t.Errorf("%+v", c)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	verifyStore(t, fs)
	s = openStore(t, fs, compacted)
	p = s.Partition(id(1))
	if again, m := foldKeys(t, p); !maps.Equal(before, again) || m != n {
		t.Errorf("after a clean stop: %d records: %v", m, again)
	}
	for i := range 300 {
		put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("w", i))
	}
	waitDurable(t, p)
	p.SetHighWatermark(p.LogEnd())
	before, _ = foldKeys(t, p)
	if !s.Clean() {
		t.Error("not compacted after a restart")
	}
	fs = fs.Kill()
	s.Close()
	s = openStore(t, fs, compacted)
	if again, _ := foldKeys(t, s.Partition(id(1))); !maps.Equal(before, again) {
		t.Errorf("after a kill: %v, want %v", again, before)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func verifyStore(t *testing.T, fs vfs.FS) {
	t.Helper()
	if _, err := Verify(background, fs, "data", func(p Problem) { t.Errorf("verify: %v", p) }); err != nil {
		t.Error(err)
	}
}

// TestCompactionCrashes: the process dies at each operation on a file while two compactions run and records are appended, and
// the power goes or not: what was durable is there with the same values, nothing is left over, and compaction goes on.
func TestCompactionCrashes(t *testing.T) {
	seeds := 3
	if testing.Short() {
		seeds = 1
	}
	finished := 0
	for at := int64(1); finished < seeds; at++ {
		finished = 0
		for seed := range seeds {
			if !compactAndDie(t, at, uint64(seed)) {
				finished++
			}
		}
		if t.Failed() {
			t.Fatalf("killed at operation %d", at)
		}
	}
}

// compactAndDie returns false where the process had done everything before it was to die.
func compactAndDie(t *testing.T, at int64, seed uint64) (died bool) {
	rng := rand.New(rand.NewPCG(seed, uint64(at)))
	fs := vfs.NewMem(0)
	s := openStore(t, fs, compacted)
	p := create(t, s, 1)
	deleted := map[string]bool{}
	for i := range 400 {
		key := fmt.Sprint("k", rng.IntN(15))
		value := fmt.Sprint("v", i, strings.Repeat("x", rng.IntN(60)))
		if deleted[key] = rng.IntN(5) == 0; deleted[key] {
			value = ""
		}
		put(t, p, key, value)
	}
	waitDurable(t, p)
	p.SetHighWatermark(p.LogEnd())
	before, _ := foldKeys(t, p)
	end := p.LogEnd()
	reconfigured := s.o.Config.Topic
	reconfigured.DeleteRetentionMillis = 0 // tombstones go with the second compaction
	p.reconfigure(reconfigured)
	fs.KillAfter(at, rng)
	s.Clean()
	for range 60 {
		b := record.NewBuilder()
		b.Add(1000, []byte("later"), []byte(strings.Repeat("y", 100)))
		if _, err := p.Append(b.Build(), 0, record.FromClient); err != nil {
			break
		}
	}
	p.SetHighWatermark(p.LogEnd())
	s.Clean()
	select {
	case <-fs.Died():
		died = true
	default:
	}
	if seed%3 == 0 {
		fs = fs.Kill()
	} else {
		fs = fs.PowerLoss(rng)
	}
	s.Close()
	verifyStore(t, fs.Clone())
	s = openStore(t, fs, compacted)
	p = s.Partition(id(1))
	if p == nil {
		t.Fatal("the partition is gone")
	}
	check := func(what string) {
		t.Helper()
		after, _ := foldKeys(t, p)
		delete(after, "later")
		if p.LogEnd() < end || !maps.Equal(before, after) {
			t.Errorf("%s: killed at operation %d of seed %d: end %d, was %d:\n%v\n%v", what, at, seed, p.LogEnd(), end, after, before)
		}
		names, err := fs.ReadDir(s.partitionDir(id(1)))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".cleaned") || strings.HasSuffix(name, ".tmp") || name == "swap" {
				t.Errorf("%s: killed at operation %d of seed %d: %s is left over", what, at, seed, name)
			}
		}
	}
	check("opened again")
	p.reconfigure(reconfigured)
	for range 60 {
		put(t, p, "later", strings.Repeat("z", 100))
	}
	waitDurable(t, p)
	p.SetHighWatermark(p.LogEnd())
	if !s.Clean() {
		t.Errorf("killed at operation %d of seed %d: it is not compacted any more", at, seed)
	}
	check("compacted again")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	verifyStore(t, fs)
	return died
}

// TestCompactionInBackground: the node's own goroutine compacts what needs it, at no more than the rate it is given, and ends
// with the store, also where it waits.
func TestCompactionInBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 10_000
		s := openStore(t, vfs.NewMem(0), func(o *Options) {
			compacted(o)
			o.NoBackground = false
			o.Clock = clock.System{}
			o.Config.CleanerBytesPerSecond = rate
			o.Config.ScrubBytesPerSecond = 0
		})
		p := create(t, s, 1)
		for i := range 2000 {
			put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("v", i))
		}
		synctest.Wait()
		p.SetHighWatermark(p.LogEnd())
		before, _ := foldKeys(t, p)
		begun := time.Now()
		for s.Stats().Cleaner.Runs == 0 {
			time.Sleep(time.Second)
		}
		c := s.Stats().Cleaner
		took := time.Since(begun) - s.o.Config.CleanerBackoff
		if least := time.Duration(float64(c.BytesRead+c.BytesWritten) / rate * float64(time.Second)); took < least-2*time.Second {
			t.Errorf("%d bytes took %v at %d bytes a second", c.BytesRead+c.BytesWritten, took, rate)
		}
		if after, n := foldKeys(t, p); !maps.Equal(before, after) || n > 200 {
			t.Errorf("%d records: %v", n, after)
		}
		// It ends in the middle of another one, which would take long.
		for i := range 2000 {
			put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("w", i))
		}
		synctest.Wait()
		p.SetHighWatermark(p.LogEnd())
		time.Sleep(s.o.Config.CleanerBackoff + 3*time.Second)
		if s.Stats().Cleaner.Running != 1 {
			t.Error("it does not run")
		}
		begun = time.Now()
		if err := s.DeletePartition(background, id(1)); err != nil {
			t.Error(err)
		}
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("the deletion waited %v for a compaction", d)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCompactionOfDamage: a log with damage is not compacted, and the damage is reported and stays.
func TestCompactionOfDamage(t *testing.T) {
	fs := vfs.NewMem(0)
	s := openStore(t, fs, compacted)
	p := create(t, s, 1)
	for i := range 300 {
		put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("v", i))
	}
	waitDurable(t, p)
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	reported := 0
	p.OnDamaged(func() { reported++ })
	if err := fs.Corrupt(s.partitionDir(id(1))+"/00000000000000000000.log", 700, 4); err != nil {
		t.Fatal(err)
	}
	p.SetHighWatermark(p.LogEnd())
	size := p.Size()
	if s.Clean() || reported != 1 || len(p.Damaged()) != 1 || p.Size() != size {
		t.Errorf("reported %d times, %v, size %d of %d", reported, p.Damaged(), p.Size(), size)
	}
	s.Clean()
	if c := s.Stats().Cleaner; c.Uncleanable != 1 || c.Runs != 0 || c.Failures != 1 {
		t.Errorf("%+v", c)
	}
	if _, err := p.Read(p.Damaged()[0].First, 100, p.LogEnd(), true); !errors.Is(err, kafka.ErrCorruptMessage) {
		t.Errorf("the damage is served: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestCompactAndDelete: with cleanup.policy=compact,delete old segments go too, compacted or not, and what goes is not
// compacted any more.
func TestCompactAndDelete(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	s := openStore(t, vfs.NewMem(0), func(o *Options) {
		compacted(o)
		o.Clock = fixedClock{clock.System{}, &now}
		o.Config.Topic.CleanupPolicy.Delete = true
		o.Config.Topic.RetentionMillis = 10_000
		o.Config.Topic.RetentionBytes = -1
	})
	p := create(t, s, 1)
	write := func(n int, millis int64) {
		for i := range n {
			b := record.NewBuilder()
			b.Add(millis, []byte(fmt.Sprint("k", i%50)), []byte(strings.Repeat("v", 50)))
			if _, err := p.Append(b.Build(), 0, record.FromClient); err != nil {
				t.Fatal(err)
			}
		}
		waitDurable(t, p)
		p.SetHighWatermark(p.LogEnd())
	}
	write(500, now.UnixMilli()-8_000)
	if !s.Clean() {
		t.Fatal("not compacted")
	}
	_, n := foldKeys(t, p)
	if n > 150 {
		t.Errorf("%d records", n)
	}
	s.ApplyRetention()
	if p.LogStart() != 0 {
		t.Errorf("the log starts at %d already", p.LogStart())
	}
	write(500, now.UnixMilli())
	now = now.Add(5 * time.Second)
	s.ApplyRetention()
	if start := p.LogStart(); start < 400 || start > 500 {
		t.Errorf("the log starts at %d", start)
	}
	if !s.Clean() {
		t.Error("not compacted again")
	}
	m, n := foldKeys(t, p)
	if len(m) != 50 || n > 200 {
		t.Errorf("%d keys in %d records", len(m), n)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

type fixedClock struct {
	clock.System
	now *time.Time
}

func (c fixedClock) Now() time.Time { return *c.now }

// TestCompactionWithoutSpace: a full disk puts compaction off, and it goes on once there is space, also where the clock was a
// day ahead until then.
func TestCompactionWithoutSpace(t *testing.T) {
	for _, passes := range []time.Duration{cleanRetry, -24 * time.Hour} {
		compactWithoutSpace(t, passes)
	}
}

func compactWithoutSpace(t *testing.T, passes time.Duration) {
	now := time.UnixMilli(1_000_000_000)
	fs := vfs.NewMem(0)
	fault := vfs.NewFault(fs, clock.System{})
	s := openStore(t, fault, func(o *Options) {
		compacted(o)
		o.Clock = fixedClock{clock.System{}, &now}
	})
	p := create(t, s, 1)
	for i := range 300 {
		put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("v", i))
	}
	waitDurable(t, p)
	p.SetHighWatermark(p.LogEnd())
	remove := fault.Add(vfs.Rule{Path: ".cleaned", Op: vfs.OpWrite, Err: syscall.ENOSPC})
	for range 2 { // it is tried once, and then left alone for a while
		if s.Clean() {
			t.Error("compacted without space")
		}
	}
	if c := s.Stats().Cleaner; c.Failures != 1 || c.Uncleanable != 1 || s.failed() != nil {
		t.Errorf("%+v, %v", c, s.failed())
	}
	remove()
	now = now.Add(passes)
	before, _ := foldKeys(t, p)
	if !s.Clean() {
		t.Error("not compacted once there is space")
	}
	if after, n := foldKeys(t, p); !maps.Equal(before, after) || n > 150 {
		t.Errorf("%d records: %v", n, after)
	}
	// A sync that fails is fatal, whatever it was for.
	for i := range 300 {
		put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("w", i))
	}
	waitDurable(t, p)
	p.SetHighWatermark(p.LogEnd())
	if err := s.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	fault.Add(vfs.Rule{Path: ".cleaned", Op: vfs.OpSync, Err: syscall.EIO})
	if s.Clean() || s.failed() == nil {
		t.Error("a sync failed and the store goes on")
	}
	_ = s.Close()
}
