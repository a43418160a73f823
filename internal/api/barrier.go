package api

import (
	"context"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// barrierMax bounds how long an answer "does not exist" waits to be sure, in milliseconds.
const barrierMax = 2000

// barrier lets this node catch up with what was committed so far, before it says that something does not exist. If that
// cannot be had in time, the answer is what is known here.
func (h *Handlers) barrier(ctx context.Context) {
	ctx, cancel := h.within(ctx, barrierMax)
	defer cancel()
	if err := h.Store.Barrier(ctx); err != nil {
		return
	}
	_ = h.settle(ctx)
}

// partition finds the local replica of a partition by its topic's name, as far as this node knows the topic.
func (h *Handlers) partition(topic string, index int32) (*replica.Partition, error) {
	t := h.Store.Image().Topic(topic)
	if t == nil {
		return nil, kafka.ErrUnknownTopicOrPartition
	}
	return h.Replicas.Partition(kafka.TopicPartition{Topic: t.ID, Partition: index})
}

// surePartition is partition after a barrier where the partition does not seem to exist. It waits, so it belongs on the
// write side; sure is the request's own and remembers that the barrier was had.
func (h *Handlers) surePartition(ctx context.Context, sure *bool, topic string, index int32) (*replica.Partition, error) {
	p, err := h.partition(topic, index)
	if err != nil && !*sure && kafka.CodeOf(err) == kafka.ErrUnknownTopicOrPartition.Code {
		*sure = true
		h.barrier(ctx)
		return h.partition(topic, index)
	}
	return p, err
}
