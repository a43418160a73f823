package vfs

import (
	"io"
	"os"
)

// FS is a file system. Names are slash-separated paths. Errors satisfy errors.Is with fs.ErrNotExist, fs.ErrExist,
// syscall.ENOSPC and syscall.EIO, as those of package os do, and name the path.
//
// Creating, renaming and removing a name are durable only after SyncDir of its directory; a new directory only after
// SyncDir of its parent.
type FS interface {
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// Create makes a new file for reading and writing; one of that name must not exist.
	Create(name string) (File, error)
	Remove(name string) error
	// RemoveAll removes a directory with everything in it; a name that does not exist is no error.
	RemoveAll(name string) error
	// Rename replaces newName if it exists.
	Rename(oldName, newName string) error
	MkdirAll(name string) error
	// ReadDir lists the names in a directory, sorted.
	ReadDir(name string) ([]string, error)
	Stat(name string) (Info, error)
	// SyncDir makes the directory's entries durable.
	SyncDir(name string) error
	// Lock takes an exclusive lock on the file, made if need be, and holds it until closed or until the process
	// ends. ErrLocked if another holds it.
	Lock(name string) (io.Closer, error)
	// Free is the space left for an unprivileged writer on the file system that holds name, in bytes.
	Free(name string) (int64, error)
	// Capacity is the size of the file system that holds name, in bytes.
	Capacity(name string) (int64, error)
}

// Info describes a file.
type Info struct {
	Name string
	Size int64 // bytes
	Dir  bool
}

// File is an open file. ReadAt and WriteAt may run at the same time, from any goroutine. A write reaches the page
// cache; only Sync and Datasync bring it to the disk.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Size() (int64, error)
	Truncate(size int64) error
	// Sync is fsync: content and all of the inode.
	Sync() error
	// Datasync is fdatasync: content, and of the inode what is needed to read it back (the size).
	Datasync() error
	// DropCache asks the kernel to forget the cached pages of the range (POSIX_FADV_DONTNEED), so that the next read
	// comes from the disk. Pages not yet synced stay. length 0 means to the end.
	DropCache(offset, length int64) error
	// OSFile is the file for sendfile and splice; nil where there is none behind it.
	OSFile() *os.File
}
