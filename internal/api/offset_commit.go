package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// offsetCommit: v2 to v4 give a retention time, v6 adds the leader epoch (KIP-320), v7 static members, v9
// GROUP_ID_NOT_FOUND (KIP-848), v10 topic IDs.
func (h *Handlers) offsetCommit(_ context.Context, r *Request) Reply {
	c := h.newCommit(r.Body.(*kmsg.OffsetCommitRequest))
	if c.unknown > 0 { // perhaps only here: see once more, where waiting is allowed
		return func(ctx context.Context) Response {
			unsure := h.barrier(ctx)
			c = h.newCommit(c.req)
			resp := c.response(ctx, h, c.queue(h))
			if unsure != nil {
				c.tryAgain()
			}
			return resp
		}
	}
	p := c.queue(h)
	r.Ready = func() bool { return p == nil || p.Done() && p.Begun() }
	return func(ctx context.Context) Response { return c.response(ctx, h, p) }
}

// commit is an OffsetCommit on its way: the answer, and where the results of the coordinator go.
type commit struct {
	req     *kmsg.OffsetCommitRequest
	resp    *kmsg.OffsetCommitResponse
	unknown int // partitions that do not exist, as far as this node knows
	known   group.Commit
	into    [][]*kmsg.OffsetCommitResponseTopicPartition // of known
}

func (h *Handlers) newCommit(req *kmsg.OffsetCommitRequest) *commit {
	c := &commit{req: req, resp: kmsg.NewPtrOffsetCommitResponse()}
	c.known = group.Commit{
		Group: req.Group, Version: req.Version, Generation: req.Generation, MemberID: req.MemberID,
		InstanceID: req.InstanceID, RetentionMillis: req.RetentionTimeMillis,
	}
	if req.Version < 2 || req.Version > 4 {
		c.known.RetentionMillis = -1
	}
	img := h.Store.Image()
	c.resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	for i := range req.Topics {
		c.resolve(img, &req.Topics[i], &c.resp.Topics[i])
	}
	return c
}

func (c *commit) resolve(img *metadata.Image, t *kmsg.OffsetCommitRequestTopic, row *kmsg.OffsetCommitResponseTopic) {
	row.Topic, row.TopicID = t.Topic, t.TopicID
	row.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(t.Partitions))
	topic, unknown := img.Topic(t.Topic), kafka.ErrUnknownTopicOrPartition
	if c.req.Version >= 10 {
		topic = img.TopicByID(t.TopicID)
		if topic == nil {
			unknown = kafka.ErrUnknownTopicID
		}
	}
	var known group.CommitTopic
	var into []*kmsg.OffsetCommitResponseTopicPartition
	for j := range t.Partitions {
		p := &row.Partitions[j]
		p.Partition = t.Partitions[j].Partition
		if topic == nil || topic.Partitions.At(p.Partition) == nil {
			p.ErrorCode = unknown.Code
			c.unknown++
			continue
		}
		known.Partitions = append(known.Partitions, t.Partitions[j])
		into = append(into, p)
	}
	if len(into) > 0 {
		known.Name, known.ID = topic.Name, topic.ID
		c.known.Topics = append(c.known.Topics, known)
		c.into = append(c.into, into)
	}
}

// queue hands what exists to the coordinator; nil if nothing does.
func (c *commit) queue(h *Handlers) *coordinator.Promise[[][]int16] {
	if len(c.into) == 0 {
		return nil
	}
	return h.Groups.Commit(&c.known)
}

func (c *commit) response(ctx context.Context, h *Handlers, p *coordinator.Promise[[][]int16]) Response {
	if p == nil {
		return Response{Message: c.resp}
	}
	codes, err := atCoordinator(ctx, h, p, func() *coordinator.Promise[[][]int16] { return c.queue(h) })
	code := h.groupError("OffsetCommit", c.req.Group, err)
	for i, rows := range c.into {
		for j, row := range rows {
			row.ErrorCode = code
			if err == nil {
				row.ErrorCode = codes[i][j]
			}
		}
	}
	return Response{Message: c.resp}
}

// tryAgain takes back that partitions do not exist, where this node is not sure: every client commits again on this error.
func (c *commit) tryAgain() {
	for i := range c.resp.Topics {
		for j := range c.resp.Topics[i].Partitions {
			if p := &c.resp.Topics[i].Partitions[j]; unknown(p.ErrorCode) {
				p.ErrorCode = kafka.ErrCoordinatorLoadInProgress.Code
			}
		}
	}
}
