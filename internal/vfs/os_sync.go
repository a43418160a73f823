//go:build !chronik_nofsync

package vfs

import "os"

func syncFile(f *os.File) error { return f.Sync() }
