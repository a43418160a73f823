package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// A partition that does not exist, or that this node does not lead yet, may merely not be known here yet: created at one
// node, used at another. Kafka answers with an error on which the client waits and sends again. Here the write side makes
// sure, and appends then. The connection's later requests wait their turn behind it, so that the order stays that of the
// requests, which a client that sends again cannot promise.

// latePartition is the place of a partition in the request.
type latePartition struct{ topic, partition int }

// perhapsLate tells whether the answer's error may be gone once this node has taken in what is committed.
func (p *produce) perhapsLate(topic *metadata.Topic, answer *kmsg.ProduceResponseTopicPartition) bool {
	return unknown(answer.ErrorCode) || answer.ErrorCode == kafka.ErrNotLeaderOrFollower.Code && p.h.leads(topic, answer.Partition)
}

// queue makes the connection's later requests wait if this one has to.
func (p *produce) queue() {
	if (p.behind || len(p.late) > 0) && p.r.Conn != nil {
		p.r.Conn.late.Add(1)
	}
}

// catchUp appends what was not appended on the read side. It waits.
func (p *produce) catchUp(ctx context.Context) {
	if p.behind {
		p.behind = false
		p.appendAll()
	}
	if len(p.late) > 0 {
		p.appendLate(ctx)
	}
	if p.r.Conn != nil {
		p.r.Conn.late.Add(-1)
	}
}

func (p *produce) appendLate(ctx context.Context) {
	unsure := p.h.barrier(ctx)
	image := p.h.Store.Image()
	for _, l := range p.late {
		t := &p.req.Topics[l.topic]
		in, answer := &t.Partitions[l.partition], &p.resp.Topics[l.topic].Partitions[l.partition]
		answer.ErrorCode, answer.ErrorMessage = 0, nil
		topic, err := p.topic(image, t)
		if err == nil {
			err = p.append(topic, in, answer)
		}
		if unsure != nil && unknown(kafka.CodeOf(err)) {
			err = kafka.ErrNotLeaderOrFollower.With("%v", unsure) // every client looks for the leader again
		}
		if err != nil {
			p.fail(answer, err)
		}
	}
	p.late, p.failed = nil, false
	for i := range p.resp.Topics {
		for j := range p.resp.Topics[i].Partitions {
			p.failed = p.failed || p.resp.Topics[i].Partitions[j].ErrorCode != 0
		}
	}
}
