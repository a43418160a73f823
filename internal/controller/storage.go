package controller

import (
	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/metadata"
)

// entriesKept is how many entries below the last snapshot stay in memory for followers that lag a little.
const entriesKept = 1000

// storage is what Raft reads: entries in memory, and for a follower that lags too far a snapshot of the image as it is at
// that moment. The loop owns it.
type storage struct {
	*raft.MemoryStorage
	kept   uint64 // entries below the last snapshot
	newest func() (*metadata.Image, *raftpb.SnapshotMetadata)
}

// Snapshot encodes the applied image.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	img, meta := s.newest()
	return &raftpb.Snapshot{Data: img.EncodeSnapshot(), Metadata: meta}, nil
}

// restore fills the storage with what was recovered.
func (s *storage) restore(r *recovered) error {
	if r.meta.GetIndex() > 0 { // else this node joins, and has none
		if err := s.ApplySnapshot(&raftpb.Snapshot{Metadata: r.meta}); err != nil {
			return err
		}
	}
	if err := s.SetHardState(r.hardState); err != nil {
		return err
	}
	return s.Append(r.entries)
}

// covered drops entries that a durable snapshot covers.
func (s *storage) covered(meta *raftpb.SnapshotMetadata) error {
	if _, err := s.CreateSnapshot(meta.GetIndex(), meta.GetConfState(), nil); err != nil {
		return err
	}
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	if upTo := meta.GetIndex(); upTo > s.kept && upTo-s.kept >= first {
		return s.Compact(upTo - s.kept)
	}
	return nil
}
