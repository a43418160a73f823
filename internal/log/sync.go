package log

import (
	"slices"

	"chronik/internal/kafka"
)

// Synced is a state of which every byte is known to be synced.
func (l *Log) Synced() Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.syncedLocked()
}

func (l *Log) syncedLocked() Checkpoint {
	c := l.mu.synced
	c.LogStart, c.Generation = l.mu.logStart, l.mu.generation
	if len(l.mu.segments) == 0 {
		c.Segment, c.Position, c.EndOffset = l.mu.end, 0, l.mu.end
	}
	// A sealed segment that is synced to its end may be deleted before the next one has a synced byte: the state is told as
	// the start of that one. Not so while its file may still be longer on the disk, from before a truncation.
	for i, s := range l.mu.segments[:max(len(l.mu.segments)-1, 0)] {
		if next := l.mu.segments[i+1].base; s.base == c.Segment && s.size == c.Position && next == c.EndOffset && s.changes == s.changesSynced {
			c.Segment, c.Position = next, 0
		}
	}
	return c
}

// Unsynced is the number of bytes that Sync would bring to the disk.
func (l *Log) Unsynced() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unsyncedLocked()
}

func (l *Log) unsyncedLocked() int64 {
	var n int64
	for _, s := range l.mu.segments {
		switch {
		case s.base == l.mu.synced.Segment:
			n += s.size - l.mu.synced.Position
		case s.base > l.mu.synced.Segment:
			n += s.size
		}
	}
	return n
}

// Sync syncs everything appended before the call.
func (l *Log) Sync() (Checkpoint, error) {
	l.mu.Lock()
	end, generation := l.mu.end, l.mu.generation
	l.mu.Unlock()
	for {
		c, more, err := l.SyncOldest()
		if err != nil || !more || c.EndOffset >= end || c.Generation != generation {
			return c, err
		}
	}
}

// SyncData syncs the bytes of every segment with any that Sync has not synced, and the segments' names; it writes nothing,
// so that it needs no space. What Synced tells stays as it is. An error is fatal to the process.
func (l *Log) SyncData() error {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	segments := slices.Clone(l.mu.segments)
	from := l.mu.synced.Segment
	l.mu.Unlock()
	for _, s := range segments {
		if s.base < from {
			continue
		}
		if err := s.data.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// SyncOldest syncs the oldest segment that has unsynced bytes (data, index, directory entry), the epoch history and a
// snapshot that is due, and returns the state that is synced now; more says that there is another such segment, or that the
// log's end lies higher behind a gap. An error is fatal to the process.
func (l *Log) SyncOldest() (c Checkpoint, more bool, err error) {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	if err := l.usableLocked(false); err != nil {
		l.mu.Unlock()
		return Checkpoint{}, false, err
	}
	s := l.oldestUnsyncedLocked()
	at := s
	if s != nil {
		s.closeIntervalLocked()
	} else if a := l.activeLocked(); a != nil && !l.sealedLocked(a) {
		at = a // all of it is synced; its end may have moved over a gap
	}
	var size int64
	var end kafka.Offset
	if at != nil {
		size, end = at.size, at.end
	}
	l.mu.Unlock()
	if s != nil {
		if err := l.syncSegment(s); err != nil {
			return Checkpoint{}, false, err
		}
	}
	if err := l.syncEpochs(); err != nil {
		return Checkpoint{}, false, err
	}
	if err := l.writeCleaner(); err != nil {
		return Checkpoint{}, false, err
	}
	if err := l.writeSnapshot(); err != nil {
		return Checkpoint{}, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at != nil {
		l.mu.synced.Segment, l.mu.synced.Position, l.mu.synced.EndOffset = at.base, size, end
	}
	a := l.activeLocked()
	gap := a != nil && !l.sealedLocked(a) && a.end > l.mu.synced.EndOffset // there may be no bytes behind it
	return l.syncedLocked(), l.unsyncedLocked() > 0 || gap, nil
}

// oldestUnsyncedLocked is the first segment with anything to sync; nil if there is none.
func (l *Log) oldestUnsyncedLocked() *segment {
	for _, s := range l.mu.segments {
		if s.base < l.mu.synced.Segment {
			continue
		}
		position := int64(0)
		if s.base == l.mu.synced.Segment {
			position = l.mu.synced.Position
		}
		if s.size > position || s.changes != s.changesSynced || s.abortedDirty {
			return s
		}
	}
	return nil
}

// syncSegment brings a segment's files to the disk. The caller holds the maintenance slot.
func (l *Log) syncSegment(s *segment) error {
	if _, err := l.flushIndex(s, nil); err != nil {
		return err
	}
	l.mu.Lock()
	indexed := s.index.written > 0
	l.mu.Unlock()
	for _, h := range []*handle{&s.data.handle, &s.indexFile} {
		if h == &s.indexFile && !indexed {
			continue
		}
		if _, err := h.sync(); err != nil {
			return err
		}
	}
	if err := l.syncNames(s); err != nil {
		return err
	}
	return l.syncAborted(s)
}
