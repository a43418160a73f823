package api

import (
	"chronik/internal/kafka"
)

// leaderHint is who leads a partition, for a client that asked the wrong node or in an old epoch (KIP-951).
type leaderHint struct {
	node  nodeEndpoint
	epoch kafka.LeaderEpoch
}

// leaderHint finds the leader of a partition as the metadata has it. It is only given when certain: where this node
// itself is named, it must really lead by now, or the client would come back at once for the same answer.
func (h *Handlers) leaderHint(conn *Conn, topic string, partition int32) (leaderHint, bool) {
	image := h.Store.Image()
	t := image.Topic(topic)
	if t == nil {
		return leaderHint{}, false
	}
	p := t.Partitions.At(partition)
	if p == nil || p.Leader == kafka.NoLeader || h.Lost != nil && p.Leader != h.NodeID && h.Lost(p.Leader) {
		return leaderHint{}, false
	}
	if p.Leader == h.NodeID {
		local, err := h.Replicas.Partition(kafka.TopicPartition{Topic: t.ID, Partition: partition})
		if err != nil {
			return leaderHint{}, false
		}
		if _, epoch, led := local.Leader(); !led || epoch != p.LeaderEpoch {
			return leaderHint{}, false
		}
	}
	node, ok := h.endpointOf(conn, p.Leader)
	return leaderHint{node, p.LeaderEpoch}, ok
}

// addNode adds an endpoint unless it is there.
func addNode(nodes []nodeEndpoint, n nodeEndpoint) []nodeEndpoint {
	for i := range nodes {
		if nodes[i].id == n.id {
			return nodes
		}
	}
	return append(nodes, n)
}

// endpointOf is where a broker listens for the client that asks.
func (h *Handlers) endpointOf(conn *Conn, id kafka.BrokerID) (nodeEndpoint, bool) {
	v := h.view(conn)
	addr, rack, ok := v.address(id)
	ok = ok && v.alive(id)
	n := nodeEndpoint{id: id, host: addr.Host, port: addr.Port}
	if rack != "" {
		n.rack = &rack
	}
	return n, ok
}
