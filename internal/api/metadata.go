package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/group"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// autoCreateWait bounds the creation of topics inside a Metadata request, in milliseconds.
const autoCreateWait = 5_000

// metadata: v0 takes an empty list for all topics, v1+ null; v4 has the auto-creation flag, v8-10 the cluster's
// authorized operations, v8+ the topics', v10+ topic IDs in the answer, v12+ in the request, v13 a top-level error.
//
// It waits only where a topic has to be made: then the answer comes once the topic can be produced to, because clients
// back off 100 ms otherwise.
func (h *Handlers) metadata(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.MetadataRequest)
	return func(ctx context.Context) Response {
		return Response{Message: h.describeMetadata(ctx, r, req)}
	}
}

func (h *Handlers) describeMetadata(ctx context.Context, r *Request, req *kmsg.MetadataRequest) *kmsg.MetadataResponse {
	resp := req.ResponseKind().(*kmsg.MetadataResponse)
	resp.AuthorizedOperations = notAsked
	all := req.Topics == nil || r.Version == 0 && len(req.Topics) == 0
	if err := checkMetadataTopics(r.Version, req); err != nil {
		return metadataError(req, resp, err)
	}
	var asked askedTopics
	if !all {
		asked = h.metadataTopics(ctx, r, req)
	}
	h.awaitElection(ctx, func(img *metadata.Image, lost map[kafka.BrokerID]bool) bool {
		return anyLedBy(img, all, asked.names, lost)
	})
	v := h.view(r.Conn)
	for b := range v.img.Brokers() {
		// This node is named while it is fenced, too: right after all have died it may know of no other but one that stays dead, and
		// a client that is told of that one alone never comes back.
		if addr, rack, ok := v.address(b.ID); ok && (!b.Fenced || b.ID == h.NodeID) {
			mb := kmsg.NewMetadataResponseBroker()
			mb.NodeID, mb.Host, mb.Port, mb.Rack = int32(b.ID), addr.Host, addr.Port, orNull(rack)
			resp.Brokers = append(resp.Brokers, mb)
		}
	}
	resp.ClusterID = kmsg.StringPtr(v.img.ClusterID())
	resp.ControllerID = h.controller(&v)
	for _, id := range asked.unknownIDs {
		t := kmsg.NewMetadataResponseTopic()
		t.ErrorCode, t.TopicID = asked.code(kafka.ErrUnknownTopicID.Code), id
		resp.Topics = append(resp.Topics, t)
	}
	if all {
		for topic := range v.img.Topics() {
			resp.Topics = append(resp.Topics, v.metadataTopic(topic, r.Version))
		}
	}
	for _, name := range asked.names {
		if topic := v.img.Topic(name); topic != nil {
			resp.Topics = append(resp.Topics, v.metadataTopic(topic, r.Version))
			continue
		}
		t := kmsg.NewMetadataResponseTopic()
		t.Topic, t.IsInternal = &name, kafka.IsInternalTopic(name)
		t.ErrorCode = asked.code(v.absent(name))
		resp.Topics = append(resp.Topics, t)
	}
	for i := range resp.Topics {
		resp.Topics[i].AuthorizedOperations = notAsked
		if r.Version >= 8 && req.IncludeTopicAuthorizedOperations {
			resp.Topics[i].AuthorizedOperations = topicOperations
		}
	}
	if r.Version >= 8 && r.Version <= 10 && req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = clusterOperations
	}
	return resp
}

// checkMetadataTopics refuses what the version's fields allow and its meaning does not.
func checkMetadataTopics(version int16, req *kmsg.MetadataRequest) error {
	for i := range req.Topics {
		t := &req.Topics[i]
		id := kafka.TopicID(t.TopicID)
		switch {
		case version < 12 && t.Topic == nil:
			return kafka.ErrInvalidRequest.With("a topic name cannot be null in version %d", version)
		case version < 12 && !id.IsZero():
			return kafka.ErrInvalidRequest.With("topics cannot be asked for by ID in version %d", version)
		case t.Topic == nil && id.IsZero():
			return kafka.ErrInvalidRequest.With("a topic has neither name nor ID")
		}
	}
	return nil
}

