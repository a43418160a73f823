package controller

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// liveness is what the controller knows of the brokers' processes, and what it makes of it: commands for decide. It is pure
// but for its own fields: time and image come as arguments, so that data files can drive it (testdata/liveness). All of it but
// the proofs begins anew with each leadership.
//
// A lease is counted from when the controller heard of the broker, which is after the broker sent, so that it ends later here
// than there. Two things keep that true:
//
//   - A new controller does not know what its predecessor heard. It counts from its election; of the predecessor's own
//     broker it knows more: without a quorum nobody is answered, and no voter elects another within an election timeout of
//     having heard from its leader.
//   - A loop that ran late has events in its inbox that it has not seen: what it was late by is added to all leases.
type liveness struct {
	o      LifecycleOptions
	began  time.Time // leading since; zero if not
	ticked time.Time // the last judgement
	pulses map[kafka.BrokerID]*pulse
	proofs map[kafka.BrokerID]proof // kept also while another node leads: it may be the one that died
	// damages is what damaged answers; nil if it is to be gathered anew.
	damages damages
	handed  time.Time // the last attempt to hand the leadership over
	// Balancing.
	balanced  time.Time
	balancing bool
	widening  widening
}

// pulse is what is known of one registration.
type pulse struct {
	epoch kafka.BrokerEpoch
	heard time.Time // as if
	beats bool      // anything was heard
	last  metadata.Heartbeat
	// goodSince is when its syncs began to be fast; zero while they are not.
	goodSince time.Time
	// liveSince is when it was seen without a fence first.
	liveSince time.Time
	changing  int  // own commands on their way
	fencing   bool // one of them fences it
	// drained is the offset at which it led nothing that another could lead; 0 if it was not asked for.
	drained metadata.Offset
}

// proof says that a process is dead.
type proof struct {
	incarnation [16]byte
	how         string
}

// elected begins a leadership. previous is the broker that led before, heard when this node last heard from it.
func (v *liveness) elected(now time.Time, img *metadata.Image, previous kafka.BrokerID, heard time.Time) {
	v.began, v.ticked, v.balanced = now, now, now
	v.pulses = map[kafka.BrokerID]*pulse{}
	for b := range img.Brokers() {
		p := v.pulseOf(now, b)
		if b.ID == previous {
			p.heard = now.Add(-v.o.electionTimeout)
			if heard.After(p.heard) {
				p.heard = heard
			}
		}
	}
}

// deposed ends the leadership.
func (v *liveness) deposed() {
	v.began, v.pulses, v.damages, v.balancing, v.widening = time.Time{}, nil, nil, false, widening{}
}

// pulseOf is the broker's, made anew if its registration is another.
func (v *liveness) pulseOf(now time.Time, b *metadata.Broker) *pulse {
	p := v.pulses[b.ID]
	if p == nil || p.epoch != b.Epoch {
		p = &pulse{epoch: b.Epoch, heard: now}
		v.pulses[b.ID], v.damages = p, nil
	}
	return p
}

// tick judges: brokers that are silent for longer than their lease are fenced. late is what the loop was late by. It also
// gives leadership back to preferred replicas, a bounded number at a time.
func (v *liveness) tick(now time.Time, img *metadata.Image, late time.Duration) []any {
	var commands []any
	for b := range img.Brokers() {
		p := v.pulseOf(now, b)
		if p.heard = p.heard.Add(late); p.heard.After(now) {
			p.heard = now
		}
		switch {
		case b.Fenced:
			p.liveSince = time.Time{}
			continue
		case p.liveSince.IsZero():
			p.liveSince = now
		}
		if proof, ok := v.proofs[b.ID]; ok && proof.incarnation == b.Incarnation {
			commands = v.fence(commands, img, b, proof.reason(b))
		} else if silence := now.Sub(p.heard); silence >= v.o.Lease {
			commands = v.fence(commands, img, b, fmt.Sprintf("nothing was heard of broker %d for %v", b.ID, silence.Round(time.Millisecond)))
		}
	}
	for id := range v.pulses {
		if img.Broker(id) == nil {
			delete(v.pulses, id)
			v.damages = nil
		}
	}
	v.ticked = now
	return v.widen(v.balance(commands, now, img), now, img)
}

// fence adds the command that fences a broker, once. A broker that is alone is not fenced: nobody else could take over.
func (v *liveness) fence(commands []any, img *metadata.Image, b *metadata.Broker, reason string) []any {
	p := v.pulses[b.ID]
	if p.fencing || b.Fenced || img.BrokerCount() == 1 {
		return commands
	}
	p.fencing = true
	p.changing++
	return append(commands, brokerState{id: b.ID, epoch: b.Epoch, fenced: set, reason: reason, stopping: b.InControlledShutdown})
}

