package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/peer"
	"chronik/internal/wal"
)

// Controller is the metadata.Store of this node, and the metadata's writer while it leads. Its methods may be called
// from any goroutine; those that change something wait for a quorum, and the caller must hold nothing.
type Controller struct {
	o      Options
	id     uint64 // Raft ID
	bus    *metadata.Bus
	inbox  *inbox
	room   chan struct{} // holds a token per call under way
	leader atomic.Uint64 // Raft ID; 0 if unknown
	term   atomic.Uint64 // the last in which a leader was known
	// elections counts the terms in which a leader became known.
	elections atomic.Int64
	loop      *loop          // touched by its own goroutine only, through the inbox
	ended     sync.WaitGroup // the loop
}

var _ metadata.Store = (*Controller)(nil)

// Open recovers the metadata in a directory, or forms a cluster if there is none, and starts to take part. It does not
// wait for a leader: commands do.
func Open(o Options) (*Controller, error) {
	o.setDefaults()
	c := &Controller{o: o, id: RaftID(o.Directory), inbox: newInbox(), room: make(chan struct{}, o.Limits.Commands)}
	j, r, err := openJournal(&c.o, c.durable, c.failed)
	if err != nil {
		return nil, err
	}
	if err := c.start(j, r); err != nil {
		return nil, errors.Join(err, j.close())
	}
	return c, nil
}

// OpenMemory is a controller that keeps its metadata in memory only, for tests.
func OpenMemory(o Options) (*Controller, error) {
	o.setDefaults()
	c := &Controller{o: o, id: RaftID(o.Directory), inbox: newInbox(), room: make(chan struct{}, o.Limits.Commands)}
	if err := c.start(&memoryJournal{durable: c.durable}, &recovered{}); err != nil {
		return nil, err
	}
	return c, nil
}

// start begins the loop with what was recovered.
func (c *Controller) start(j journal, r *recovered) error {
	formed := r.image == nil && !c.o.Start.join
	switch {
	case r.image == nil && c.o.Joined:
		return fmt.Errorf("the metadata in %s are gone, but the data directory belongs to cluster %s: restore the directory from a backup; where "+
			"other nodes hold the cluster's metadata, move the whole data directory away, and this node joins as a new one", c.o.Dir, c.o.ClusterID)
	case formed && r.joining:
		return fmt.Errorf("the metadata in %s are those of a node that was joining a cluster and is told of none now: give it cluster.join", c.o.Dir)
	case formed:
		clusterID := c.o.ClusterID
		if clusterID == "" {
			clusterID = NewClusterID()
		}
		voters := c.o.voters
		if voters == nil {
			voters = []metadata.Voter{{ID: c.o.NodeID, Directory: c.o.Directory, Address: c.o.ClusterAddress}}
		}
		*r = *form(clusterID, voters)
	case r.image == nil:
		*r = *joining(r.hardState)
	}
	if err := c.mine(r); err != nil {
		return err
	}
	c.bus = metadata.NewBus(r.image, c.o.EventsRetained)
	l := &loop{
		o:         &c.o,
		id:        c.id,
		bus:       c.bus,
		inbox:     c.inbox,
		journal:   j,
		lead:      c.led,
		image:     r.image,
		imageTerm: r.meta.GetTerm(),
		confState: r.meta.GetConfState(),
		hardState: r.hardState,
		lastIndex: r.last(),
		barrier:   newBarrier(),
		liveness:  liveness{o: c.o.Lifecycle, proofs: map[kafka.BrokerID]proof{}},
		snapshot:  snapshotting{grown: r.bytes, size: r.size, index: r.meta.GetIndex(), due: r.crowded, positions: r.positions},
	}
	if formed {
		// The journal keeps the order, so that whatever becomes durable later finds this before it.
		l.writeSnapshot(0, r.meta, r.image, func(wal.LSN) {})
	}
	l.storage = &storage{MemoryStorage: raft.NewMemoryStorage(), kept: c.o.entriesKept, newest: func() (*metadata.Image, *raftpb.SnapshotMetadata) {
		index, term := uint64(l.image.Offset()), l.imageTerm
		return l.image, &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: l.confState}
	}}
	if err := l.storage.restore(r); err != nil {
		return fmt.Errorf("restore Raft's storage: %w", err)
	}
	var err error
	if l.node, err = raft.NewRawNode(c.raftConfig(l.storage, r.meta.GetIndex())); err != nil {
		return fmt.Errorf("start Raft: %w", err)
	}
	if !slices.Equal(l.confState.GetVoters(), []uint64{c.id}) {
		l.hasten()
	} else if err := l.node.Campaign(); err != nil { // alone, there is nobody to wait for
		return fmt.Errorf("campaign: %w", err)
	}
	c.loop = l
	l.leaderSeen = c.o.Clock.Now()
	if c.o.Transport != nil {
		l.follow()
		c.o.Transport.Attach(c)
	}
	c.ended.Go(l.run)
	return nil
}

