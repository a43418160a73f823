package wal

import (
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/vfs"
)

// Options of a [Log]. The zero value of every number stands for its default.
type Options struct {
	FS  vfs.FS
	Dir string // made if it does not exist
	// FileSize is the size of a zero-written and recycled file in bytes, 64 MiB by default. A group larger than that
	// gets a file of its own.
	FileSize int64
	// FilesMax bounds the files that hold records; at the bound Submit waits for Release. 16 by default.
	FilesMax int
	// GroupBytesMax is how much gathers in a group before Submit waits, 4 MiB by default.
	GroupBytesMax int
	// ReferenceBytes is a stream's share of a group from which on its records go by reference, 256 KiB by default;
	// negative for never.
	ReferenceBytes int64
	// LazyDelay is how long a group of nothing but lazy entries may wait for company, 50 ms by default.
	LazyDelay time.Duration
	// Clean is the end of the log as its owner knows it from a clean shutdown: if nothing was written since, nothing is
	// read, Replay yields nothing, and the files are free for reuse. Otherwise it stands for From. 0 to find the end by
	// reading.
	Clean LSN
	// From is the first LSN that its owner still needs; files wholly below are not read and may be missing. 0 for all
	// that is there: then the owner has to notice by itself if the beginning is missing.
	From LSN

	Clock  clock.Clock
	Logger *slog.Logger
	// Fatal is called once, from the goroutine that saw it, with the error after which nothing is durable any more.
	Fatal func(error)
	// OnFull is called whenever the log waits for Release. It must not block.
	OnFull func()
}

const (
	defaultFileSize       = 64 << 20
	defaultFilesMax       = 16
	defaultGroupBytesMax  = 4 << 20
	defaultReferenceBytes = 256 << 10
	defaultLazyDelay      = 50 * time.Millisecond

	growingEnough = 256 << 10 // a growing file this long asks for zero-written ones
	spareFilesMax = 2         // zero-written files kept ready beside those that hold records
	groupsMax     = 8         // groups between submission and completion
	spaceRetry    = 50 * time.Millisecond
)

func (o *Options) setDefaults() {
	if o.FileSize == 0 {
		o.FileSize = defaultFileSize
	}
	o.FileSize = max(o.FileSize, 2*headerBlock)
	if o.FilesMax == 0 {
		o.FilesMax = defaultFilesMax
	}
	o.FilesMax = max(o.FilesMax, 2)
	if o.GroupBytesMax == 0 {
		o.GroupBytesMax = defaultGroupBytesMax
	}
	if o.ReferenceBytes == 0 {
		o.ReferenceBytes = defaultReferenceBytes
	}
	if o.LazyDelay == 0 {
		o.LazyDelay = defaultLazyDelay
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
	if o.OnFull == nil {
		o.OnFull = func() {}
	}
}
