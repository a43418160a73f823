package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/group"
)

// joinGroup: v1 adds the rebalance timeout, v4 asks dynamic members to come twice (KIP-394), v5 adds static members
// (KIP-345), v8 the reason (KIP-800), v9 lets a leader skip the assignment (KIP-814).
func (h *Handlers) joinGroup(_ context.Context, r *Request) Reply {
	join := &group.JoinRequest{JoinGroupRequest: r.Body.(*kmsg.JoinGroupRequest), ClientID: r.ClientID, ClientHost: clientHost(r.Conn)}
	p := h.Groups.Join(join)
	r.Detached = true
	r.Ready = func() bool { return p.Done() && p.Begun() }
	return func(ctx context.Context) Response {
		resp, err := atCoordinator(ctx, h, p, func() *group.JoinPromise { return h.Groups.Join(join) })
		if err != nil {
			resp = kmsg.NewPtrJoinGroupResponse()
			resp.ErrorCode = h.groupError("JoinGroup", join.Group, err)
		}
		return Response{Message: resp}
	}
}
