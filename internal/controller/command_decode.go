package controller

import (
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// decodeCommand reads what encodeCommand wrote, from whoever wrote it.
func decodeCommand(data []byte) (Command, error) {
	m := &pb.Command{}
	if err := proto.Unmarshal(data, m); err != nil {
		return Command{}, fmt.Errorf("a command of %d bytes: %w", len(data), err)
	}
	c := Command{ValidateOnly: m.GetValidateOnly(), Relay: m.GetRelay()}
	if ms := m.GetTimeoutMs(); ms > 0 && ms < math.MaxInt64/int64(time.Millisecond) {
		c.Timeout = time.Duration(ms) * time.Millisecond
	}
	var err error
	switch k := m.GetKind().(type) {
	case *pb.Command_CreateTopics:
		c.Command, err = createTopicsOf(k.CreateTopics)
	case *pb.Command_DeleteTopic:
		var id kafka.TopicID
		id, err = topicIDOf(k.DeleteTopic.GetId())
		c.Command = deleteTopic{id: id, reason: k.DeleteTopic.GetReason()}
	case *pb.Command_CreatePartitions:
		c.Command = metadata.CreatePartitions{Topic: k.CreatePartitions.GetTopic(), Count: k.CreatePartitions.GetCount(),
			Assignment: assignmentOf(k.CreatePartitions.GetAssignment(), k.CreatePartitions.GetAssigned()), Reason: k.CreatePartitions.GetReason()}
	case *pb.Command_SetConfig:
		c.Command, err = setConfigOf(k.SetConfig)
	case *pb.Command_AllocateProducerIds:
		c.Command = allocateProducerIDs{}
	case *pb.Command_RegisterBroker:
		c.Command, err = registerBrokerOf(k.RegisterBroker)
	case *pb.Command_UnregisterBroker:
		c.Command = unregisterBroker{id: kafka.BrokerID(k.UnregisterBroker.GetId())}
	case *pb.Command_FenceBroker:
		c.Command = fenceBroker{id: kafka.BrokerID(k.FenceBroker.GetId()), fenced: k.FenceBroker.GetFenced(), reason: k.FenceBroker.GetReason()}
	case *pb.Command_AssignPartition:
		c.Command, err = assignPartitionOf(k.AssignPartition)
	case *pb.Command_SetPartitionLeader:
		c.Command, err = setPartitionLeaderOf(k.SetPartitionLeader)
	case *pb.Command_UpdateIsr:
		c.Command, err = updateISROf(k.UpdateIsr)
	case *pb.Command_Heartbeat:
		c.Command, err = heartbeatOf(k.Heartbeat)
	case *pb.Command_DescribeBrokers:
		c.Command = metadata.DescribeBrokers{}
	default:
		err = errors.New("this version of chronik does not know it; all nodes of a cluster need the same version")
	}
	if err != nil {
		return Command{}, fmt.Errorf("a command: %w", err)
	}
	return c, nil
}

func topicIDOf(id []byte) (kafka.TopicID, error) {
	if len(id) != 16 {
		return kafka.TopicID{}, fmt.Errorf("a topic ID has %d bytes instead of 16", len(id))
	}
	return kafka.TopicID(id), nil
}

func topicPartitionOf(id []byte, index int32) (kafka.TopicPartition, error) {
	topic, err := topicIDOf(id)
	return kafka.TopicPartition{Topic: topic, Partition: index}, err
}

func createTopicsOf(m *pb.CreateTopics) (createTopics, error) {
	var c createTopics
	for _, t := range m.GetTopics() {
		id, err := topicIDOf(t.GetId())
		if err != nil {
			return c, err
		}
		if rf := t.GetReplicationFactor(); rf != int32(int16(rf)) {
			return c, fmt.Errorf("topic %q: a replication factor of %d", t.GetName(), rf)
		}
		topic := metadata.CreateTopic{
			Name: t.GetName(), ID: id, Partitions: t.GetPartitions(), ReplicationFactor: int16(t.GetReplicationFactor()),
			Assignment: assignmentOf(t.GetAssignment(), t.GetAssigned()), Internal: t.GetInternal(), Reason: t.GetReason(),
		}
		for _, e := range t.GetConfig() {
			if topic.Config == nil {
				topic.Config = map[string]string{}
			}
			topic.Config[e.GetKey()] = e.GetValue()
		}
		c.topics = append(c.topics, topic)
	}
	return c, nil
}

func assignmentOf(lists []*pb.BrokerList, assigned bool) [][]kafka.BrokerID {
	if !assigned {
		return nil
	}
	assignment := [][]kafka.BrokerID{}
	for _, list := range lists {
		assignment = append(assignment, metadata.BrokerIDs(list.GetIds()))
	}
	return assignment
}

func setConfigOf(m *pb.SetConfig) (metadata.SetConfig, error) {
	if t := m.GetResourceType(); t != int32(int8(t)) {
		return metadata.SetConfig{}, fmt.Errorf("a resource of type %d", t)
	}
	c := metadata.SetConfig{
		Resource: metadata.Resource{Type: metadata.ResourceType(m.GetResourceType()), Name: m.GetResourceName()},
		Replace:  m.GetReplace(), Base: metadata.Offset(m.GetBase()), Reason: m.GetReason(),
	}
	set := func(key string, value *string) {
		if c.Values == nil {
			c.Values = map[string]*string{}
		}
		c.Values[key] = value
	}
	for _, e := range m.GetSet() {
		set(e.GetKey(), new(e.GetValue()))
	}
	for _, key := range m.GetRemoved() {
		set(key, nil)
	}
	return c, nil
}

func registerBrokerOf(m *pb.RegisterBroker) (metadata.RegisterBroker, error) {
	b, err := metadata.RegistrationOf(m.GetRegistration())
	if err != nil {
		return metadata.RegisterBroker{}, err
	}
	return metadata.RegisterBroker{ID: b.ID, Incarnation: b.Incarnation, Directory: b.Directory, Rack: b.Rack, Endpoints: b.Endpoints,
		ClusterAddress: b.ClusterAddress, Unclean: m.GetUnclean()}, nil
}

func assignPartitionOf(m *pb.AssignPartition) (metadata.AssignPartition, error) {
	tp, err := topicPartitionOf(m.GetTopicId(), m.GetIndex())
	return metadata.AssignPartition{Partition: tp, Replicas: metadata.BrokerIDs(m.GetReplicas()), Base: kafka.PartitionEpoch(m.GetBase()),
		Reason: m.GetReason()}, err
}

func setPartitionLeaderOf(m *pb.SetPartitionLeader) (metadata.SetPartitionLeader, error) {
	tp, err := topicPartitionOf(m.GetTopicId(), m.GetIndex())
	return metadata.SetPartitionLeader{Partition: tp, Leader: kafka.BrokerID(m.GetLeader()), Base: kafka.PartitionEpoch(m.GetBase()),
		Unclean: m.GetUnclean(), Reason: m.GetReason()}, err
}

func updateISROf(m *pb.UpdateISR) (metadata.UpdateISR, error) {
	tp, err := topicPartitionOf(m.GetTopicId(), m.GetIndex())
	c := metadata.UpdateISR{Partition: tp, LeaderEpoch: kafka.LeaderEpoch(m.GetLeaderEpoch()), Base: kafka.PartitionEpoch(m.GetBase()),
		Reason: m.GetReason()}
	for _, member := range m.GetIsr() {
		c.ISR = append(c.ISR, metadata.ISRMember{Broker: kafka.BrokerID(member.GetBroker()), Epoch: kafka.BrokerEpoch(member.GetEpoch())})
	}
	return c, err
}

func heartbeatOf(m *pb.Heartbeat) (metadata.Heartbeat, error) {
	if len(m.GetIncarnation()) != 16 {
		return metadata.Heartbeat{}, fmt.Errorf("the heartbeat of broker %d has an incarnation of %d bytes", m.GetBroker(), len(m.GetIncarnation()))
	}
	damaged, err := partitionsNamed(m.GetDamaged())
	return metadata.Heartbeat{Broker: kafka.BrokerID(m.GetBroker()), Epoch: kafka.BrokerEpoch(m.GetEpoch()), Incarnation: [16]byte(m.GetIncarnation()),
		Applied: metadata.Offset(m.GetApplied()), Ready: m.GetReady(), ShuttingDown: m.GetShuttingDown(),
		SyncAge: time.Duration(m.GetSyncAgeNs()), Damaged: damaged}, err
}

func partitionsNamed(m []*pb.TopicPartition) ([]kafka.TopicPartition, error) {
	var partitions []kafka.TopicPartition
	for _, p := range m {
		tp, err := topicPartitionOf(p.GetTopicId(), p.GetIndex())
		if err != nil {
			return nil, err
		}
		partitions = append(partitions, tp)
	}
	return partitions, nil
}
