package log

import (
	"fmt"
	"path"
	"sort"
	"strconv"
	"strings"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// The names of a partition's files. Offsets are written with twenty digits, so that names sort as offsets do.
const (
	dataSuffix     = ".log"
	indexSuffix    = ".index"
	abortedSuffix  = ".txnindex"
	snapshotSuffix = ".snapshot"
	epochsName     = "leader-epochs"
	tempSuffix     = ".tmp"
	cleanedSuffix  = ".cleaned" // behind the names of a segment's files while they are to take the place of others
)

func fileName(offset kafka.Offset, suffix string) string {
	return fmt.Sprintf("%020d%s", int64(offset), suffix)
}

// parseName reads the offset out of a name that fileName made.
func parseName(name, suffix string) (kafka.Offset, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return kafka.Offset(n), err == nil && n >= 0
}

// SegmentFile is a segment's data file, for whoever must sync what was appended to it.
type SegmentFile struct {
	handle
	log *Log
	seg *segment
}

// Name is the file's path.
func (s *SegmentFile) Name() string { return s.path }

// Sync makes the bytes that were written before the call durable, and the file's name in its directory if it is not yet.
// A file that was deleted meanwhile has nothing to sync. An error is fatal to the process (storage.md).
func (s *SegmentFile) Sync() error {
	if opened, err := s.sync(); err != nil {
		if !opened && s.gone() {
			return nil
		}
		return err
	}
	if err := s.log.syncNames(s.seg); err != nil && !s.gone() { // a partition that is deleted takes its directory along
		return err
	}
	return nil
}

func (h *handle) gone() bool {
	h.files.mu.Lock()
	defer h.files.mu.Unlock()
	return h.removed
}

// segment is one stretch of the log: a data file and an index. Its fields below the handles are guarded by Log.mu.
type segment struct {
	base        kafka.Offset
	data        SegmentFile
	indexFile   handle
	abortedName string // path of the transaction index

	size          int64        // bytes that count
	end           kafka.Offset // exclusive
	index         indexState
	tornBytes     int64        // found behind the end of a log opened without a checkpoint
	rebuilt       int          // times the index was built again
	loaded        bool         // index, maxTimestamp and maxOffset are known; else only base, size and end are
	maxTimestamp  int64        // record.NoTimestamp if there is none
	maxOffset     kafka.Offset // base offset of the first batch that has it
	rollTimestamp int64        // largest timestamp of the first batch, from which segment.ms counts; see rollKnown
	rollKnown     bool
	createdMillis int64
	damaged       []Damage // not to be served; ascending, replaced when it changes
	changes       uint32   // files made or cut
	changesSynced uint32   // of those, how many before the last sync of files and directory
	uncached      int64    // the cached pages of the bytes before it were let go of; see DropBehind

	aborted       []AbortedTransaction // by the offset of their markers
	abortedLoaded bool
	abortedDirty  bool
}

func (l *Log) newSegment(base kafka.Offset) *segment {
	s := &segment{
		abortedName: l.segmentPath(base, abortedSuffix),
		base:        base, end: base, maxTimestamp: record.NoTimestamp, maxOffset: base,
		rollTimestamp: record.NoTimestamp, createdMillis: l.o.Clock.Now().UnixMilli(),
		indexFile: l.files.handle(l.segmentPath(base, indexSuffix)),
	}
	s.data = SegmentFile{handle: l.files.handle(l.segmentPath(base, dataSuffix)), log: l, seg: s}
	return s
}

func (s *segment) abortedPath() string { return s.abortedName }

// segmentPath is where a segment's file lies: aside, where it was to take the place of others, was not moved yet, and may not
// be.
func (l *Log) segmentPath(base kafka.Offset, suffix string) string {
	name := path.Join(l.o.Dir, fileName(base, suffix))
	if l.aside[name] {
		name += cleanedSuffix
	}
	return name
}

// segmentIndexLocked finds the segment that holds offset: the last that does not begin behind it; -1 if there is none.
func (l *Log) segmentIndexLocked(offset kafka.Offset) int {
	segments := l.mu.segments
	return sort.Search(len(segments), func(i int) bool { return segments[i].base > offset }) - 1
}

func (l *Log) activeLocked() *segment {
	if n := len(l.mu.segments); n > 0 {
		return l.mu.segments[n-1]
	}
	return nil
}

// sealedLocked tells that a segment was synced to its end and the state goes on behind it. It is the last one where the power
// went before the name of the next was on the disk. Syncs do not look at it again, so that nothing may be appended to it.
func (l *Log) sealedLocked(s *segment) bool { return s.base < l.mu.synced.Segment }

// addLocked counts an appended batch in.
func (s *segment) addLocked(b record.Batch, crc uint32, intervalBytes int64) {
	size := int64(b.Size())
	x := &s.index
	if size >= intervalBytes {
		s.closeIntervalLocked() // a large batch is an interval of its own
	}
	if x.open.length == 0 {
		x.open.base = b.BaseOffset()
	}
	if x.open.length == 0 {
		x.open.crc = crc
	} else {
		x.open.crc = combineCRC(x.open.crc, crc, size)
	}
	x.open.length += size
	if s.size == 0 {
		s.rollTimestamp, s.rollKnown = b.MaxTimestamp(), true
	}
	s.size += size
	s.end = b.NextOffset()
	if t := b.MaxTimestamp(); t > s.maxTimestamp && b.Count() > 0 { // compaction may leave a batch without records
		s.maxTimestamp, s.maxOffset = t, b.BaseOffset()
	}
	if x.open.length >= intervalBytes {
		s.closeIntervalLocked()
	}
}

// unlink removes a segment's files. Readers keep them until they are done.
func (l *Log) unlink(s *segment) error {
	s.data.remove()
	s.indexFile.remove()
	for _, name := range []string{s.indexFile.path, s.abortedPath(), s.data.path} {
		if err := l.o.FS.Remove(name); err != nil && !vfsNotExist(err) {
			return err
		}
	}
	return nil
}

// syncNames makes the names of a segment's files durable, and that of the partition's directory.
func (l *Log) syncNames(s *segment) error {
	l.mu.Lock()
	changes := s.changes
	synced := s.changesSynced == changes
	l.mu.Unlock()
	if err := l.syncDirName(); err != nil {
		return err
	}
	if synced {
		return nil
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return err
	}
	l.mu.Lock()
	s.changesSynced = max(s.changesSynced, changes)
	l.mu.Unlock()
	return nil
}

// syncDirName makes the partition's directory itself durable in the one above it.
func (l *Log) syncDirName() error {
	l.mu.Lock()
	unsynced := l.mu.unsyncedDir
	l.mu.Unlock()
	if !unsynced {
		return nil
	}
	if err := l.o.FS.SyncDir(path.Dir(l.o.Dir)); err != nil {
		return err
	}
	l.mu.Lock()
	l.mu.unsyncedDir = false
	l.mu.Unlock()
	return nil
}
