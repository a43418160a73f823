package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
)

// deleteGroups: KIP-229. A group that is named more than once is answered once.
func (h *Handlers) deleteGroups(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DeleteGroupsRequest)
	var ids []string
	var done []*coordinator.Promise[struct{}]
	seen := make(map[string]bool, len(req.Groups))
	for _, id := range req.Groups {
		if !seen[id] {
			seen[id] = true
			ids, done = append(ids, id), append(done, h.Groups.Delete(id))
		}
	}
	return func(ctx context.Context) Response {
		resp := kmsg.NewPtrDeleteGroupsResponse()
		for i, p := range done {
			row := kmsg.NewDeleteGroupsResponseGroup()
			_, err := atCoordinator(ctx, h, p, func() *coordinator.Promise[struct{}] { return h.Groups.Delete(ids[i]) })
			row.Group, row.ErrorCode = ids[i], h.groupError("DeleteGroups", ids[i], err)
			resp.Groups = append(resp.Groups, row)
		}
		return Response{Message: resp}
	}
}
