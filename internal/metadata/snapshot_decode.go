package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
)

// ErrCorruptSnapshot is in every error about a snapshot that is not what Image.Snapshot wrote.
var ErrCorruptSnapshot = errors.New("the metadata snapshot is damaged")

// SnapshotReader folds the chunks of a snapshot, in order, into an image.
type SnapshotReader struct {
	img    *Image
	header *pb.SnapshotHeader
	next   uint32 // number of the chunk that comes next
	last   bool
	// topic is the one whose partitions come now, of which want are to come.
	topic      *Topic
	partitions []*Partition
	want       int
}

// DecodeSnapshot reads what EncodeSnapshot wrote.
func DecodeSnapshot(data []byte) (*Image, error) {
	var r SnapshotReader
	for len(data) > 0 {
		size, err := chunkSize(data)
		if err != nil {
			return nil, err
		}
		if err := r.Add(data[:size]); err != nil {
			return nil, err
		}
		data = data[size:]
	}
	return r.Image()
}

// chunkSize is the length of the chunk that data starts with.
func chunkSize(data []byte) (int, error) {
	if len(data) < chunkHeader {
		return 0, fmt.Errorf("%w: %d bytes where a chunk should start", ErrCorruptSnapshot, len(data))
	}
	if string(data[:4]) != snapshotMagic {
		return 0, fmt.Errorf("%w: a chunk does not start with %q", ErrCorruptSnapshot, snapshotMagic)
	}
	if v := data[4]; v != snapshotVersion {
		return 0, fmt.Errorf("the metadata snapshot has format version %d, this chronik reads version %d", v, snapshotVersion)
	}
	length := binary.BigEndian.Uint32(data[12:])
	if length > chunkBytesMax || int(length) > len(data)-chunkHeader {
		return 0, fmt.Errorf("%w: a chunk promises %d bytes and has %d", ErrCorruptSnapshot, length, len(data)-chunkHeader)
	}
	return chunkHeader + int(length), nil
}

// Add folds the next chunk, which may be reused afterwards.
func (r *SnapshotReader) Add(chunk []byte) error {
	size, err := chunkSize(chunk)
	if err != nil {
		return err
	}
	number := binary.BigEndian.Uint32(chunk[8:])
	switch {
	case size != len(chunk):
		return fmt.Errorf("%w: chunk %d has %d bytes too many", ErrCorruptSnapshot, number, len(chunk)-size)
	case binary.BigEndian.Uint32(chunk[16:]) != chunkCRC(chunk):
		return fmt.Errorf("%w: the checksum of chunk %d does not match", ErrCorruptSnapshot, number)
	case r.last || number != r.next:
		return fmt.Errorf("%w: chunk %d where chunk %d should be", ErrCorruptSnapshot, number, r.next)
	}
	var c pb.SnapshotChunk
	if err := proto.Unmarshal(chunk[chunkHeader:], &c); err != nil {
		return fmt.Errorf("%w: chunk %d: %w", ErrCorruptSnapshot, number, err)
	}
	for _, item := range c.GetItems() {
		if err := r.item(item); err != nil {
			return fmt.Errorf("%w: chunk %d: %w", ErrCorruptSnapshot, number, err)
		}
	}
	r.next++
	r.last = chunk[5]&snapshotLast != 0
	return nil
}

// Image is the image, once the last chunk was added.
func (r *SnapshotReader) Image() (*Image, error) {
	h := r.header
	switch {
	case !r.last || h == nil:
		return nil, fmt.Errorf("%w: it ends after %d chunks, before its last one", ErrCorruptSnapshot, r.next)
	case r.topic != nil:
		return nil, fmt.Errorf("%w: topic %q lacks %d partitions", ErrCorruptSnapshot, r.topic.Name, r.want)
	case int64(r.img.topics.len()) != h.GetTopics(), int64(r.img.names.len()) != h.GetTopics(),
		int64(r.img.brokers.len()) != h.GetBrokers(), int64(r.img.configs.len()) != h.GetConfigs():
		return nil, fmt.Errorf("%w: it holds %d topics, %d brokers and %d configurations instead of %d, %d and %d",
			ErrCorruptSnapshot, r.img.topics.len(), r.img.brokers.len(), r.img.configs.len(),
			h.GetTopics(), h.GetBrokers(), h.GetConfigs())
	}
	return r.img, nil
}

