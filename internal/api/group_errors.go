package api

import (
	"context"
	"errors"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// groupOperations are the operations that Kafka supports on a group (read, delete, describe, describe and alter
// configs), as the bit set of KIP-430.
const groupOperations int32 = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

// groupError is the code of what a group coordinator answered; what nobody foresaw is logged. A wait that ends with the
// node tells the client to look for the coordinator again.
func (h *Handlers) groupError(what, group string, err error) int16 {
	var known *kafka.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return kafka.ErrNotCoordinator.Code
	case err != nil && !errors.As(err, &known):
		h.Logger.Error("group request failed", "request", what, "group", group, "error", err)
	}
	return kafka.CodeOf(err)
}

// atCoordinator awaits a group's operation. If this node did not even begin it, because it does not coordinate the group as
// far as it knows, it makes sure and tries once more: clients learn of a new coordinator from other nodes, which may be ahead.
func atCoordinator[R any](ctx context.Context, h *Handlers, p *coordinator.Promise[R], again func() *coordinator.Promise[R]) (R, error) {
	v, err := p.Wait(ctx)
	if !coordinator.NeverBegun(err) || h.barrier(ctx) != nil {
		return v, err
	}
	return again().Wait(ctx)
}

// clientHost is a member's address as Kafka writes it.
func clientHost(c *Conn) string {
	if c == nil || !c.Remote.IsValid() {
		return "/unknown"
	}
	return "/" + c.Remote.Unmap().WithZone("").String()
}
