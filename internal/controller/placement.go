package controller

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// place spreads the replicas of partitions first..first+count-1 over the brokers. It keeps no state: where it begins
// follows from the topic's ID, so that many small topics spread too. Each live broker is the preferred leader of
// every n-th partition. The other replicas are taken from live brokers before others, from the racks used least
// before others, and in an order that shifts from round to round, so that a broker's partitions have their followers
// everywhere. Errors are Kafka's.
func (s state) place(topic kafka.TopicID, first, count, replicationFactor int) ([][]kafka.BrokerID, error) {
	refuse := func(format string, args ...any) error {
		return kafka.ErrInvalidReplicationFactor.With("Unable to replicate the partition %d time(s): "+format,
			append([]any{replicationFactor}, args...)...)
	}
	ring := s.ring()
	if len(ring) < replicationFactor {
		return nil, refuse("The target replication factor of %d cannot be reached because only %d broker(s) are registered.",
			replicationFactor, len(ring))
	}
	if ring[0].Fenced {
		return nil, refuse("All brokers are currently fenced.")
	}
	best := 1 // how many are as good as the first: they lead
	for best < len(ring) && reluctance(ring[best]) == reluctance(ring[0]) {
		best++
	}
	h := fnv.New64a()
	h.Write(topic[:])
	start := int(binary.BigEndian.Uint64(h.Sum(nil)) >> 33)
	assignment := make([][]kafka.BrokerID, count)
	for i := range assignment {
		assignment[i] = replicasOf(ring, best, start, first+i, replicationFactor)
	}
	return assignment, nil
}

// ring is the brokers, live ones first; in each half neighbours stand in different racks as far as possible.
func (s state) ring() []*metadata.Broker {
	racks := map[string][]*metadata.Broker{}
	for b := range s.image.Brokers() {
		racks[b.Rack] = append(racks[b.Rack], b)
	}
	var ring []*metadata.Broker
	names := slices.Sorted(maps.Keys(racks))
	for row, found := 0, true; found; row++ {
		found = false
		for _, name := range names {
			if row < len(racks[name]) {
				ring = append(ring, racks[name][row])
				found = true
			}
		}
	}
	slices.SortStableFunc(ring, func(a, b *metadata.Broker) int { return cmp.Compare(reluctance(a), reluctance(b)) })
	return ring
}

// reluctance is how little a broker is wanted for new partitions: last come fenced ones, before them those that must not
// lead for now.
func reluctance(b *metadata.Broker) int {
	switch {
	case b.Fenced:
		return 2
	case b.InControlledShutdown || b.Slow:
		return 1
	}
	return 0
}

func replicasOf(ring []*metadata.Broker, live, start, partition, replicationFactor int) []kafka.BrokerID {
	leader := (start + partition) % live
	replicas := []kafka.BrokerID{ring[leader].ID}
	used := map[string]int{ring[leader].Rack: 1}
	// The other brokers, in the order in which this partition prefers them.
	others := len(ring) - 1
	round := (start + partition) / live
	candidates := make([]*metadata.Broker, 0, others)
	for k := range others {
		candidates = append(candidates, ring[(leader+1+(round+k)%others)%len(ring)])
	}
	for len(replicas) < replicationFactor {
		best := -1
		for i, b := range candidates {
			if b == nil {
				continue
			}
			if best < 0 || cmp.Or(cmp.Compare(reluctance(b), reluctance(candidates[best])),
				cmp.Compare(used[b.Rack], used[candidates[best].Rack])) < 0 {
				best = i
			}
		}
		replicas = append(replicas, candidates[best].ID)
		used[candidates[best].Rack]++
		candidates[best] = nil
	}
	return replicas
}
