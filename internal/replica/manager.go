package replica

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/record"
	"chronik/internal/store"
)

// Options of a Manager.
type Options struct {
	Metadata metadata.Store
	Store    *store.Store
	Broker   kafka.BrokerID
	Config   *config.Config // as given at start; what was set since comes with the image
	Codecs   *record.Codecs // shared with the node's logs; nil for its own
	Clock    clock.Clock
	Logger   *slog.Logger
	// Concurrency is how many partitions are worked on at a time, 256 if 0. Most of it is waiting for one group commit.
	Concurrency int
	// Streams carries records between the replicas; nil on a node that has no peers. It is given before Start, because the
	// streams need the manager: SetStreams.
	Streams Streams
	// Lease tells whether this node may answer as a leader for what no quorum confirms: fetches and acks=1. nil: always.
	Lease func() bool
	// BrokerEpoch is that of this process's registration; nil: what the image says.
	BrokerEpoch func() kafka.BrokerEpoch
	// LagMax is replica.lag.time.max.ms: how long an in-sync replica may lag; 0 is 10 s.
	LagMax time.Duration
	// DamageChanged is called when Damaged is another; it must not block. nil: nobody has to know.
	DamageChanged func()
}

// Manager makes the store's partitions agree with the metadata: it follows the events with a cursor of its own, creates
// what was assigned to this node, starts leader epochs, deletes what is gone. One goroutine decides, in commit order;
// the work on a batch's partitions is done at once, so that they share group commits. That waits for the disk: beside it, another
// goroutine with a cursor of its own ends leadership that is over, which waits for nothing.
type Manager struct {
	o     Options
	store storage
	node  *node
	log   *slog.Logger

	partitions struct {
		sync.RWMutex
		byID map[kafka.TopicPartition]*Partition
	}

	mu struct {
		sync.Mutex
		applied metadata.Offset
		waiting chan struct{}      // closed when applied moves; nil while nobody waits
		kicked  bool               // the loop is to look around once more
		idle    context.CancelFunc // ends its wait for events; nil while it works
		retry   []kafka.TopicPartition
		timer   clock.Timer // of retry; nil while it is empty
		closed  bool
		// removing are partitions whose files are being removed.
		removing map[kafka.TopicPartition]struct{}
	}
	config     *config.Config // in force at the last image; the loop's own
	replicates bool           // there are streams

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done sync.WaitGroup
}

const retryDelay = time.Second

// NewManager makes a manager; Start begins its work.
func NewManager(o Options) *Manager { return newManager(o, onStore{o.Store}) }

func newManager(o Options, s storage) *Manager {
	if o.Concurrency == 0 {
		o.Concurrency = 256
	}
	if o.Codecs == nil {
		o.Codecs = new(record.Codecs)
	}
	if o.LagMax <= 0 {
		o.LagMax = defaultLagMax
	}
	m := &Manager{o: o, store: s, log: o.Logger, config: o.Config}
	m.partitions.byID = map[kafka.TopicPartition]*Partition{}
	m.mu.applied = -1
	m.mu.removing = map[kafka.TopicPartition]struct{}{}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.node = &node{
		broker: o.Broker, codecs: o.Codecs, clock: o.Clock, log: o.Logger, metadata: o.Metadata, streams: noStreams{},
		lease: o.Lease, brokerEpoch: o.BrokerEpoch, lagMax: o.LagMax, onDamage: o.DamageChanged,
		background: &background{ctx: m.ctx, workers: o.Concurrency, done: &m.done},
	}
	m.SetStreams(o.Streams)
	return m
}

// SetStreams gives what Options.Streams could not: the streams need the manager that they serve. Before Start.
func (m *Manager) SetStreams(s Streams) {
	if s != nil {
		m.node.streams, m.replicates = s, true
	}
}