func metadataError(req *kmsg.MetadataRequest, resp *kmsg.MetadataResponse, err error) *kmsg.MetadataResponse {
	resp.ErrorCode = kafka.CodeOf(err)
	resp.ControllerID = -1
	for i := range req.Topics {
		t := kmsg.NewMetadataResponseTopic()
		t.ErrorCode, t.TopicID, t.Topic, t.AuthorizedOperations = resp.ErrorCode, req.Topics[i].TopicID, req.Topics[i].Topic, notAsked
		if t.Topic == nil {
			t.Topic = kmsg.StringPtr("")
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// askedTopics are the topics that a request asks for.
type askedTopics struct {
	names      []string // each once
	unknownIDs []kafka.TopicID
	missing    int   // names that no topic has
	unsure     error // why this node cannot say that what it does not know does not exist
}

// code is the error for a topic that this node does not know: where it is not sure of that, one on which every client asks
// again.
func (a *askedTopics) code(absent int16) int16 {
	if a.unsure != nil && unknown(absent) {
		return kafka.ErrLeaderNotAvailable.Code
	}
	return absent
}

// findTopics lists the topics that are asked for. If any is asked for by ID, names do not count, as in Kafka.
func findTopics(img *metadata.Image, req *kmsg.MetadataRequest) (a askedTopics) {
	seen := map[string]bool{}
	byID := false
	for i := range req.Topics {
		id := kafka.TopicID(req.Topics[i].TopicID)
		if id.IsZero() {
			continue
		}
		byID = true
		topic := img.TopicByID(id)
		switch {
		case topic == nil && !seen[string(id[:])]:
			seen[string(id[:])] = true
			a.unknownIDs = append(a.unknownIDs, id)
		case topic != nil && !seen[topic.Name]:
			seen[topic.Name] = true
			a.names = append(a.names, topic.Name)
		}
	}
	for i := range req.Topics {
		if name := req.Topics[i].Topic; !byID && name != nil && !seen[*name] {
			seen[*name] = true
			a.names = append(a.names, *name)
			if img.Topic(*name) == nil {
				a.missing++
			}
		}
	}
	return a
}

// metadataTopics finds what is asked for, having made what is to be made, in one round trip to the controller either way:
// the answer to a creation brings this node up to date as a barrier does.
func (h *Handlers) metadataTopics(ctx context.Context, r *Request, req *kmsg.MetadataRequest) askedTopics {
	found := findTopics(h.Store.Image(), req)
	if found.missing+len(found.unknownIDs) == 0 {
		return found
	}
	if found.missing > 0 && h.mayCreate(r, req) {
		unsure := h.autoCreate(ctx, r, found.names)
		if found = findTopics(h.Store.Image(), req); found.missing+len(found.unknownIDs) == 0 {
			return found
		}
		if unsure != nil {
			found.unsure = unsure
			return found
		}
	}
	// Another node may know better: before a negative answer, take in all that was committed.
	unsure := h.barrier(ctx)
	found = findTopics(h.Store.Image(), req)
	found.unsure = unsure
	return found
}

// mayCreate: a client before v4 cannot say no.
func (h *Handlers) mayCreate(r *Request, req *kmsg.MetadataRequest) bool {
	return h.Config.Load().AutoCreateTopics && (r.Version < 4 || req.AllowAutoTopicCreation)
}

// autoCreate makes the topics that do not exist. The error is that of creations whose outcome is not known; what fails
// otherwise is told by absent.
func (h *Handlers) autoCreate(ctx context.Context, r *Request, names []string) (unsure error) {
	ctx, cancel := h.within(ctx, autoCreateWait)
	defer cancel()
	img := h.Store.Image()
	cfg := h.Config.Load()
	var commands []metadata.CreateTopic
	for _, name := range names {
		if img.Topic(name) != nil || kafka.CheckTopicName(name) != nil || name == kafka.ClusterMetadataTopic {
			continue
		}
		cmd := metadata.CreateTopic{Name: name, ID: kafka.NewTopicID(), Partitions: -1, ReplicationFactor: -1,
			Internal: kafka.IsInternalTopic(name), Reason: reason(r, "auto-creation by Metadata")}
		if name == kafka.OffsetsTopic {
			cmd = group.OffsetsTopic(cfg, h.Store.Image().BrokerCount(), cmd.Reason)
		}
		if roomFor(img, cfg, max(int64(cmd.Partitions), int64(cfg.NumPartitions))*int64(len(commands)+1)) != nil {
			break
		}
		commands = append(commands, cmd)
	}
	if len(commands) == 0 {
		return nil
	}
	for i, result := range h.createAll(ctx, commands, false) {
		err := h.outcome("auto-creation of topic "+commands[i].Name, result.Err)
		switch {
		case err == nil, errors.Is(err, kafka.ErrTopicAlreadyExists):
		case errors.Is(err, kafka.ErrRequestTimedOut):
			unsure = err
			fallthrough
		default:
			h.Logger.Info("topic not created", "topic", commands[i].Name, "error", err)
		}
	}
	if err := h.settle(ctx); err != nil {
		h.Logger.Warn("auto-created topics are not ready yet", "error", err)
	}
	return unsure
}

// absent is the error for a name that no topic has.
func (v *view) absent(name string) int16 {
	if err := kafka.CheckTopicName(name); err != nil {
		return kafka.CodeOf(err)
	}
	if v.img.Collision(name) != "" {
		return kafka.ErrInvalidTopic.Code
	}
	return kafka.ErrUnknownTopicOrPartition.Code
}

func (v *view) metadataTopic(topic *metadata.Topic, version int16) kmsg.MetadataResponseTopic {
	t := kmsg.NewMetadataResponseTopic()
	t.Topic, t.TopicID, t.IsInternal = &topic.Name, topic.ID, topic.Internal
	t.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, topic.Partitions.Len())
	for p := range topic.Partitions.All() {
		t.Partitions = append(t.Partitions, v.metadataPartition(p, version))
	}
	return t
}

func (v *view) metadataPartition(p *metadata.Partition, version int16) kmsg.MetadataResponseTopicPartition {
	mp := kmsg.NewMetadataResponseTopicPartition()
	mp.Partition, mp.LeaderEpoch = p.Index, int32(p.LeaderEpoch)
	mp.Replicas, mp.ISR, mp.OfflineReplicas = brokerIDs(p.Replicas), brokerIDs(p.ISR), v.offline(p.Replicas)
	if version == 0 { // the only version that leaves brokers out that are not there
		mp.Replicas, mp.ISR = v.onlyAlive(p.Replicas), v.onlyAlive(p.ISR)
	}
	if _, _, ok := v.address(p.Leader); !ok {
		mp.Leader = int32(kafka.NoLeader)
		mp.ErrorCode = kafka.ErrLeaderNotAvailable.Code
		if version >= 6 && v.img.Broker(p.Leader) != nil {
			mp.ErrorCode = kafka.ErrListenerNotFound.Code
		}
		return mp
	}
	mp.Leader = int32(p.Leader)
	if len(mp.Replicas) < len(p.Replicas) || len(mp.ISR) < len(p.ISR) {
		mp.ErrorCode = kafka.ErrReplicaNotAvailable.Code
	}
	return mp
}

func (v *view) onlyAlive(ids []kafka.BrokerID) []int32 {
	out := []int32{}
	for _, id := range ids {
		if v.alive(id) {
			out = append(out, int32(id))
		}
	}
	return out
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
