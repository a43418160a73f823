package metadata

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"

	"google.golang.org/protobuf/proto"

	pb "chronik/internal/metadata/metadatapb"
)

// A snapshot is a sequence of chunks; docs/format/metadata-wal.md has the layout. Each chunk starts with
//
//	magic "CHMS" | version uint8 | flags uint8 | reserved uint16 | number uint32 | length uint32 | crc32c uint32
//
// (big endian), followed by length bytes of a SnapshotChunk. The CRC covers all of the chunk but itself.
const (
	snapshotMagic   = "CHMS"
	snapshotVersion = 1
	snapshotLast    = 1 // flag of the last chunk
	chunkHeader     = 20
	chunkBytes      = 128 << 10 // of items, at which a chunk ends
	chunkBytesMax   = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot yields the image in chunks of about 128 KiB. Equal images give equal bytes. A chunk is valid until the next
// one is asked for.
func (img *Image) Snapshot() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		w := chunkWriter{yield: yield}
		for item := range img.items() {
			if !w.add(item) {
				return
			}
		}
		w.flush(snapshotLast)
	}
}

// EncodeSnapshot is all chunks of Snapshot in one piece.
func (img *Image) EncodeSnapshot() []byte {
	var all []byte
	for chunk := range img.Snapshot() {
		all = append(all, chunk...)
	}
	return all
}

type chunkWriter struct {
	yield  func([]byte) bool
	chunk  pb.SnapshotChunk
	bytes  int
	number uint32
	buf    []byte
}

func (w *chunkWriter) add(item *pb.SnapshotItem) bool {
	w.chunk.Items = append(w.chunk.Items, item)
	w.bytes += proto.Size(item)
	return w.bytes < chunkBytes || w.flush(0)
}

func (w *chunkWriter) flush(flags byte) bool {
	head := append(w.buf[:0], snapshotMagic...)
	head = append(head, snapshotVersion, flags, 0, 0)
	head = binary.BigEndian.AppendUint32(head, w.number)
	head = append(head, 0, 0, 0, 0, 0, 0, 0, 0)
	buf, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(head, &w.chunk)
	if err != nil { // only strings that are not UTF-8 can do this, and decide lets none in
		panic(fmt.Sprintf("metadata: encode a snapshot: %v", err))
	}
	binary.BigEndian.PutUint32(buf[12:], uint32(len(buf)-chunkHeader))
	binary.BigEndian.PutUint32(buf[16:], chunkCRC(buf))
	w.buf, w.bytes = buf, 0
	w.chunk.Items = w.chunk.Items[:0]
	w.number++
	return w.yield(buf)
}

func chunkCRC(chunk []byte) uint32 {
	return crc32.Update(crc32.Checksum(chunk[:16], castagnoli), castagnoli, chunk[chunkHeader:])
}

// items yields the image in the order of the format.
func (img *Image) items() iter.Seq[*pb.SnapshotItem] {
	return func(yield func(*pb.SnapshotItem) bool) {
		header := &pb.SnapshotHeader{
			Offset:         int64(img.offset),
			ClusterId:      img.clusterID,
			NextProducerId: int64(img.nextProducerID),
			ConfigsEmptied: int64(img.configsEmptied),
			Topics:         int64(img.topics.len()),
			Brokers:        int64(img.brokers.len()),
			Configs:        int64(img.configs.len()),
		}
		header.Voters, header.Formation = VoterMessages(img.voters), VoterMessages(img.formation)
		for _, id := range img.deleted {
			header.DeletedTopics = append(header.DeletedTopics, id[:])
		}
		if !yield(&pb.SnapshotItem{Item: &pb.SnapshotItem_Header{Header: header}}) {
			return
		}
		for b := range img.Brokers() {
			broker := &pb.SnapshotBroker{Registration: BrokerMessage(b), Epoch: int64(b.Epoch), SinceMs: b.Since.UnixMilli(),
				StateOffset: int64(b.StateOffset), Reason: b.Reason, InControlledShutdown: b.InControlledShutdown, Slow: b.Slow}
			if !yield(&pb.SnapshotItem{Item: &pb.SnapshotItem_Broker{Broker: broker}}) {
				return
			}
		}
		for r, c := range img.configs.all() {
			config := &pb.SnapshotConfig{
				ResourceType: int32(r.Type),
				ResourceName: r.Name,
				Config:       ConfigEntries(c.values),
				ConfigOffset: int64(c.offset),
			}
			if !yield(&pb.SnapshotItem{Item: &pb.SnapshotItem_Config{Config: config}}) {
				return
			}
		}
		for topic := range img.Topics() {
			if !topicItems(topic, yield) {
				return
			}
		}
	}
}

func topicItems(topic *Topic, yield func(*pb.SnapshotItem) bool) bool {
	item := &pb.SnapshotTopic{
		Name:         topic.Name,
		Id:           topic.ID[:],
		Internal:     topic.Internal,
		Config:       ConfigEntries(topic.Config),
		ConfigOffset: int64(topic.ConfigOffset),
		Partitions:   int32(topic.Partitions.Len()),
	}
	if !yield(&pb.SnapshotItem{Item: &pb.SnapshotItem_Topic{Topic: item}}) {
		return false
	}
	for p := range topic.Partitions.All() {
		m := PartitionMessage(p)
		m.History = historyMessages(p.History)
		if !yield(&pb.SnapshotItem{Item: &pb.SnapshotItem_Partition{Partition: m}}) {
			return false
		}
	}
	return true
}
