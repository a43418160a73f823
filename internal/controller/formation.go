package controller

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// RaftID derives the Raft ID of a node from the random ID of its data directory: a disk that was wiped comes back as
// another node, and no ID is ever used again.
func RaftID(directory [16]byte) uint64 {
	sum := sha256.Sum256(directory[:])
	id := binary.BigEndian.Uint64(sum[:8])
	// 0 is no node, and the highest IDs are Raft's own (LocalAppendThread, LocalApplyThread).
	return max(1, id&^(1<<63))
}

// NewClusterID draws a random cluster ID in Kafka's form: 16 bytes in URL-safe base64.
func NewClusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// form is the beginning of a cluster: a snapshot at index 1 with the cluster's ID and the voters, the same on all of them.
// It is in term 1, which nobody campaigns in.
func form(clusterID string, voters []metadata.Voter) *recovered {
	img, _ := metadata.Empty().Apply(1, &pb.Entry{Term: 1, Records: []*pb.Record{{
		Reason: "cluster formed",
		Kind: &pb.Record_ClusterFormed{ClusterFormed: &pb.ClusterFormed{
			ClusterId: clusterID, Voters: metadata.VoterMessages(voters),
		}},
	}}})
	confState := &raftpb.ConfState{}
	for _, v := range voters {
		confState.Voters = append(confState.Voters, RaftID(v.Directory))
	}
	slices.Sort(confState.Voters)
	index, term := uint64(1), uint64(1)
	return &recovered{
		image:     img,
		meta:      &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: confState},
		hardState: &raftpb.HardState{Term: &term, Commit: &index},
	}
}

// joining is the beginning of a node that has no metadata and gets them from others: no entry, no snapshot, no vote. The
// hard state is that of an earlier process that did not get any either: its term and its vote count, what it was told to be
// committed is not here.
func joining(earlier *raftpb.HardState) *recovered {
	hardState := &raftpb.HardState{}
	if earlier != nil {
		hardState.Term, hardState.Vote = earlier.Term, earlier.Vote
	}
	return &recovered{image: metadata.Empty(), meta: &raftpb.SnapshotMetadata{ConfState: &raftpb.ConfState{}}, hardState: hardState}
}

// readMetadata folds the metadata WAL of a node that is not running.
func readMetadata(o *Options) (*recovered, error) {
	j, r, err := openJournal(o, func(int64) {}, func(error) {})
	if err != nil {
		return nil, err
	}
	return r, j.close()
}

// writeFormation makes the beginning of a cluster durable in an empty metadata WAL.
func writeFormation(o *Options, clusterID string, voters []metadata.Voter) error {
	var mu sync.Mutex
	changed := sync.NewCond(&mu)
	var durable int64
	var failure error
	j, r, err := openJournal(o, func(count int64) {
		mu.Lock()
		defer mu.Unlock()
		durable = max(durable, count)
		changed.Broadcast()
	}, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failure = err
		changed.Broadcast()
	})
	if err != nil {
		return err
	}
	if r.image != nil {
		return errors.Join(fmt.Errorf("the metadata WAL in %s is not empty", o.Dir), j.close())
	}
	written := int64(0)
	err = appendFormation(form(clusterID, voters), func(payload []byte) error {
		written++
		_, err := j.write(payload)
		return err
	})
	if err == nil {
		mu.Lock()
		for durable < written && failure == nil {
			changed.Wait()
		}
		err = failure
		mu.Unlock()
	}
	if err = errors.Join(err, j.close()); err != nil {
		return fmt.Errorf("write the beginning of the cluster to the metadata WAL: %w", err)
	}
	return nil
}

// appendFormation writes the payloads of the snapshot.
func appendFormation(r *recovered, write func(payload []byte) error) error {
	payload, err := appendSnapshotBegin(nil, 0, r.meta, r.hardState)
	if err != nil {
		return err
	}
	if err := write(payload); err != nil {
		return err
	}
	for chunk := range r.image.Snapshot() {
		if err := write(appendSnapshotChunk(nil, r.meta.GetIndex(), chunk)); err != nil {
			return err
		}
	}
	return write(appendSnapshotEnd(nil, r.meta.GetIndex()))
}
