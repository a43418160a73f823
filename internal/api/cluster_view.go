package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// The operations that a principal may do where nobody is refused anything, as KIP-430's bit sets (bit n is Kafka's
// AclOperation n): what Kafka supports on a topic (read, write, create, delete, alter, describe, describe and alter
// configs) and on the cluster (create, alter, describe, cluster action, describe and alter configs, idempotent write).
const (
	topicOperations   int32 = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations int32 = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	notAsked          int32 = -1 << 31
)

// view is the cluster as one connection is told of it: brokers with the addresses that belong to its listener.
type view struct {
	img      *metadata.Image
	listener string
	local    Address // the address that the client dialled
}

func (h *Handlers) view(conn *Conn) view {
	v := view{img: h.Store.Image(), listener: "tcp"}
	if conn != nil {
		v.local = conn.Local
		for _, l := range h.Static.Kafka {
			if l.Given == conn.Listener {
				v.listener = l.Name
			}
		}
	}
	return v
}

// address is where the client reaches a broker; ok is false if the broker is unknown or has no such listener.
func (v *view) address(id kafka.BrokerID) (addr Address, rack string, ok bool) {
	b := v.img.Broker(id)
	if b == nil {
		return Address{}, "", false
	}
	for _, e := range b.Endpoints {
		if e.Listener != v.listener {
			continue
		}
		if e.Host == "" {
			return v.local, b.Rack, true
		}
		return Address{Host: e.Host, Port: e.Port}, b.Rack, true
	}
	return Address{}, "", false
}

// alive tells whether the broker serves this listener now.
func (v *view) alive(id kafka.BrokerID) bool {
	_, _, ok := v.address(id)
	return ok && !v.img.Broker(id).Fenced
}

// controller is the broker that administrative requests are best sent to. Any broker takes them, so that one that is
// alive will do where the controller is not known.
func (h *Handlers) controller(v *view) int32 {
	if id := h.Store.Controller(); id != kafka.NoLeader && v.alive(id) {
		return int32(id)
	}
	for b := range v.img.Brokers() {
		if v.alive(b.ID) {
			return int32(b.ID)
		}
	}
	return -1
}

// offline are the replicas that cannot be reached, nil if all can.
func (v *view) offline(replicas []kafka.BrokerID) []int32 {
	offline := []int32{}
	for _, id := range replicas {
		if !v.alive(id) {
			offline = append(offline, int32(id))
		}
	}
	return offline
}

func brokerIDs(ids []kafka.BrokerID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

// minWait is granted to requests that ask for no time at all: a commit takes some.
const minWait = time.Second

// within bounds a wait by the time that the client gives, in milliseconds.
func (h *Handlers) within(ctx context.Context, millis int32) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := h.Clock.AfterFunc(max(time.Duration(millis)*time.Millisecond, minWait), func() {
		cancel(context.DeadlineExceeded)
	})
	return ctx, func() { timer.Stop(); cancel(context.Canceled) }
}

// pause waits; false if ctx ended.
func (h *Handlers) pause(ctx context.Context, d time.Duration) bool {
	timer := h.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// outcome maps what a change of the metadata returned to what the client is told.
func (h *Handlers) outcome(what string, err error) error {
	var known *kafka.Error
	switch {
	case errors.Is(err, kafka.ErrNotController): // any node takes these requests: the client need not look for another
		return kafka.ErrRequestTimedOut.With("%s: no controller could be reached in time: %v", what, err)
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return kafka.ErrRequestTimedOut.With("%s did not finish in time; it may still happen", what)
	}
	h.Logger.Error("request failed", "what", what, "error", err)
	return kafka.ErrUnknownServerError.With("%s: %v", what, err)
}

// settle returns once this node's partitions agree with its metadata, so that what an answer tells of can be used.
func (h *Handlers) settle(ctx context.Context) error {
	if h.Replicas == nil {
		return nil
	}
	if err := h.Replicas.WaitApplied(ctx, h.Store.Image().Offset()); err != nil {
		return fmt.Errorf("wait for partitions: %w", err)
	}
	return nil
}

// reason is what the metadata keeps as the cause of a change.
func reason(r *Request, api string) string {
	return fmt.Sprintf("%s from client %q", api, r.ClientID)
}
