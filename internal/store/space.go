package store

import (
	"sync/atomic"

	"chronik/internal/kafka"
)

// space accounts for the room on the disk: bytes are granted before an append gets an offset, so that neither the segment
// nor the WAL runs out of space once it has one.
type space struct {
	granted atomic.Int64 // may still be appended before the next look at the file system
	refused atomic.Int64
}

// reserve grants n bytes of record batches: they go to a segment, and perhaps to a growing file of the WAL.
func (s *Store) reserve(n int64) error {
	if s.wal.Space() != nil {
		return s.noSpace()
	}
	n *= 2
	if s.space.granted.Add(-n) >= 0 {
		return nil
	}
	free, err := s.o.FS.Free(s.o.Dir)
	if err != nil {
		return storageError(err)
	}
	room := free - s.o.Config.FreeSpaceReserveBytes
	if room < n {
		s.space.granted.Store(0)
		return s.noSpace()
	}
	s.space.granted.Store(min(room-n, spaceStepBytes))
	return nil
}

func (s *Store) noSpace() error {
	if s.space.refused.Add(1) == 1 {
		s.o.Logger.Error("appends are refused: no space left", "dir", s.o.Dir, "kept free", s.o.Config.FreeSpaceReserveBytes)
	}
	return kafka.ErrKafkaStorageError.With("no space left in %s: free some, or lower disk.free.min.bytes (%d)", s.o.Dir, s.o.Config.FreeSpaceReserveBytes)
}

// Volume is the size of the file system that holds the data directory, and what of it an unprivileged writer may still use,
// in bytes.
func (s *Store) Volume() (total, usable int64, err error) {
	if total, err = s.o.FS.Capacity(s.o.Dir); err != nil {
		return 0, 0, storageError(err)
	}
	if usable, err = s.o.FS.Free(s.o.Dir); err != nil {
		return 0, 0, storageError(err)
	}
	return total, usable, nil
}
