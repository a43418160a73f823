package broker

import (
	"context"
	"errors"
	"time"
)

// abortLimit bounds the cleaning up after a start that failed.
const abortLimit = 5 * time.Second

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
	if b.server != nil {
		keep(b.server.Shutdown(ctx))
	}
	b.stop()
	b.done.Wait()
	if b.groups != nil {
		b.groups.Close()
	}
	if b.replicas != nil {
		b.replicas.Close()
	}
	if b.controller != nil {
		keep(b.controller.Close())
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

// abort closes what a failed start has opened.
func (b *Broker) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		b.log.Debug("closing after a failed start", "error", err)
	}
}
