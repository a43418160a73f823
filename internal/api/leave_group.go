package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
)

// leaveGroup: one member up to v2, several from v3 on (KIP-345), v5 adds the reason (KIP-800).
func (h *Handlers) leaveGroup(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.LeaveGroupRequest)
	p := h.Groups.Leave(req)
	r.Ready = func() bool { return p.Done() && p.Begun() }
	return func(ctx context.Context) Response {
		resp := kmsg.NewPtrLeaveGroupResponse()
		members, err := atCoordinator(ctx, h, p, func() *coordinator.Promise[[]kmsg.LeaveGroupResponseMember] {
			return h.Groups.Leave(req)
		})
		switch {
		case err != nil:
			resp.ErrorCode = h.groupError("LeaveGroup", req.Group, err)
		case req.Version < 3:
			resp.ErrorCode = members[0].ErrorCode
		default:
			resp.Members = members
		}
		return Response{Message: resp}
	}
}
