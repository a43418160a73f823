package controller

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// updateISR answers with the partition epoch after the change. It is Kafka's AlterPartition (KIP-497) with broker epochs
// (KIP-903): a leader that knows more than this image asks the wrong controller.
func (s state) updateISR(c metadata.UpdateISR) (decision, error) {
	topic, p, err := s.find(c.Partition)
	if err != nil {
		return decision{}, err
	}
	refuse := func(e *kafka.Error, format string, args ...any) (decision, error) {
		return decision{}, e.With("partition %s-%d: "+format, append([]any{topic.Name, p.Index}, args...)...)
	}
	switch {
	case c.LeaderEpoch > p.LeaderEpoch:
		return refuse(kafka.ErrNotController, "leader epoch %d is above the controller's %d", c.LeaderEpoch, p.LeaderEpoch)
	case c.Base > p.PartitionEpoch:
		return refuse(kafka.ErrNotController, "partition epoch %d is above the controller's %d", c.Base, p.PartitionEpoch)
	case c.LeaderEpoch < p.LeaderEpoch:
		return refuse(kafka.ErrFencedLeaderEpoch, "leader epoch %d is over, it is %d", c.LeaderEpoch, p.LeaderEpoch)
	}
	if err := checkBase(topic, p, c.Base); err != nil {
		return decision{}, err
	}
	isr := make([]kafka.BrokerID, 0, len(c.ISR))
	for _, m := range c.ISR {
		if slices.Contains(isr, m.Broker) || !slices.Contains(p.Replicas, m.Broker) {
			return refuse(kafka.ErrInvalidRequest, "the proposed in-sync set %v does not fit its replicas %v", c.ISR, p.Replicas)
		}
		isr = append(isr, m.Broker)
	}
	if !slices.Contains(isr, p.Leader) {
		return refuse(kafka.ErrInvalidRequest, "the proposed in-sync set %v lacks the leader %d", isr, p.Leader)
	}
	for _, m := range c.ISR {
		b := s.image.Broker(m.Broker)
		switch {
		case b == nil:
			return refuse(kafka.ErrIneligibleReplica, "broker %d is not registered", m.Broker)
		case b.Fenced:
			return refuse(kafka.ErrIneligibleReplica, "broker %d is fenced", m.Broker)
		case b.Epoch != m.Epoch:
			return refuse(kafka.ErrIneligibleReplica, "broker %d has epoch %d, not %d", m.Broker, b.Epoch, m.Epoch)
		case slices.Contains(p.ISR, m.Broker): // the leader may keep whom it has
		case b.InControlledShutdown:
			return refuse(kafka.ErrIneligibleReplica, "broker %d shuts down", m.Broker)
		case b.Slow && len(p.ISR) >= s.image.MinInsyncReplicas(topic, len(p.Replicas)): // else better late than refused
			return refuse(kafka.ErrIneligibleReplica, "broker %d has a slow disk", m.Broker)
		case s.damaged.has(m.Broker, c.Partition):
			return refuse(kafka.ErrIneligibleReplica, "the replica on broker %d is damaged", m.Broker)
		}
	}
	ch := change(topic, p, because(c.Reason, "in-sync set changed by the leader"))
	ch.next.ISR = sorted(isr)
	d := s.partitionDecision(ch)
	if len(d.records) == 0 {
		// A leader that never heard what became of its last proposal asks for what there is: the partition epoch moves on, so
		// that the other can no longer happen.
		d.records = []*pb.Record{{Reason: ch.reason, Kind: &pb.Record_PartitionChanged{PartitionChanged: &pb.PartitionChanged{
			TopicId: topic.ID[:], Index: p.Index, Isr: &pb.BrokerList{Ids: metadata.BrokerNumbers(ch.next.ISR)},
		}}}}
	}
	d.answer = func(img *metadata.Image) any {
		if after := img.Partition(c.Partition); after != nil {
			return after.PartitionEpoch
		}
		return p.PartitionEpoch
	}
	return d, nil
}
