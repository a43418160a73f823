package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// heartbeat: v3 adds static members (KIP-345).
func (h *Handlers) heartbeat(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.HeartbeatRequest)
	p := h.Groups.Heartbeat(req)
	r.Ready = func() bool { return p.Done() && p.Begun() }
	return func(ctx context.Context) Response {
		resp := kmsg.NewPtrHeartbeatResponse()
		_, err := atCoordinator(ctx, h, p, func() *coordinator.Promise[struct{}] { return h.Groups.Heartbeat(req) })
		if errors.Is(err, kafka.ErrCoordinatorLoadInProgress) {
			err = nil // as Kafka does: loading starts the session anew, so that nothing is lost by waiting
		}
		resp.ErrorCode = h.groupError("Heartbeat", req.Group, err)
		return Response{Message: resp}
	}
}
