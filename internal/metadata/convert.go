package metadata

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
)

// The functions here turn what an image holds into its form in records and snapshots, and back. Nothing is shared with
// the message, except strings.

// BrokerIDs and BrokerNumbers convert lists of brokers.
func BrokerIDs(numbers []int32) []kafka.BrokerID {
	if len(numbers) == 0 {
		return nil
	}
	ids := make([]kafka.BrokerID, len(numbers))
	for i, n := range numbers {
		ids[i] = kafka.BrokerID(n)
	}
	return ids
}

// BrokerNumbers is the way back.
func BrokerNumbers(ids []kafka.BrokerID) []int32 {
	if len(ids) == 0 {
		return nil
	}
	numbers := make([]int32, len(ids))
	for i, id := range ids {
		numbers[i] = int32(id)
	}
	return numbers
}

// ConfigEntries is a configuration sorted by key.
func ConfigEntries(config map[string]string) []*pb.ConfigEntry {
	var entries []*pb.ConfigEntry
	for _, key := range slices.Sorted(maps.Keys(config)) {
		entries = append(entries, &pb.ConfigEntry{Key: key, Value: config[key]})
	}
	return entries
}

func configOf(entries []*pb.ConfigEntry) map[string]string {
	if len(entries) == 0 {
		return nil
	}
	config := make(map[string]string, len(entries))
	for _, e := range entries {
		config[e.GetKey()] = e.GetValue()
	}
	return config
}

// PartitionMessage is the partition without its history.
func PartitionMessage(p *Partition) *pb.Partition {
	return &pb.Partition{
		Replicas:       BrokerNumbers(p.Replicas),
		Isr:            BrokerNumbers(p.ISR),
		Elr:            BrokerNumbers(p.ELR),
		LeaderPlusOne:  int32(p.Leader) + 1,
		LeaderEpoch:    int32(p.LeaderEpoch),
		PartitionEpoch: int32(p.PartitionEpoch),
	}
}

func partitionOf(index int32, m *pb.Partition) *Partition {
	p := &Partition{
		Index:          index,
		Replicas:       BrokerIDs(m.GetReplicas()),
		ISR:            BrokerIDs(m.GetIsr()),
		ELR:            BrokerIDs(m.GetElr()),
		Leader:         kafka.BrokerID(m.GetLeaderPlusOne() - 1),
		LeaderEpoch:    kafka.LeaderEpoch(m.GetLeaderEpoch()),
		PartitionEpoch: kafka.PartitionEpoch(m.GetPartitionEpoch()),
	}
	for _, c := range m.GetHistory() {
		p.History = append(p.History, Change{
			Offset:      Offset(c.GetOffset()),
			Time:        timeOf(c.GetTimeMs()),
			Reason:      c.GetReason(),
			Leader:      kafka.BrokerID(c.GetLeaderPlusOne() - 1),
			LeaderEpoch: kafka.LeaderEpoch(c.GetLeaderEpoch()),
			ISR:         BrokerIDs(c.GetIsr()),
		})
	}
	return p
}

func historyMessages(history []Change) []*pb.Change {
	var messages []*pb.Change
	for _, c := range history {
		messages = append(messages, &pb.Change{
			Offset:        int64(c.Offset),
			TimeMs:        c.Time.UnixMilli(),
			Reason:        c.Reason,
			LeaderPlusOne: int32(c.Leader) + 1,
			LeaderEpoch:   int32(c.LeaderEpoch),
			Isr:           BrokerNumbers(c.ISR),
		})
	}
	return messages
}

// timeOf is UTC, so that images compare equal wherever they are folded.
func timeOf(millis int64) time.Time { return time.UnixMilli(millis).UTC() }

// BrokerMessage is the broker's registration.
func BrokerMessage(b *Broker) *pb.BrokerRegistered {
	m := &pb.BrokerRegistered{
		Id:          int32(b.ID),
		Incarnation: slices.Clone(b.Incarnation[:]),
		Directory:   slices.Clone(b.Directory[:]),
		Rack:        b.Rack,
		Fenced:      b.Fenced,

		ClusterAddress: b.ClusterAddress,
	}
	for _, e := range b.Endpoints {
		m.Endpoints = append(m.Endpoints, &pb.Endpoint{Listener: e.Listener, Host: e.Host, Port: e.Port, Tls: e.TLS})
	}
	return m
}

func brokerOf(m *pb.BrokerRegistered, epoch kafka.BrokerEpoch, since time.Time) *Broker {
	b := &Broker{
		ID:          kafka.BrokerID(m.GetId()),
		Epoch:       epoch,
		Incarnation: [16]byte(m.GetIncarnation()),
		Directory:   [16]byte(m.GetDirectory()),
		Rack:        m.GetRack(),
		Fenced:      m.GetFenced(),
		Since:       since,

		ClusterAddress: m.GetClusterAddress(),
	}
	for _, e := range m.GetEndpoints() {
		b.Endpoints = append(b.Endpoints, Endpoint{Listener: e.GetListener(), Host: e.GetHost(), Port: e.GetPort(), TLS: e.GetTls()})
	}
	return b
}

// VoterMessages are voters as records hold them.
func VoterMessages(voters []Voter) []*pb.Voter {
	var messages []*pb.Voter
	for _, v := range voters {
		messages = append(messages, &pb.Voter{Id: int32(v.ID), Directory: slices.Clone(v.Directory[:]), ClusterAddress: v.Address})
	}
	return messages
}

// VotersOf is the way back, and checks what came from elsewhere: directories have 16 bytes, IDs ascend.
func VotersOf(messages []*pb.Voter) ([]Voter, error) {
	if err := checkVoters(messages); err != nil {
		return nil, err
	}
	return votersOf(messages), nil
}

func votersOf(messages []*pb.Voter) []Voter {
	var voters []Voter
	for _, m := range messages {
		voters = append(voters, Voter{ID: kafka.BrokerID(m.GetId()), Directory: [16]byte(m.GetDirectory()), Address: m.GetClusterAddress()})
	}
	return voters
}

// TopicMessages is a topic as a snapshot holds it.
func TopicMessages(topic *Topic) (*pb.SnapshotTopic, []*pb.Partition) {
	var m *pb.SnapshotTopic
	var partitions []*pb.Partition
	topicItems(topic, func(item *pb.SnapshotItem) bool {
		if t := item.GetTopic(); t != nil {
			m = t
		} else {
			partitions = append(partitions, item.GetPartition())
		}
		return true
	})
	return m, partitions
}

// TopicOf is the way back; an error means that the messages are not those of a topic.
func TopicOf(m *pb.SnapshotTopic, partitions []*pb.Partition) (*Topic, error) {
	if len(m.GetId()) != 16 {
		return nil, fmt.Errorf("the ID of topic %q has %d bytes instead of 16", m.GetName(), len(m.GetId()))
	}
	list := make([]*Partition, len(partitions))
	for i, p := range partitions {
		list[i] = partitionOf(int32(i), p)
	}
	return &Topic{
		Name:         m.GetName(),
		ID:           kafka.TopicID(m.GetId()),
		Internal:     m.GetInternal(),
		Config:       configOf(m.GetConfig()),
		ConfigOffset: Offset(m.GetConfigOffset()),
		Partitions:   PartitionsOf(list...),
	}, nil
}

// RegistrationOf is the registration that BrokerMessage encoded, without the epoch.
func RegistrationOf(m *pb.BrokerRegistered) (*Broker, error) {
	if err := checkBroker(m); err != nil {
		return nil, err
	}
	return brokerOf(m, 0, time.Time{}), nil
}
