package controller

import (
	"fmt"
	"iter"
	"math"

	"chronik/internal/metadata"
	"chronik/internal/wal"
	raftpb "go.etcd.io/raft/v3/raftpb"
)

// snapshotWindow is how many chunks of a snapshot are written before the loop waits for the disk.
const snapshotWindow = 4

// snapshotting is the loop's part for keeping the metadata WAL short: once it has grown, the image is written as a
// snapshot, in parts between other writes, and what lies before is released.
type snapshotting struct {
	grown     int64      // bytes of appends since the last snapshot
	size      int64      // bytes of the last snapshot
	index     uint64     // of the last snapshot
	due       bool       // whatever grown says
	positions []position // of appends, oldest first, above the last snapshot

	// Of the snapshot under way; meta is nil if there is none.
	meta  *raftpb.SnapshotMetadata
	image *metadata.Image
	begin wal.LSN
	next  func() ([]byte, bool)
	end   func()
}

func (s *snapshotting) appended(at position) {
	s.grown += at.size
	s.positions = append(s.positions, at)
}

func (s *snapshotting) stop() {
	if s.meta != nil {
		s.end()
		s.meta = nil
	}
}

// considerSnapshot begins a snapshot when the log is longer than SnapshotBytes and than the last snapshot: neither a start nor
// the upkeep costs more than a small multiple of what the image takes.
func (l *loop) considerSnapshot() {
	s := &l.snapshot
	index, term := uint64(l.image.Offset()), l.imageTerm
	if s.meta != nil || l.err != nil || index <= s.index { // one that is being installed is ahead of the image
		return
	}
	// What is due because of the files' number waits until the broker of this node has registered. It is written in one
	// go: a process that never lives long must get through with it.
	due := s.due && (l.leading == 0 || l.commands.decided)
	window := snapshotWindow
	if due {
		window = math.MaxInt
	} else if s.grown < max(l.o.SnapshotBytes, s.size) {
		return
	}
	meta := &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: l.confState}
	l.beginSnapshot(meta, l.image, window)
}

// beginSnapshot writes the beginning of a snapshot; the completion of what is written writes what follows.
func (l *loop) beginSnapshot(meta *raftpb.SnapshotMetadata, img *metadata.Image, window int) {
	s := &l.snapshot
	payload, err := appendSnapshotBegin(nil, 0, meta, l.hardState)
	if err != nil {
		l.fail(err)
		return
	}
	s.meta, s.image = meta, img
	s.next, s.end = iter.Pull(img.Snapshot())
	s.size, s.due, s.index = 0, false, meta.GetIndex()
	s.grown = 0 // what is appended from here on counts towards the next one
	s.begin = l.write(payload, func() {}).at
	l.continueSnapshot(meta, window)
}

func (l *loop) continueSnapshot(meta *raftpb.SnapshotMetadata, window int) {
	s := &l.snapshot
	if s.meta != meta { // another took its place
		return
	}
	index := meta.GetIndex()
	for range window {
		chunk, more := s.next()
		if !more {
			l.write(appendSnapshotEnd(nil, index), func() { l.endSnapshot(meta) })
			return
		}
		s.size += int64(len(chunk))
		l.write(appendSnapshotChunk(nil, index, chunk), func() {})
	}
	l.after(func() { l.continueSnapshot(meta, window) })
}

// endSnapshot releases what the durable snapshot replaces: all before its beginning, but for entries above its index.
func (l *loop) endSnapshot(meta *raftpb.SnapshotMetadata) {
	s := &l.snapshot
	if s.meta != meta {
		return
	}
	s.end()
	s.meta = nil
	for len(s.positions) > 0 && s.positions[0].last <= meta.GetIndex() {
		s.positions = s.positions[1:]
	}
	from := s.begin
	if len(s.positions) > 0 {
		from = min(from, s.positions[0].at)
	}
	if err := l.storage.covered(meta); err != nil {
		l.fail(err)
		return
	}
	l.journal.release(from)
	l.o.Logger.Debug("metadata snapshot", "offset", meta.GetIndex(), "topics", s.image.TopicCount())
}

// installSnapshot takes the place of the log and the image: the leader holds no entries that go back far enough.
func (l *loop) installSnapshot(snap *raftpb.Snapshot) {
	img, err := metadata.DecodeSnapshot(snap.GetData())
	if err != nil {
		l.fail(err)
		return
	}
	if id := img.ClusterID(); l.o.Start.clusterID != "" && id != l.o.Start.clusterID {
		l.fail(fmt.Errorf("the metadata that came from another node are of cluster %s; this node joins cluster %s", id, l.o.Start.clusterID))
		return
	}
	meta := snap.GetMetadata()
	l.snapshot.stop()
	l.snapshot.positions, l.snapshot.grown, l.snapshot.index, l.snapshot.due = nil, 0, meta.GetIndex(), false
	l.lastIndex = meta.GetIndex()
	l.writeSnapshot(snapshotInstalled, meta, img, func(begin wal.LSN) {
		if err := l.storage.ApplySnapshot(&raftpb.Snapshot{Metadata: meta}); err != nil {
			l.fail(err)
			return
		}
		l.image, l.imageTerm, l.confState = img, meta.GetTerm(), meta.GetConfState()
		l.bus.Reset(img)
		l.journal.release(begin)
	})
}

// writeSnapshot writes a snapshot in one go: what is written next finds it whole.
func (l *loop) writeSnapshot(flags uint64, meta *raftpb.SnapshotMetadata, img *metadata.Image, done func(begin wal.LSN)) {
	payload, err := appendSnapshotBegin(nil, flags, meta, l.hardState)
	if err != nil {
		l.fail(err)
		return
	}
	nothing := func() {}
	begin := l.write(payload, nothing).at
	for chunk := range img.Snapshot() {
		l.write(appendSnapshotChunk(nil, meta.GetIndex(), chunk), nothing)
	}
	l.write(appendSnapshotEnd(nil, meta.GetIndex()), func() { done(begin) })
}
