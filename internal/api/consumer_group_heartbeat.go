package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/coordinator"
	"chronik/internal/group"
	"chronik/internal/kafka"
)

// consumerGroupHeartbeat: KIP-848; v1 adds regular expressions, and members that make their IDs themselves (KIP-1082).
func (h *Handlers) consumerGroupHeartbeat(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.ConsumerGroupHeartbeatRequest)
	if err := h.consumerProtocol(); err != nil {
		return ready(h.heartbeatError(req, err))
	}
	heartbeat := &group.ConsumerHeartbeatRequest{ConsumerGroupHeartbeatRequest: req, ClientID: r.ClientID, ClientHost: clientHost(r.Conn)}
	p := h.Groups.ConsumerHeartbeat(heartbeat)
	r.Ready = func() bool { return p.Done() && p.Begun() }
	return func(ctx context.Context) Response {
		resp, err := atCoordinator(ctx, h, p, func() *coordinator.Promise[*kmsg.ConsumerGroupHeartbeatResponse] {
			return h.Groups.ConsumerHeartbeat(heartbeat)
		})
		if err != nil {
			return Response{Message: h.heartbeatError(req, err)}
		}
		resp.SetVersion(r.Version)
		return Response{Message: resp}
	}
}

func (h *Handlers) heartbeatError(req *kmsg.ConsumerGroupHeartbeatRequest, err error) kmsg.Response {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.ErrorCode, resp.ErrorMessage = h.groupError("ConsumerGroupHeartbeat", req.Group, err), kafka.Message(err)
	return resp
}

// consumerProtocol tells whether groups may use the protocol of KIP-848.
func (h *Handlers) consumerProtocol() error {
	if slices.Contains(h.Config.Load().GroupProtocols, config.ConsumerProtocol) {
		return nil
	}
	return kafka.ErrUnsupportedVersion.With("the consumer group protocol (KIP-848) is switched off: group.coordinator.rebalance.protocols has no consumer")
}
