package stream

import (
	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// Streams is this node's part in replication, as a leader and as a follower. It implements replica.Streams.
type Streams struct{}

// New makes streams that do nothing before Start.
func New(o Options) *Streams { return &Streams{} }

// Start begins to follow and to serve followers.
func (s *Streams) Start(replicas Replicas) {}

// Close ends all connections and returns once every goroutine has ended.
func (s *Streams) Close() {}

// Follow tells that p follows the leader in this epoch from now on, instead of whatever it did before. It never blocks.
func (s *Streams) Follow(p *replica.Partition, leader kafka.BrokerID, epoch kafka.LeaderEpoch) {}

// Stop tells that p follows nobody. It never blocks.
func (s *Streams) Stop(p *replica.Partition) {}

// Changed tells that a led partition has something to send: records, a new high watermark or log start, or that it has just
// begun to lead. It never blocks and does not call p.
func (s *Streams) Changed(p *replica.Partition) {}

// Durable tells that p, which follows, has everything below end on its disk. It never blocks and does not call p.
func (s *Streams) Durable(p *replica.Partition, end kafka.Offset) {}
