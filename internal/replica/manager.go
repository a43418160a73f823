package replica

import (
	"context"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Manager makes the store's partitions agree with the metadata.
type Manager struct{}

// Partition finds a partition that this node has a replica of. UNKNOWN_TOPIC_ID or UNKNOWN_TOPIC_OR_PARTITION if the
// image has none of that name, NOT_LEADER_OR_FOLLOWER if it has and this node does not.
func (m *Manager) Partition(id kafka.TopicPartition) (*Partition, error) { panic("seam") }

// WaitApplied returns once the partitions agree with the image at the offset: what was created can be produced to, what
// was deleted takes no more.
func (m *Manager) WaitApplied(ctx context.Context, offset metadata.Offset) error { panic("seam") }
