package group

import (
	"slices"

	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// held are partitions that a member of a consumer group has, each with the member epoch in which it was given to it (KIP-1251).
// Topics ascend by ID, partitions within them, and no topic is without partitions. It is immutable.
type held []heldTopic

type heldTopic struct {
	topic      kafka.TopicID
	partitions []int32
	epochs     []int32 // of the partitions, in their order
}

// heldAt are the partitions of an assignment, all given in one epoch.
func heldAt(a assign.Assignment, epoch int32) held {
	out := make(held, 0, len(a))
	for i := range a {
		out = append(out, heldTopic{a[i].Topic, a[i].Partitions, slices.Repeat([]int32{epoch}, len(a[i].Partitions))})
	}
	return out
}

// at are those of one topic; nil if there are none.
func (h held) at(topic kafka.TopicID) *heldTopic {
	i, ok := slices.BinarySearchFunc(h, topic, func(t heldTopic, id kafka.TopicID) int { return assign.Compare(t.topic, id) })
	if !ok {
		return nil
	}
	return &h[i]
}

// epoch is when a partition was given to the member; false if it has not got it.
func (h held) epoch(topic kafka.TopicID, partition int32) (int32, bool) {
	t := h.at(topic)
	if t == nil {
		return 0, false
	}
	i, ok := slices.BinarySearch(t.partitions, partition)
	if !ok {
		return 0, false
	}
	return t.epochs[i], true
}

func (h held) has(topic kafka.TopicID, partition int32) bool {
	_, ok := h.epoch(topic, partition)
	return ok
}

// all yields every partition, in order.
func (h held) all(yield func(kafka.TopicPartition, int32) bool) {
	for i := range h {
		for j, p := range h[i].partitions {
			if !yield(kafka.TopicPartition{Topic: h[i].topic, Partition: p}, h[i].epochs[j]) {
				return
			}
		}
	}
}

// len is the number of partitions.
func (h held) len() int {
	n := 0
	for i := range h {
		n += len(h[i].partitions)
	}
	return n
}

// assignment are the partitions without their epochs.
func (h held) assignment() assign.Assignment {
	out := make(assign.Assignment, 0, len(h))
	for i := range h {
		out = append(out, assign.TopicPartitions{Topic: h[i].topic, Partitions: h[i].partitions})
	}
	return out
}

func (h held) equal(o held) bool {
	return slices.EqualFunc(h, o, func(a, b heldTopic) bool {
		return a.topic == b.topic && slices.Equal(a.partitions, b.partitions) && slices.Equal(a.epochs, b.epochs)
	})
}

// samePartitions compares without the epochs.
func (h held) samePartitions(o held) bool {
	return slices.EqualFunc(h, o, func(a, b heldTopic) bool { return a.topic == b.topic && slices.Equal(a.partitions, b.partitions) })
}

// split gives those for which keep says so, and the others.
func (h held) split(keep func(kafka.TopicPartition) bool) (kept, rest held) {
	for tp, epoch := range h.all {
		if keep(tp) {
			kept = kept.add(tp, epoch)
		} else {
			rest = rest.add(tp, epoch)
		}
	}
	return kept, rest
}

// add puts one partition at the end, which it must belong to; only for what nobody else has yet.
func (h held) add(tp kafka.TopicPartition, epoch int32) held {
	if len(h) == 0 || h[len(h)-1].topic != tp.Topic {
		return append(h, heldTopic{tp.Topic, []int32{tp.Partition}, []int32{epoch}})
	}
	t := &h[len(h)-1]
	t.partitions, t.epochs = append(t.partitions, tp.Partition), append(t.epochs, epoch)
	return h
}

// union are the partitions of both; where both have one, the epoch is h's.
func (h held) union(o held) held {
	var out held
	for len(h) > 0 || len(o) > 0 {
		switch {
		case len(o) == 0 || len(h) > 0 && assign.Compare(h[0].topic, o[0].topic) < 0:
			out, h = append(out, h[0]), h[1:]
		case len(h) == 0 || assign.Compare(h[0].topic, o[0].topic) > 0:
			out, o = append(out, o[0]), o[1:]
		default:
			out, h, o = append(out, unionTopic(h[0], o[0])), h[1:], o[1:]
		}
	}
	return out
}

func unionTopic(a, b heldTopic) heldTopic {
	t := heldTopic{topic: a.topic}
	for i, j := 0, 0; i < len(a.partitions) || j < len(b.partitions); {
		switch {
		case j == len(b.partitions) || i < len(a.partitions) && a.partitions[i] < b.partitions[j]:
			t.partitions, t.epochs, i = append(t.partitions, a.partitions[i]), append(t.epochs, a.epochs[i]), i+1
		case i == len(a.partitions) || a.partitions[i] > b.partitions[j]:
			t.partitions, t.epochs, j = append(t.partitions, b.partitions[j]), append(t.epochs, b.epochs[j]), j+1
		default:
			t.partitions, t.epochs, i, j = append(t.partitions, a.partitions[i]), append(t.epochs, a.epochs[i]), i+1, j+1
		}
	}
	return t
}

// normalized sorts what came from outside, without duplicates and empty topics.
func normalized(a assign.Assignment) assign.Assignment {
	byTopic := slices.Clone(a)
	slices.SortStableFunc(byTopic, func(x, y assign.TopicPartitions) int { return assign.Compare(x.Topic, y.Topic) })
	var out assign.Assignment
	for _, t := range byTopic {
		if len(t.Partitions) == 0 {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Topic != t.Topic {
			out = append(out, assign.TopicPartitions{Topic: t.Topic})
		}
		last := &out[len(out)-1]
		last.Partitions = append(last.Partitions, t.Partitions...)
	}
	for i := range out {
		slices.Sort(out[i].Partitions)
		out[i].Partitions = slices.Compact(out[i].Partitions)
	}
	return out
}

// covers tells whether all partitions of an assignment are among these.
func (h held) covers(a assign.Assignment) bool {
	for i := range a {
		for _, p := range a[i].Partitions {
			if !h.has(a[i].Topic, p) {
				return false
			}
		}
	}
	return true
}
