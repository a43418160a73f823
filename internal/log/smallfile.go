package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

func vfsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// maxSmallFile bounds what is read of a file that is read whole, in bytes.
const maxSmallFile = 1 << 30

// writeWhole replaces a small file: written aside, synced, renamed, the directory synced.
func (l *Log) writeWhole(name string, b []byte) error {
	if err := l.makeDir(); err != nil {
		return err
	}
	temp := name + tempSuffix
	if err := l.o.FS.Remove(temp); err != nil && !vfsNotExist(err) {
		return err
	}
	file, err := l.o.FS.Create(temp)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(b, 0)
	if err == nil {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", temp, err)
	}
	if err := l.o.FS.Rename(temp, name); err != nil {
		return err
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return err
	}
	return l.syncDirName()
}

// readWhole reads a small file; nil without an error if there is none.
func (l *Log) readWhole(name string) ([]byte, error) {
	file, err := l.o.FS.Open(name)
	if vfsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > maxSmallFile {
		return nil, &Corruption{File: name, Offset: -1, Reason: fmt.Sprintf("it has %d bytes", size)}
	}
	b := make([]byte, size)
	if n, err := file.ReadAt(b, 0); err != nil && !(err == io.EOF && int64(n) == size) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// makeDir makes the partition's directory before the first file in it.
func (l *Log) makeDir() error {
	l.mu.Lock()
	made := l.mu.dirMade
	l.mu.Unlock()
	if made {
		return nil
	}
	if err := l.o.FS.MkdirAll(l.o.Dir); err != nil {
		return err
	}
	l.mu.Lock()
	l.mu.dirMade, l.mu.unsyncedDir = true, true
	l.mu.Unlock()
	return nil
}