// Start follows the metadata from now on. What the image holds already is applied first, as every later change is:
// WaitApplied tells when.
func (m *Manager) Start() {
	cursor := m.o.Metadata.Subscribe("partitions", 0)
	m.done.Add(1)
	go func() {
		defer m.done.Done()
		defer cursor.Close()
		m.follow(cursor)
	}()
	newest := m.o.Metadata.Subscribe("leaders", m.o.Metadata.Image().Offset())
	m.done.Go(func() {
		defer newest.Close()
		m.depose(newest)
	})
	if m.replicates {
		m.done.Go(m.lookAround)
	}
}

// lookAround judges, several times in LagMax, which replicas are in sync.
func (m *Manager) lookAround() {
	t := m.o.Clock.NewTicker(min(max(m.o.LagMax/10, 10*time.Millisecond), time.Second))
	defer t.Stop()
	for {
		select {
		case <-t.C():
		case <-m.ctx.Done():
			return
		}
		m.review()
	}
}

func (m *Manager) review() {
	now := m.o.Clock.Now()
	for _, p := range m.all() {
		p.look(now)
	}
}

// Close stops to follow and to serve: whoever waits gets NOT_LEADER_OR_FOLLOWER. The store is closed after it.
func (m *Manager) Close() {
	m.mu.Lock()
	m.mu.closed = true
	if m.mu.timer != nil {
		m.mu.timer.Stop()
	}
	m.mu.Unlock()
	m.stop()
	m.done.Wait()
	for _, p := range m.all() {
		p.leave(kafka.ErrNotLeaderOrFollower.With("broker %d is shutting down", m.o.Broker))
	}
}

// Partition finds a partition that this node has a replica of. UNKNOWN_TOPIC_ID or UNKNOWN_TOPIC_OR_PARTITION if the
// image has none of that name, NOT_LEADER_OR_FOLLOWER if it has and this node does not (or not yet).
func (m *Manager) Partition(id kafka.TopicPartition) (*Partition, error) {
	m.partitions.RLock()
	p := m.partitions.byID[id]
	m.partitions.RUnlock()
	if p != nil {
		return p, nil
	}
	switch topic := m.o.Metadata.Image().TopicByID(id.Topic); {
	case topic == nil:
		return nil, kafka.ErrUnknownTopicID
	case topic.Partitions.At(id.Partition) == nil:
		return nil, kafka.ErrUnknownTopicOrPartition
	}
	return nil, kafka.ErrNotLeaderOrFollower
}

// Held tells whether this node may answer as a leader for what no quorum confirms: Options.Lease.
func (m *Manager) Held() bool { return m.node.leased() }

// Partitions is every partition that this node has a replica of, in no order.
func (m *Manager) Partitions() []*Partition { return m.all() }

func (m *Manager) all() []*Partition {
	m.partitions.RLock()
	defer m.partitions.RUnlock()
	out := make([]*Partition, 0, len(m.partitions.byID))
	for _, p := range m.partitions.byID {
		out = append(out, p)
	}
	return out
}

// WaitApplied returns once the partitions agree with the image at the offset: what was created can be produced to, what
// was deleted takes no more. The error is the context's, or metadata.ErrClosed.
func (m *Manager) WaitApplied(ctx context.Context, offset metadata.Offset) error {
	m.mu.Lock()
	if m.mu.applied >= offset {
		m.mu.Unlock()
		return nil
	}
	m.mu.Unlock()
	if err := m.o.Metadata.WaitApplied(ctx, offset); err != nil {
		return err
	}
	for {
		m.mu.Lock()
		if m.mu.applied >= offset {
			m.mu.Unlock()
			return nil
		}
		if m.mu.waiting == nil {
			m.mu.waiting = make(chan struct{})
		}
		wait := m.mu.waiting
		m.kickLocked() // entries without events move the image but wake no cursor
		m.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ctx.Done():
			return metadata.ErrClosed
		}
	}
}

func (m *Manager) kickLocked() {
	m.mu.kicked = true
	if m.mu.idle != nil {
		m.mu.idle()
	}
}

func (m *Manager) reached(offset metadata.Offset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if offset <= m.mu.applied {
		return
	}
	m.mu.applied = offset
	if m.mu.waiting != nil {
		close(m.mu.waiting)
		m.mu.waiting = nil
	}
}