// mine checks that the metadata belongs to this node.
func (c *Controller) mine(r *recovered) error {
	if id := r.image.ClusterID(); c.o.ClusterID != "" && id != c.o.ClusterID {
		return fmt.Errorf("the metadata in %s is of cluster %s, but the data directory belongs to cluster %s", c.o.Dir, id, c.o.ClusterID)
	}
	cs := r.meta.GetConfState()
	members := slices.Concat(cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing(), cs.GetLearnersNext())
	// One that was removed from the cluster is no member, and may come back as one.
	if !slices.Contains(members, c.id) && len(r.entries) == 0 && !c.o.Start.join && !c.o.Joined {
		return fmt.Errorf("the metadata in %s was written by another data directory (Raft ID %x is not one of %x); was it copied?",
			c.o.Dir, c.id, members)
	}
	return nil
}

func (c *Controller) raftConfig(s raft.Storage, applied uint64) *raft.Config {
	return &raft.Config{
		ID:                        c.id,
		ElectionTick:              electionTicks,
		HeartbeatTick:             heartbeatTicks,
		Storage:                   s,
		Applied:                   applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             1 << 20,
		MaxInflightMsgs:           64,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{c.o.Logger},
	}
}

// Close gives the leadership to another node, if this one has it and another can take it, and ends the node's part. Calls
// under way get REQUEST_TIMED_OUT; images stay readable.
func (c *Controller) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), transferTimeout)
	defer cancel()
	if err := c.TransferLeadership(ctx, "this node is shutting down"); err != nil {
		c.o.Logger.Info("the leadership of the metadata was not handed over", "error", err)
	}
	c.inbox.close()
	c.ended.Wait()
	if c.o.Transport != nil {
		c.o.Transport.Detach()
	}
	c.bus.Close()
	return c.loop.journal.close()
}

// durable is the journal's report; it must not block.
func (c *Controller) durable(count int64) {
	c.inbox.post(func() { c.loop.durable(count) })
}

// failed is the journal's last report; it must not block.
func (c *Controller) failed(err error) {
	c.inbox.post(func() { c.loop.fail(err) })
}

// sender is what a Raft message shows of who sent it.
type sender int

const (
	senderUnknown sender = iota // the message is not for this node, or under a name that is not the sender's
	senderMember                // it takes itself for a member
	senderLeader                // it leads, in no older term than is known here
)

// Receive takes a Raft message that a node sent with Transport.Send. A message for another Raft
// ID is for the disk that this node had before; one from another would be a vote under a name that is not the sender's.
func (c *Controller) Receive(from peer.Identity, message []byte) (sender, error) {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(message, m); err != nil {
		return senderUnknown, fmt.Errorf("a Raft message of %d bytes: %w", len(message), err)
	}
	if m.GetTo() != c.id || m.GetFrom() != RaftID(from.Directory) {
		return senderUnknown, nil
	}
	c.inbox.post(func() {
		if c.loop.late(m.GetFrom(), from.Incarnation) {
			return
		}
		if m.GetType() == raftpb.MsgReadIndex && !c.loop.readable() {
			c.loop.barrier.postpone(m)
			return
		}
		// Raft refuses what is stale or not for it; nobody is to be told.
		_ = c.loop.node.Step(m)
		if m.GetFrom() == c.loop.known {
			c.loop.leaderHeard = c.o.Clock.Now()
		}
	})
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		if m.GetTerm() >= c.term.Load() {
			return senderLeader, nil
		}
	}
	return senderMember, nil
}

// Image is the newest image applied here.
func (c *Controller) Image() *metadata.Image { return c.bus.Image() }

// Subscribe returns a cursor on what follows the offset.
func (c *Controller) Subscribe(name string, after metadata.Offset) *metadata.Cursor {
	return c.bus.Subscribe(name, after)
}

// WaitApplied returns once the image's offset has reached the offset.
func (c *Controller) WaitApplied(ctx context.Context, offset metadata.Offset) error {
	return c.bus.WaitApplied(ctx, offset)
}

// Controller is the broker that leads, kafka.NoLeader if it is not known.
func (c *Controller) Controller() kafka.BrokerID {
	leader := c.leader.Load()
	switch leader {
	case raft.None:
		return kafka.NoLeader
	case c.id:
		return c.o.NodeID
	}
	return brokerOf(c.Image(), leader)
}
