package controller

import (
	"iter"

	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/wal"
)

func recordSize(r *pb.Record) int { return proto.Size(r) }

// snapshotting is the loop's part for keeping the metadata WAL short: once it has grown, the image is written as a
// snapshot, chunk by chunk between other writes, and what lies before is released.
type snapshotting struct {
	grown     int64      // bytes of appends since the last snapshot
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

func (l *loop) considerSnapshot() {
	s := &l.snapshot
	if s.meta != nil || s.grown < l.o.SnapshotBytes || l.err != nil {
		return
	}
	index, term := uint64(l.image.Offset()), l.imageTerm
	meta := &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: l.confState}
	l.beginSnapshot(meta, l.image)
}

// beginSnapshot writes the beginning of a snapshot; each part's completion writes the next.
func (l *loop) beginSnapshot(meta *raftpb.SnapshotMetadata, img *metadata.Image) {
	s := &l.snapshot
	payload, err := appendSnapshotBegin(nil, 0, meta, l.hardState)
	if err != nil {
		l.fail(err)
		return
	}
	s.meta, s.image = meta, img
	s.next, s.end = iter.Pull(img.Snapshot())
	s.grown = 0 // what is appended from here on counts towards the next one
	s.begin = l.write(payload, func() { l.continueSnapshot(meta) }).at
}

func (l *loop) continueSnapshot(meta *raftpb.SnapshotMetadata) {
	s := &l.snapshot
	if s.meta != meta { // another took its place
		return
	}
	index := meta.GetIndex()
	if chunk, more := s.next(); more {
		l.write(appendSnapshotChunk(nil, index, chunk), func() { l.continueSnapshot(meta) })
		return
	}
	l.write(appendSnapshotEnd(nil, index), func() { l.endSnapshot(meta) })
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
	meta := snap.GetMetadata()
	l.snapshot.stop()
	l.snapshot.positions, l.snapshot.grown = nil, 0
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
