package group

import (
	"slices"

	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// reconciliation is one step of a member towards its target assignment. It is pure.
type reconciliation struct {
	targetEpoch int32
	target      assign.Assignment
	subscribed  []kafka.TopicID // of the member: ascending; what it does not subscribe to it must not keep
	resubscribe bool            // its subscription has just changed: even while it revokes, it loses what it gave up
	free        func(kafka.TopicPartition) bool
	owned       assign.Assignment // what the member says it has
	ownedKnown  bool              // false if it did not say
}

// step returns the member as it is after the step: mb itself if it cannot move. A member moves to the target's epoch only when
// it has confirmed that it gave up all that the target takes away, and gets what others have given up before.
func (r *reconciliation) step(mb *consumerMember) *consumerMember {
	switch {
	case mb.state == memberUnknown:
		next := *mb // what another version has written: it begins anew, with nothing that it has not confirmed
		next.epoch = r.targetEpoch
		return r.next(&next)
	case mb.reconciledTo(r.targetEpoch) && r.resubscribe, mb.state == memberUnrevoked && r.has(mb.pending):
		return r.shrink(mb)
	case mb.reconciledTo(r.targetEpoch):
		return mb
	}
	return r.next(mb)
}

// has tells whether the member may still have any of the partitions.
func (r *reconciliation) has(h held) bool {
	if !r.ownedKnown {
		return true
	}
	for i := range r.owned {
		for _, p := range r.owned[i].Partitions {
			if h.has(r.owned[i].Topic, p) {
				return true
			}
		}
	}
	return false
}

func (r *reconciliation) subscribes(topic kafka.TopicID) bool {
	_, ok := slices.BinarySearchFunc(r.subscribed, topic, assign.Compare)
	return ok
}

// shrink takes away what the member does not subscribe to any more, and nothing else.
func (r *reconciliation) shrink(mb *consumerMember) *consumerMember {
	if !r.resubscribe {
		return mb
	}
	kept, lost := mb.assigned.split(func(tp kafka.TopicPartition) bool { return r.subscribes(tp.Topic) })
	if len(lost) == 0 {
		return mb
	}
	next := *mb
	next.previousEpoch, next.assigned = mb.epoch, kept
	if pending := mb.pending.union(lost); r.has(pending) {
		next.state, next.pending = memberUnrevoked, pending
	}
	return &next
}

// next takes the member as far towards the target as it can go now.
func (r *reconciliation) next(mb *consumerMember) *consumerMember {
	var target assign.Assignment
	for i := range r.target {
		if r.subscribes(r.target[i].Topic) {
			target = append(target, r.target[i])
		}
	}
	next := *mb
	next.previousEpoch = mb.epoch
	kept, revoked := mb.assigned.split(func(tp kafka.TopicPartition) bool { return target.Has(tp.Topic, tp.Partition) })
	next.assigned = kept
	if len(revoked) > 0 && r.has(revoked) {
		next.state, next.pending = memberUnrevoked, revoked
		return &next
	}
	var granted held
	next.state, next.pending, next.epoch = memberStable, nil, r.targetEpoch
	for i := range target {
		for _, p := range target[i].Partitions {
			tp := kafka.TopicPartition{Topic: target[i].Topic, Partition: p}
			switch {
			case kept.has(tp.Topic, p):
			case r.free(tp):
				granted = granted.add(tp, r.targetEpoch)
			default:
				next.state = memberUnreleased
			}
		}
	}
	next.assigned = kept.union(granted)
	return &next
}

// same tells whether two versions of a member have the same current assignment, so that no record is needed.
func (mb *consumerMember) samePosition(o *consumerMember) bool {
	return mb.epoch == o.epoch && mb.previousEpoch == o.previousEpoch && mb.state == o.state &&
		mb.assigned.equal(o.assigned) && mb.pending.equal(o.pending)
}
