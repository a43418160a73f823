package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// noIndex is a disk without space for what is derived: indexes, epochs, snapshots, checkpoints. Segments and WAL, whose
// pages are there already, can be written.
func noIndex(fault *vfs.Fault) {
	for _, name := range []string{".index", "leader-epochs", ".snapshot", "checkpoint.new"} {
		fault.Add(vfs.Rule{Path: name, Op: vfs.OpCreate | vfs.OpWrite, Err: syscall.ENOSPC})
	}
}

// Deleting records syncs the log first. Without space for the index that is refused, and stops nothing: it is what a full
// disk needs most.
func TestDeletingOnAFullDiskIsRefused(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
	var fatal atomic.Int32
	s := openStore(t, fault, func(o *Options) { o.Fatal = func(error) { fatal.Add(1) } })
	defer s.Close()
	p := create(t, s, 1)
	for i := range 5 {
		produce(t, p, 0, 10, fmt.Sprint(i))
	}
	waitDurable(t, p)
	p.SetHighWatermark(p.LogEnd())
	noIndex(fault)
	if err := p.SetLogStart(background, 3); !errors.Is(err, kafka.ErrKafkaStorageError) {
		t.Errorf("delete records: %v", err)
	}
	if err := p.Truncate(background, 4); !errors.Is(err, kafka.ErrKafkaStorageError) {
		t.Errorf("truncate: %v", err)
	}
	if fatal.Load() != 0 || p.LogStart() != 0 || p.LogEnd() != 5 {
		t.Fatalf("fatal %d, offsets %d to %d", fatal.Load(), p.LogStart(), p.LogEnd())
	}
	fault.Clear()
	if err := p.SetLogStart(background, 3); err != nil {
		t.Error(err)
	}
	if got := content(t, p); fmt.Sprint(got) != "[3 4]" {
		t.Error(got)
	}
}

// A full WAL waits for a checkpoint. One that finds no space is made again by itself: whoever could ask for it waits.
func TestCheckpointIsTriedAgainOnceThereIsSpace(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
	var fatal atomic.Int32
	s := openStore(t, fault, func(o *Options) {
		o.Fatal = func(error) { fatal.Add(1) }
		o.Config.WALMaxBytes = 2 * o.Config.WALFileBytes
		o.Config.WALReferenceMinBytes = -1
		o.Config.Topic.SegmentBytes = 16 << 20 // a roll needs an index
	})
	p := create(t, s, 1)
	noIndex(fault)
	go func() { // the WAL holds a fraction of it
		for i := range 100 {
			if _, err := p.Append(batch(8<<10, fmt.Sprint(i)), 0, record.FromClient); err != nil {
				t.Error(err)
				return
			}
			for p.DurableEnd() <= kafka.Offset(i) && fatal.Load() == 0 {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}()
	for deadline := time.Now().Add(time.Minute); !s.syncPutOff.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint failed")
		}
	}
	stuck := p.DurableEnd()
	for deadline := time.Now().Add(300 * time.Millisecond); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if end := p.DurableEnd(); end > stuck { // it is not full yet
			stuck, deadline = end, time.Now().Add(300*time.Millisecond)
		}
	}
	if stuck >= 100 {
		t.Fatal("the WAL never filled up")
	}
	fault.Clear()
	for deadline := time.Now().Add(time.Minute); p.DurableEnd() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still stuck at offset %d of 100", p.DurableEnd())
		}
	}
	if err := s.Close(); err != nil || fatal.Load() != 0 {
		t.Error(err, fatal.Load())
	}
}

