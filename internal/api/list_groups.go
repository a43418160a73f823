package api

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

// listGroups tells of the groups that this broker coordinates: v4 filters by state (KIP-518), v5 by type (KIP-848).
func (h *Handlers) listGroups(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.ListGroupsRequest)
	shards := h.Groups.List(req.StatesFilter, req.TypesFilter)
	return func(ctx context.Context) Response {
		resp := kmsg.NewPtrListGroupsResponse()
		for _, p := range shards {
			rows, err := p.Wait(ctx)
			if errors.Is(err, kafka.ErrNotCoordinator) {
				continue // it has gone to another broker, which lists it
			}
			if err != nil {
				resp.Groups, resp.ErrorCode = nil, h.groupError("ListGroups", "", err)
				break
			}
			resp.Groups = append(resp.Groups, rows...)
		}
		slices.SortFunc(resp.Groups, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
		return Response{Message: resp}
	}
}
