//go:build linux && !chronik_nofsync

package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

func datasyncFile(f *os.File) error { return control(f, "fdatasync", unix.Fdatasync) }

func dropCache(f *os.File, offset, length int64) error {
	return control(f, "fadvise", func(fd int) error {
		return unix.Fadvise(fd, offset, length, unix.FADV_DONTNEED)
	})
}
