package kafka

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// Offset is the position of a record in a partition. An end offset is exclusive.
type Offset int64

// LeaderEpoch counts the leaders of a partition; it belongs to one process of one broker.
type LeaderEpoch int32

// PartitionEpoch counts every change of a partition's metadata (ISR, leader, assignment).
type PartitionEpoch int32

// BrokerID is a broker's configured number (Kafka's node ID).
type BrokerID int32

// BrokerEpoch is the metadata offset of a broker's registration (KIP-903).
type BrokerEpoch int64

// ProducerID and ProducerEpoch name an idempotent producer's session (KIP-98).
type (
	ProducerID    int64
	ProducerEpoch int16
)

// Sentinels, as Kafka's protocol writes them.
const (
	NoLeader      BrokerID    = -1
	NoLeaderEpoch LeaderEpoch = -1
	NoProducerID  ProducerID  = -1
	NoOffset      Offset      = -1
)

// TopicID is a topic's UUID. A topic that is deleted and created again has another one.
type TopicID [16]byte

// NewTopicID draws a random (version 4) topic ID; it never starts with '-' in its text form, as Kafka's do not.
func NewTopicID() TopicID {
	for {
		var id TopicID
		_, _ = rand.Read(id[:]) // crypto/rand.Read never fails since Go 1.24
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// IsZero tells whether the ID is unset (the protocol's "no topic ID").
func (id TopicID) IsZero() bool { return id == TopicID{} }

// String is Kafka's text form: URL-safe base64 without padding, 22 characters.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// Hex is the form used in file names: case-insensitive file systems keep it distinct.
func (id TopicID) Hex() string { return hex.EncodeToString(id[:]) }

// TopicPartition names a partition for good: by its topic's ID, not by a name that may be used again.
type TopicPartition struct {
	Topic     TopicID
	Partition int32
}

// String is the form of a partition's directory: 32 hexadecimal digits, a dash, the partition number.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s-%d", tp.Topic.Hex(), tp.Partition) }
