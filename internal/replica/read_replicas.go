package replica

import "chronik/internal/kafka"

// ReadReplica is a replica that a consumer may read from instead of the leader (KIP-392).
type ReadReplica struct {
	Broker kafka.BrokerID
	LogEnd kafka.Offset // that the leader knows to be on its disk
}

// ReadReplicas appends the replicas that have the offset: members of the committed in-sync set other than this node. None
// where this node does not lead: who follows answers itself. One that lags so far that it is not in sync must not be read
// from, for a consumer would lag with it.
func (p *Partition) ReadReplicas(dst []ReadReplica, from kafka.Offset) []ReadReplica {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.leader || from < p.disk.LogStart() {
		return dst
	}
	for _, id := range p.mu.progress.committed {
		if end := p.mu.progress.endOf(id); id != p.node.broker && end >= from {
			dst = append(dst, ReadReplica{id, end})
		}
	}
	return dst
}
