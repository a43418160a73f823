package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

// describeCluster: KIP-700; v1 asks for brokers or controllers (KIP-919), v2 for fenced brokers too.
func (h *Handlers) describeCluster(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DescribeClusterRequest)
	return func(context.Context) Response {
		resp := req.ResponseKind().(*kmsg.DescribeClusterResponse)
		const brokers = 1
		resp.EndpointType = brokers
		resp.ControllerID = -1
		resp.ClusterAuthorizedOperations = notAsked
		if r.Version >= 1 && req.EndpointType != brokers {
			err := kafka.ErrUnsupportedEndpointType.With("unknown endpoint type %d", req.EndpointType)
			if req.EndpointType == 2 {
				err = kafka.ErrMismatchedEndpointType.With("this is a broker; controllers have no endpoints of their own")
			}
			resp.ErrorCode, resp.ErrorMessage = err.Code, kafka.Message(err)
			return Response{Message: resp}
		}
		v := h.view(r.Conn)
		resp.ClusterID = v.img.ClusterID()
		resp.ControllerID = h.controller(&v)
		if req.IncludeClusterAuthorizedOperations {
			resp.ClusterAuthorizedOperations = clusterOperations
		}
		for b := range v.img.Brokers() {
			addr, rack, ok := v.address(b.ID)
			if !ok || b.Fenced && (r.Version < 2 || !req.IncludeFencedBrokers) {
				continue
			}
			rb := kmsg.NewDescribeClusterResponseBroker()
			rb.NodeID, rb.Host, rb.Port, rb.Rack, rb.IsFenced = int32(b.ID), addr.Host, addr.Port, orNull(rack), b.Fenced
			resp.Brokers = append(resp.Brokers, rb)
		}
		return Response{Message: resp}
	}
}
