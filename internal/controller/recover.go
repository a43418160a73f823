package controller

import (
	"fmt"

	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/metadata"
	"chronik/internal/wal"
)

// recovered is what the payloads of a metadata WAL add up to.
type recovered struct {
	image     *metadata.Image          // of the last whole snapshot; nil if there is none
	meta      *raftpb.SnapshotMetadata // of that snapshot
	hardState *raftpb.HardState
	entries   []*raftpb.Entry // above the snapshot, contiguous
	bytes     int64           // of the payloads that hold entries above the snapshot
	positions []position
	size      int64   // bytes of the snapshot
	begin     wal.LSN // of the snapshot; 0 if it is not from the journal
	crowded   bool    // there are many files, which a snapshot releases
	joining   bool    // this node has begun to get its metadata from others and has none yet

	// The snapshot whose chunks are being read.
	reader    *metadata.SnapshotReader
	begun     *raftpb.SnapshotMetadata
	begunSize int64
	begunAt   wal.LSN
	installed bool
}

// position tells where in the journal entries up to an index begin to stand.
type position struct {
	at   wal.LSN
	last uint64
	size int64
}

// add folds the next payload.
func (r *recovered) add(at wal.LSN, payload []byte) error {
	in := payloadReader{rest: payload}
	var err error
	switch kind := in.kind(); {
	case in.err != nil:
	case kind == payloadAppend:
		err = r.append(at, &in, int64(len(payload)))
	case kind == payloadSnapshotBegin:
		meta, hardState := &raftpb.SnapshotMetadata{}, &raftpb.HardState{}
		flags := in.uvarint()
		in.message(meta)
		in.message(hardState)
		if err = in.end(); err == nil {
			r.reader, r.begun, r.installed = &metadata.SnapshotReader{}, meta, flags&snapshotInstalled != 0
			r.begunSize, r.begunAt = 0, at
			r.setHardState(hardState)
		}
	case kind == payloadSnapshotChunk:
		// The rest of a snapshot whose beginning was released belongs to nothing.
		if index := in.uvarint(); in.err == nil && r.begun != nil && index == r.begun.GetIndex() {
			r.begunSize += int64(len(in.rest))
			err = r.reader.Add(in.rest)
		}
	case kind == payloadSnapshotEnd:
		index := in.uvarint()
		if err = in.end(); err == nil && r.begun != nil && index == r.begun.GetIndex() {
			err = r.install()
		}
	default:
		in.fail("kind %d is not known; a newer chronik may have written it", kind)
	}
	if err == nil {
		err = in.err
	}
	if err != nil {
		return fmt.Errorf("metadata WAL, record %d: %w", at, err)
	}
	return nil
}

func (r *recovered) setHardState(hs *raftpb.HardState) {
	if !raft.IsEmptyHardState(hs) {
		r.hardState = hs
	}
}

func (r *recovered) append(at wal.LSN, in *payloadReader, size int64) error {
	hardState := &raftpb.HardState{}
	in.message(hardState)
	var entries []*raftpb.Entry
	for n := in.uvarint(); n > 0 && in.err == nil; n-- {
		e := &raftpb.Entry{}
		in.message(e)
		entries = append(entries, e)
	}
	if err := in.end(); err != nil {
		return err
	}
	r.setHardState(hardState)
	if len(entries) == 0 {
		return nil
	}
	first := entries[0].GetIndex()
	for len(r.entries) > 0 && r.entries[len(r.entries)-1].GetIndex() >= first {
		r.entries = r.entries[:len(r.entries)-1]
	}
	if n := len(r.entries); n > 0 && r.entries[n-1].GetIndex() != first-1 {
		// What stood in between was released with the snapshot that covers it, or check finds the gap.
		r.entries = nil
	}
	r.entries = append(r.entries, entries...)
	r.positions = append(r.positions, position{at: at, last: entries[len(entries)-1].GetIndex(), size: size})
	return nil
}

func (r *recovered) install() error {
	img, err := r.reader.Image()
	if err != nil {
		return err
	}
	if uint64(img.Offset()) != r.begun.GetIndex() {
		return fmt.Errorf("a snapshot of offset %d announces itself as one of %d", img.Offset(), r.begun.GetIndex())
	}
	r.image, r.meta, r.size, r.begin = img, r.begun, r.begunSize, r.begunAt
	r.reader, r.begun = nil, nil
	if r.installed {
		r.entries, r.positions = nil, nil
	}
	return nil
}

// check completes the recovery: entries that the snapshot covers go, and the rest must follow it without a gap.
func (r *recovered) check() error {
	if r.image == nil {
		switch {
		case len(r.entries) > 0:
		case r.begun.GetIndex() == 1 || r.hardState == nil && r.begun == nil:
			*r = recovered{} // empty, or the process died while it formed the cluster
			return nil
		case r.begun == nil || r.installed: // the process died before it had got a snapshot
			*r = recovered{joining: true, hardState: r.hardState}
			return nil
		}
		return fmt.Errorf("metadata WAL: there is no whole snapshot to begin with; restore the directory from another node or a backup")
	}
	index := r.meta.GetIndex()
	for len(r.entries) > 0 && r.entries[0].GetIndex() <= index {
		r.entries = r.entries[1:]
	}
	if len(r.entries) > 0 && r.entries[0].GetIndex() != index+1 {
		return fmt.Errorf("metadata WAL: entries %d to %d are missing; restore the directory from another node or a backup",
			index+1, r.entries[0].GetIndex()-1)
	}
	for len(r.positions) > 0 && r.positions[0].last <= index {
		r.positions = r.positions[1:]
	}
	for _, p := range r.positions {
		r.bytes += p.size
	}
	if r.hardState == nil {
		r.hardState = &raftpb.HardState{}
	}
	if r.hardState.GetCommit() < index {
		r.hardState.Commit = &index // a snapshot holds only what is committed
	}
	last := r.last()
	if r.begun != nil && r.installed && r.hardState.GetCommit() > last {
		r.hardState.Commit = &last // of a snapshot from another node that was never whole here
	}
	if r.hardState.GetCommit() > last {
		return fmt.Errorf("metadata WAL: entry %d is committed, but the last one is %d; restore the directory from another node or a backup",
			r.hardState.GetCommit(), last)
	}
	return nil
}

// needed is where the journal begins to hold what is needed; 0 if that is not known.
func (r *recovered) needed() wal.LSN {
	if len(r.positions) > 0 {
		return min(r.begin, r.positions[0].at)
	}
	return r.begin
}

// last is the index of the last entry.
func (r *recovered) last() uint64 { return r.meta.GetIndex() + uint64(len(r.entries)) }
