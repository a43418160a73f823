package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"
)

// ErrKilled is what every call answers after the simulated process behind a [Mem] has died.
var ErrKilled = errors.New("simulated process was killed")

// Mem is one process's view of a file system in memory that can crash. [Mem.Kill] and [Mem.PowerLoss] end the process:
// its view and all its open files answer ErrKilled from then on, so that goroutines that outlive the crash cannot touch
// what the next process sees. Both return that next process's view.
//
// What a call wrote is in the page cache, by pages of 4 KiB; a file's Sync or Datasync brings its dirty pages and its
// size to the disk, SyncDir a directory's entries. It is as hostile as POSIX allows: syncing a file does not keep its
// name, each unsynced page and name is lost or kept on its own, and a lost page may have any of the contents it had
// since the last sync. A rename is atomic, and changes of one name reach the disk in order.
//
// The methods that are not FS's belong to the test, not to the process.
type Mem struct {
	disk *disk
	// Guarded by disk.mu.
	dead       bool
	died       chan struct{}
	operations int64 // mutating calls so far
	killAt     int64 // the mutating call to die in; 0 for none
	killRand   *rand.Rand
}

var _ FS = (*Mem)(nil)

// NewMem makes an empty file system with room for capacity bytes of file content; 0 means no limit.
func NewMem(capacity int64) *Mem {
	d := &disk{capacity: capacity}
	d.root = d.newNode(true)
	return d.newProcess()
}

// disk is the machine: what is durable, and the page cache over it.
type disk struct {
	mu       sync.Mutex
	capacity int64 // bytes, 0 for no limit
	used     int64 // pages of content that processes see, holes not counted
	lastID   int
	root     *node
	pending  []nameChange // not yet durable, oldest first
	process  *Mem
	locks    map[*node]bool
}

func (d *disk) newProcess() *Mem {
	d.locks = map[*node]bool{}
	d.process = &Mem{disk: d, died: make(chan struct{})}
	return d.process
}

// enter begins a call that changes nothing. The caller unlocks disk.mu if there is no error.
func (m *Mem) enter(op, name string) error {
	m.disk.mu.Lock()
	if m.dead {
		m.disk.mu.Unlock()
		return &fs.PathError{Op: op, Path: name, Err: ErrKilled}
	}
	return nil
}

// mutate runs a call that changes something; do is given the share of its work to do, less than 1 where the process
// dies in the middle of it.
func (m *Mem) mutate(op, name string, do func(share float64) error) error {
	if err := m.enter(op, name); err != nil {
		return err
	}
	defer m.disk.mu.Unlock()
	m.operations++
	share := 1.0
	dying := m.killAt != 0 && m.operations >= m.killAt
	if dying {
		share = m.killRand.Float64()
	}
	err := do(share)
	if dying {
		m.dieLocked()
		err = ErrKilled
	}
	if err == nil {
		return nil
	}
	var named *fs.PathError
	if errors.As(err, &named) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// whole is for calls that are done whole or not at all.
func whole(do func() error) func(float64) error {
	return func(share float64) error {
		if share < 0.5 {
			return nil
		}
		return do()
	}
}

func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, writable bool) (File, error) {
	if err := m.enter("open", name); err != nil {
		return nil, err
	}
	defer m.disk.mu.Unlock()
	n, err := m.disk.find(name)
	if err == nil && n.dir {
		err = syscall.EISDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return m.newFileLocked(n, name, writable), nil
}

func (m *Mem) Create(name string) (File, error) {
	var f File
	err := m.mutate("open", name, whole(func() error {
		n, err := m.disk.create(name)
		if err == nil {
			f = m.newFileLocked(n, name, true)
		}
		return err
	}))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (m *Mem) Remove(name string) error {
	return m.mutate("remove", name, whole(func() error { return m.disk.remove(name) }))
}

// RemoveAll removes one entry after the other, as os.RemoveAll does: a crash may come between any two.
func (m *Mem) RemoveAll(name string) error {
	info, err := m.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Dir {
		names, err := m.ReadDir(name)
		if err != nil {
			return err
		}
		for _, child := range names {
			if err := m.RemoveAll(path.Join(name, child)); err != nil {
				return err
			}
		}
	}
	if err := m.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (m *Mem) Rename(oldName, newName string) error {
	err := m.mutate("rename", oldName, whole(func() error { return m.disk.rename(oldName, newName) }))
	var named *fs.PathError
	if errors.As(err, &named) {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: named.Err}
	}
	return err
}

func (m *Mem) MkdirAll(name string) error {
	return m.mutate("mkdir", name, whole(func() error { return m.disk.mkdirAll(name) }))
}

func (m *Mem) ReadDir(name string) ([]string, error) {
	if err := m.enter("open", name); err != nil {
		return nil, err
	}
	defer m.disk.mu.Unlock()
	n, err := m.disk.find(name)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return slices.Sorted(maps.Keys(n.entries)), nil
}

func (m *Mem) Stat(name string) (Info, error) {
	if err := m.enter("stat", name); err != nil {
		return Info{}, err
	}
	defer m.disk.mu.Unlock()
	n, err := m.disk.find(name)
	if err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return Info{Name: path.Base(name), Size: n.size, Dir: n.dir}, nil
}

func (m *Mem) SyncDir(name string) error {
	return m.mutate("fsync", name, whole(func() error {
		n, err := m.disk.find(name)
		if err == nil && !n.dir {
			err = syscall.ENOTDIR
		}
		if err == nil {
			m.disk.syncNames(n)
		}
		return err
	}))
}

func (m *Mem) Lock(name string) (io.Closer, error) {
	var l *memLock
	err := m.mutate("lock", name, whole(func() error {
		n, err := m.disk.find(name)
		if errors.Is(err, fs.ErrNotExist) {
			n, err = m.disk.create(name)
		}
		if err != nil {
			return err
		}
		if m.disk.locks[n] {
			return fmt.Errorf("%w", ErrLocked)
		}
		m.disk.locks[n] = true
		l = &memLock{m: m, n: n}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return l, nil
}

type memLock struct {
	m *Mem
	n *node
}

func (l *memLock) Close() error {
	l.m.disk.mu.Lock()
	defer l.m.disk.mu.Unlock()
	if !l.m.dead {
		delete(l.m.disk.locks, l.n)
	}
	return nil
}

func (m *Mem) Free(name string) (int64, error) { return m.statfs(name, m.disk.free) }

func (m *Mem) Capacity(name string) (int64, error) { return m.statfs(name, m.disk.size) }

// statfs tells something of the disk, counted under its lock.
func (m *Mem) statfs(name string, count func() int64) (int64, error) {
	if err := m.enter("statfs", name); err != nil {
		return 0, err
	}
	defer m.disk.mu.Unlock()
	if _, err := m.disk.find(name); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return count(), nil
}
