package controller

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/raft/v3"

	"chronik/internal/kafka"
)

// transferTimeout is how long a node that closes waits for another to take the leadership.
const transferTimeout = time.Second

// transfer is the loop's part for handing over the leadership.
type transfer struct {
	waiting []func(error)
}

// TransferLeadership has another voter lead the metadata, and returns when this node does not any more; at once if it
// does not lead, or is the only voter. The error says that it still leads.
func (c *Controller) TransferLeadership(ctx context.Context, reason string) error {
	done := make(chan error, 1)
	if !c.inbox.post(func() { c.loop.handOver(reason, func(err error) { done <- err }) }) {
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *loop) handOver(reason string, done func(error)) {
	switch {
	case l.leading == 0 || len(l.confState.GetVoters()) == 1 || l.err != nil:
		done(nil)
	case !l.giveUpLeadership(reason):
		done(errors.New("no other voter is there to take it"))
	default:
		l.transfer.waiting = append(l.transfer.waiting, done)
	}
}

// giveUpLeadership asks another voter to lead: of those that are there one that does not stop itself, then the one that has most
// of the log, then the one that comes first by its broker ID. It does not block; false if there is none.
func (l *loop) giveUpLeadership(reason string) bool {
	if l.leading == 0 {
		return false
	}
	best, found := heir{}, false
	for _, p := range l.progress() {
		if p.id == l.id || p.learner || !p.active || l.election.isDead(p.id) {
			continue
		}
		id := brokerOf(l.image, p.id)
		b := l.image.Broker(id)
		if h := (heir{p.id, id, b != nil && b.InControlledShutdown, p.match}); !found || h.before(best) {
			best, found = h, true
		}
	}
	if !found {
		return false
	}
	l.o.Logger.Info("the leadership of the metadata is handed over", "to", best.broker, "reason", reason)
	l.node.TransferLeader(best.id)
	return true
}

// heir is a voter that could take the leadership.
type heir struct {
	id       uint64
	broker   kafka.BrokerID
	stopping bool
	match    uint64 // how much of the log it has
}

// before tells whether h is the better one.
func (h heir) before(o heir) bool {
	switch {
	case h.stopping != o.stopping:
		return o.stopping
	case h.match != o.match:
		return h.match > o.match
	}
	return h.broker < o.broker
}

// transferred answers who waits for a transfer that is over, one way or the other.
func (l *loop) transferred() {
	t := &l.transfer
	heir := l.node.BasicStatus().LeadTransferee
	if len(t.waiting) == 0 || l.leading != 0 && heir != raft.None && !l.election.isDead(heir) {
		return
	}
	var err error
	switch {
	case l.leading == 0:
	case heir != raft.None:
		err = errors.New("the other voter died before it took it")
	default:
		err = errors.New("the other voter did not take it in time")
	}
	for _, done := range t.waiting {
		done(err)
	}
	t.waiting = nil
}
