package replica

import (
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Partition is a partition that this node has a replica of. All methods are safe for concurrent use.
//
// What changes with leadership lives under mu, which is taken for a few assignments at a time and never held over I/O:
// the order of appends is the store's affair, and the completion path of its log (onDurable) must not wait for anything.
type Partition struct {
	id     kafka.TopicPartition
	topic  string
	disk   disk
	node   *node
	config atomic.Pointer[config.Topic]

	// ordered is a slot of one: changes of leadership, and whatever a leader has this replica do to its log. It is held
	// over I/O. A leader's own appends do not take it: the disk refuses those of an epoch that is over.
	ordered chan struct{}
	// streamed: there are sessions, somebody has to hear of each append.
	streamed atomic.Bool
	damaged  atomic.Bool // the disk holds bytes that are not as they were written, or lacks them

	mu struct {
		sync.Mutex
		gone        error // why this partition takes no more requests, for good; nil while it does
		leader      bool  // this node leads, and the start of leaderEpoch is durable
		follower    bool  // this node follows leaderID in leaderEpoch
		resigning   bool  // an append failed: this node appends no more in this epoch
		leaderID    kafka.BrokerID
		leaderEpoch kafka.LeaderEpoch
		deposed     kafka.LeaderEpoch    // the newest that the metadata know of: no older one begins
		meta        *metadata.Partition  // last applied
		epoch       kafka.PartitionEpoch // its
		progress    progress
		sessions    []*Session // at most one for each follower
		began       map[kafka.BrokerID]beginning
		proposal    *proposal    // the one outstanding change of the in-sync set
		notBefore   time.Time    // the next proposal
		toldStart   kafka.Offset // the log start that the streams were told of
		followed    followed
		refill      refill
		// watermarkEpoch is the leader epoch in which the high watermark was learned last.
		watermarkEpoch kafka.LeaderEpoch
		committed      waitQueue // for the high watermark
		durable        waitQueue // for this node's disk
		watchers       []chan<- struct{}
	}
}

func newPartition(id kafka.TopicPartition, topic string, d disk, c config.Topic, n *node) *Partition {
	p := &Partition{id: id, topic: topic, disk: d, node: n, ordered: make(chan struct{}, 1)}
	p.config.Store(&c)
	p.mu.leaderID = kafka.NoLeader
	p.mu.leaderEpoch, p.mu.deposed, p.mu.watermarkEpoch = kafka.NoLeaderEpoch, kafka.NoLeaderEpoch, kafka.NoLeaderEpoch
	p.mu.progress.local = n.broker
	p.mu.progress.lagMax = n.lagMax
	p.mu.progress.minInsync = int(c.MinInsyncReplicas)
	p.mu.progress.highWatermark = d.LogStart()
	d.OnDurable(p.onDurable)
	d.OnDamaged(p.onDamaged)
	p.damaged.Store(len(d.Damaged()) > 0)
	return p
}

// ID names the partition for good.
func (p *Partition) ID() kafka.TopicPartition { return p.id }

// Topic is the topic's name.
func (p *Partition) Topic() string { return p.topic }

// Config is the topic's configuration now; it must not be changed.
func (p *Partition) Config() *config.Topic { return p.config.Load() }

// LogStart is the first offset that is served.
func (p *Partition) LogStart() kafka.Offset { return p.disk.LogStart() }

// HighWatermark is the offset below which everything is committed, as far as this node knows.
func (p *Partition) HighWatermark() kafka.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.progress.highWatermark
}

// LastStableOffset is the offset below which, besides, every transaction is decided (KIP-98).
func (p *Partition) LastStableOffset() kafka.Offset { return p.lastStable(p.HighWatermark()) }

func (p *Partition) lastStable(highWatermark kafka.Offset) kafka.Offset {
	if first := p.disk.FirstUnstable(); first != kafka.NoOffset {
		return min(highWatermark, first)
	}
	return highWatermark
}

// Leader is the leader's ID and epoch as this partition has applied them; led says that it is this node and serves.
func (p *Partition) Leader() (id kafka.BrokerID, epoch kafka.LeaderEpoch, led bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.leaderID, p.mu.leaderEpoch, p.mu.leader
}

// Snapshot is the partition's offsets now; NOT_LEADER_OR_FOLLOWER if it is not led here, or if the lease is over, and the
// epoch errors of KIP-320 if epoch is neither NoLeaderEpoch nor the leader's.
func (p *Partition) Snapshot(epoch kafka.LeaderEpoch) (Snapshot, error) {
	s, _, err := p.snapshot(epoch)
	return s, err
}

