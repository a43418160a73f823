package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// stalled holds up the syncs of segment files.
type stalled struct {
	*vfs.Mem
	stall atomic.Bool
}

type stalledFile struct {
	vfs.File
	fs *stalled
}

func (s *stalled) Create(name string) (vfs.File, error) {
	f, err := s.Mem.Create(name)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return stalledFile{f, s}, nil
}

func (f stalledFile) Datasync() error {
	for f.fs.stall.Load() {
		select {
		case <-f.fs.Died():
			return vfs.ErrKilled
		case <-time.After(time.Millisecond):
		}
	}
	return f.File.Datasync()
}

// A reference whose bytes did not reach the disk, although the WAL's record did, ends the log; what was behind it was never
// durable. The offsets are given again, and the next recovery does not take the old reference for damage.
func TestReferenceThatNeverReachedTheDisk(t *testing.T) {
	ended := 0
	for seed := range uint64(20) {
		mem := vfs.NewMem(0)
		fs := &stalled{Mem: mem}
		s := openStore(t, fs, nil)
		p, other := create(t, s, 1), create(t, s, 2)
		produce(t, p, 0, 10, "a")
		waitDurable(t, p)
		fs.stall.Store(true)
		produce(t, p, 0, 40<<10, "lost")
		produce(t, p, 0, 10, "behind")
		produce(t, other, 0, 10, "v")
		waitDurable(t, other) // so the WAL's group is on the disk
		produce(t, p, 0, 10, "behind in another group")
		produce(t, other, 0, 10, "w")
		waitDurable(t, other)
		if p.DurableEnd() != 1 {
			t.Fatalf("offset %d is durable before the reference", p.DurableEnd())
		}
		mem = mem.PowerLoss(rand.New(rand.NewPCG(seed, 1)))
		s.Close()

		s = openStore(t, mem, nil)
		p = s.Partition(id(1))
		if p.LogEnd() == 1 {
			ended++
		}
		if got := fmt.Sprint(content(t, p)); got != "[a]" && got != "[a lost behind behind in another group]" {
			t.Fatalf("content %s", got)
		}
		if got := content(t, s.Partition(id(2))); fmt.Sprint(got) != "[v w]" {
			t.Fatalf("the other partition holds %v", got)
		}
		again := produce(t, p, 0, 30<<10, "again")
		waitDurable(t, p)
		mem = mem.PowerLoss(rand.New(rand.NewPCG(seed, 2)))
		s.Close()
		s = openStore(t, mem, nil)
		if got := content(t, s.Partition(id(1))); got[again.BaseOffset] != "again" || len(got) != int(again.BaseOffset)+1 {
			t.Fatalf("after another power loss: %v", got)
		}
		s.Close()
	}
	if ended == 0 {
		t.Error("no power loss broke the reference")
	}
}

// A reference that was synced once and is broken now is damage: named, by verify and by the start, and not served.
func TestBrokenReferenceIsDamage(t *testing.T) {
	mem := vfs.NewMem(0)
	s := openStore(t, mem, nil)
	p := create(t, s, 1)
	produce(t, p, 0, 40<<10, "big")
	waitDurable(t, p)
	produce(t, p, 0, 10, "next group")
	waitDurable(t, p)
	mem = mem.Kill()
	s.Close()
	name := s.partitionDir(id(1)) + "/00000000000000000000.log"
	if err := mem.Corrupt(name, 20<<10, 1); err != nil {
		t.Fatal(err)
	}
	found := ""
	if _, err := Verify(background, mem, "data", func(p Problem) { found += p.String() }); err != nil || !strings.Contains(found, name) {
		t.Errorf("verify: %v %s", err, found)
	}
	s = openStore(t, mem, nil)
	p = s.Partition(id(1))
	if d := p.Damaged(); len(d) != 1 || d[0].File != name || d[0].First != 0 || d[0].End != 1 || p.LogEnd() != 2 {
		t.Errorf("the log ends at %d, damage %+v", p.LogEnd(), d)
	}
	if _, err := p.ReadCopy(nil, 0, 1<<20, 2, true); !errors.Is(err, kafka.ErrCorruptMessage) {
		t.Errorf("the damage is served: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// With the failing sync the process must stop, and nothing that was not durable is acknowledged.
func TestFailedSyncStops(t *testing.T) {
	mem := vfs.NewMem(0)
	fault := vfs.NewFault(mem, clock.System{})
	var fatal atomic.Int32
	s := openStore(t, fault, func(o *Options) { o.Fatal = func(error) { fatal.Add(1) } })
	defer s.Close()
	p := create(t, s, 1)
	produce(t, p, 0, 10, "a")
	waitDurable(t, p)
	fault.Add(vfs.Rule{Path: ".wal", Op: vfs.OpSync, Times: 1, Err: syscall.EIO})
	if _, err := p.Append(batch(10, "b"), 0, record.FromClient); err != nil {
		t.Fatal(err)
	}
	for fatal.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if p.DurableEnd() != 1 {
		t.Errorf("durable end %d after a failed sync", p.DurableEnd())
	}
	if _, err := p.Append(batch(10, "c"), 0, record.FromClient); !errors.Is(err, kafka.ErrKafkaStorageError) {
		t.Errorf("append to a failed store: %v", err)
	}
	if fatal.Load() != 1 {
		t.Errorf("Fatal was called %d times", fatal.Load())
	}
}

// A checkpoint that is made while a truncation is logged and not yet applied must not start behind it.
func TestCheckpointDuringTruncation(t *testing.T) {
	mem := vfs.NewMem(0)
	s := openStore(t, mem, nil)
	p := create(t, s, 1)
	for i := range 6 {
		produce(t, p, 0, 10, fmt.Sprint(i))
	}
	l, err := p.opened()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	base, err := l.StateAt(3)
	if err != nil {
		t.Fatal(err)
	}
	op := operation{kind: opTruncate, id: p.id, generation: base.Generation + 1, offset: 3, base: base}
	err = p.logged(background, &op, func() error {
		err := s.Checkpoint()
		mem = mem.Kill()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, mem, nil)
	defer s.Close()
	if got := content(t, s.Partition(id(1))); fmt.Sprint(got) != "[0 1 2]" {
		t.Errorf("the truncation is forgotten: %v", got)
	}
}
