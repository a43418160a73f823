package metadata

import (
	"strconv"

	"chronik/internal/kafka"
)

// MinInsyncReplicasKey is the configuration key that decisions about ISRs depend on.
const MinInsyncReplicasKey = "min.insync.replicas"

// DefaultReplicationFactor follows the registered brokers, fenced ones too: 3 from three brokers on, else 1.
func (img *Image) DefaultReplicationFactor() int16 {
	if img.BrokerCount() >= 3 {
		return 3
	}
	return 1
}

// DefaultMinInsyncReplicas follows the registered brokers, fenced ones too: 2 from three brokers on, else 1.
func (img *Image) DefaultMinInsyncReplicas() int {
	if img.BrokerCount() >= 3 {
		return 2
	}
	return 1
}

// MinInsyncReplicas is what a partition of the topic needs in its ISR: the topic's configuration, else the brokers'
// dynamic default, else what follows from the registered brokers; never more than the partition has replicas (as
// KIP-966 reads it; a default could otherwise make a topic of one replica unwritable).
func (img *Image) MinInsyncReplicas(topic *Topic, replicas int) int {
	for _, value := range []string{
		topic.Config[MinInsyncReplicasKey],
		img.Config(Resource{Type: BrokerResource})[MinInsyncReplicasKey],
	} {
		if n, err := strconv.Atoi(value); err == nil && n > 0 {
			return min(n, replicas)
		}
	}
	return min(img.DefaultMinInsyncReplicas(), replicas)
}

// TopicPartition names a partition of the topic.
func (t *Topic) TopicPartition(index int32) kafka.TopicPartition {
	return kafka.TopicPartition{Topic: t.ID, Partition: index}
}
