package api

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

// heartbeat: v3 adds static members (KIP-345).
func (h *Handlers) heartbeat(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.HeartbeatRequest)
	p := h.Groups.Heartbeat(req)
	r.Ready = p.Done
	return func(ctx context.Context) Response {
		resp := kmsg.NewPtrHeartbeatResponse()
		_, err := p.Wait(ctx)
		if errors.Is(err, kafka.ErrCoordinatorLoadInProgress) {
			err = nil // as Kafka does: loading starts the session anew, so that nothing is lost by waiting
		}
		resp.ErrorCode = h.groupError("Heartbeat", req.Group, err)
		return Response{Message: resp}
	}
}
