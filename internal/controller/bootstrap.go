package controller

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"

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

// form is the beginning of a cluster: a snapshot at index 1 with the cluster's ID and the voters. It is in term 1, which
// nobody campaigns in.
func form(clusterID string, voters [][16]byte) *recovered {
	img, _ := metadata.Empty().Apply(1, &pb.Entry{Term: 1, Records: []*pb.Record{{
		Reason: "cluster formed",
		Kind:   &pb.Record_ClusterFormed{ClusterFormed: &pb.ClusterFormed{ClusterId: clusterID}},
	}}})
	confState := &raftpb.ConfState{}
	for _, directory := range voters {
		confState.Voters = append(confState.Voters, RaftID(directory))
	}
	slices.Sort(confState.Voters)
	index, term := uint64(1), uint64(1)
	return &recovered{
		image:     img,
		meta:      &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: confState},
		hardState: &raftpb.HardState{Term: &term, Commit: &index},
	}
}
