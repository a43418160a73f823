package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/group"
)

// joinGroup: v1 adds the rebalance timeout, v4 asks dynamic members to come twice (KIP-394), v5 adds static members
// (KIP-345), v8 the reason (KIP-800), v9 lets a leader skip the assignment (KIP-814).
func (h *Handlers) joinGroup(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.JoinGroupRequest)
	p := h.Groups.Join(&group.JoinRequest{JoinGroupRequest: req, ClientID: r.ClientID, ClientHost: clientHost(r.Conn)})
	r.Ready = p.Done
	return func(ctx context.Context) Response {
		resp, err := p.Wait(ctx)
		if err != nil {
			resp = kmsg.NewPtrJoinGroupResponse()
			resp.ErrorCode = h.groupError("JoinGroup", req.Group, err)
		}
		return Response{Message: resp}
	}
}
