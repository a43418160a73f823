package controller

import (
	"context"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Barrier returns once this node has applied all that was committed when it was called. The error is retriable.
func (c *Controller) Barrier(ctx context.Context) error {
	done := make(chan error, 1)
	if !c.inbox.post(func() { c.loop.barrier.waiting = append(c.loop.barrier.waiting, waiter{ctx, done}) }) {
		return errClosing
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return kafka.ErrRequestTimedOut.With("no controller confirmed in time that the metadata of this node is current: %v", ctx.Err())
	}
}

// run has the loop decide a command, or forwards it to the node that leads. validateOnly decides and writes nothing.
func (c *Controller) run(ctx context.Context, command any, validateOnly bool) (any, error) {
	r, err := c.enqueue(&call{ctx: ctx, command: command, validateOnly: validateOnly, done: make(chan result, 1)})
	if err != nil {
		return nil, err
	}
	if r.forward == 0 {
		return r.value, r.err
	}
	answer, err := c.o.Transport.Forward(ctx, r.forward, Command{Command: command, ValidateOnly: validateOnly})
	if err == nil {
		err = c.WaitApplied(ctx, answer.Offset) // what the answer tells is to be seen here
	}
	if err != nil {
		return nil, kafka.ErrRequestTimedOut.With("the command was forwarded to the controller and its answer was lost (%v); "+
			"the outcome is not known", err)
	}
	return answer.Value, answer.Err
}

// Command is a command on its way to the node that leads.
type Command struct {
	Command      any
	ValidateOnly bool
}

// Answer is what became of it.
type Answer struct {
	Value  any
	Err    error           // a *kafka.Error
	Offset metadata.Offset // that the answer rests on
}

// Execute runs a command that another node forwarded; NOT_CONTROLLER if this node does not lead.
func (c *Controller) Execute(ctx context.Context, f Command) Answer {
	r, err := c.enqueue(&call{ctx: ctx, command: f.Command, validateOnly: f.ValidateOnly, local: true, done: make(chan result, 1)})
	if err != nil {
		return Answer{Err: err}
	}
	return Answer{Value: r.value, Err: r.err, Offset: r.offset}
}

func (c *Controller) enqueue(call *call) (result, error) {
	timedOut := func() error {
		return kafka.ErrRequestTimedOut.With("the metadata change was not confirmed in time (%v); the outcome is not known", call.ctx.Err())
	}
	select {
	case c.room <- struct{}{}:
	case <-call.ctx.Done():
		return result{}, timedOut()
	}
	defer func() { <-c.room }()
	if !c.inbox.post(func() { c.loop.commands.queue = append(c.loop.commands.queue, call) }) {
		return result{}, errClosing
	}
	select {
	case r := <-call.done:
		return r, nil
	case <-call.ctx.Done():
		return result{}, timedOut()
	}
}

// CreateTopics makes topics, all in one batch of records. A topic without an ID gets a random one.
func (c *Controller) CreateTopics(ctx context.Context, topics []metadata.CreateTopic, validateOnly bool) []metadata.CreateTopicResult {
	topics = slices.Clone(topics)
	for i := range topics {
		if topics[i].ID.IsZero() {
			topics[i].ID = kafka.NewTopicID()
		}
	}
	value, err := c.run(ctx, createTopics{topics}, validateOnly)
	if results, ok := value.([]metadata.CreateTopicResult); ok && err == nil {
		return results
	}
	results := make([]metadata.CreateTopicResult, len(topics))
	for i := range results {
		results[i].Err = err
	}
	return results
}

// DeleteTopic removes a topic with all that belongs to it.
func (c *Controller) DeleteTopic(ctx context.Context, id kafka.TopicID) error {
	_, err := c.run(ctx, deleteTopic{id: id}, false)
	return err
}

// CreatePartitions raises a topic's partition count.
func (c *Controller) CreatePartitions(ctx context.Context, cmd metadata.CreatePartitions, validateOnly bool) error {
	_, err := c.run(ctx, cmd, validateOnly)
	return err
}

// SetConfig sets and removes configuration keys of one resource.
func (c *Controller) SetConfig(ctx context.Context, cmd metadata.SetConfig, validateOnly bool) error {
	_, err := c.run(ctx, cmd, validateOnly)
	return err
}

// AllocateProducerIDs reserves a block of producer IDs.
func (c *Controller) AllocateProducerIDs(ctx context.Context) (kafka.ProducerID, int64, error) {
	value, err := c.run(ctx, allocateProducerIDs{}, false)
	if err != nil {
		return kafka.NoProducerID, 0, err
	}
	return value.(kafka.ProducerID), producerIDBlock, nil
}

// RegisterBroker announces a process of a broker and returns its epoch.
func (c *Controller) RegisterBroker(ctx context.Context, cmd metadata.RegisterBroker) (kafka.BrokerEpoch, error) {
	value, err := c.run(ctx, cmd, false)
	if err != nil {
		return -1, err
	}
	return value.(kafka.BrokerEpoch), nil
}

// UnregisterBroker takes a broker out of the cluster.
func (c *Controller) UnregisterBroker(ctx context.Context, id kafka.BrokerID) error {
	_, err := c.run(ctx, unregisterBroker{id}, false)
	return err
}

// FenceBroker fences a broker, or takes the fence away. It is not part of the Store: the failure detector calls it.
func (c *Controller) FenceBroker(ctx context.Context, id kafka.BrokerID, fenced bool, reason string) error {
	_, err := c.run(ctx, fenceBroker{id, fenced, reason}, false)
	return err
}

// AssignPartition gives a partition other replicas.
func (c *Controller) AssignPartition(ctx context.Context, cmd metadata.AssignPartition) error {
	_, err := c.run(ctx, cmd, false)
	return err
}

// SetPartitionLeader elects a leader.
func (c *Controller) SetPartitionLeader(ctx context.Context, cmd metadata.SetPartitionLeader) error {
	_, err := c.run(ctx, cmd, false)
	return err
}

// UpdateISR is the leader's proposal of an in-sync set; it returns the partition epoch after it.
func (c *Controller) UpdateISR(ctx context.Context, cmd metadata.UpdateISR) (kafka.PartitionEpoch, error) {
	value, err := c.run(ctx, cmd, false)
	if err != nil {
		return 0, err
	}
	return value.(kafka.PartitionEpoch), nil
}
