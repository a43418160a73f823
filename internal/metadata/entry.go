package metadata

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "chronik/internal/metadata/metadatapb"
)

// EncodeEntry is the payload of a Raft entry.
func EncodeEntry(e *pb.Entry) ([]byte, error) {
	data, err := proto.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode a metadata entry of %d records: %w", len(e.GetRecords()), err)
	}
	return data, nil
}

// DecodeEntry reads what EncodeEntry wrote, and checks all that Image.Apply relies on. An error means damage, or that a
// newer version of chronik wrote the entry: the node must stop rather than fold an image unlike the others'.
func DecodeEntry(data []byte) (*pb.Entry, error) {
	e := &pb.Entry{}
	if err := proto.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("decode a metadata entry of %d bytes: %w", len(data), err)
	}
	for i, r := range e.GetRecords() {
		if err := check(r); err != nil {
			return nil, fmt.Errorf("metadata entry, record %d: %w", i, err)
		}
	}
	return e, nil
}

func check(r *pb.Record) error {
	id := func(what string, b []byte) error {
		if len(b) != 16 {
			return fmt.Errorf("%s has %d bytes instead of 16", what, len(b))
		}
		return nil
	}
	switch k := r.GetKind().(type) {
	case *pb.Record_TopicCreated:
		return id("the topic ID of "+k.TopicCreated.GetName(), k.TopicCreated.GetId())
	case *pb.Record_TopicDeleted:
		return id("a topic ID", k.TopicDeleted.GetId())
	case *pb.Record_PartitionChanged:
		return id("a topic ID", k.PartitionChanged.GetTopicId())
	case *pb.Record_BrokerRegistered:
		return checkBroker(k.BrokerRegistered)
	case *pb.Record_ClusterFormed:
		return checkVoters(k.ClusterFormed.GetVoters())
	case *pb.Record_VotersChanged:
		return checkVoters(k.VotersChanged.GetVoters())
	case *pb.Record_ConfigChanged, *pb.Record_BrokerFencing, *pb.Record_BrokerRemoved,
		*pb.Record_ProducerIdsAllocated, *pb.Record_LeaderEpochsRaised:
		return nil
	default:
		return fmt.Errorf("of a kind that this version of chronik does not know; start the version that wrote it, or a newer one")
	}
}

func checkBroker(m *pb.BrokerRegistered) error {
	if len(m.GetIncarnation()) != 16 || len(m.GetDirectory()) != 16 {
		return fmt.Errorf("broker %d: the incarnation has %d bytes and the directory ID %d, instead of 16",
			m.GetId(), len(m.GetIncarnation()), len(m.GetDirectory()))
	}
	return nil
}

func checkVoters(voters []*pb.Voter) error {
	for i, v := range voters {
		switch {
		case len(v.GetDirectory()) != 16:
			return fmt.Errorf("voter %d: the directory ID has %d bytes instead of 16", v.GetId(), len(v.GetDirectory()))
		case v.GetId() < 0, i > 0 && v.GetId() <= voters[i-1].GetId():
			return fmt.Errorf("voter %d: IDs are not negative, and ascend", v.GetId())
		}
	}
	return nil
}
