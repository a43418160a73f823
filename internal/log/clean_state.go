package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path"

	"chronik/internal/kafka"
)

// The cleaner's state (docs/format/cleaner.md) is how far a log was compacted. If it is lost, the log counts as never
// compacted, which costs a pass over all of it and nothing else.
const (
	cleanerName    = "cleaner"
	cleanerMagic   = "chronCLN"
	cleanerVersion = 1
	cleanerSize    = 40
)

// cleanerState is guarded by Log.mu.
type cleanerState struct {
	// firstDirty: below it no key has an older record than its last one below it. It is never above what was compacted: a
	// tombstone may be dropped only where nothing older of its key is left.
	firstDirty kafka.Offset
	// deletesBelow is behind the last tombstone or marker that was ever dropped for its age. A replica that ends below it may
	// have what was deleted, and will never hear of the deletion.
	deletesBelow kafka.Offset
	dirty        bool // not in the file
}

func (c cleanerState) encode(generation uint64) []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, cleanerSize+4), cleanerMagic...)
	b = be.AppendUint16(b, cleanerVersion)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = be.AppendUint64(b, generation)
	b = be.AppendUint64(b, uint64(c.firstDirty))
	b = be.AppendUint64(b, uint64(c.deletesBelow))
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeCleaner(b []byte) (c cleanerState, generation uint64, err error) {
	if err := checkWhole(b, cleanerMagic, cleanerVersion, cleanerSize); err != nil {
		return c, 0, err
	}
	be := binary.BigEndian
	c = cleanerState{firstDirty: kafka.Offset(be.Uint64(b[24:])), deletesBelow: kafka.Offset(be.Uint64(b[32:]))}
	if len(b) != cleanerSize+4 || c.firstDirty < 0 || c.deletesBelow < 0 {
		return cleanerState{}, 0, fmt.Errorf("its fields or its size of %d bytes are impossible", len(b))
	}
	return c, be.Uint64(b[16:]), nil
}

func (l *Log) cleanerPath() string { return path.Join(l.o.Dir, cleanerName) }

// openCleaner reads the state. One of another generation tells of what may have been cut since: only what it says of
// deletions counts, which were below the high watermark.
func (l *Log) openCleaner() error {
	if !l.mu.dirMade {
		return nil
	}
	b, err := l.readWhole(l.cleanerPath())
	if err != nil || b == nil {
		return err
	}
	c, generation, err := decodeCleaner(b)
	if err != nil {
		l.o.Logger.Warn("the log counts as never compacted", "partition", l.o.Name, "file", l.cleanerPath(), "reason", err)
		c = cleanerState{deletesBelow: l.mu.end, dirty: true} // which deletions are gone is not known any more
	} else if generation != l.mu.generation {
		c.firstDirty, c.dirty = 0, true
	}
	c.firstDirty, c.deletesBelow = min(c.firstDirty, l.mu.end), min(c.deletesBelow, l.mu.end)
	l.mu.cleaner = c
	return nil
}

// cut is what a truncation does to the state. It began a generation, which the file has to tell.
func (c *cleanerState) cut(end kafka.Offset) {
	c.dirty = c.dirty || c.firstDirty > 0 || c.deletesBelow > 0
	c.firstDirty, c.deletesBelow = min(c.firstDirty, end), min(c.deletesBelow, end)
}

// writeCleaner makes the state durable, if it changed. The caller holds the maintenance slot.
func (l *Log) writeCleaner() error {
	l.mu.Lock()
	dirty := l.mu.cleaner.dirty && l.mu.dirMade
	var b []byte
	if dirty {
		b = l.mu.cleaner.encode(l.mu.generation)
		l.mu.cleaner.dirty = false
	}
	l.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := l.writeWhole(l.cleanerPath(), b); err != nil {
		l.mu.Lock()
		l.mu.cleaner.dirty = true
		l.mu.Unlock()
		return err
	}
	return nil
}

// FirstDirty is the offset from which on the log was never compacted.
func (l *Log) FirstDirty() kafka.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.mu.cleaner.firstDirty, l.mu.logStart)
}
