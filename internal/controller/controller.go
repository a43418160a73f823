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
	loop   *loop         // touched by its own goroutine only, through the inbox
	done   sync.WaitGroup
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
	formed := r.image == nil
	if formed && c.o.Joined {
		return fmt.Errorf("the metadata in %s are gone, but the data directory belongs to cluster %s: restore them from a backup or another node; to start anew, move the whole data directory away",
			c.o.Dir, c.o.ClusterID)
	}
	if formed {
		clusterID := c.o.ClusterID
		if clusterID == "" {
			clusterID = NewClusterID()
		}
		voters := c.o.voters
		if voters == nil {
			voters = [][16]byte{c.o.Directory}
		}
		*r = *form(clusterID, voters)
	}
	if err := c.mine(r); err != nil {
		return err
	}
	c.bus = metadata.NewBus(r.image, c.o.EventsRetained)
	l := &loop{
		o:         &c.o,
		bus:       c.bus,
		inbox:     c.inbox,
		journal:   j,
		lead:      c.leader.Store,
		image:     r.image,
		imageTerm: r.meta.GetTerm(),
		confState: r.meta.GetConfState(),
		hardState: r.hardState,
		lastIndex: r.last(),
		snapshot:  snapshotting{grown: r.bytes, size: r.size, index: r.meta.GetIndex(), due: r.crowded, positions: r.positions},
	}
	if formed {
		// The journal keeps the order, so that whatever becomes durable later finds this before it.
		l.writeSnapshot(0, r.meta, r.image, func(wal.LSN) {})
	}
	l.storage = &storage{MemoryStorage: raft.NewMemoryStorage(), newest: func() (*metadata.Image, *raftpb.SnapshotMetadata) {
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
	if slices.Equal(l.confState.GetVoters(), []uint64{c.id}) {
		if err := l.node.Campaign(); err != nil { // alone, there is nobody to wait for
			return fmt.Errorf("campaign: %w", err)
		}
	}
	c.loop = l
	c.done.Go(l.run)
	return nil
}

// mine checks that the metadata belongs to this node.
func (c *Controller) mine(r *recovered) error {
	if id := r.image.ClusterID(); c.o.ClusterID != "" && id != c.o.ClusterID {
		return fmt.Errorf("the metadata in %s is of cluster %s, but the data directory belongs to cluster %s", c.o.Dir, id, c.o.ClusterID)
	}
	cs := r.meta.GetConfState()
	members := slices.Concat(cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing(), cs.GetLearnersNext())
	if !slices.Contains(members, c.id) && len(r.entries) == 0 {
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
		Logger:                    raftLogger{c.o.Logger},
	}
}

// Close ends the node's part. Calls under way get REQUEST_TIMED_OUT; images stay readable.
func (c *Controller) Close() error {
	c.inbox.close()
	c.done.Wait()
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

// Receive takes a Raft message that another node sent with Transport.Send.
func (c *Controller) Receive(message []byte) error {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(message, m); err != nil {
		return fmt.Errorf("a Raft message of %d bytes: %w", len(message), err)
	}
	c.inbox.post(func() {
		if m.GetType() == raftpb.MsgReadIndex && !c.loop.readable() {
			return // the sender tries again
		}
		// Raft refuses what is stale or not for it; nobody is to be told.
		_ = c.loop.node.Step(m)
	})
	return nil
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
	for b := range c.Image().Brokers() {
		if RaftID(b.Directory) == leader {
			return b.ID
		}
	}
	return kafka.NoLeader
}
