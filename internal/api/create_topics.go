package api

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/group"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// createTopics: v4 takes -1 for the cluster's defaults (KIP-464), v5 returns partitions, replication factor and configs
// (KIP-525), v7 topic IDs. The answer comes once the topics can be produced to.
func (h *Handlers) createTopics(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.CreateTopicsRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, req.TimeoutMillis)
		defer cancel()
		return Response{Message: h.doCreateTopics(ctx, r, req)}
	}
}

func (h *Handlers) doCreateTopics(ctx context.Context, r *Request, req *kmsg.CreateTopicsRequest) *kmsg.CreateTopicsResponse {
	resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
	resp.Topics = make([]kmsg.CreateTopicsResponseTopic, 0, len(req.Topics))
	count := map[string]int{}
	for i := range req.Topics {
		count[req.Topics[i].Topic]++
	}
	img, cfg := h.Store.Image(), h.Config.Load()
	for name := range count { // what exists here may have been deleted elsewhere
		if img.Topic(name) != nil || img.Collision(name) != "" {
			_ = h.barrier(ctx) // else the controller's answer is the one that counts
			img = h.Store.Image()
			break
		}
	}
	var commands []metadata.CreateTopic
	var slots []int // of each command in resp.Topics
	var partitions int64
	for i := range req.Topics {
		t := &req.Topics[i]
		if count[t.Topic] == 0 {
			continue // a duplicate that was answered
		}
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = t.Topic, -1, -1
		cmd, err := h.createTopicCommand(img, cfg, r, t)
		if count[t.Topic] > 1 {
			err = kafka.ErrInvalidRequest.With("topic %s is named %d times", t.Topic, count[t.Topic])
			count[t.Topic] = 0
		}
		if err == nil {
			partitions += max(int64(cmd.Partitions), int64(len(cmd.Assignment)), 1)
			err = roomFor(img, cfg, partitions)
		}
		if err == nil {
			commands, slots = append(commands, cmd), append(slots, len(resp.Topics))
		}
		rt.ErrorCode, rt.ErrorMessage = kafka.CodeOf(err), kafka.Message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	if len(commands) == 0 {
		return resp
	}
	created := false
	for i, result := range h.createAll(ctx, commands, req.ValidateOnly) {
		rt := &resp.Topics[slots[i]]
		if err := h.outcome("creation of topic "+rt.Topic, result.Err); err != nil {
			rt.ErrorCode, rt.ErrorMessage = kafka.CodeOf(err), kafka.Message(err)
			continue
		}
		created = true
		h.fillCreated(rt, result.Topic)
	}
	if created && !req.ValidateOnly {
		if err := h.settle(ctx); err != nil {
			h.Logger.Warn("created topics are not ready yet", "error", err)
		}
	}
	return resp
}

// creationPause is how long a creation waits for another controller before it is tried again.
const creationPause = 50 * time.Millisecond

// createAll has the controller make topics. A creation whose outcome is not known is tried again while there is time: its
// topic ID makes it recognise its own success.
func (h *Handlers) createAll(ctx context.Context, commands []metadata.CreateTopic, validateOnly bool) []metadata.CreateTopicResult {
	results := h.Store.CreateTopics(ctx, commands, validateOnly)
	for {
		var again []metadata.CreateTopic
		var slots []int
		for i := range results {
			if err := results[i].Err; errors.Is(err, kafka.ErrRequestTimedOut) || errors.Is(err, kafka.ErrNotController) {
				again, slots = append(again, commands[i]), append(slots, i)
			}
		}
		if len(again) == 0 || !h.pause(ctx, creationPause) {
			return results
		}
		for i, result := range h.Store.CreateTopics(ctx, again, validateOnly) {
			results[slots[i]] = result
		}
	}
}

// createTopicCommand checks a topic in Kafka's order: name, existence, configuration, shape. What needs the cluster's
// state to decide is left to the controller.
func (h *Handlers) createTopicCommand(img *metadata.Image, cfg *config.Config, r *Request, t *kmsg.CreateTopicsRequestTopic) (metadata.CreateTopic, error) {
	cmd := metadata.CreateTopic{Name: t.Topic, ID: kafka.NewTopicID(), Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor,
		Internal: kafka.IsInternalTopic(t.Topic), Reason: reason(r, "CreateTopics")}
	if t.Topic == kafka.ClusterMetadataTopic {
		return cmd, kafka.ErrInvalidRequest.With("the topic %s cannot be created", t.Topic)
	}
	if err := kafka.CheckTopicName(t.Topic); err != nil {
		return cmd, err
	}
	if img.Topic(t.Topic) != nil {
		return cmd, kafka.ErrTopicAlreadyExists.With("topic %s exists", t.Topic)
	}
	if other := img.Collision(t.Topic); other != "" {
		return cmd, kafka.ErrInvalidTopic.With("topic %s differs from the existing topic %s only in '.' and '_'", t.Topic, other)
	}
	cmd.Config = map[string]string{}
	for _, c := range t.Configs {
		if c.Value == nil {
			return cmd, kafka.ErrInvalidConfig.With("topic %s: the configuration %s has no value", t.Topic, c.Name)
		}
		cmd.Config[c.Name] = *c.Value
	}
	if err := cfg.CheckTopic(cmd.Config, cmd.Internal); err != nil {
		return cmd, kafka.ErrInvalidConfig.With("topic %s: %v", t.Topic, err)
	}
	if cmd.Internal && t.Topic == kafka.OffsetsTopic {
		given := cmd.Config
		cmd.Config = group.OffsetsTopic(cfg, 0, "").Config
		maps.Copy(cmd.Config, given)
	}
	if len(t.ReplicaAssignment) == 0 {
		return cmd, checkShape(t)
	}
	assignment, err := assignmentOf(t)
	cmd.Assignment = assignment
	return cmd, err
}

func checkShape(t *kmsg.CreateTopicsRequestTopic) error {
	if t.ReplicationFactor < -1 || t.ReplicationFactor == 0 {
		return kafka.ErrInvalidReplicationFactor.With("topic %s: replication factor %d, want at least 1, or -1 for the default",
			t.Topic, t.ReplicationFactor)
	}
	if t.NumPartitions < -1 || t.NumPartitions == 0 {
		return kafka.ErrInvalidPartitions.With("topic %s: %d partitions, want at least 1, or -1 for the default", t.Topic, t.NumPartitions)
	}
	return nil
}

func assignmentOf(t *kmsg.CreateTopicsRequestTopic) ([][]kafka.BrokerID, error) {
	if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
		return nil, kafka.ErrInvalidRequest.With("topic %s: with a replica assignment, partitions and replication factor must be -1", t.Topic)
	}
	assignment := make([][]kafka.BrokerID, len(t.ReplicaAssignment))
	for _, a := range t.ReplicaAssignment {
		if a.Partition < 0 || int(a.Partition) >= len(assignment) {
			return nil, kafka.ErrInvalidReplicaAssignment.With("topic %s: the assigned partitions are not 0 to %d", t.Topic, len(assignment)-1)
		}
		if assignment[a.Partition] != nil {
			return nil, kafka.ErrInvalidReplicaAssignment.With("topic %s: partition %d is assigned twice", t.Topic, a.Partition)
		}
		assignment[a.Partition] = make([]kafka.BrokerID, len(a.Replicas))
		for i, id := range a.Replicas {
			assignment[a.Partition][i] = kafka.BrokerID(id)
		}
	}
	return assignment, nil
}

// roomFor refuses partitions beyond what a node holds.
func roomFor(img *metadata.Image, cfg *config.Config, partitions int64) error {
	if have := int64(img.PartitionCount()); have+partitions > int64(cfg.PartitionsMax) {
		return kafka.ErrInvalidPartitions.With("%d more partitions on top of %d are over partitions.max=%d", partitions, have, cfg.PartitionsMax)
	}
	return nil
}

func (h *Handlers) fillCreated(rt *kmsg.CreateTopicsResponseTopic, topic *metadata.Topic) {
	rt.TopicID = topic.ID
	rt.NumPartitions = int32(topic.Partitions.Len())
	if p := topic.Partitions.At(0); p != nil {
		rt.ReplicationFactor = int16(len(p.Replicas))
	}
	img := h.Store.Image()
	layers := h.layers(img)
	rt.Configs = make([]kmsg.CreateTopicsResponseTopicConfig, 0, len(config.TopicKeys()))
	for i := range config.TopicKeys() {
		e := topicEntry(img, layers, &config.TopicKeys()[i], topic)
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.Source = e.Key.Name, &e.Value, int8(e.Source)
		rt.Configs = append(rt.Configs, c)
	}
}
