package metadata

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
)

// bigImage has topics with partitions each, all led by broker 1.
func bigImage(topics, partitions int) *Image {
	img, _ := Empty().Apply(1, &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_BrokerRegistered{BrokerRegistered: &pb.BrokerRegistered{
		Id: 1, Incarnation: make([]byte, 16), Directory: make([]byte, 16)}}}}})
	for i := range topics {
		c := &pb.TopicCreated{Name: fmt.Sprintf("topic-%d", i), Id: []byte(fmt.Sprintf("%016d", i))}
		for range partitions {
			c.Partitions = append(c.Partitions, &pb.Partition{Replicas: []int32{1}, Isr: []int32{1}, LeaderPlusOne: 2})
		}
		img, _ = img.Apply(Offset(i+2), &pb.Entry{Records: []*pb.Record{{Reason: "made", Kind: &pb.Record_TopicCreated{TopicCreated: c}}}})
	}
	return img
}

func nextEpoch(id kafka.TopicID, index int32) *pb.Entry {
	return &pb.Entry{Records: []*pb.Record{{Reason: "why", Kind: &pb.Record_PartitionChanged{
		PartitionChanged: &pb.PartitionChanged{TopicId: id[:], Index: index, NextLeaderEpoch: true}}}}}
}

// TestChangeCopiesAPath: one partition's change must not cost more in a large cluster than a path.
func TestChangeCopiesAPath(t *testing.T) {
	for _, shape := range [][2]int{{1, 10_000}, {10_000, 1}, {100, 100}} {
		img := bigImage(shape[0], shape[1])
		topic := img.Topic("topic-0")
		e := nextEpoch(topic.ID, int32(topic.Partitions.Len()/2))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const changes = 100
		for i := range changes {
			img, _ = img.Apply(img.Offset()+Offset(i)+1, e)
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / changes; each > 8<<10 {
			t.Errorf("%d topics of %d partitions: a change allocates %d bytes", shape[0], shape[1], each)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	img := bigImage(1, 2)
	topic := img.Topic("topic-0")
	for i := range 50 {
		img, _ = img.Apply(Offset(100+i), nextEpoch(topic.ID, 1))
	}
	p := img.Topic("topic-0").Partitions.At(1)
	if len(p.History) != historyLength || p.LeaderEpoch != 50 || p.PartitionEpoch != 50 {
		t.Fatalf("%+v", p)
	}
	last := p.History[len(p.History)-1]
	if last.Offset != 149 || last.LeaderEpoch != 50 || last.Reason != "why" || last.Leader != 1 {
		t.Fatalf("last change %+v", last)
	}
}

func TestCollision(t *testing.T) {
	img, _ := Empty().Apply(1, &pb.Entry{Records: []*pb.Record{
		{Kind: &pb.Record_TopicCreated{TopicCreated: &pb.TopicCreated{Name: "a.b", Id: make([]byte, 16)}}}}})
	for name, want := range map[string]string{"a_b": "a.b", "a.b": "", "a-b": "", "ab": "", "a__b": ""} {
		if got := img.Collision(name); got != want {
			t.Errorf("Collision(%q) = %q, want %q", name, got, want)
		}
	}
	img, _ = img.Apply(2, &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_TopicDeleted{TopicDeleted: &pb.TopicDeleted{Id: make([]byte, 16)}}}}})
	if got := img.Collision("a_b"); got != "" {
		t.Errorf("a deleted topic collides: %q", got)
	}
}

func TestWasDeletedIsBounded(t *testing.T) {
	img := Empty()
	id := func(i int) kafka.TopicID { return kafka.TopicID{byte(i), byte(i >> 8), 1} }
	for i := range 2 * deletedLength {
		id := id(i)
		img, _ = img.Apply(Offset(i+1), &pb.Entry{Records: []*pb.Record{
			{Kind: &pb.Record_TopicCreated{TopicCreated: &pb.TopicCreated{Name: fmt.Sprint(i), Id: id[:]}}},
			{Kind: &pb.Record_TopicDeleted{TopicDeleted: &pb.TopicDeleted{Id: id[:]}}}}})
	}
	again, err := DecodeSnapshot(img.EncodeSnapshot())
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range []*Image{img, again} {
		if img.WasDeleted(id(deletedLength-1)) || !img.WasDeleted(id(deletedLength)) || !img.WasDeleted(id(2*deletedLength-1)) {
			t.Fatalf("%d deleted topics are remembered", len(img.deleted))
		}
	}
}

