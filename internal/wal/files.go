package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"chronik/internal/vfs"
)

const (
	suffix    = ".wal"
	zeroChunk = 1 << 20
	// zeroPause lets others have the disk between two chunks of a file that is made in the background.
	zeroPause = 2 * time.Millisecond
	// spareRetry is how long no spare file is attempted after there was no space for one.
	spareRetry = time.Second
)

// file is a file of the log. header, position and growing belong to the writer while the file is the last live one.
type file struct {
	header
	f        vfs.File
	name     string
	size     int64 // written with zeros or used before, so that writing there does not grow it
	position int64 // where the next group goes
	growing  bool  // not written beforehand
}

// files are the files of a log. Only the writer adds to live, only Release takes from it.
type files struct {
	mu struct {
		sync.Mutex
		live    []*file // hold records that are needed, in order; the last one is being written
		spare   []*file // of full size, not needed
		making  bool
		closed  bool
		retryAt time.Time
	}
	scanned   []scannedFile // what Open found, for Replay
	number    uint64        // the last one given; the writer's
	nextName  int           // guarded by mu
	dirSynced bool          // the directory's own name is; the writer's
	wake      chan struct{} // to makeSpares
	released  chan struct{} // to the writer: something was released
}

// fileFor returns the file for a group of n bytes that starts at LSN first, a new one if need be.
func (l *Log) fileFor(n int64, first LSN) (*file, error) {
	fs := &l.files
	for {
		fs.mu.Lock()
		var f *file
		if i := len(fs.mu.live) - 1; i >= 0 {
			f = fs.mu.live[i]
		}
		fits := f != nil && f.f != nil && (f.position+n <= max(f.size, l.o.FileSize))
		full := len(fs.mu.live) >= l.o.FilesMax
		if fits && (full || !f.growing || len(fs.mu.spare) == 0) {
			fs.mu.Unlock()
			return f, nil
		}
		if !full {
			next := fs.takeSpareLocked(n)
			fs.mu.Unlock()
			return l.startFile(next, first)
		}
		fs.mu.Unlock()
		l.stats.fullWaits.Add(1)
		l.o.OnFull()
		select {
		case <-fs.released:
		case <-l.stop:
			return nil, ErrClosed
		}
	}
}

func (fs *files) takeSpareLocked(n int64) *file {
	for i, f := range fs.mu.spare {
		if headerBlock+n <= f.size {
			fs.mu.spare = append(fs.mu.spare[:i], fs.mu.spare[i+1:]...)
			return f
		}
	}
	return nil
}

// startFile gives a spare file, or a new and growing one, the next number and makes its header durable.
func (l *Log) startFile(f *file, first LSN) (*file, error) {
	fs := &l.files
	if f == nil {
		name := fs.newName()
		err := l.whileFull("create", name, func() (err error) {
			f, err = l.create(name)
			return err
		})
		if err != nil {
			return nil, err
		}
		f.growing = true
	}
	fs.number++
	f.header = header{number: fs.number, salt: newSalt(), first: first}
	f.position = headerBlock
	block := make([]byte, headerBlock)
	f.header.encode(block)
	if err := l.writeAt(f, block, 0); err != nil {
		return nil, err
	}
	sync := f.f.Datasync
	if f.growing {
		sync = f.f.Sync
	}
	if err := sync(); err != nil {
		return nil, fmt.Errorf("sync write-ahead log %s: %w", f.name, err)
	}
	if err := l.syncNames(f.growing); err != nil {
		return nil, err
	}
	fs.mu.Lock()
	fs.mu.live = append(fs.mu.live, f)
	fs.mu.Unlock()
	l.stats.files.Add(1)
	return f, nil
}

// syncNames makes the name of a new file durable, and once that of the directory.
func (l *Log) syncNames(newFile bool) error {
	var dirs []string
	if newFile {
		dirs = append(dirs, l.o.Dir)
	}
	if !l.files.dirSynced {
		dirs = append(dirs, path.Dir(l.o.Dir))
	}
	for _, dir := range dirs {
		if err := l.o.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("sync directory %s: %w", dir, err)
		}
	}
	l.files.dirSynced = true
	return nil
}

func (l *Log) create(name string) (*file, error) {
	p := path.Join(l.o.Dir, name)
	f, err := l.o.FS.Create(p)
	if err != nil {
		return nil, err
	}
	return &file{f: f, name: p}, nil
}

func (fs *files) newName() string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.nextName++
	return fmt.Sprintf("%08d%s", fs.nextName, suffix)
}

