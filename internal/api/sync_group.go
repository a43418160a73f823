package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/group"
)

// syncGroup: v3 adds static members (KIP-345), v5 the protocol, which must then be given (KIP-559).
func (h *Handlers) syncGroup(_ context.Context, r *Request) Reply {
	sync := &group.SyncRequest{SyncGroupRequest: r.Body.(*kmsg.SyncGroupRequest)}
	p := h.Groups.Sync(sync)
	r.Detached = true
	r.Ready = func() bool { return p.Done() && p.Begun() }
	return func(ctx context.Context) Response {
		resp, err := atCoordinator(ctx, h, p, func() *group.SyncPromise { return h.Groups.Sync(sync) })
		if err != nil {
			resp = kmsg.NewPtrSyncGroupResponse()
			resp.MemberAssignment = []byte{}
			resp.ErrorCode = h.groupError("SyncGroup", sync.Group, err)
		}
		return Response{Message: resp}
	}
}
