package api

import (
	"context"
	"log/slog"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/group"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/replica"
)

// Handlers are the API's handlers; its fields are what they call. All are set before the first request.
type Handlers struct {
	NodeID   kafka.BrokerID
	Store    metadata.Store
	Replicas *replica.Manager
	Groups   *group.Service
	Static   *config.Config // as given at start
	Config   *config.Live   // with what clients have changed since
	Clock    clock.Clock
	Logger   *slog.Logger
	// Volume is the size of the data directory's file system and what of it is left, in bytes.
	Volume func() (total, usable int64, err error)
	// Lost tells whether this node has just lost sight of a broker: their connection ended a moment ago. nil: never.
	Lost func(id kafka.BrokerID) bool
	APIs []Key // what ApiVersions tells: Table(), given here because the table itself refers to the handlers

	fetchSessions fetchSessions
	fetchEntries  fetchEntries
	producerIDs   producerIDs
	barriers      barriers
}

// Dispatch gives the request its order and returns the reply to await on the connection's write side. The caller has
// checked key and version against [Table]; a key that is not in it is answered by closing the connection.
func (h *Handlers) Dispatch(ctx context.Context, r *Request) Reply {
	k := lookup(r.Key)
	if k == nil {
		return func(context.Context) Response { return Response{Close: true} }
	}
	return k.handle(h, ctx, r)
}
