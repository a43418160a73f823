package api

import (
	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// Reading from a replica in the consumer's rack (KIP-392). Apache Kafka leaves it to a plug-in (replica.selector.class),
// which is off unless it is set; here the rule of its rack-aware selector holds wherever brokers have racks and a consumer
// names one: a leader in the client's rack is read from; else the in-sync replica of that rack that has the most, provided
// that it has the offset; else the leader.

// readReplicas is the choice of replicas for one Fetch request; the zero value chooses none.
type readReplicas struct {
	view view
	rack string // of the client; empty where the leader will do
	room []replica.ReadReplica
}

// readReplicas is for consumers of a rack that is not this node's.
func (h *Handlers) readReplicas(conn *Conn, r *fetchRequest) readReplicas {
	if r.rack == "" || r.replicaID >= 0 {
		return readReplicas{}
	}
	v := h.view(conn)
	if own := v.img.Broker(h.NodeID); own != nil && own.Rack == r.rack {
		return readReplicas{}
	}
	return readReplicas{view: v, rack: r.rack}
}

// choose is the replica to read from instead of the leader, which this node is; NoLeader for the leader itself.
func (r *readReplicas) choose(e *fetchEntry) kafka.BrokerID {
	if r.rack == "" {
		return kafka.NoLeader
	}
	r.room = e.partition.ReadReplicas(r.room[:0], e.from)
	best := replica.ReadReplica{Broker: kafka.NoLeader}
	for _, c := range r.room {
		if !r.view.alive(c.Broker) || r.view.img.Broker(c.Broker).Rack != r.rack {
			continue
		}
		if best.Broker == kafka.NoLeader || c.LogEnd > best.LogEnd {
			best = c
		}
	}
	return best.Broker
}

// pointAt answers with a nearer replica instead of records; the offsets are the leader's.
func (f *fetch) pointAt(e *fetchEntry, id kafka.BrokerID) {
	s, err := e.partition.Snapshot(e.leaderEpochAsked)
	if err != nil {
		e.fail(err)
		return
	}
	e.highWatermark, e.lastStable, e.logStart = s.HighWatermark, s.LastStable, s.LogStart
	e.withAborted = f.req.isolation == replica.ReadCommitted
	e.readReplica = id
}
