package api

import (
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// The types of coordinators (the field KeyType).
const (
	groupCoordinator       = 0
	transactionCoordinator = 1
	shareCoordinator       = 2
)

// findMaxMillis bounds a FindCoordinator, of however many keys.
const findMaxMillis = 5_000

// findCoordinator: v1 adds the type, v4 several keys (KIP-699), v6 share groups (KIP-932). The topic of the groups is made
// when the first one is asked for, and the answer waits for it, where Kafka says COORDINATOR_NOT_AVAILABLE meanwhile.
func (h *Handlers) findCoordinator(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.FindCoordinatorRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, findMaxMillis)
		defer cancel()
		resp := kmsg.NewPtrFindCoordinatorResponse()
		var sure surely
		keys := req.CoordinatorKeys
		if r.Version < 4 {
			keys = []string{req.CoordinatorKey}
		}
		if req.CoordinatorType == groupCoordinator {
			h.awaitElection(ctx, func(_ *metadata.Image, lost map[kafka.BrokerID]bool) bool {
				return slices.ContainsFunc(keys, func(key string) bool { return lost[h.Groups.LeaderOf(key)] })
			})
		}
		if r.Version >= 4 {
			for _, key := range keys {
				resp.Coordinators = append(resp.Coordinators, h.coordinator(ctx, &sure, r, req.CoordinatorType, key))
			}
			return Response{Message: resp}
		}
		c := h.coordinator(ctx, &sure, r, req.CoordinatorType, req.CoordinatorKey)
		resp.NodeID, resp.Host, resp.Port, resp.ErrorCode, resp.ErrorMessage = c.NodeID, c.Host, c.Port, c.ErrorCode, c.ErrorMessage
		if resp.ErrorCode == 0 {
			resp.ErrorMessage = kmsg.StringPtr("NONE") // Kafka's text for no error, in these versions only
		}
		return Response{Message: resp}
	}
}

func (h *Handlers) coordinator(ctx context.Context, sure *surely, r *Request, keyType int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	row := kmsg.NewFindCoordinatorResponseCoordinator()
	row.Key, row.NodeID, row.Port, row.ErrorMessage = key, -1, -1, kmsg.StringPtr("")
	fail := func(err error) kmsg.FindCoordinatorResponseCoordinator {
		row.ErrorCode, row.ErrorMessage = h.groupError("FindCoordinator", key, err), kafka.Message(err)
		return row
	}
	switch keyType {
	case groupCoordinator:
	case transactionCoordinator:
		// The one error that librdkafka does not retry for ever.
		return fail(kafka.ErrTransactionalIDAuthorizationFailed.With("transactions are not supported yet"))
	case shareCoordinator:
		return fail(kafka.ErrInvalidRequest.With("share groups are not supported yet"))
	default:
		return fail(kafka.ErrInvalidRequest.With("coordinators of type %d do not exist", keyType))
	}
	if id := h.Groups.LeaderOf(key); h.lost(h.Store.Image())[id] { // a client that is sent there again may wait for long
		return fail(kafka.ErrCoordinatorNotAvailable.With("the connection to broker %d, which coordinated group %s, has just ended, and no other was elected yet", id, key))
	}
	id, addr, err := h.liveCoordinator(ctx, r, key)
	if errors.Is(err, kafka.ErrCoordinatorNotAvailable) && sure.ask(ctx, h) == nil { // another node may know better
		id, addr, err = h.liveCoordinator(ctx, r, key)
	}
	if err != nil {
		return fail(err)
	}
	row.NodeID, row.Host, row.Port = int32(id), addr.Host, addr.Port
	return row
}

func (h *Handlers) liveCoordinator(ctx context.Context, r *Request, group string) (kafka.BrokerID, Address, error) {
	id, err := h.Groups.Coordinator(ctx, group)
	if err != nil {
		return id, Address{}, err
	}
	v := h.view(r.Conn)
	addr, _, _ := v.address(id)
	if !v.alive(id) {
		return id, addr, kafka.ErrCoordinatorNotAvailable.With("broker %d, which coordinates group %s, is not available", id, group)
	}
	return id, addr, nil
}