// done is the end of an own command.
func (v *liveness) done(c brokerState, wrote bool, offset metadata.Offset, err error) {
	p := v.pulses[c.id]
	if p == nil || p.epoch != c.epoch {
		return
	}
	p.changing--
	if c.fenced == set {
		p.fencing = false
	}
	switch {
	case err != nil:
	case c.shuttingDown == unset:
		p.drained = 0
	case c.shuttingDown == set && (wrote || p.drained == 0):
		p.drained = offset
	}
}

// lost takes in that a process is dead, if its registration is still the broker's.
func (v *liveness) lost(now time.Time, img *metadata.Image, id kafka.BrokerID, incarnation [16]byte, how string) []any {
	v.proofs[id] = proof{incarnation, how}
	b := img.Broker(id)
	if v.began.IsZero() || b == nil || b.Incarnation != incarnation {
		return nil
	}
	v.pulseOf(now, b)
	return v.fence(nil, img, b, v.proofs[id].reason(b))
}

// reason is the one for a fence.
func (p proof) reason(b *metadata.Broker) string {
	if b.InControlledShutdown {
		return fmt.Sprintf("broker %d has stopped: %s", b.ID, p.how)
	}
	return fmt.Sprintf("broker %d is dead: %s", b.ID, p.how)
}

// back takes a proof away that was none: the process is heard of again.
func (v *liveness) back(id kafka.BrokerID, incarnation [16]byte) {
	if p, ok := v.proofs[id]; ok && p.incarnation == incarnation {
		delete(v.proofs, id)
	}
}

// handOver tells, once a second, whether this node is to give up its leadership because of its own disk: there is a live
// broker that does better.
func (v *liveness) handOver(now time.Time, img *metadata.Image, self kafka.BrokerID, syncAge time.Duration) bool {
	if p := v.pulses[self]; p != nil {
		syncAge = max(syncAge, p.last.SyncAge)
	}
	if syncAge <= v.o.SlowSync || now.Sub(v.handed) < time.Second {
		return false
	}
	for b := range img.Brokers() {
		p := v.pulses[b.ID]
		if b.ID != self && !b.Fenced && !b.Slow && p != nil && p.beats && p.last.SyncAge <= v.o.SlowSync {
			v.handed = now
			return true
		}
	}
	return false
}

// balance begins a round of balancing when it is due, and goes on with it until nothing is left.
func (v *liveness) balance(commands []any, now time.Time, img *metadata.Image) []any {
	if !v.o.Balance || v.balancing || now.Sub(v.balanced) < v.o.BalanceInterval {
		return commands
	}
	v.balancing = true
	return append(commands, balanceLeaders{settled: v.settled(now, img), max: balanceMax})
}

// settled are the brokers that have been live for a while, sorted.
func (v *liveness) settled(now time.Time, img *metadata.Image) []kafka.BrokerID {
	var settled []kafka.BrokerID
	for _, id := range slices.Sorted(maps.Keys(v.pulses)) {
		p := v.pulses[id]
		if b := img.Broker(id); b != nil && !b.Fenced && !p.fencing && now.Sub(p.liveSince) >= v.o.BalanceSettle {
			settled = append(settled, id)
		}
	}
	return settled
}

// rebalanced is the end of one step of balancing.
func (v *liveness) rebalanced(now time.Time, changed int, err error) {
	v.balancing = false
	if err != nil || changed < balanceMax {
		v.balanced = now
	}
}

// leased are the brokers whose process was heard of within its lease.
func (v *liveness) leased(now time.Time) map[kafka.BrokerID]bool {
	leased := map[kafka.BrokerID]bool{}
	for id, p := range v.pulses {
		proof, has := v.proofs[id]
		dead := has && proof.incarnation == p.last.Incarnation
		leased[id] = p.beats && !dead && now.Sub(p.heard) < v.o.Lease
	}
	return leased
}

// damaged are the replicas that the last heartbeats named. The answer is not changed any more.
func (v *liveness) damaged() damages {
	if v.damages != nil {
		return v.damages
	}
	all := damages{}
	for id, p := range v.pulses {
		if len(p.last.Damaged) == 0 {
			continue
		}
		all[id] = make(map[kafka.TopicPartition]bool, len(p.last.Damaged))
		for _, tp := range p.last.Damaged {
			all[id][tp] = true
		}
	}
	v.damages = all
	return all
}
