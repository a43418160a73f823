package group

import (
	"context"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/replica"
)

// OnReplicas opens logs on this node's replicas, for Options.Open.
func OnReplicas(replicas *replica.Manager, store metadata.Store) func(context.Context, kafka.TopicPartition, kafka.LeaderEpoch) (coordinator.Log, error) {
	return func(ctx context.Context, id kafka.TopicPartition, epoch kafka.LeaderEpoch) (coordinator.Log, error) {
		if err := replicas.WaitApplied(ctx, store.Image().Offset()); err != nil {
			return nil, err
		}
		p, err := replicas.Partition(id)
		if err != nil {
			return nil, err
		}
		return coordinator.OnReplica(p, epoch, replicas.Held), nil
	}
}
