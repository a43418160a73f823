package controller

import (
	"fmt"

	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protojson"

	"chronik/internal/metadata"
	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// Inspection is what the metadata WAL of a stopped node holds.
type Inspection struct {
	// Image is the fold of the last snapshot and of all entries behind it, those included that this node had not yet
	// seen committed when it stopped.
	Image *metadata.Image
	// Committed is how far the node knew that a quorum had the entries; on a single node all are.
	Committed      metadata.Offset
	SnapshotOffset metadata.Offset
	Term           uint64   // Raft's newest
	Voters         []uint64 // Raft IDs, as of the snapshot
	Entries        []InspectedEntry
}

// InspectedEntry is one Raft entry above the snapshot.
type InspectedEntry struct {
	Offset metadata.Offset
	Term   uint64
	// Ignored entries were decided in another term than they were committed in.
	Ignored bool
	Kind    string   // "records", "leader" for a new leader's empty entry, "membership"
	Records []string // as JSON
}

// Inspect folds the metadata WAL in a directory of a stopped node, and changes nothing. Damage is an error.
func Inspect(fsys vfs.FS, dir string) (*Inspection, error) {
	r := &recovered{}
	if _, err := wal.Inspect(fsys, dir, 0, func(rec wal.Record) error { return r.add(rec.LSN, rec.Data) }); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if r.image == nil {
		return nil, fmt.Errorf("there is no metadata in %s", dir)
	}
	in := &Inspection{
		Image:          r.image,
		Committed:      metadata.Offset(r.hardState.GetCommit()),
		SnapshotOffset: r.image.Offset(),
		Term:           r.hardState.GetTerm(),
		Voters:         r.meta.GetConfState().GetVoters(),
	}
	for _, e := range r.entries {
		if err := in.add(e); err != nil {
			return nil, err
		}
	}
	return in, nil
}

func (in *Inspection) add(e *raftpb.Entry) error {
	out := InspectedEntry{Offset: metadata.Offset(e.GetIndex()), Term: e.GetTerm(), Kind: "leader"}
	image, _ := in.Image.Apply(out.Offset, nil)
	switch {
	case e.GetType() != raftpb.EntryNormal:
		out.Kind = "membership"
		_, entry, err := decodeConfChange(e)
		if err != nil {
			return fmt.Errorf("entry %d: %w", out.Offset, err)
		}
		for _, r := range entry.GetRecords() {
			out.Records = append(out.Records, protojson.MarshalOptions{}.Format(r))
		}
		image, _ = in.Image.Apply(out.Offset, entry)
	case len(e.GetData()) > 0:
		out.Kind = "records"
		entry, err := metadata.DecodeEntry(e.GetData())
		if err != nil {
			return fmt.Errorf("entry %d: %w", out.Offset, err)
		}
		for _, r := range entry.GetRecords() {
			out.Records = append(out.Records, protojson.MarshalOptions{}.Format(r))
		}
		if out.Ignored = entry.GetTerm() != e.GetTerm(); !out.Ignored {
			image, _ = in.Image.Apply(out.Offset, entry)
		}
	}
	in.Image = image
	in.Entries = append(in.Entries, out)
	return nil
}
