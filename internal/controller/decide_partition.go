package controller

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// partitionChange is a change of one partition in the making.
type partitionChange struct {
	topic *metadata.Topic
	old   *metadata.Partition
	next  metadata.Partition // Replicas, ISR, ELR and Leader as they are to be
	// lost are replicas that may have lost data: they do not become eligible leaders.
	lost   []kafka.BrokerID
	reason string
}

func change(topic *metadata.Topic, p *metadata.Partition, reason string) *partitionChange {
	return &partitionChange{topic: topic, old: p, next: *p, reason: reason}
}

// record completes the change: the ELR follows from the ISR (KIP-966), the leader epoch from the leader. It returns nil
// if nothing is different. img is the image that the change is decided on.
func (c *partitionChange) record(img *metadata.Image) *pb.Record {
	c.next.ELR = c.eligible(img)
	m := &pb.PartitionChanged{TopicId: c.topic.ID[:], Index: c.old.Index}
	same := true
	list := func(before, after []kafka.BrokerID) *pb.BrokerList {
		if slices.Equal(before, after) {
			return nil
		}
		same = false
		return &pb.BrokerList{Ids: metadata.BrokerNumbers(after)}
	}
	m.Replicas = list(c.old.Replicas, c.next.Replicas)
	m.Isr = list(c.old.ISR, c.next.ISR)
	m.Elr = list(c.old.ELR, c.next.ELR)
	if c.next.Leader != c.old.Leader {
		plusOne := int32(c.next.Leader) + 1
		m.LeaderPlusOne = &plusOne
		m.NextLeaderEpoch = true
		same = false
	}
	if same {
		return nil
	}
	return &pb.Record{Reason: c.reason, Kind: &pb.Record_PartitionChanged{PartitionChanged: m}}
}

// eligible is the ELR after the change: empty while the ISR is large enough, since the watermark then moves without the
// others; below that, whoever was in ISR or ELR and lost nothing still has all that was committed.
func (c *partitionChange) eligible(img *metadata.Image) []kafka.BrokerID {
	if len(c.next.ISR) >= img.MinInsyncReplicas(c.topic, len(c.next.Replicas)) {
		return nil
	}
	var elr []kafka.BrokerID
	for _, id := range c.next.Replicas {
		was := slices.Contains(c.old.ISR, id) || slices.Contains(c.old.ELR, id)
		if was && !slices.Contains(c.next.ISR, id) && !slices.Contains(c.lost, id) {
			elr = append(elr, id)
		}
	}
	return sorted(elr)
}

func (s state) assignPartition(c metadata.AssignPartition) (decision, error) {
	topic, p, err := s.find(c.Partition)
	if err != nil {
		return decision{}, err
	}
	if err := checkBase(topic, p, c.Base); err != nil {
		return decision{}, err
	}
	if err := s.checkReplicas(c.Replicas); err != nil {
		return decision{}, err
	}
	ch := change(topic, p, because(c.Reason, "replicas assigned"))
	ch.next.Replicas = slices.Clone(c.Replicas)
	ch.next.ISR = nil
	for _, id := range p.ISR {
		if slices.Contains(c.Replicas, id) {
			ch.next.ISR = append(ch.next.ISR, id)
		}
	}
	if len(ch.next.ISR) == 0 {
		return decision{}, kafka.ErrInvalidReplicaAssignment.With("partition %s-%d: none of its new replicas %v is in its in-sync "+
			"set %v; keep one of them until another has caught up", topic.Name, p.Index, c.Replicas, p.ISR)
	}
	ch.elect(s)
	return s.partitionDecision(ch), nil
}

func (s state) partitionDecision(ch *partitionChange) decision {
	if r := ch.record(s.image); r != nil {
		return decision{records: []*pb.Record{r}}
	}
	return decision{}
}

// checkBase refuses a change that was computed on another state of the partition.
func checkBase(topic *metadata.Topic, p *metadata.Partition, base kafka.PartitionEpoch) error {
	if base == p.PartitionEpoch {
		return nil
	}
	return kafka.ErrInvalidUpdateVersion.With("partition %s-%d: the change is based on partition epoch %d, it is at %d; look again",
		topic.Name, p.Index, base, p.PartitionEpoch)
}

func without(ids []kafka.BrokerID, id kafka.BrokerID) []kafka.BrokerID {
	return slices.DeleteFunc(slices.Clone(ids), func(other kafka.BrokerID) bool { return other == id })
}

// sorted is a sorted copy; nil if empty.
func sorted(ids []kafka.BrokerID) []kafka.BrokerID {
	if len(ids) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(ids))
}
