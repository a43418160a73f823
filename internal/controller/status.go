package controller

import (
	"go.etcd.io/raft/v3"

	"chronik/internal/kafka"
)

// Status is what this node knows of who writes the metadata.
type Status struct {
	Leader kafka.BrokerID // kafka.NoLeader if unknown
	Term   uint64         // the last in which a leader was known here
	// Elections counts the terms in which a leader became known since the start.
	Elections int64
}

// Status may be asked from any goroutine.
func (c *Controller) Status() Status {
	return Status{Leader: c.Controller(), Term: c.term.Load(), Elections: c.elections.Load()}
}

// led is told by the loop who leads.
func (c *Controller) led(raftID, term uint64) {
	if raftID != raft.None && term != c.term.Load() { // a term has one leader
		c.elections.Add(1)
		c.term.Store(term)
	}
	c.leader.Store(raftID)
}
