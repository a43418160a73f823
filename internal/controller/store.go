package controller

import (
	"context"
	"errors"
	"slices"
	"time"

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

// Command is a command on its way to the node that leads.
type Command struct {
	Command      any
	ValidateOnly bool
	// Relay: the asker does not know who leads. Who gets the command forwards it once more.
	Relay bool
	// Timeout is how long the asker waits; 0 for as long as the connection lasts.
	Timeout time.Duration
}

// Answer is what became of it.
type Answer struct {
	Value  any
	Err    error           // a *kafka.Error
	Offset metadata.Offset // that the answer rests on
}

// retryPause is the time between two tries of one command.
const retryPause = 20 * time.Millisecond

// run has the controller decide a command, wherever it is, and waits until this node has applied what it led to.
// validateOnly decides and writes nothing. Where a controller has gone before it did anything, the next one is asked;
// where it may have done something, only a command that does no more when it is run twice is.
func (c *Controller) run(ctx context.Context, command any, validateOnly bool) (any, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.o.CommandTimeout)
		defer cancel()
	}
	var doubt error // what a try ended with that may have done something
	for again := false; ; again = true {
		answer, outcome := c.try(ctx, Command{Command: command, ValidateOnly: validateOnly})
		if outcome == done {
			if doubt != nil && errors.Is(answer.Err, kafka.ErrKafkaStorageError) {
				return nil, doubt // this node's disk failed, before or after
			}
			return answer.Value, answer.Err
		}
		if outcome == unknown {
			doubt = answer.Err
		}
		if outcome == unknown && !validateOnly && !repeatable(command) {
			return nil, answer.Err
		}
		// Where this node lost its leadership, the loop keeps the command until there is another leader.
		if hasten := outcome == unknown && !again; !hasten && !c.pause(ctx) {
			return nil, kafka.ErrRequestTimedOut.With("no controller ran the command in time; last: %v", answer.Err)
		}
	}
}

// outcome is what is known of a try.
type outcome int

const (
	done    outcome = iota // the answer is the answer
	nothing                // the command was not run, and will not be
	unknown                // it may have been, or may yet
)

// try has the command run once. Except for done, the answer's error says what happened.
func (c *Controller) try(ctx context.Context, command Command) (Answer, outcome) {
	r, err := c.enqueue(&call{ctx: ctx, command: command.Command, validateOnly: command.ValidateOnly, done: make(chan result, 1)})
	switch {
	case err != nil:
		return Answer{Err: err}, done // the time is over, or this node closes
	case r.forward != 0 || r.relay:
		return c.forward(ctx, r, command)
	case errors.Is(r.err, errLost):
		return Answer{Err: r.err}, unknown
	}
	return Answer{Value: r.value, Err: r.err, Offset: r.offset}, done
}

func (c *Controller) forward(ctx context.Context, r result, command Command) (Answer, outcome) {
	command.Timeout, command.Relay = 0, r.relay
	if _, beat := command.Command.(metadata.Heartbeat); beat && r.relay { // the answer grants nothing to who does not hear the controller itself
		command.ValidateOnly = true
	}
	if deadline, bounded := ctx.Deadline(); bounded {
		command.Timeout = max(time.Millisecond, time.Until(deadline))
	}
	answer, err := c.o.Transport.Forward(ctx, r.forward, command)
	switch {
	case errors.Is(err, errNotSent):
		return Answer{Err: kafka.ErrNotController.With("the controller cannot be reached: %v", err)}, nothing
	case err == nil && (errors.Is(answer.Err, kafka.ErrNotController) || errors.Is(answer.Err, kafka.ErrKafkaStorageError)):
		return answer, nothing // a node whose disk has failed proposes nothing any more
	case err == nil && errors.Is(answer.Err, kafka.ErrRequestTimedOut):
		return answer, unknown
	case err == nil:
		err = c.WaitApplied(ctx, answer.Offset) // what the answer tells is to be seen here
	}
	if err != nil {
		return Answer{Err: kafka.ErrRequestTimedOut.With("the command was forwarded to the controller and its answer was lost (%v); "+
			"the outcome is not known", err)}, unknown
	}
	return answer, done
}

// repeatable tells whether a command that may have been run can be run again: what it makes bears a name that the asker
// has drawn, so that it recognises its own success.
func repeatable(command any) bool {
	switch command.(type) {
	case createTopics, metadata.RegisterBroker, allocateProducerIDs, metadata.DescribeBrokers:
		return true
	}
	return false
}

// pause waits a little; false if the time is over or the node closes.
func (c *Controller) pause(ctx context.Context) bool {
	timer := c.o.Clock.NewTimer(retryPause)
	defer timer.Stop()
	select {
	case <-timer.C():
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Execute runs a command that another node forwarded; NOT_CONTROLLER if this node does not lead, and has not been run.
func (c *Controller) Execute(ctx context.Context, f Command) Answer {
	if f.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Timeout)
		defer cancel()
	}
	r, err := c.enqueue(&call{ctx: ctx, command: f.Command, validateOnly: f.ValidateOnly, local: !f.Relay, done: make(chan result, 1)})
	switch {
	case err != nil:
		return Answer{Err: err}
	case r.relay: // this node knows no more than the asker
		return Answer{Err: kafka.ErrNotController.With("node %d is not part of the metadata's quorum yet", c.o.NodeID)}
	case r.forward != 0:
		answer, _ := c.forward(ctx, r, f)
		return answer
	}
	return Answer{Value: r.value, Err: r.err, Offset: r.offset}
}

func (c *Controller) enqueue(call *call) (result, error) {
	timedOut := func() error {
		return kafka.ErrRequestTimedOut.With("the metadata change was not confirmed in time (%v); the outcome is not known", call.ctx.Err())
	}
	// Heartbeats find room also while commands wait for some: there are as many as brokers.
	if _, beat := call.command.(metadata.Heartbeat); !beat {
		select {
		case c.room <- struct{}{}:
		case <-call.ctx.Done():
			return result{}, timedOut()
		}
		defer func() { <-c.room }()
	}
	if !c.inbox.post(func() { c.loop.receive(call) }) {
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