// snapshot also returns where the leader's epoch starts.
func (p *Partition) snapshot(epoch kafka.LeaderEpoch) (Snapshot, kafka.Offset, error) {
	p.mu.Lock()
	err := p.checkLeaderLocked(epoch)
	if err == nil && !p.node.leased() {
		err = p.leaseError()
	}
	if err != nil {
		p.mu.Unlock()
		return Snapshot{}, 0, err
	}
	s := p.offsetsLocked()
	epochStart := p.mu.progress.epochStart
	p.mu.Unlock()
	s.LastStable = p.lastStable(s.HighWatermark)
	return s, epochStart, nil
}

// offsetsLocked is all but the last stable offset, which may need the disk.
func (p *Partition) offsetsLocked() Snapshot {
	return Snapshot{
		LogStart:      p.disk.LogStart(),
		HighWatermark: p.mu.progress.highWatermark,
		LogEnd:        p.disk.LogEnd(),
		LeaderEpoch:   p.mu.leaderEpoch,
	}
}

func (p *Partition) leaseError() error {
	return kafka.ErrNotLeaderOrFollower.With("broker %d has not heard from the controller for so long that %s-%d may have another leader",
		p.node.broker, p.topic, p.id.Partition)
}

// checkLeaderLocked judges a request that must reach the leader, in the epoch that the client believes in. The epoch
// comes first, as in Kafka: it tells the client whose metadata is the older.
func (p *Partition) checkLeaderLocked(epoch kafka.LeaderEpoch) error {
	if err := p.checkEpochLocked(epoch); err != nil {
		return err
	}
	if !p.mu.leader {
		return kafka.ErrNotLeaderOrFollower
	}
	return nil
}

// checkEpochLocked judges the epoch that a client believes in; any replica can.
func (p *Partition) checkEpochLocked(epoch kafka.LeaderEpoch) error {
	switch {
	case p.mu.gone != nil:
		return p.mu.gone
	case epoch != kafka.NoLeaderEpoch && epoch < p.mu.leaderEpoch:
		return kafka.ErrFencedLeaderEpoch
	case epoch != kafka.NoLeaderEpoch && epoch > p.mu.leaderEpoch:
		return kafka.ErrUnknownLeaderEpoch
	}
	return nil
}

// Watch signals w (without blocking: signals collapse) whenever a fetch might see something new: the high watermark, the
// last stable offset or the log start moved, or leadership changed. Register, then look, then wait.
func (p *Partition) Watch(w chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.watchers = append(p.mu.watchers, w)
}

// Unwatch ends what Watch began.
func (p *Partition) Unwatch(w chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, x := range p.mu.watchers {
		if x == w {
			last := len(p.mu.watchers) - 1
			p.mu.watchers[i] = p.mu.watchers[last]
			p.mu.watchers[last] = nil
			p.mu.watchers = p.mu.watchers[:last]
			return
		}
	}
}

func (p *Partition) signalLocked() {
	for _, w := range p.mu.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// onDurable is called by the store, once per group commit, with the new end of what is on this node's disk.
func (p *Partition) onDurable(end kafka.Offset) {
	p.mu.Lock()
	p.mu.progress.durable(p.node.broker, end)
	moved, whole, followed := false, false, p.mu.follower
	switch {
	case p.mu.leader:
		p.mu.durable.reached(end)
		moved = p.advanceLocked()
	case followed:
		p.advanceFollowerLocked()
		whole = p.refilledLocked()
	}
	p.mu.Unlock()
	if whole {
		p.wholeAgain()
	}
	if moved {
		p.tellWatermark()
	}
	if followed {
		p.node.streams.Durable(p)
	}
}

// advanceLocked moves the high watermark of a led partition as far as it goes, and tells whoever waits for it. If it moved
// the caller tells the streams once it has let go of mu.
func (p *Partition) advanceLocked() (moved bool) {
	if !p.mu.progress.advance() {
		return false
	}
	highWatermark := p.mu.progress.highWatermark
	p.disk.SetHighWatermark(highWatermark)
	p.mu.watermarkEpoch = p.mu.leaderEpoch
	p.mu.committed.reached(highWatermark)
	p.signalLocked()
	return true
}

// tellStreams tells the streams that a led partition has something new, if it has sessions.
func (p *Partition) tellStreams() {
	if p.streamed.Load() {
		p.node.streams.Changed(p)
	}
}

func (p *Partition) tellWatermark() {
	if p.streamed.Load() {
		p.node.streams.Watermark(p)
	}
}

// describeLocked takes over what the metadata says of replicas and in-sync set.
func (p *Partition) describeLocked(m *metadata.Partition) {
	p.mu.meta = m
	p.mu.epoch = m.PartitionEpoch
	p.mu.leaderID = m.Leader
	p.mu.progress.assign(m.Replicas, m.ISR)
	if pr := p.mu.proposal; pr != nil && m.PartitionEpoch > pr.command.Base {
		p.mu.proposal, p.mu.progress.proposed = nil, nil // it is this change, or can be none any more
	}
}
