//go:build !linux && !chronik_nofsync

package vfs

import "os"

// Elsewhere fsync stands in for fdatasync: it does more, never less.
func datasyncFile(f *os.File) error { return f.Sync() }

// dropCache does nothing: the kernel has no such advice. What it guards against (pages that a failed fsync left clean)
// is a Linux behaviour.
func dropCache(*os.File, int64, int64) error { return nil }
