package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// handWritten is a metadata WAL made of payloads.
func handWritten(t *testing.T, payloads ...[]byte) *vfs.Mem {
	t.Helper()
	fs := vfs.NewMem(0)
	log, err := wal.Open(wal.Options{FS: fs, Dir: "/data/metadata"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range payloads {
		if _, err := log.Append(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// formation is the payloads that begin a cluster.
func formation(t *testing.T) (begin, chunk, end []byte) {
	t.Helper()
	r := form("hand", []metadata.Voter{{ID: 1, Directory: directory}})
	begin, err := appendSnapshotBegin(nil, 0, r.meta, r.hardState)
	if err != nil {
		t.Fatal(err)
	}
	return begin, appendSnapshotChunk(nil, 1, r.image.EncodeSnapshot()), appendSnapshotEnd(nil, 1)
}

func entryOf(t *testing.T, index, raftTerm, decidedTerm uint64, name string) *raftpb.Entry {
	t.Helper()
	data, err := metadata.EncodeEntry(&pb.Entry{Term: decidedTerm, Records: []*pb.Record{{Kind: &pb.Record_TopicCreated{
		TopicCreated: &pb.TopicCreated{Name: name, Id: bytes.Repeat([]byte{byte(index)}, 16)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	return &raftpb.Entry{Index: &index, Term: &raftTerm, Data: data}
}

func appended(t *testing.T, term, commit uint64, entries ...*raftpb.Entry) []byte {
	t.Helper()
	vote := RaftID(directory)
	payload, err := appendAppend(nil, &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}, entries)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// TestTermsMustMatch: what was decided in one term and committed in another is ignored, by every way to fold it.
func TestTermsMustMatch(t *testing.T) {
	begin, chunk, end := formation(t)
	fs := handWritten(t, begin, chunk, end,
		appended(t, 3, 1, entryOf(t, 2, 3, 3, "right"), entryOf(t, 3, 3, 2, "wrong")),
		appended(t, 3, 3, entryOf(t, 4, 3, 3, "later")))
	in, err := Inspect(fs, "/data/metadata")
	if err != nil {
		t.Fatal(err)
	}
	if in.Entries[0].Ignored || !in.Entries[1].Ignored || in.Image.Topic("wrong") != nil || in.Image.Topic("right") == nil {
		t.Fatalf("%+v", in.Entries)
	}
	c := mustOpen(t, Options{FS: fs})
	defer mustClose(t, c)
	register(t, c, 1)
	if c.Image().Topic("wrong") != nil || c.Image().Topic("right") == nil || c.Image().Topic("later") == nil {
		t.Fatal("an entry of another term took part")
	}
	if c.Image().ClusterID() != "hand" {
		t.Fatal(c.Image().ClusterID())
	}
}

// TestReplacedEntries: an append replaces what the log had from its index on.
func TestReplacedEntries(t *testing.T) {
	begin, chunk, end := formation(t)
	fs := handWritten(t, begin, chunk, end,
		appended(t, 2, 1, entryOf(t, 2, 2, 2, "kept"), entryOf(t, 3, 2, 2, "replaced"), entryOf(t, 4, 2, 2, "replaced-too")),
		appended(t, 3, 1, entryOf(t, 3, 3, 3, "instead")))
	in, err := Inspect(fs, "/data/metadata")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for topic := range in.Image.Topics() {
		names = append(names, topic.Name)
	}
	if got := strings.Join(names, " "); got != "instead kept" || in.Image.Offset() != 3 {
		t.Fatalf("topics %s at offset %d", got, in.Image.Offset())
	}
}

// TestInstalledSnapshotReplacesTheLog: entries above the index of a snapshot that another node sent are gone.
func TestInstalledSnapshotReplacesTheLog(t *testing.T) {
	begin, chunk, end := formation(t)
	img := form("hand", []metadata.Voter{{ID: 1, Directory: directory}}).image
	img, _ = img.Apply(3, nil)
	index, term := uint64(3), uint64(3)
	meta := &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{RaftID(directory)}}}
	for _, flags := range []uint64{0, snapshotInstalled} {
		begin2, err := appendSnapshotBegin(nil, flags, meta, &raftpb.HardState{Term: &term, Commit: &index})
		if err != nil {
			t.Fatal(err)
		}
		fs := handWritten(t, begin, chunk, end,
			appended(t, 2, 1, entryOf(t, 2, 2, 2, "a"), entryOf(t, 3, 2, 2, "b"), entryOf(t, 4, 2, 2, "c"), entryOf(t, 5, 2, 2, "d")),
			begin2, appendSnapshotChunk(nil, 3, img.EncodeSnapshot()), appendSnapshotEnd(nil, 3))
		in, err := Inspect(fs, "/data/metadata")
		if err != nil {
			t.Fatal(err)
		}
		want := map[uint64]metadata.Offset{0: 5, snapshotInstalled: 3}[flags]
		if in.Image.Offset() != want || in.Image.Topic("a") != nil {
			t.Fatalf("flags %d: the image ends at %d, want %d", flags, in.Image.Offset(), want)
		}
	}
}

func TestRecoveryRefusesDamage(t *testing.T) {
	begin, chunk, end := formation(t)
	broken := bytes.Clone(chunk)
	broken[len(broken)-1] ^= 1
	newer := bytes.Clone(begin)
	newer[0]++
	strange := bytes.Clone(end)
	strange[1] = 99
	for name, c := range map[string]struct {
		payloads [][]byte
		want     string
	}{
		"gap":                  {[][]byte{begin, chunk, end, appended(t, 2, 1, entryOf(t, 4, 2, 2, "a"))}, "entries 2 to 3 are missing"},
		"committed and gone":   {[][]byte{begin, chunk, end, appended(t, 2, 5, entryOf(t, 2, 2, 2, "a"))}, "entry 5 is committed"},
		"no snapshot":          {[][]byte{appended(t, 2, 1, entryOf(t, 2, 2, 2, "a"))}, "no whole snapshot"},
		"damaged chunk":        {[][]byte{begin, broken, end}, "damaged"},
		"no last chunk":        {[][]byte{begin, end}, "damaged"},
		"newer format":         {[][]byte{newer}, "format version 2"},
		"unknown kind":         {[][]byte{begin, chunk, strange}, "kind 99"},
		"cut off":              {[][]byte{begin[:len(begin)-1]}, "damaged"},
		"entries before whole": {[][]byte{begin, appended(t, 2, 1, entryOf(t, 2, 2, 2, "a"))}, "no whole snapshot"},
	} {
		fs := handWritten(t, c.payloads...)
		_, err := Open(Options{FS: fs, Dir: "/data/metadata", NodeID: 1, Directory: directory})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := Inspect(fs, "/data/metadata"); err == nil {
			t.Errorf("%s: Inspect finds nothing wrong", name)
		}
	}
}

// TestHalfFormed: a node that died while it formed its cluster forms one anew.
func TestHalfFormed(t *testing.T) {
	begin, chunk, _ := formation(t)
	for n := range 2 {
		fs := handWritten(t, [][]byte{begin, chunk}[:n+1]...)
		c := mustOpen(t, Options{FS: fs})
		register(t, c, 1)
		cluster := c.Image().ClusterID()
		mustClose(t, c)
		c = mustOpen(t, Options{FS: fs})
		if register(t, c, 2); c.Image().ClusterID() != cluster {
			t.Fatalf("after %d payloads of a formation: cluster %s, then %s", n+1, cluster, c.Image().ClusterID())
		}
		mustClose(t, c)
	}
}

// TestBitFlips: one flipped bit in what is durable is noticed, or changes nothing; or it hits the very last group, which then
// looks torn.
func TestBitFlips(t *testing.T) {
	fs := vfs.NewMem(0)
	c := mustOpen(t, Options{FS: fs})
	register(t, c, 1)
	for i := range 30 {
		create(t, c, fmt.Sprint("t", i), 3)
	}
	want := c.Image()
	create(t, c, "last", 1)
	mustClose(t, c)
	rng := rand.New(rand.NewPCG(1, 9))
	names, _ := fs.ReadDir("/data/metadata")
	refused := 0
	for range 500 {
		damaged := fs.Clone()
		name := path.Join("/data/metadata", names[0])
		info, _ := damaged.Stat(name)
		if err := damaged.Corrupt(name, rng.Int64N(info.Size), 1<<rng.IntN(8)); err != nil {
			t.Fatal(err)
		}
		in, err := Inspect(damaged, "/data/metadata")
		if err != nil {
			refused++
			continue
		}
		if in.Image.Offset() < want.Offset() {
			t.Fatalf("a flipped bit lost everything above offset %d of %d and nobody noticed", in.Image.Offset(), want.Offset())
		}
	}
	if refused < 50 {
		t.Fatalf("only %d of 500 flipped bits were noticed", refused)
	}
}

// TestNoSpaceHeals: commands time out while the disk is full, and work again when there is space.
func TestNoSpaceHeals(t *testing.T) {
	fs := vfs.NewMem(0)
	failed := make(chan error, 1)
	c := mustOpen(t, Options{FS: fs, Fatal: func(err error) { failed <- err }})
	register(t, c, 1)
	fs.SetCapacity(fs.Used())
	full := false
	for i := 0; i < 200 && !full; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		r := c.CreateTopics(ctx, []metadata.CreateTopic{{Name: fmt.Sprint("t", i), Partitions: 500, ReplicationFactor: 1}}, false)
		full = errors.Is(r[0].Err, kafka.ErrRequestTimedOut)
		cancel()
	}
	if !full {
		t.Fatal("the disk never was full")
	}
	fs.SetCapacity(0)
	create(t, c, "after", 1)
	mustClose(t, c)
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	c = mustOpen(t, Options{FS: fs})
	defer mustClose(t, c)
	register(t, c, 2)
	if c.Image().Topic("after") == nil {
		t.Fatal("what was answered is gone")
	}
}

func FuzzPayload(f *testing.F) {
	r := form("fuzz", []metadata.Voter{{ID: 1, Directory: directory}})
	begin, _ := appendSnapshotBegin(nil, 0, r.meta, r.hardState)
	index, term := uint64(2), uint64(2)
	entries, _ := appendAppend(nil, &raftpb.HardState{Term: &term}, []*raftpb.Entry{{Index: &index, Term: &term, Data: []byte("x")}})
	f.Add(begin, entries)
	f.Add(appendSnapshotChunk(nil, 1, r.image.EncodeSnapshot()), appendSnapshotEnd(nil, 1))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r := &recovered{}
		for i, payload := range [][]byte{begin, a, b} {
			if r.add(wal.LSN(i), payload) != nil {
				return
			}
		}
		if r.check() == nil && r.image != nil && raft.IsEmptyHardState(r.hardState) && r.last() == 0 {
			t.Fatal("recovered nothing")
		}
	})
}

// TestHalfInstalledSnapshot: of a snapshot from another node that was never whole here only the vote counts. What was there
// before still is, and what the snapshot's beginning says is committed is not.
func TestHalfInstalledSnapshot(t *testing.T) {
	hs := func(term, commit uint64) *raftpb.HardState {
		vote := uint64(77)
		return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
	}
	index, term := uint64(41), uint64(9)
	meta := &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{RaftID(directory)}}}
	half, err := appendSnapshotBegin(nil, snapshotInstalled, meta, hs(9, 41))
	if err != nil {
		t.Fatal(err)
	}
	begin, chunk, end := formation(t)
	entryIndex, entryTerm := uint64(2), uint64(2)
	entries, err := appendAppend(nil, hs(2, 2), []*raftpb.Entry{{Index: &entryIndex, Term: &entryTerm}})
	if err != nil {
		t.Fatal(err)
	}
	fold := func(payloads ...[]byte) *recovered {
		t.Helper()
		r := &recovered{}
		for i, p := range payloads {
			if err := r.add(wal.LSN(i+1), p); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := fold(begin, chunk, end, entries, half)
	if r.image == nil || r.image.ClusterID() != "hand" || r.last() != 2 || r.hardState.GetCommit() != 2 || r.hardState.GetTerm() != 9 || r.hardState.GetVote() != 77 {
		t.Fatalf("last %d, hard state %v", r.last(), r.hardState)
	}
	r = fold(half)
	if !r.joining || r.image != nil {
		t.Fatalf("a node that joined: %+v", r)
	}
	if r = joining(r.hardState); r.hardState.GetTerm() != 9 || r.hardState.GetVote() != 77 || r.hardState.GetCommit() != 0 {
		t.Fatalf("it starts with %v", r.hardState)
	}
	if r = fold(begin, chunk); r.joining || r.image != nil || r.hardState != nil {
		t.Fatalf("a node that died while it formed a cluster: %+v", r)
	}
}
