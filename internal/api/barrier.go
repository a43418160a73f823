package api

import (
	"context"
	"sync"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/replica"
)

// barrierMax bounds how long an answer "does not exist" waits to be sure, in milliseconds.
const barrierMax = 2000

// barriers remembers when a barrier could not be had, so that a connection full of requests that each need one is
// through with them soon while there is no controller.
type barriers struct {
	mu     sync.Mutex
	failed time.Time
}

// barrier lets this node catch up with what was committed so far, before it says that something does not exist. The
// controller's rounds are shared by all who wait. The error says that it could not be had in time: what is not known here
// may exist then, and the client is told to ask again.
func (h *Handlers) barrier(ctx context.Context) error {
	if err := h.noController(); err != nil {
		return err
	}
	ctx, cancel := h.within(ctx, barrierMax)
	defer cancel()
	if err := h.Store.Barrier(ctx); err != nil {
		h.barriers.mu.Lock()
		h.barriers.failed = h.Clock.Now()
		h.barriers.mu.Unlock()
		return kafka.ErrRequestTimedOut.With("this node could not make sure that its metadata are current: %v", err)
	}
	return h.settle(ctx)
}

// noController is an error while no controller is known and a barrier has just been waited for in vain.
func (h *Handlers) noController() error {
	if h.Store.Controller() != kafka.NoLeader {
		return nil
	}
	h.barriers.mu.Lock()
	failed := h.barriers.failed
	h.barriers.mu.Unlock()
	if failed.IsZero() || h.Clock.Now().Sub(failed) > barrierMax*time.Millisecond {
		return nil
	}
	return kafka.ErrRequestTimedOut.With("no controller is known: this node cannot make sure that its metadata are current")
}

// partition finds the local replica of a partition by its topic's name, as far as this node knows the topic.
func (h *Handlers) partition(topic string, index int32) (*replica.Partition, error) {
	t := h.Store.Image().Topic(topic)
	if t == nil {
		return nil, kafka.ErrUnknownTopicOrPartition
	}
	return h.Replicas.Partition(kafka.TopicPartition{Topic: t.ID, Partition: index})
}

// surely is what one request remembers of having made sure: it asks for one barrier, however many partitions it names.
type surely struct {
	asked bool
	err   error // why it could not be made sure
}

// ask has the barrier, once.
func (s *surely) ask(ctx context.Context, h *Handlers) error {
	if !s.asked {
		s.asked = true
		s.err = h.barrier(ctx)
	}
	return s.err
}

// onPartition uses a partition. Where the error may come from this node not having heard yet (unknown topic, a leader
// epoch that is newer than its own, a leadership that has not begun here), it makes sure and tries once more: it waits, so
// it belongs on the write side. Where that cannot be had, what is unknown is answered with NOT_LEADER_OR_FOLLOWER, on
// which every client of these APIs looks for the leader again.
func (h *Handlers) onPartition(ctx context.Context, s *surely, topic string, index int32, use func(*replica.Partition) error) error {
	try := func() error {
		p, err := h.partition(topic, index)
		if err != nil {
			return err
		}
		return use(p)
	}
	err := try()
	if !h.perhapsLate(kafka.CodeOf(err), topic, index) {
		return err
	}
	unsure := s.ask(ctx, h)
	err = try()
	if unsure != nil && unknown(kafka.CodeOf(err)) {
		return kafka.ErrNotLeaderOrFollower.With("%v", unsure)
	}
	return err
}

// unknown tells whether the code says that something does not exist.
func unknown(code int16) bool {
	return code == kafka.ErrUnknownTopicOrPartition.Code || code == kafka.ErrUnknownTopicID.Code
}

// perhapsLate tells whether the error of a partition may be gone once this node has taken in what is committed.
func (h *Handlers) perhapsLate(code int16, topic string, index int32) bool {
	switch code {
	case kafka.ErrUnknownTopicOrPartition.Code, kafka.ErrUnknownTopicID.Code, kafka.ErrUnknownLeaderEpoch.Code:
		return true
	case kafka.ErrNotLeaderOrFollower.Code:
		return h.leads(h.Store.Image().Topic(topic), index)
	}
	return false
}

// leads tells whether this node is the leader as the metadata have it; it may not have begun yet.
func (h *Handlers) leads(topic *metadata.Topic, index int32) bool {
	if topic == nil {
		return false
	}
	p := topic.Partitions.At(index)
	return p != nil && p.Leader == h.NodeID
}
