package vfs

import (
	"io/fs"
	"os"
	"syscall"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	n        *node
	name     string
	writable bool
	closed   bool // guarded by disk.mu
}

func (m *Mem) newFileLocked(n *node, name string, writable bool) *memFile {
	n.opens++
	return &memFile{m: m, n: n, name: name, writable: writable}
}

func (f *memFile) Name() string { return f.name }

func (f *memFile) OSFile() *os.File { return nil }

// enter begins a call that changes nothing; the caller unlocks if there is no error.
func (f *memFile) enter(op string) error {
	if err := f.m.enter(op, f.name); err != nil {
		return err
	}
	if f.closed {
		f.m.disk.mu.Unlock()
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	return nil
}

func (f *memFile) ReadAt(b []byte, offset int64) (int, error) {
	if err := f.enter("read"); err != nil {
		return 0, err
	}
	defer f.m.disk.mu.Unlock()
	if offset < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: syscall.EINVAL}
	}
	return f.n.readAt(b, offset)
}

func (f *memFile) WriteAt(b []byte, offset int64) (int, error) {
	n := 0
	err := f.mutate("write", func(share float64) error {
		if !f.writable {
			return syscall.EBADF
		}
		if offset < 0 {
			return syscall.EINVAL
		}
		var err error
		n, err = f.n.writeAt(f.m.disk, b[:int(float64(len(b))*share)], offset)
		return err
	})
	return n, err
}

func (f *memFile) Truncate(size int64) error {
	return f.mutate("truncate", whole(func() error {
		if !f.writable || size < 0 {
			return syscall.EINVAL
		}
		f.n.truncate(f.m.disk, size)
		return nil
	}))
}

func (f *memFile) Sync() error {
	return f.mutate("fsync", whole(func() error {
		f.n.sync()
		return nil
	}))
}

func (f *memFile) Datasync() error { return f.Sync() }

func (f *memFile) mutate(op string, do func(share float64) error) error {
	return f.m.mutate(op, f.name, func(share float64) error {
		if f.closed {
			return fs.ErrClosed
		}
		return do(share)
	})
}

// failSync is what a failed sync does to the page cache.
func (f *memFile) failSync() {
	if f.enter("fsync") == nil {
		f.n.loseDirty()
		f.m.disk.mu.Unlock()
	}
}

func (f *memFile) DropCache(offset, length int64) error {
	if err := f.enter("fadvise"); err != nil {
		return err
	}
	defer f.m.disk.mu.Unlock()
	f.n.drop(f.m.disk, offset, length)
	return nil
}

func (f *memFile) Size() (int64, error) {
	if err := f.enter("stat"); err != nil {
		return 0, err
	}
	defer f.m.disk.mu.Unlock()
	return f.n.size, nil
}

func (f *memFile) Close() error {
	if err := f.enter("close"); err != nil {
		return err
	}
	defer f.m.disk.mu.Unlock()
	f.closed = true
	f.n.opens--
	if f.n.unlinked && f.n.opens == 0 {
		f.m.disk.used -= f.n.allocated()
	}
	return nil
}