// A node ends although its WAL is full and there is no space for a checkpoint. What was not acknowledged by then is not.
func TestCloseWithAFullWALOnAFullDisk(t *testing.T) {
	mem := vfs.NewMem(0)
	fault := vfs.NewFault(mem, clock.System{})
	s := openStore(t, fault, func(o *Options) {
		o.Config.WALMaxBytes = 2 * o.Config.WALFileBytes
		o.Config.WALReferenceMinBytes = -1
		o.Config.Topic.SegmentBytes = 16 << 20
	})
	p := create(t, s, 1)
	noIndex(fault)
	n := 0
	// The WAL's writer waits for room once it has no file left for the last record, and no checkpoint makes room.
	for deadline := time.Now().Add(time.Minute); p.DurableEnd() == p.LogEnd(); n++ {
		waits := s.wal.Stats().FullWaits
		produce(t, p, 0, 8<<10, fmt.Sprint(n))
		for p.DurableEnd() < p.LogEnd() && (s.wal.Stats().FullWaits == waits || !s.syncPutOff.Load()) {
			if time.Now().After(deadline) {
				t.Fatal("the WAL never filled up")
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	durable := p.DurableEnd()
	done := make(chan error)
	go func() { done <- s.Close() }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("closed in order")
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
	s = openStore(t, mem.Kill(), nil)
	defer s.Close()
	if p := s.Partition(id(1)); p.LogEnd() < durable {
		t.Errorf("%d of %d records are left", p.LogEnd(), durable)
	}
}

// A node starts on a full disk: what it recovers is durable without a checkpoint, also when the power goes once more.
func TestStartOnAFullDisk(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem := vfs.NewMem(0)
		s := openStore(t, mem, nil)
		p := create(t, s, 1)
		var want []string
		for i := range 30 {
			v := fmt.Sprint(i)
			produce(t, p, 0, rng.IntN(20<<10), v)
			want = append(want, v)
		}
		waitDurable(t, p)
		mem = mem.PowerLoss(rng)
		s.Close()
		for range 3 {
			fault := vfs.NewFault(mem, clock.System{})
			if seed%2 == 0 {
				noIndex(fault)
			} else { // a checkpoint would fit
				fault.Add(vfs.Rule{Path: ".index", Op: vfs.OpCreate, Err: syscall.ENOSPC})
			}
			var fatal atomic.Int32
			s = openStore(t, fault, func(o *Options) { o.Fatal = func(error) { fatal.Add(1) } })
			p = s.Partition(id(1))
			if got := content(t, p); fmt.Sprint(got) != fmt.Sprint(want) || p.DurableEnd() != p.LogEnd() {
				t.Fatalf("seed %d: %v, durable to %d", seed, got, p.DurableEnd())
			}
			v := fmt.Sprint("after ", len(want))
			produce(t, p, 0, 10, v)
			want = append(want, v)
			waitDurable(t, p)
			if fatal.Load() != 0 {
				t.Fatal("it stopped")
			}
			mem = mem.PowerLoss(rng)
			s.Close()
		}
		s = openStore(t, mem, nil)
		if got := content(t, s.Partition(id(1))); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("seed %d: %v", seed, got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a killed process had not synced is in the page cache. It counts as durable once it is on the disk, file name and all,
// on a full disk too.
func TestStartOnAFullDiskSyncsReferences(t *testing.T) {
	mem := vfs.NewMem(0)
	fs := &stalled{Mem: mem}
	s := openStore(t, fs, nil)
	p := create(t, s, 1)
	for s.wal.Durable() < s.wal.Next() { // what made the partition
		time.Sleep(time.Millisecond)
	}
	before := s.wal.Stats().Groups
	fs.stall.Store(true)
	produce(t, p, 0, 20<<10, "by reference")
	for s.wal.Stats().Groups == before { // the WAL has synced the record, and waits for the segment
		time.Sleep(time.Millisecond)
	}
	if p.DurableEnd() != 0 {
		t.Fatal("durable without the segment")
	}
	mem = mem.Kill()
	s.Close()
	fault := vfs.NewFault(mem, clock.System{})
	noIndex(fault)
	s = openStore(t, fault, nil)
	if p = s.Partition(id(1)); p.DurableEnd() != 1 {
		t.Fatalf("the record is in the WAL and in the page cache, and durable is %d", p.DurableEnd())
	}
	mem = mem.PowerLoss(nil)
	s.Close()
	s = openStore(t, mem, nil)
	defer s.Close()
	if got := content(t, s.Partition(id(1))); fmt.Sprint(got) != "[by reference]" {
		t.Errorf("%v is left of what was durable", got)
	}
}

// Where replay has to write what a power loss took, it waits for space.
func TestRecoveryWaitsForSpace(t *testing.T) {
	mem := vfs.NewMem(0)
	s := openStore(t, mem, nil)
	p := create(t, s, 1)
	produce(t, p, 0, 10, "a")
	waitDurable(t, p)
	mem = mem.PowerLoss(nil)
	s.Close()
	fault := vfs.NewFault(mem, clock.System{})
	fault.Add(vfs.Rule{Path: "partitions", Op: vfs.OpCreate | vfs.OpWrite | vfs.OpMkdir, Times: 2, Err: syscall.ENOSPC})
	s = openStore(t, fault, nil)
	defer s.Close()
	if got := content(t, s.Partition(id(1))); fmt.Sprint(got) != "[a]" {
		t.Error(got)
	}
}
