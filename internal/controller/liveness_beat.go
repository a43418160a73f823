package controller

import (
	"fmt"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// beat takes in a heartbeat. img is the newest image, proposals included. An error is the answer; the commands are what the
// heartbeat leads to, and it is answered after them.
func (v *liveness) beat(now time.Time, img *metadata.Image, hb metadata.Heartbeat) ([]any, error) {
	b, err := registrationOf(img, hb)
	if err != nil {
		return nil, err
	}
	v.back(hb.Broker, hb.Incarnation)
	p := v.pulseOf(now, b)
	if len(p.last.Damaged)+len(hb.Damaged) > 0 {
		v.damages = nil
	}
	p.heard, p.beats, p.last = now, true, hb
	switch {
	case hb.SyncAge > v.o.SlowSync:
		p.goodSince = time.Time{}
	case p.goodSince.IsZero():
		p.goodSince = now
	}
	if p.changing > 0 {
		return nil, nil // what it says may rest on what is being changed
	}
	c := brokerState{id: b.ID, epoch: b.Epoch}
	if b.Fenced {
		v.unfence(&c, b, hb)
	} else {
		v.change(&c, now, img, b, p)
	}
	if c.fenced == unchanged && c.shuttingDown == unchanged && c.slow == unchanged && len(c.damaged) == 0 {
		return nil, nil
	}
	p.changing++
	return []any{c}, nil
}

// unfence takes the fence away from a broker that serves, and has applied what moved its leaders away: it does not take
// itself for the leader of what it led before.
func (v *liveness) unfence(c *brokerState, b *metadata.Broker, hb metadata.Heartbeat) {
	if !hb.Ready || hb.ShuttingDown || hb.Applied < b.StateOffset {
		return
	}
	c.fenced = unset
	c.reason = fmt.Sprintf("broker %d is ready", b.ID)
	if hb.SyncAge > v.o.SlowSync {
		c.slow = set
		c.reason += fmt.Sprintf(", but a sync takes %v already", hb.SyncAge.Round(time.Millisecond))
	}
}

// change is what a live broker's heartbeat leads to. A controlled shutdown is asked for again and again until it is done: what
// it led alone may have found another member for its in-sync set.
func (v *liveness) change(c *brokerState, now time.Time, img *metadata.Image, b *metadata.Broker, p *pulse) {
	hb := p.last
	switch {
	case hb.ShuttingDown:
		c.shuttingDown = set
		c.reason = fmt.Sprintf("broker %d shuts down", b.ID)
	case b.InControlledShutdown:
		c.shuttingDown = unset
		c.reason = fmt.Sprintf("broker %d no longer shuts down", b.ID)
	}
	switch {
	case hb.SyncAge > v.o.SlowSync && !b.Slow:
		c.slow = set
		c.reason = fmt.Sprintf("broker %d: a sync of its disk takes %v already", b.ID, hb.SyncAge.Round(time.Millisecond))
	case b.Slow && !p.goodSince.IsZero() && now.Sub(p.goodSince) >= v.o.SlowRecovery:
		c.slow = unset
		c.reason = fmt.Sprintf("broker %d: its disk has been fast for %v", b.ID, v.o.SlowRecovery)
	}
	s := state{image: img}
	for _, tp := range hb.Damaged {
		if s.damageMatters(b.ID, tp) {
			c.damaged = append(c.damaged, tp)
		}
	}
}

// registrationOf is the broker, if the heartbeat is that of the registered process.
func registrationOf(img *metadata.Image, hb metadata.Heartbeat) (*metadata.Broker, error) {
	b := img.Broker(hb.Broker)
	switch {
	case b == nil:
		return nil, kafka.ErrBrokerIDNotRegistered.With("broker %d is not registered", hb.Broker)
	case b.Incarnation != hb.Incarnation:
		return nil, kafka.ErrStaleBrokerEpoch.With("another process has registered as broker %d since (epoch %d); this one had epoch %d",
			hb.Broker, b.Epoch, hb.Epoch)
	case b.Epoch != hb.Epoch: // it has asked to be registered again, and this was under way before
		return nil, kafka.ErrBrokerIDNotRegistered.With("broker %d was unregistered; the same process has registered again since, with epoch %d; this one was %d",
			hb.Broker, b.Epoch, hb.Epoch)
	}
	return b, nil
}

// answer is what a heartbeat is told, with a quorum behind it and nothing of its own on the way: applied is what is committed,
// newest what is proposed too.
func (v *liveness) answer(applied, newest *metadata.Image, hb metadata.Heartbeat) (metadata.HeartbeatAnswer, error) {
	then, err := registrationOf(applied, hb)
	now, errNow := registrationOf(newest, hb)
	switch {
	case err != nil && errNow == nil:
		return metadata.HeartbeatAnswer{}, kafka.ErrNotController.With("the registration of broker %d is not committed yet", hb.Broker)
	case err != nil:
		return metadata.HeartbeatAnswer{}, err
	case errNow != nil:
		return metadata.HeartbeatAnswer{}, kafka.ErrNotController.With("the end of the registration of broker %d is not committed yet", hb.Broker)
	}
	p := v.pulses[hb.Broker]
	if p == nil || p.epoch != hb.Epoch {
		return metadata.HeartbeatAnswer{}, kafka.ErrNotController.With("this heartbeat of broker %d came before its registration was known here", hb.Broker)
	}
	a := metadata.HeartbeatAnswer{Offset: applied.Offset(), Fenced: p.fencing || now.Fenced || then.Fenced}
	if !a.Fenced {
		a.Lease = v.o.Lease
	}
	if hb.ShuttingDown {
		a.MayShutDown = a.Fenced || then.InControlledShutdown && p.drained > 0 && v.known(applied, hb.Broker, p.drained)
	}
	return a, nil
}

// known tells whether all live brokers but the one have applied the offset. Those that shut down too are not waited for: all nodes
// may go at a time.
func (v *liveness) known(img *metadata.Image, but kafka.BrokerID, offset metadata.Offset) bool {
	for b := range img.Brokers() {
		if b.ID == but || b.Fenced || b.InControlledShutdown {
			continue
		}
		if p := v.pulses[b.ID]; p == nil || p.epoch != b.Epoch || p.last.Applied < offset {
			return false
		}
	}
	return true
}

// statuses is what is known of all brokers.
func (v *liveness) statuses(now time.Time, img *metadata.Image) []metadata.BrokerStatus {
	var all []metadata.BrokerStatus
	for b := range img.Brokers() {
		status := metadata.BrokerStatus{ID: b.ID, Epoch: b.Epoch, Silence: -1, Fenced: b.Fenced,
			InControlledShutdown: b.InControlledShutdown, Slow: b.Slow, Since: b.Since, Reason: b.Reason}
		if p := v.pulses[b.ID]; p != nil && p.epoch == b.Epoch && p.beats {
			status.Silence = now.Sub(p.heard)
			status.Ready, status.Applied, status.SyncAge, status.Damaged = p.last.Ready, p.last.Applied, p.last.SyncAge, p.last.Damaged
		}
		all = append(all, status)
	}
	return all
}
