//go:build chronik_nofsync

package vfs

import "os"

// This build never syncs. It exists for one test: the power-cut test must fail on it (see test/powercut).

func syncFile(*os.File) error { return nil }

func datasyncFile(*os.File) error { return nil }

func dropCache(*os.File, int64, int64) error { return nil }
