package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
)

// describeGroups: v3 adds the authorized operations (KIP-430), v6 GROUP_ID_NOT_FOUND with a message (KIP-1043).
func (h *Handlers) describeGroups(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DescribeGroupsRequest)
	rows := make([]*coordinator.Promise[kmsg.DescribeGroupsResponseGroup], len(req.Groups))
	for i, id := range req.Groups {
		rows[i] = h.Groups.Describe(id, r.Version)
	}
	return func(ctx context.Context) Response {
		resp := kmsg.NewPtrDescribeGroupsResponse()
		for i, id := range req.Groups {
			row, err := atCoordinator(ctx, h, rows[i], func() *coordinator.Promise[kmsg.DescribeGroupsResponseGroup] {
				return h.Groups.Describe(id, r.Version)
			})
			if err != nil {
				row = kmsg.NewDescribeGroupsResponseGroup()
				row.Group, row.ErrorCode = id, h.groupError("DescribeGroups", id, err)
			} else if req.IncludeAuthorizedOperations && row.ErrorCode == 0 {
				row.AuthorizedOperations = groupOperations
			}
			resp.Groups = append(resp.Groups, row)
		}
		return Response{Message: resp}
	}
}
