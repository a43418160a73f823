package controller

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// encodeCommand is a command as it is forwarded.
func encodeCommand(c Command) ([]byte, error) {
	m := &pb.Command{ValidateOnly: c.ValidateOnly, Relay: c.Relay, TimeoutMs: c.Timeout.Milliseconds()}
	switch k := c.Command.(type) {
	case createTopics:
		m.Kind = &pb.Command_CreateTopics{CreateTopics: createTopicsMessage(k)}
	case deleteTopic:
		m.Kind = &pb.Command_DeleteTopic{DeleteTopic: &pb.DeleteTopic{Id: k.id[:], Reason: valid(k.reason)}}
	case metadata.CreatePartitions:
		lists, assigned := assignmentMessages(k.Assignment)
		m.Kind = &pb.Command_CreatePartitions{CreatePartitions: &pb.CreatePartitions{
			Topic: k.Topic, Count: k.Count, Assignment: lists, Assigned: assigned, Reason: valid(k.Reason)}}
	case metadata.SetConfig:
		m.Kind = &pb.Command_SetConfig{SetConfig: setConfigMessage(k)}
	case allocateProducerIDs:
		m.Kind = &pb.Command_AllocateProducerIds{AllocateProducerIds: &pb.AllocateProducerIDs{}}
	case metadata.RegisterBroker:
		m.Kind = &pb.Command_RegisterBroker{RegisterBroker: &pb.RegisterBroker{Registration: registrationMessage(k), Unclean: k.Unclean}}
	case unregisterBroker:
		m.Kind = &pb.Command_UnregisterBroker{UnregisterBroker: &pb.UnregisterBroker{Id: int32(k.id)}}
	case fenceBroker:
		m.Kind = &pb.Command_FenceBroker{FenceBroker: &pb.FenceBroker{Id: int32(k.id), Fenced: k.fenced, Reason: valid(k.reason)}}
	case metadata.AssignPartition:
		m.Kind = &pb.Command_AssignPartition{AssignPartition: &pb.AssignPartition{TopicId: k.Partition.Topic[:], Index: k.Partition.Partition,
			Replicas: metadata.BrokerNumbers(k.Replicas), Base: int32(k.Base), Reason: valid(k.Reason)}}
	case metadata.SetPartitionLeader:
		m.Kind = &pb.Command_SetPartitionLeader{SetPartitionLeader: &pb.SetPartitionLeader{TopicId: k.Partition.Topic[:], Index: k.Partition.Partition,
			Leader: int32(k.Leader), Base: int32(k.Base), Unclean: k.Unclean, Reason: valid(k.Reason)}}
	case metadata.UpdateISR:
		m.Kind = &pb.Command_UpdateIsr{UpdateIsr: updateISRMessage(k)}
	case metadata.Heartbeat:
		m.Kind = &pb.Command_Heartbeat{Heartbeat: heartbeatMessage(k)}
	case metadata.DescribeBrokers:
		m.Kind = &pb.Command_DescribeBrokers{DescribeBrokers: &pb.DescribeBrokers{}}
	default:
		return nil, fmt.Errorf("a command %T is not forwarded", k)
	}
	return proto.Marshal(m)
}

// valid is a text for people that protobuf can hold. Where a name or a value is not UTF-8, encoding fails.
func valid(text string) string { return because(text, "") }

func createTopicsMessage(c createTopics) *pb.CreateTopics {
	m := &pb.CreateTopics{}
	for _, t := range c.topics {
		lists, assigned := assignmentMessages(t.Assignment)
		topic := &pb.CreateTopics_Topic{
			Name: t.Name, Id: t.ID[:], Partitions: t.Partitions, ReplicationFactor: int32(t.ReplicationFactor),
			Assignment: lists, Assigned: assigned, Config: metadata.ConfigEntries(t.Config), Internal: t.Internal, Reason: valid(t.Reason),
		}
		m.Topics = append(m.Topics, topic)
	}
	return m
}

func assignmentMessages(assignment [][]kafka.BrokerID) (lists []*pb.BrokerList, assigned bool) {
	for _, replicas := range assignment {
		lists = append(lists, &pb.BrokerList{Ids: metadata.BrokerNumbers(replicas)})
	}
	return lists, assignment != nil
}

func setConfigMessage(c metadata.SetConfig) *pb.SetConfig {
	m := &pb.SetConfig{ResourceType: int32(c.Resource.Type), ResourceName: c.Resource.Name, Replace: c.Replace,
		Base: int64(c.Base), Reason: valid(c.Reason)}
	for _, key := range slices.Sorted(maps.Keys(c.Values)) {
		if value := c.Values[key]; value == nil {
			m.Removed = append(m.Removed, key)
		} else {
			m.Set = append(m.Set, &pb.ConfigEntry{Key: key, Value: *value})
		}
	}
	return m
}

func registrationMessage(c metadata.RegisterBroker) *pb.BrokerRegistered {
	return metadata.BrokerMessage(&metadata.Broker{ID: c.ID, Incarnation: c.Incarnation, Directory: c.Directory, Rack: c.Rack,
		Endpoints: c.Endpoints, ClusterAddress: c.ClusterAddress})
}

func updateISRMessage(c metadata.UpdateISR) *pb.UpdateISR {
	m := &pb.UpdateISR{TopicId: c.Partition.Topic[:], Index: c.Partition.Partition, LeaderEpoch: int32(c.LeaderEpoch), Base: int32(c.Base),
		Reason: valid(c.Reason)}
	for _, member := range c.ISR {
		m.Isr = append(m.Isr, &pb.UpdateISR_Member{Broker: int32(member.Broker), Epoch: int64(member.Epoch)})
	}
	return m
}

func heartbeatMessage(h metadata.Heartbeat) *pb.Heartbeat {
	return &pb.Heartbeat{Broker: int32(h.Broker), Epoch: int64(h.Epoch), Incarnation: h.Incarnation[:], Applied: int64(h.Applied),
		Ready: h.Ready, ShuttingDown: h.ShuttingDown, SyncAgeNs: int64(h.SyncAge), Damaged: partitionNames(h.Damaged)}
}

func partitionNames(partitions []kafka.TopicPartition) []*pb.TopicPartition {
	var m []*pb.TopicPartition
	for _, tp := range partitions {
		m = append(m, &pb.TopicPartition{TopicId: tp.Topic[:], Index: tp.Partition})
	}
	return m
}
