package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process, or another opener in this one, holds the lock.
var ErrLocked = errors.New("locked by another process")

const (
	fileMode      = 0o640
	directoryMode = 0o750
)

// OS is the operating system's file system.
type OS struct{}

var _ FS = OS{}

func (OS) Open(name string) (File, error) { return openOS(name, os.O_RDONLY) }

func (OS) OpenReadWrite(name string) (File, error) { return openOS(name, os.O_RDWR) }

func (OS) Create(name string) (File, error) { return openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL) }

func (OS) Remove(name string) error { return os.Remove(name) }

func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

func (OS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (OS) MkdirAll(name string) error { return os.MkdirAll(name, directoryMode) }

func (OS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (OS) Stat(name string) (Info, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return Info{Name: info.Name(), Size: info.Size(), Dir: info.IsDir()}, nil
}

func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = syncFile(d)
	return errors.Join(err, d.Close())
}

func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := control(f, "flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		_ = f.Close() // the lock's error says more
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
		}
		return nil, err
	}
	return f, nil
}

func (OS) Free(name string) (int64, error) {
	st, err := statfs(name)
	return int64(st.Bavail) * int64(st.Bsize), err
}

func (OS) Capacity(name string) (int64, error) {
	st, err := statfs(name)
	return int64(st.Blocks) * int64(st.Bsize), err
}

func statfs(name string) (unix.Statfs_t, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(name, &st)
		if err == nil {
			return st, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return unix.Statfs_t{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
		}
	}
}

// osFile adds to os.File what it lacks. ReadAt and WriteAt are pread and pwrite, whole or with an error.
type osFile struct{ *os.File }

func openOS(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, fileMode)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return syncFile(f.File) }

func (f osFile) Datasync() error { return datasyncFile(f.File) }

func (f osFile) DropCache(offset, length int64) error { return dropCache(f.File, offset, length) }

func (f osFile) OSFile() *os.File { return f.File }

// control runs a system call on f's descriptor, which stays open meanwhile, again if a signal interrupted it. The
// error names the file.
func control(f *os.File, op string, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: err}
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); !errors.Is(callErr, syscall.EINTR) {
				return
			}
		}
	})
	switch {
	case err != nil: // Control fails in one case only
		return &fs.PathError{Op: op, Path: f.Name(), Err: fs.ErrClosed}
	case callErr != nil:
		return &fs.PathError{Op: op, Path: f.Name(), Err: callErr}
	}
	return nil
}
