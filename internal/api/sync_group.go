package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/group"
)

// syncGroup: v3 adds static members (KIP-345), v5 the protocol, which must then be given (KIP-559).
func (h *Handlers) syncGroup(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.SyncGroupRequest)
	p := h.Groups.Sync(&group.SyncRequest{SyncGroupRequest: req})
	r.Ready = p.Done
	return func(ctx context.Context) Response {
		resp, err := p.Wait(ctx)
		if err != nil {
			resp = kmsg.NewPtrSyncGroupResponse()
			resp.MemberAssignment = []byte{}
			resp.ErrorCode = h.groupError("SyncGroup", req.Group, err)
		}
		return Response{Message: resp}
	}
}
