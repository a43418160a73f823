package group

import (
	"context"
	"fmt"
	"log/slog"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// recordMin is the max.message.bytes that groups have at least: Kafka's default.
const recordMin = 1<<20 + 12

// The partitions that __consumer_offsets gets where the configuration does not say: it maps groups to partitions for ever, so
// one node that may grow gets some to spread, and a cluster enough to balance; each costs files and a stream.
const (
	partitionsAlone   = 4
	partitionsCluster = 16
)

func partitionsOf(c *config.Config, brokers int) int32 {
	switch {
	case c.OffsetsTopicPartitions > 0:
		return c.OffsetsTopicPartitions
	case max(brokers, len(c.ClusterVoters)) >= 3: // the voters that are named will come
		return partitionsCluster
	}
	return partitionsAlone
}

// OffsetsTopic is the command that makes __consumer_offsets as Kafka does, in a cluster of so many registered brokers.
func OffsetsTopic(c *config.Config, brokers int, reason string) metadata.CreateTopic {
	cmd := metadata.CreateTopic{
		Name: kafka.OffsetsTopic, ID: kafka.NewTopicID(), Internal: true,
		Partitions: partitionsOf(c, brokers), ReplicationFactor: c.OffsetsTopicReplicationFactor,
		Config: map[string]string{
			"cleanup.policy":   "compact",
			"compression.type": "producer",
			"segment.bytes":    fmt.Sprint(c.OffsetsTopicSegmentBytes),
		},
		Reason: reason,
	}
	if c.Topic.MaxMessageBytes < recordMin { // a limit that is meant for producers must not break groups
		cmd.Config["max.message.bytes"] = fmt.Sprint(recordMin)
	}
	return cmd
}

func (s *Service) createTopic(ctx context.Context) error {
	cmd := OffsetsTopic(s.o.Config.Load(), s.o.Store.Image().BrokerCount(), "first use of a group coordinator")
	for _, r := range s.o.Store.CreateTopics(ctx, []metadata.CreateTopic{cmd}, false) {
		if r.Err != nil && kafka.CodeOf(r.Err) != kafka.ErrTopicAlreadyExists.Code {
			level := slog.LevelWarn
			if ctx.Err() != nil { // the client has gone; the next one asks again
				level = slog.LevelDebug
			}
			s.o.Logger.Log(ctx, level, "the topic of groups and offsets could not be created", "topic", kafka.OffsetsTopic, "error", r.Err)
			return kafka.ErrCoordinatorNotAvailable.With("create topic %s: %v", kafka.OffsetsTopic, r.Err)
		}
	}
	return nil
}
