package controller

import (
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// metadataTopic is the name of Kafka's metadata log, which is no topic here and must not become one.
const metadataTopic = "__cluster_metadata"

// createTopics never fails as a whole: its answer is a []metadata.CreateTopicResult in the order of the topics. The
// checks, their order and their codes are those of Kafka's controller; a topic that exists under the very ID that the
// command asks for is the success of an earlier try.
func (s state) createTopics(c createTopics) decision {
	results := make([]metadata.CreateTopicResult, len(c.topics))
	ids := make([]kafka.TopicID, len(c.topics))
	var d decision
	seen := map[string]int{}
	total := 0
	for _, t := range c.topics {
		seen[t.Name]++
		total += s.partitionsAsked(t)
	}
	offset := s.image.Offset() + 1
	for i, t := range c.topics {
		ids[i] = t.ID
		var err error
		switch {
		case seen[t.Name] > 1:
			err = kafka.ErrInvalidRequest.With("Duplicate topic name.")
		case total > s.limits.PartitionsPerRequest:
			err = kafka.ErrPolicyViolation.With("Excessively large number of partitions per request.")
		default:
			var record *pb.Record
			if record, err = s.createTopic(t); record != nil {
				d.records = append(d.records, record)
				if i+1 < len(c.topics) { // the next topic is checked against this one too
					s.image, _ = s.image.Apply(offset, &pb.Entry{Records: []*pb.Record{record}})
				}
			}
		}
		results[i].Err = err
	}
	d.answer = func(img *metadata.Image) any {
		for i := range results {
			if results[i].Err == nil {
				results[i].Topic = img.TopicByID(ids[i])
			}
		}
		return results
	}
	return d
}

// partitionsAsked is how many partitions the command counts for; what is invalid is refused later.
func (s state) partitionsAsked(t metadata.CreateTopic) int {
	switch {
	case t.Assignment != nil:
		return len(t.Assignment)
	case t.Partitions == -1:
		return int(s.defaults.Partitions)
	}
	return max(0, int(t.Partitions))
}

// createTopic returns no record for the success of an earlier try.
func (s state) createTopic(t metadata.CreateTopic) (*pb.Record, error) {
	if t.Name == metadataTopic {
		return nil, kafka.ErrInvalidRequest.With("Creation of internal topic %s is prohibited.", metadataTopic)
	}
	if err := kafka.CheckTopicName(t.Name); err != nil {
		return nil, err
	}
	if existing := s.image.Topic(t.Name); existing != nil {
		if existing.ID == t.ID {
			return nil, nil
		}
		return nil, kafka.ErrTopicAlreadyExists.With("Topic '%s' already exists.", t.Name)
	}
	if other := s.image.Collision(t.Name); other != "" {
		return nil, kafka.ErrInvalidTopic.With("Topic '%s' collides with existing topic: %s", t.Name, other)
	}
	if t.ID.IsZero() || s.image.TopicByID(t.ID) != nil {
		return nil, kafka.ErrInvalidRequest.With("topic %q: its new ID %s is unset or taken by another topic", t.Name, t.ID)
	}
	if s.image.WasDeleted(t.ID) {
		return nil, kafka.ErrInvalidRequest.With("topic %q was created with this ID, %s, and deleted since; create it with another ID", t.Name, t.ID)
	}
	for key, value := range t.Config {
		if err := s.checkConfig(key, value); err != nil {
			return nil, err
		}
	}
	assignment, err := s.assignment(t)
	if err != nil {
		return nil, err
	}
	if n := s.image.PartitionCount() + len(assignment); n > s.limits.Partitions {
		return nil, kafka.ErrPolicyViolation.With("topic %q would raise the cluster to %d partitions, the limit is %d",
			t.Name, n, s.limits.Partitions)
	}
	record := &pb.TopicCreated{
		Name:     t.Name,
		Id:       t.ID[:],
		Internal: t.Internal,
		Config:   metadata.ConfigEntries(t.Config),
	}
	for _, replicas := range assignment {
		record.Partitions = append(record.Partitions, s.newPartition(replicas))
	}
	return &pb.Record{
		Reason: because(t.Reason, "topic created"),
		Kind:   &pb.Record_TopicCreated{TopicCreated: record},
	}, nil
}

// assignment is the replicas of each partition of a new topic.
func (s state) assignment(t metadata.CreateTopic) ([][]kafka.BrokerID, error) {
	if t.Assignment != nil {
		if t.ReplicationFactor != -1 {
			return nil, kafka.ErrInvalidRequest.With(
				"A manual partition assignment was specified, but replication factor was not set to -1.")
		}
		if t.Partitions != -1 {
			return nil, kafka.ErrInvalidRequest.With(
				"A manual partition assignment was specified, but numPartitions was not set to -1.")
		}
		if len(t.Assignment) == 0 {
			return nil, kafka.ErrInvalidPartitions.With("Number of partitions was set to an invalid non-positive value.")
		}
		return t.Assignment, s.checkAssignment(t.Assignment, 0, len(t.Assignment[0]))
	}
	if t.ReplicationFactor < -1 || t.ReplicationFactor == 0 {
		return nil, kafka.ErrInvalidReplicationFactor.With(
			"Replication factor must be larger than 0, or -1 to use the default value.")
	}
	if t.Partitions < -1 || t.Partitions == 0 {
		return nil, kafka.ErrInvalidPartitions.With("Number of partitions was set to an invalid non-positive value.")
	}
	replicationFactor := t.ReplicationFactor
	if replicationFactor == -1 {
		replicationFactor = s.defaults.ReplicationFactor
	}
	if replicationFactor <= 0 {
		replicationFactor = s.image.DefaultReplicationFactor()
	}
	return s.place(t.ID, 0, s.partitionsAsked(t), int(replicationFactor))
}

// checkAssignment checks replica lists that a person gave, of the partitions from first on.
func (s state) checkAssignment(assignment [][]kafka.BrokerID, first, replicationFactor int) error {
	for i, replicas := range assignment {
		if err := s.checkReplicas(replicas); err != nil {
			return err
		}
		if len(replicas) != replicationFactor {
			return kafka.ErrInvalidReplicaAssignment.With("The manual partition assignment includes a partition with %d "+
				"replica(s), but this is not consistent with previous partitions, which have %d replica(s).",
				len(replicas), replicationFactor)
		}
		if !s.anyLive(replicas) {
			return kafka.ErrInvalidReplicaAssignment.With("All brokers specified in the manual partition assignment for "+
				"partition %d are fenced or in controlled shutdown.", first+i)
		}
	}
	return nil
}

func (s state) checkReplicas(replicas []kafka.BrokerID) error {
	if len(replicas) == 0 {
		return kafka.ErrInvalidReplicaAssignment.With("The manual partition assignment includes an empty replica list.")
	}
	seen := map[kafka.BrokerID]bool{}
	for _, id := range replicas {
		if s.image.Broker(id) == nil {
			return kafka.ErrInvalidReplicaAssignment.With("The manual partition assignment includes broker %d, "+
				"but no such broker is registered.", id)
		}
		if seen[id] {
			return kafka.ErrInvalidReplicaAssignment.With("The manual partition assignment includes the broker %d "+
				"more than once.", id)
		}
		seen[id] = true
	}
	return nil
}

func (s state) anyLive(ids []kafka.BrokerID) bool {
	for _, id := range ids {
		if s.live(id) {
			return true
		}
	}
	return false
}

func (s state) deleteTopic(c deleteTopic) (decision, error) {
	if s.image.TopicByID(c.id) == nil {
		return decision{}, kafka.ErrUnknownTopicID.With("no topic has the ID %s; it may have been deleted already", c.id)
	}
	return decision{records: []*pb.Record{{
		Reason: because(c.reason, "topic deleted"),
		Kind:   &pb.Record_TopicDeleted{TopicDeleted: &pb.TopicDeleted{Id: c.id[:]}},
	}}}, nil
}

func (s state) createPartitions(c metadata.CreatePartitions) (decision, error) {
	topic := s.image.Topic(c.Topic)
	if topic == nil {
		return decision{}, kafka.ErrUnknownTopicOrPartition.With("there is no topic %q", c.Topic)
	}
	count := topic.Partitions.Len()
	more := int(c.Count) - count
	switch {
	case more == 0:
		return decision{}, kafka.ErrInvalidPartitions.With("Topic already has %d partition(s).", count)
	case more < 0:
		return decision{}, kafka.ErrInvalidPartitions.With("The topic %s currently has %d partition(s); %d would not be an increase.",
			c.Topic, count, c.Count)
	case more > s.limits.PartitionsPerRequest:
		return decision{}, kafka.ErrPolicyViolation.With("Excessively large number of partitions per request.")
	case s.image.PartitionCount()+more > s.limits.Partitions:
		return decision{}, kafka.ErrPolicyViolation.With("%d more partitions of topic %q would raise the cluster to %d partitions, the limit is %d",
			more, c.Topic, s.image.PartitionCount()+more, s.limits.Partitions)
	}
	replicationFactor := len(topic.Partitions.At(0).Replicas)
	assignment := c.Assignment
	var err error
	switch {
	case assignment == nil:
		assignment, err = s.place(topic.ID, count, more, replicationFactor)
	case len(assignment) != more:
		err = kafka.ErrInvalidReplicaAssignment.With("Attempted to add %d additional partition(s), but only %d assignment(s) were specified.",
			more, len(assignment))
	default:
		err = s.checkAssignment(assignment, count, replicationFactor)
	}
	if err != nil {
		return decision{}, err
	}
	var d decision
	for i, replicas := range assignment {
		d.records = append(d.records, &pb.Record{
			Reason: because(c.Reason, "partitions added"),
			Kind: &pb.Record_PartitionChanged{PartitionChanged: &pb.PartitionChanged{
				TopicId: topic.ID[:],
				Index:   int32(count + i),
				Whole:   s.newPartition(replicas),
			}},
		})
	}
	return d, nil
}

// newPartition is a partition before its first record. Fenced replicas start outside the ISR, and so do others that must not
// lead for now, unless there are no better ones.
func (s state) newPartition(replicas []kafka.BrokerID) *pb.Partition {
	p := &metadata.Partition{Replicas: replicas, Leader: kafka.NoLeader}
	best := unfit
	for _, id := range replicas {
		best = min(best, s.fitness(id))
	}
	for _, id := range replicas {
		if best != unfit && s.fitness(id) == best {
			if p.Leader == kafka.NoLeader {
				p.Leader = id
			}
			p.ISR = append(p.ISR, id)
		}
	}
	p.ISR = sorted(p.ISR)
	return metadata.PartitionMessage(p)
}
