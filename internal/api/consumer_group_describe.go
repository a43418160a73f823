package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// consumerGroupDescribe tells about groups of the protocol of KIP-848: v1 adds the type of each member (KIP-1099).
func (h *Handlers) consumerGroupDescribe(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.ConsumerGroupDescribeRequest)
	rows := make([]*coordinator.Promise[kmsg.ConsumerGroupDescribeResponseGroup], len(req.Groups))
	disabled := h.consumerProtocol()
	for i, id := range req.Groups {
		if disabled == nil && id != "" {
			rows[i] = h.Groups.ConsumerDescribe(id)
		}
	}
	return func(ctx context.Context) Response {
		resp := kmsg.NewPtrConsumerGroupDescribeResponse()
		for i, id := range req.Groups {
			row, err := kmsg.NewConsumerGroupDescribeResponseGroup(), disabled
			if err == nil && id == "" {
				err = kafka.ErrInvalidGroupID.With("the name of a group must not be empty")
			}
			if err == nil {
				row, err = atCoordinator(ctx, h, rows[i], func() *coordinator.Promise[kmsg.ConsumerGroupDescribeResponseGroup] {
					return h.Groups.ConsumerDescribe(id)
				})
			}
			if err != nil {
				row = kmsg.NewConsumerGroupDescribeResponseGroup()
				row.Group, row.ErrorCode, row.ErrorMessage = id, h.groupError("ConsumerGroupDescribe", id, err), kafka.Message(err)
			} else if req.IncludeAuthorizedOperations && row.ErrorCode == 0 {
				row.AuthorizedOperations = groupOperations
			}
			resp.Groups = append(resp.Groups, row)
		}
		return Response{Message: resp}
	}
}