func (r *SnapshotReader) item(item *pb.SnapshotItem) error {
	if m := item.GetHeader(); m != nil {
		return r.start(m)
	}
	if r.header == nil {
		return errors.New("an item before the header")
	}
	switch k := item.GetItem().(type) {
	case *pb.SnapshotItem_Broker:
		if err := checkBroker(k.Broker.GetRegistration()); err != nil {
			return err
		}
		b := brokerOf(k.Broker.GetRegistration(), kafka.BrokerEpoch(k.Broker.GetEpoch()), timeOf(k.Broker.GetSinceMs()))
		b.StateOffset, b.Reason = Offset(k.Broker.GetStateOffset()), k.Broker.GetReason()
		b.InControlledShutdown, b.Slow = k.Broker.GetInControlledShutdown(), k.Broker.GetSlow()
		r.img.brokers = r.img.brokers.with(b.ID, b)
		return nil
	case *pb.SnapshotItem_Config:
		res := Resource{Type: ResourceType(k.Config.GetResourceType()), Name: k.Config.GetResourceName()}
		r.img.configs = r.img.configs.with(res,
			&resourceConfig{values: configOf(k.Config.GetConfig()), offset: Offset(k.Config.GetConfigOffset())})
		return nil
	case *pb.SnapshotItem_Topic:
		return r.startTopic(k.Topic)
	case *pb.SnapshotItem_Partition:
		return r.partition(k.Partition)
	}
	return errors.New("an item of a kind that this version of chronik does not know")
}

func (r *SnapshotReader) start(m *pb.SnapshotHeader) error {
	if r.header != nil {
		return errors.New("a second header")
	}
	r.header, r.img = m, Empty()
	r.img.offset = Offset(m.GetOffset())
	r.img.clusterID = m.GetClusterId()
	r.img.nextProducerID = kafka.ProducerID(m.GetNextProducerId())
	r.img.configsEmptied = Offset(m.GetConfigsEmptied())
	for _, voters := range [][]*pb.Voter{m.GetVoters(), m.GetFormation()} {
		if err := checkVoters(voters); err != nil {
			return err
		}
	}
	r.img.voters, r.img.formation = votersOf(m.GetVoters()), votersOf(m.GetFormation())
	for _, id := range m.GetDeletedTopics() {
		if len(id) != 16 {
			return fmt.Errorf("the ID of a deleted topic has %d bytes", len(id))
		}
		r.img.deleted = append(r.img.deleted, kafka.TopicID(id))
	}
	return nil
}

func (r *SnapshotReader) startTopic(m *pb.SnapshotTopic) error {
	if r.topic != nil {
		return fmt.Errorf("topic %q lacks %d partitions", r.topic.Name, r.want)
	}
	if len(m.GetId()) != 16 || m.GetPartitions() < 0 {
		return fmt.Errorf("topic %q has an ID of %d bytes and %d partitions", m.GetName(), len(m.GetId()), m.GetPartitions())
	}
	r.topic = &Topic{
		Name:         m.GetName(),
		ID:           kafka.TopicID(m.GetId()),
		Internal:     m.GetInternal(),
		Config:       configOf(m.GetConfig()),
		ConfigOffset: Offset(m.GetConfigOffset()),
	}
	r.want = int(m.GetPartitions())
	r.partitions = nil
	r.finishTopic()
	return nil
}

func (r *SnapshotReader) partition(m *pb.Partition) error {
	if r.topic == nil {
		return errors.New("a partition without a topic")
	}
	r.partitions = append(r.partitions, partitionOf(int32(len(r.partitions)), m))
	r.want--
	r.finishTopic()
	return nil
}

func (r *SnapshotReader) finishTopic() {
	if r.want == 0 {
		r.topic.Partitions = PartitionsOf(r.partitions...)
		r.img.addTopic(r.topic)
		r.topic = nil
	}
}