func newSalt() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// Release tells that no record below lsn is needed any more: files wholly below it are used again.
func (l *Log) Release(lsn LSN) {
	fs := &l.files
	var free []*file
	fs.mu.Lock()
	for len(fs.mu.live) >= 2 && fs.mu.live[1].first <= lsn {
		free = append(free, fs.mu.live[0])
		fs.mu.live = fs.mu.live[1:]
	}
	fs.mu.Unlock()
	for _, f := range free {
		l.reuse(f)
	}
	if len(free) > 0 {
		signal(fs.released)
	}
}

// reuse makes a file that holds nothing needed a spare one, or removes it.
func (l *Log) reuse(f *file) {
	fs := &l.files
	if f.size == l.o.FileSize && f.f == nil {
		if in, err := l.o.FS.OpenReadWrite(f.name); err == nil {
			f.f = in
		}
	}
	fs.mu.Lock()
	keep := f.f != nil && !fs.mu.closed && f.size == l.o.FileSize && len(fs.mu.spare) < spareFilesMax
	if keep {
		fs.mu.spare = append(fs.mu.spare, f)
	}
	fs.mu.Unlock()
	if !keep {
		l.remove(f)
	}
}

// remove deletes a file that is not needed. That the deletion is not synced, or failed, costs space and nothing else.
func (l *Log) remove(f *file) {
	if f.f != nil {
		_ = f.f.Close()
	}
	if err := l.o.FS.Remove(f.name); err != nil {
		l.o.Logger.Warn("a write-ahead log file that is no longer needed stays", "file", f.name, "error", err)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// askForSpare wakes makeSpares when the file in use is far enough that the next one will be wanted.
func (l *Log) askForSpare(f *file) {
	if f.growing && f.position > growingEnough || !f.growing && f.position > f.size/2 {
		fs := &l.files
		fs.mu.Lock()
		want := len(fs.mu.spare) == 0 && !fs.mu.making
		fs.mu.Unlock()
		if want {
			signal(fs.wake)
		}
	}
}

// makeSpares makes zero-written files in the background.
func (l *Log) makeSpares() {
	fs := &l.files
	for {
		select {
		case <-fs.wake:
		case <-l.stop:
			return
		}
		now := l.o.Clock.Now()
		fs.mu.Lock()
		wanted := len(fs.mu.spare) == 0 && !now.Before(fs.mu.retryAt)
		fs.mu.making = wanted
		fs.mu.Unlock()
		if !wanted {
			continue
		}
		f, err := l.makeSpare()
		fs.mu.Lock()
		fs.mu.making = false
		if f != nil {
			fs.mu.spare = append(fs.mu.spare, f)
		} else {
			fs.mu.retryAt = now.Add(spareRetry)
		}
		fs.mu.Unlock()
		var sync syncError
		switch {
		case errors.As(err, &sync): // the kernel reports it once: another sync of the directory would seem to succeed
			l.fail(err)
		case err != nil:
			l.o.Logger.Warn("no spare write-ahead log file could be made; the one in use grows", "error", err)
		}
	}
}

// makeSpare writes a file full of zeros and makes it and its name durable. Without an error and without a file, the log
// ended meanwhile.
func (l *Log) makeSpare() (*file, error) {
	f, err := l.create(l.files.newName())
	if err != nil {
		return nil, err
	}
	ok, err := l.zero(f)
	if err == nil && ok {
		if err = f.f.Sync(); err == nil {
			err = l.o.FS.SyncDir(l.o.Dir)
		}
		if err != nil {
			err = syncError{fmt.Errorf("sync spare write-ahead log %s: %w", f.name, err)}
		}
	}
	if err != nil || !ok {
		l.remove(f)
		return nil, err
	}
	f.size = l.o.FileSize
	return f, nil
}

// syncError tells a failed sync from what else can go wrong.
type syncError struct{ error }

func (e syncError) Unwrap() error { return e.error }

func (l *Log) zero(f *file) (ok bool, err error) {
	zeros := make([]byte, min(zeroChunk, l.o.FileSize))
	for at := int64(0); at < l.o.FileSize; at += int64(len(zeros)) {
		n := min(int64(len(zeros)), l.o.FileSize-at)
		if _, err := f.f.WriteAt(zeros[:n], at); err != nil {
			return false, err
		}
		if err := f.f.Datasync(); err != nil {
			return false, syncError{fmt.Errorf("sync spare write-ahead log %s: %w", f.name, err)}
		}
		if !l.sleep(zeroPause) {
			return false, nil
		}
	}
	return true, nil
}

func (fs *files) close() error {
	fs.mu.Lock()
	fs.mu.closed = true
	lists := [][]*file{fs.mu.live, fs.mu.spare}
	fs.mu.live, fs.mu.spare = nil, nil
	fs.mu.Unlock()
	var errs []error
	for _, list := range lists {
		for _, f := range list {
			if f.f != nil {
				errs = append(errs, f.f.Close())
			}
		}
	}
	return errors.Join(errs...)
}
