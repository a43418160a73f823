package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// createPartitions: v2 is flexible, v3 adds THROTTLING_QUOTA_EXCEEDED (KIP-599), which does not occur yet.
func (h *Handlers) createPartitions(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.CreatePartitionsRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, req.TimeoutMillis)
		defer cancel()
		return Response{Message: h.doCreatePartitions(ctx, r, req)}
	}
}

func (h *Handlers) doCreatePartitions(ctx context.Context, r *Request, req *kmsg.CreatePartitionsRequest) *kmsg.CreatePartitionsResponse {
	resp := req.ResponseKind().(*kmsg.CreatePartitionsResponse)
	resp.Topics = make([]kmsg.CreatePartitionsResponseTopic, 0, len(req.Topics))
	count := map[string]int{}
	for i := range req.Topics {
		count[req.Topics[i].Topic]++
	}
	changed := false
	for i := range req.Topics {
		t := &req.Topics[i]
		if count[t.Topic] == 0 {
			continue // a duplicate that was answered
		}
		var err error
		if count[t.Topic] > 1 {
			err = kafka.ErrInvalidRequest.With("topic %s is named %d times", t.Topic, count[t.Topic])
			count[t.Topic] = 0
		} else {
			err = h.outcome("creation of partitions of topic "+t.Topic, h.raisePartitions(ctx, r, t, req.ValidateOnly))
			changed = changed || err == nil
		}
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic, rt.ErrorCode, rt.ErrorMessage = t.Topic, kafka.CodeOf(err), kafka.Message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	if changed && !req.ValidateOnly {
		if err := h.settle(ctx); err != nil {
			h.Logger.Warn("created partitions are not ready yet", "error", err)
		}
	}
	return resp
}

func (h *Handlers) raisePartitions(ctx context.Context, r *Request, t *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	cmd := metadata.CreatePartitions{Topic: t.Topic, Count: t.Count, Reason: reason(r, "CreatePartitions")}
	img := h.Store.Image()
	if topic := img.Topic(t.Topic); topic != nil {
		if err := roomFor(img, h.Config.Load(), int64(t.Count)-int64(topic.Partitions.Len())); err != nil {
			return err
		}
	}
	if t.Assignment != nil {
		cmd.Assignment = make([][]kafka.BrokerID, len(t.Assignment))
		for i, a := range t.Assignment {
			cmd.Assignment[i] = make([]kafka.BrokerID, len(a.Replicas))
			for j, id := range a.Replicas {
				cmd.Assignment[i][j] = kafka.BrokerID(id)
			}
		}
	}
	return h.Store.CreatePartitions(ctx, cmd, validateOnly)
}
