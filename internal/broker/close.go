package broker

import (
	"context"
	"errors"
	"time"
)

// abortLimit bounds the cleaning up after a start that failed.
const abortLimit = 5 * time.Second

// handOverLimit bounds how long a node that stops waits for others to take over: without a quorum nobody does.
const handOverLimit = 3 * time.Second

// Close stops the node in the reverse order of its start: answers what was accepted, stops the coordinators, the
// partitions, the metadata, and leaves storage that the next start need not replay. The error tells what was cut short
// when ctx ended; nothing acknowledged is lost by that.
func (b *Broker) Close(ctx context.Context) error {
	b.say("the node is stopping")
	var errs []error
	keep := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if b.agent != nil && b.controller != nil && b.groups != nil { // others take over while this node still answers
		b.handOver(ctx)
	}
	if b.server != nil {
		keep(b.server.Shutdown(ctx))
	}
	b.stop()
	b.done.Wait()
	if b.groups != nil {
		b.groups.Close()
	}
	if b.streams != nil {
		b.streams.Close()
	}
	if b.replicas != nil {
		b.replicas.Close()
	}
	if b.agent != nil {
		b.agent.Close()
	}
	if b.controller != nil {
		keep(b.controller.Close())
	}
	switch {
	case b.peers != nil:
		keep(b.peers.Close())
	case b.clusterListener != nil:
		keep(b.clusterListener.Close())
	}
	if b.store != nil {
		b.removePid()
		keep(b.store.Close())
	}
	if b.admin != nil {
		keep(b.admin.Close(ctx))
	}
	return errors.Join(errs...)
}

// handOver has other nodes lead what this one leads, where there are any to do so.
func (b *Broker) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	if err := b.agent.Shutdown(ctx); err != nil {
		b.log.Warn("this node stops while it leads partitions that nobody could take over", "error", err)
	}
}

// abort closes what a failed start has opened.
func (b *Broker) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		b.log.Debug("closing after a failed start", "error", err)
	}
}