func TestConfigChangedAt(t *testing.T) {
	r := Resource{Type: BrokerResource}
	set := func(img *Image, offset Offset, m *pb.ConfigChanged) *Image {
		m.ResourceType = int32(BrokerResource)
		img, _ = img.Apply(offset, &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_ConfigChanged{ConfigChanged: m}}}})
		return img
	}
	img := set(Empty(), 5, &pb.ConfigChanged{Set: []*pb.ConfigEntry{{Key: "k", Value: "v"}}})
	if at := img.ConfigChangedAt(r); at != 5 {
		t.Fatalf("changed at %d, want 5", at)
	}
	img = set(img, 6, &pb.ConfigChanged{Removed: []string{"k"}})
	if at := img.ConfigChangedAt(r); at != 6 || len(img.Config(r)) != 0 {
		t.Fatalf("changed at %d, want 6, to nothing: %v", at, img.Config(r))
	}
}

func TestDecodeEntryRefusesTheUnknown(t *testing.T) {
	// Field 99 is a kind of record that a newer version would have.
	unknown := []byte{0x1a, 0x05, 0x9a, 0x06, 0x02, 0x08, 0x01}
	if _, err := DecodeEntry(unknown); err == nil {
		t.Fatal("a record of an unknown kind was accepted")
	}
	short, _ := EncodeEntry(&pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_TopicDeleted{TopicDeleted: &pb.TopicDeleted{Id: []byte{1}}}}}})
	if _, err := DecodeEntry(short); err == nil {
		t.Fatal("a topic ID of one byte was accepted")
	}
}

// TestSnapshotDamage flips every bit of small snapshots and cuts them at every length: it must be noticed.
func TestSnapshotDamage(t *testing.T) {
	img := Empty()
	rng := rand.New(rand.NewPCG(1, 1))
	for offset := Offset(1); len(img.EncodeSnapshot()) < 1000; offset++ {
		img, _ = img.Apply(offset, randomEntry(rng))
	}
	snapshot := img.EncodeSnapshot()
	snapshot = snapshot[:len(snapshot):len(snapshot)]
	for i := range min(len(snapshot), 3000) * 8 {
		damaged := bytes.Clone(snapshot)
		damaged[i/8] ^= 1 << (i % 8)
		if _, err := DecodeSnapshot(damaged); err == nil {
			t.Fatalf("bit %d of byte %d flipped and nothing noticed", i%8, i/8)
		}
	}
	for n := range len(snapshot) {
		if _, err := DecodeSnapshot(snapshot[:n]); err == nil && n > 0 || n > chunkHeader && !errors.Is(err, ErrCorruptSnapshot) {
			t.Fatalf("cut at %d of %d bytes: %v", n, len(snapshot), err)
		}
	}
}

func TestSnapshotChunks(t *testing.T) {
	img := bigImage(300, 60)
	var chunks [][]byte
	for chunk := range img.Snapshot() {
		if len(chunk) > 2*chunkBytes {
			t.Fatalf("a chunk of %d bytes", len(chunk))
		}
		chunks = append(chunks, bytes.Clone(chunk))
	}
	if len(chunks) < 3 {
		t.Fatalf("%d chunks", len(chunks))
	}
	read := func(order ...int) (*Image, error) {
		var r SnapshotReader
		for _, i := range order {
			if err := r.Add(chunks[i]); err != nil {
				return nil, err
			}
		}
		return r.Image()
	}
	all := make([]int, len(chunks))
	for i := range all {
		all[i] = i
	}
	got, err := read(all...)
	if err != nil || !bytes.Equal(got.EncodeSnapshot(), img.EncodeSnapshot()) {
		t.Fatalf("the chunks in order do not give the image: %v", err)
	}
	for _, order := range [][]int{all[1:], all[:len(all)-1], {0, 0}, {0, 2}, {1, 0}, append(all, 0), {}} {
		if _, err := read(order...); !errors.Is(err, ErrCorruptSnapshot) {
			t.Errorf("chunks %v: %v", order[:min(len(order), 5)], err)
		}
	}
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Add(Empty().EncodeSnapshot())
	f.Add(bigImage(2, 3).EncodeSnapshot())
	f.Fuzz(func(t *testing.T, data []byte) {
		// Fuzzing would never find a checksum: give each input a right one where it looks like a chunk.
		if size, err := chunkSize(data); err == nil && size == len(data) {
			c := chunkCRC(data)
			data = bytes.Clone(data)
			data[16], data[17], data[18], data[19] = byte(c>>24), byte(c>>16), byte(c>>8), byte(c)
		}
		if img, err := DecodeSnapshot(data); err == nil {
			img.EncodeSnapshot()
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		data, _ := EncodeEntry(randomEntry(rng))
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := DecodeEntry(data); err == nil {
			img, _ := bigImage(2, 2).Apply(10, e)
			dumpImage(img)
		}
	})
}

func BenchmarkApplyOnePartitionOf10000(b *testing.B) {
	img := bigImage(100, 100)
	topic := img.Topic("topic-7")
	e := nextEpoch(topic.ID, 50)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		img, _ = img.Apply(Offset(1000+i), e)
	}
}

func BenchmarkSnapshot10000Partitions(b *testing.B) {
	img := bigImage(100, 100)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(img.EncodeSnapshot())))
	}
}
