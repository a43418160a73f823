package api

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// The kinds of elections (the field ElectionType, KIP-460).
const (
	preferredElection = 0 // of the first replica
	uncleanElection   = 1 // of any live replica, where there is no leader: committed records may be lost
)

// electionsAtOnce is how many elections of one request are decided side by side, so that they share commits.
const electionsAtOnce = 64

// electLeaders (key 43, KIP-183): v1 adds the kind of election (KIP-460) and an error for all, v2 is flexible. Of all
// partitions (null) only those are answered for that an election was needed for.
func (h *Handlers) electLeaders(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.ElectLeadersRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, req.TimeoutMillis)
		defer cancel()
		return Response{Message: h.doElectLeaders(ctx, r, req)}
	}
}

func (h *Handlers) doElectLeaders(ctx context.Context, r *Request, req *kmsg.ElectLeadersRequest) *kmsg.ElectLeadersResponse {
	e := elections{h: h, unclean: r.Version >= 1 && req.ElectionType == uncleanElection, reason: reason(r, "ElectLeaders")}
	resp := req.ResponseKind().(*kmsg.ElectLeadersResponse)
	var refused error
	if r.Version >= 1 && req.ElectionType != preferredElection && req.ElectionType != uncleanElection {
		refused = kafka.ErrInvalidRequest.With("unknown election type %d", req.ElectionType)
		resp.ErrorCode = kafka.CodeOf(refused)
	}
	if req.Topics == nil {
		if refused == nil {
			e.all()
		}
	} else {
		for i := range req.Topics {
			for _, p := range req.Topics[i].Partitions {
				e.list = append(e.list, election{topic: req.Topics[i].Topic, partition: p, err: refused})
			}
		}
	}
	if refused == nil {
		e.run(ctx)
	}
	e.list = slices.DeleteFunc(e.list, func(one election) bool {
		return req.Topics == nil && errors.Is(one.err, kafka.ErrElectionNotNeeded)
	})
	rows := map[string]int{}
	row := func(topic string) *kmsg.ElectLeadersResponseTopic {
		i, ok := rows[topic]
		if !ok {
			i = len(resp.Topics)
			rows[topic] = i
			resp.Topics = append(resp.Topics, kmsg.ElectLeadersResponseTopic{Topic: topic})
		}
		return &resp.Topics[i]
	}
	for i := range req.Topics { // as in Kafka: every topic has a row, perhaps an empty one
		row(req.Topics[i].Topic)
	}
	if req.Topics == nil && refused == nil {
		for topic := range h.Store.Image().Topics() {
			row(topic.Name)
		}
	}
	for i := range e.list {
		one := &e.list[i]
		t := row(one.topic)
		t.Partitions = append(t.Partitions, kmsg.ElectLeadersResponseTopicPartition{
			Partition: one.partition, ErrorCode: kafka.CodeOf(one.err), ErrorMessage: kafka.Message(one.err)})
	}
	return resp
}

// elections is the elections of one request.
type elections struct {
	h       *Handlers
	unclean bool
	reason  string
	list    []election
}

// election is one partition's, and what becomes of it.
type election struct {
	topic     string
	partition int32
	err       error
}

// all lists the partitions that are not led as the request wants them to be.
func (e *elections) all() {
	for topic := range e.h.Store.Image().Topics() {
		for p := range topic.Partitions.All() {
			if e.needed(p) {
				e.list = append(e.list, election{topic: topic.Name, partition: p.Index})
			}
		}
	}
}

func (e *elections) needed(p *metadata.Partition) bool {
	if e.unclean {
		return p.Leader == kafka.NoLeader
	}
	return p.Leader != p.Replicas[0]
}

func (e *elections) run(ctx context.Context) {
	var sure surely
	exists := func(one election) bool { return e.find(one) != nil }
	if slices.ContainsFunc(e.list, func(one election) bool { return !exists(one) }) { // another node may know better
		_ = sure.ask(ctx, e.h)
	}
	var wait sync.WaitGroup
	room := make(chan struct{}, electionsAtOnce)
	for i := range e.list {
		one := &e.list[i]
		if !exists(*one) {
			if one.err = sure.err; one.err == nil {
				one.err = kafka.ErrUnknownTopicOrPartition.With("there is no partition %s-%d", one.topic, one.partition)
			}
			continue
		}
		room <- struct{}{}
		wait.Go(func() {
			one.err = e.h.outcome("election of a leader of "+one.topic, e.elect(ctx, one))
			<-room
		})
	}
	wait.Wait()
}

func (e *elections) find(one election) *metadata.Partition {
	if topic := e.h.Store.Image().Topic(one.topic); topic != nil {
		return topic.Partitions.At(one.partition)
	}
	return nil
}

// elect has the controller decide; anew if the partition has changed meanwhile.
func (e *elections) elect(ctx context.Context, one *election) error {
	for tries := 0; ; tries++ {
		topic := e.h.Store.Image().Topic(one.topic)
		if topic == nil || topic.Partitions.At(one.partition) == nil {
			return kafka.ErrUnknownTopicOrPartition.With("there is no partition %s-%d", one.topic, one.partition)
		}
		p := topic.Partitions.At(one.partition)
		if !e.needed(p) {
			return kafka.ErrElectionNotNeeded.With("broker %d leads %s-%d", p.Leader, one.topic, one.partition)
		}
		cmd := metadata.SetPartitionLeader{Partition: topic.TopicPartition(p.Index), Leader: p.Replicas[0], Base: p.PartitionEpoch, Reason: e.reason}
		if e.unclean {
			cmd.Leader, cmd.Unclean = kafka.NoLeader, true // whole replicas first
		}
		err := e.h.Store.SetPartitionLeader(ctx, cmd)
		if !errors.Is(err, kafka.ErrInvalidUpdateVersion) || tries == alterAttempts {
			return err
		}
	}
}
