package wal

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"chronik/internal/clock"
	"chronik/internal/vfs"
)

func TestFailedSyncIsFatal(t *testing.T) {
	var fatal atomic.Int32
	fs := &failing{FS: vfs.NewMem(0)}
	l := open(t, fs, func(o *Options) { o.Fatal = func(error) { fatal.Add(1) } })
	if _, err := l.Append(context.Background(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	fs.sync.Store(true)
	if _, err := l.Append(context.Background(), []byte("b")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("append after a failed sync: %v", err)
	}
	fs.sync.Store(false)
	if _, err := l.Append(context.Background(), []byte("c")); !errors.Is(err, syscall.EIO) {
		t.Fatalf("append to a failed log: %v", err)
	}
	if err := l.Close(); !errors.Is(err, syscall.EIO) { // it waits for the writer, who calls Fatal after the appends have failed
		t.Fatalf("close: %v", err)
	}
	if fatal.Load() != 1 {
		t.Fatalf("Fatal was called %d times", fatal.Load())
	}
}

// A failed sync stops the log also where it is one of a spare file, which holds nothing yet: the kernel reports it once, so
// that the next sync of the same directory would seem to succeed. That there is no space for a spare file is no harm.
func TestFailedSyncOfASpareIsFatal(t *testing.T) {
	for _, c := range []struct {
		rule  vfs.Rule
		fatal int32
	}{
		{vfs.Rule{Path: "00000002.wal", Op: vfs.OpSync, Times: 1, Err: syscall.EIO}, 1},
		{vfs.Rule{Path: "wal", Op: vfs.OpSyncDir, Times: 1, Err: syscall.EIO}, 1},
		{vfs.Rule{Path: "00000002.wal", Op: vfs.OpWrite, Times: 1, Err: syscall.ENOSPC}, 0},
	} {
		var fatal atomic.Int32
		fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
		l, err := Open(Options{FS: fault, Dir: "wal", FileSize: 1 << 20, Fatal: func(error) { fatal.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(context.Background(), []byte("a")); err != nil {
			t.Fatal(err)
		}
		fault.Add(c.rule)
		if _, err := l.Append(context.Background(), make([]byte, 2*growingEnough)); err != nil && c.fatal == 0 {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); fatal.Load() < c.fatal && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		l.Close()
		if fatal.Load() != c.fatal {
			t.Errorf("%v of %s: Fatal was called %d times", c.rule.Err, c.rule.Path, fatal.Load())
		}
	}
}

func TestNoSpaceHeals(t *testing.T) {
	fs := &failing{FS: vfs.NewMem(0)}
	l := open(t, fs, nil)
	defer l.Close()
	if _, err := l.Append(context.Background(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	fs.space.Store(true)
	lsn, err := l.Submit(&Entry{Head: []byte("b")})
	if err != nil {
		t.Fatal(err)
	}
	for l.Space() == nil {
		time.Sleep(time.Millisecond)
	}
	fs.space.Store(false)
	if err := l.WaitDurable(context.Background(), lsn); err != nil || l.Space() != nil {
		t.Fatal(err, l.Space())
	}
}

// failing makes syncs fail with EIO and writes with ENOSPC.
type failing struct {
	vfs.FS
	sync, space atomic.Bool
}

type failingFile struct {
	vfs.File
	fs *failing
}

func (f *failing) Create(name string) (vfs.File, error) {
	in, err := f.FS.Create(name)
	return failingFile{in, f}, err
}

func (f failingFile) Datasync() error {
	if f.fs.sync.Load() {
		return syscall.EIO
	}
	return f.File.Datasync()
}

func (f failingFile) WriteAt(b []byte, at int64) (int, error) {
	if f.fs.space.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(b, at)
}
