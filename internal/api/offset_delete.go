package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group"
	"chronik/internal/kafka"
)

// offsetDelete: KIP-496. It asks another node before it says that a topic does not exist, so all of it is on the write
// side.
func (h *Handlers) offsetDelete(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.OffsetDeleteRequest)
	return func(ctx context.Context) Response {
		resp, ask, into, unknown := h.splitOffsetDelete(req)
		if unknown {
			unsure := h.barrier(ctx)
			if resp, ask, into, unknown = h.splitOffsetDelete(req); unknown && unsure != nil {
				resp.Topics, resp.ErrorCode = nil, kafka.ErrCoordinatorLoadInProgress.Code // on which clients ask again
				return Response{Message: resp}
			}
		}
		queue := func() *coordinator.Promise[[][]int16] { return h.Groups.DeleteOffsets(req.Group, ask) }
		codes, err := atCoordinator(ctx, h, queue(), queue)
		if err != nil {
			resp.Topics, resp.ErrorCode = nil, h.groupError("OffsetDelete", req.Group, err)
			return Response{Message: resp}
		}
		for i := range into {
			for j := range into[i] {
				into[i][j].ErrorCode = codes[i][j]
			}
		}
		return Response{Message: resp}
	}
}

// splitOffsetDelete finds what exists, as far as this node knows, and where its results go.
func (h *Handlers) splitOffsetDelete(req *kmsg.OffsetDeleteRequest) (
	resp *kmsg.OffsetDeleteResponse, ask []group.FetchTopic, into [][]*kmsg.OffsetDeleteResponseTopicPartition, unknown bool,
) {
	resp = kmsg.NewPtrOffsetDeleteResponse()
	resp.Topics = make([]kmsg.OffsetDeleteResponseTopic, len(req.Topics))
	img := h.Store.Image()
	for i := range req.Topics {
		topic := img.Topic(req.Topics[i].Topic)
		row := &resp.Topics[i]
		row.Topic = req.Topics[i].Topic
		row.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(req.Topics[i].Partitions))
		one := group.FetchTopic{Name: row.Topic}
		var rows []*kmsg.OffsetDeleteResponseTopicPartition
		for j := range row.Partitions {
			p := &row.Partitions[j]
			p.Partition = req.Topics[i].Partitions[j].Partition
			if topic == nil || topic.Partitions.At(p.Partition) == nil {
				p.ErrorCode, unknown = kafka.ErrUnknownTopicOrPartition.Code, true
				continue
			}
			one.Partitions = append(one.Partitions, p.Partition)
			rows = append(rows, p)
		}
		if len(rows) > 0 {
			ask, into = append(ask, one), append(into, rows)
		}
	}
	return resp, ask, into, unknown
}
