package broker

import (
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

func TestEventCounts(t *testing.T) {
	change := func(sizes ...int) metadata.ISRUpdated {
		p := &metadata.Partition{}
		for _, n := range sizes {
			p.History = append(p.History, metadata.Change{ISR: make([]kafka.BrokerID, n)})
		}
		return metadata.ISRUpdated{Partition: p}
	}
	var c eventCounts
	for _, e := range []metadata.Event{
		change(3, 3, 2), change(2, 1), change(1, 3), change(2), change(2, 2),
		metadata.PartitionLeaderChanged{}, metadata.BrokerFenced{}, metadata.BrokerFenced{}, metadata.SnapshotInstalled{},
	} {
		c.count(e)
	}
	if c.shrinks.Load() != 2 || c.expands.Load() != 1 || c.leaders.Load() != 1 || c.fences.Load() != 2 || c.snapshots.Load() != 1 {
		t.Errorf("%d shrinks, %d expands, %d leaders, %d fences", c.shrinks.Load(), c.expands.Load(), c.leaders.Load(), c.fences.Load())
	}
}
