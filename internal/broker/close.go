package broker

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// abortLimit bounds the cleaning up after a start that failed.
const abortLimit = 5 * time.Second

// handOverLimit bounds how long a node that stops waits for others to take over.
const handOverLimit = 3 * time.Second

// errNobodyLeft ends that wait: too many of the voters have stopped or are dead for anything to be decided.
var errNobodyLeft = errors.New("the other nodes have stopped, too")

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
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	b.givenUp.Store(&giveUp)
	b.watchQuorum()
	err := b.agent.Shutdown(ctx)
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errNobodyLeft):
		b.log.Info("nobody is left to take over what this node leads", "reason", errNobodyLeft)
	default:
		b.log.Warn("this node stops while it leads partitions that nobody could take over", "error", err)
	}
}

// watchQuorum gives a hand-over up once the voters that are left are no majority. A voter that is merely not connected counts as there;
// one that nobody listens for does not, also if this process has never met it.
func (b *Broker) watchQuorum() {
	giveUp := b.givenUp.Load()
	if giveUp == nil {
		return
	}
	voters, gone := b.controller.Image().Voters(), 0
	for _, v := range voters {
		if s, ok := b.peers.Status(v.ID); ok && !s.Connected && (s.Left || s.Refused || errors.Is(s.Err, syscall.ECONNREFUSED)) {
			gone++
		}
	}
	if len(voters)-gone <= len(voters)/2 {
		(*giveUp)(errNobodyLeft)
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
