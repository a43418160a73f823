package vfs

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"chronik/internal/clock"
)

func TestFaultRules(t *testing.T) {
	m := NewMem(0)
	f := NewFault(m, clock.System{})
	file := must[File](t)(f.Create("wal-1"))

	f.Add(Rule{Path: "wal-*", Op: OpWrite, After: 1, Times: 2, Err: syscall.EIO, Short: 3})
	must[int](t)(file.WriteAt([]byte("first"), 0))
	for range 2 {
		n, err := file.WriteAt([]byte("second"), 5)
		if n != 3 || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "wal-1") {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if got := string(readFile(t, m, "wal-1")); got != "firstsec" {
		t.Errorf("a short write left %q", got)
	}
	must[int](t)(file.WriteAt([]byte("third"), 5))

	remove := f.Add(Rule{Path: "other", Err: syscall.ENOSPC})
	if _, err := f.Create("other"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("create: %v", err)
	}
	if err := f.Rename("wal-1", "other"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("rename: %v", err)
	}
	remove()
	check(t, f.Rename("wal-1", "other"))
	if n := f.Calls(OpWrite); n != 4 {
		t.Errorf("%d writes counted", n)
	}
}

// Every call of FS and File goes through the rules.
func TestFaultReachesEveryCall(t *testing.T) {
	f := NewFault(NewMem(0), clock.System{})
	file := must[File](t)(f.Create("a"))
	var seen []Operation
	f.Add(Rule{Err: syscall.EIO, Hook: func(op Operation, _ string) { seen = append(seen, op) }})
	calls := []error{
		second(f.Open("a")), second(f.OpenReadWrite("a")), second(f.Create("b")), f.Remove("a"), f.RemoveAll("a"),
		f.Rename("a", "b"), f.MkdirAll("d"), second(f.ReadDir("/")), second(f.Stat("a")), f.SyncDir("/"),
		second(f.Lock("l")), second(f.Free("/")), second(f.Capacity("/")),
		second(file.ReadAt(nil, 0)), second(file.WriteAt(nil, 0)),
		file.Truncate(0), file.Sync(), file.Datasync(), file.DropCache(0, 0),
	}
	for i, err := range calls {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("call %d: %v", i, err)
		}
	}
	for op := OpOpen; op < OpAny; op <<= 1 {
		if !slices.Contains(seen, op) {
			t.Errorf("no call of %v", op)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestFailedSyncCallsPagesClean(t *testing.T) {
	m := NewMem(0)
	f := NewFault(m, clock.System{})
	writeFile(t, f, "a", []byte("durable"), true)
	check(t, f.SyncDir("/"))
	file := must[File](t)(f.OpenReadWrite("a"))
	f.Add(Rule{Op: OpSync, Times: 1, Err: syscall.EIO})
	must[int](t)(file.WriteAt([]byte("changed"), 0))
	if err := file.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	check(t, file.Datasync()) // the second says yes and has nothing to write
	if got := readFile(t, f, "a"); string(got) != "changed" {
		t.Fatalf("the cache lost its page: %q", got)
	}
	clone := m.Clone()
	if got := readFile(t, clone.PowerLoss(nil), "a"); string(got) != "durable" {
		t.Errorf("the disk has %q", got)
	}
	check(t, file.DropCache(0, 0))
	if got := readFile(t, f, "a"); string(got) != "durable" {
		t.Errorf("from the disk comes %q", got)
	}
}

type instantClock struct {
	clock.System
	waits []time.Duration
}

func (c *instantClock) NewTimer(d time.Duration) clock.Timer {
	c.waits = append(c.waits, d)
	return c.System.NewTimer(0)
}

func TestFaultDelaysByTheClock(t *testing.T) {
	c := &instantClock{}
	f := NewFault(NewMem(0), c)
	f.Add(Rule{Op: OpSync, Delay: 30 * time.Second})
	writeFile(t, f, "a", nil, true)
	if !slices.Equal(c.waits, []time.Duration{30 * time.Second}) {
		t.Errorf("waited %v", c.waits)
	}
}

func TestOSFileHiddenWhereReadsFail(t *testing.T) {
	f := NewFault(OS{}, clock.System{})
	name := t.TempDir() + "/a"
	file := must[File](t)(f.Create(name))
	defer file.Close()
	if file.OSFile() == nil {
		t.Error("no file for sendfile")
	}
	f.Add(Rule{Op: OpRead, Err: syscall.EIO, After: 5})
	if file.OSFile() != nil {
		t.Error("sendfile goes past a rule for reads")
	}
	f.Clear()
	if _, err := file.ReadAt(make([]byte, 1), 0); err != io.EOF {
		t.Error(err)
	}
	check(t, file.Close())
	if err := file.Sync(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("sync of a closed file: %v", err)
	}
}
