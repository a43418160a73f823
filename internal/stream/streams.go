package stream

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/peer"
	"chronik/internal/replica"
)

// Streams is this node's part in replication, as a leader and as a follower. It implements replica.Streams.
type Streams struct {
	o       Options
	log     *slog.Logger
	clock   clock.Clock
	network network
	stats   counters
	hot     atomic.Int64 // bytes of hot traffic, both ways
	session atomic.Uint64

	started  chan struct{} // closed by Start or Close
	replicas finder        // set before started is closed

	led struct { // who follows the partitions that are led here; the slices are never changed in place
		sync.RWMutex
		feeds map[kafka.TopicPartition][]*feed
	}
	admitters [admitters]admitter

	followed struct { // what this node follows
		sync.RWMutex
		partitions map[kafka.TopicPartition]*following
		sources    map[kafka.BrokerID]*source
	}
	repairs repairs

	mu struct {
		sync.Mutex
		outbounds map[*outbound]struct{}
		started   bool
		closed    bool
	}
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done sync.WaitGroup
}

var _ replica.Streams = (*Streams)(nil)

// New makes streams that serve no follower before Start.
func New(o Options) *Streams {
	s := newStreams(o, onPeers{o.Peers})
	o.Peers.OnData(func(c *peer.Conn) { s.serve(c) })
	o.Peers.Watch(func(e peer.Event) {
		if e.Kind == peer.Up {
			s.peerUp(e.Broker)
		}
	})
	return s
}

func newStreams(o Options, n network) *Streams {
	o.setDefaults()
	s := &Streams{o: o, log: o.Logger, clock: o.Clock, network: n, started: make(chan struct{})}
	s.led.feeds = map[kafka.TopicPartition][]*feed{}
	s.followed.partitions = map[kafka.TopicPartition]*following{}
	s.followed.sources = map[kafka.BrokerID]*source{}
	s.mu.outbounds = map[*outbound]struct{}{}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Start begins to serve followers. Following needs no start.
func (s *Streams) Start(replicas Replicas) { s.start(onReplicas{replicas}) }

func (s *Streams) start(f finder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.started {
		s.mu.started = true
		s.replicas = f
		close(s.started)
	}
}

// Close ends all connections and returns once every goroutine has ended; it comes before that of the partitions.
func (s *Streams) Close() {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return
	}
	s.mu.closed = true
	if !s.mu.started {
		s.mu.started = true
		close(s.started)
	}
	s.mu.Unlock()
	s.stop()
	for _, o := range s.outbounds() {
		o.shut()
	}
	for _, src := range s.sources() {
		src.shut()
	}
	s.done.Wait()
}

// begin runs f in a goroutine that Close waits for; false once the streams are closed.
func (s *Streams) begin(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return false
	}
	s.done.Go(f)
	return true
}

// Follow tells that p follows the leader in this epoch from now on, anew, instead of whatever it did before. It never
// blocks and does not call p.
func (s *Streams) Follow(p *replica.Partition, leader kafka.BrokerID, epoch kafka.LeaderEpoch) {
	s.follow(onReplica{p}, leader, epoch)
}

// Stop tells that p follows nobody. It never blocks and does not call p.
func (s *Streams) Stop(p *replica.Partition) { s.unfollow(p.ID()) }

// Lead tells that p is led here and answers Follows: those that were parked are tried again. It never blocks and does not
// call p.
func (s *Streams) Lead(p *replica.Partition, _ kafka.LeaderEpoch) { s.leads(p.ID()) }

// Appended tells that so many bytes were appended to a led partition. Where nothing is under way to a follower it sends on
// the caller's goroutine: a lone producer need not wait for another one to be scheduled. It waits for nothing.
func (s *Streams) Appended(p *replica.Partition, bytes int) { s.appended(p.ID(), bytes) }

// Changed tells that a led partition has records to send or another log start, or is led no more. It never blocks and does
// not call p.
func (s *Streams) Changed(p *replica.Partition) { s.changed(p.ID()) }

// Watermark tells that nothing but the high watermark of a led partition moved: that can wait for a batch to carry it, for
// Limits.WatermarkDelay. It never blocks and does not call p.
func (s *Streams) Watermark(p *replica.Partition) { s.watermark(p.ID()) }

// Durable tells that p, which follows, has more on its disk. It never blocks and does not call p.
func (s *Streams) Durable(p *replica.Partition) { s.durable(p.ID()) }

func (s *Streams) feeds(id kafka.TopicPartition) []*feed {
	s.led.RLock()
	defer s.led.RUnlock()
	return s.led.feeds[id]
}

func (s *Streams) changed(id kafka.TopicPartition) {
	for _, f := range s.feeds(id) {
		f.o.changed(f)
	}
}

func (s *Streams) appended(id kafka.TopicPartition, bytes int) {
	for _, f := range s.feeds(id) {
		f.o.appended(f, bytes)
	}
}

func (s *Streams) watermark(id kafka.TopicPartition) {
	for _, f := range s.feeds(id) {
		f.o.watermark(f)
	}
}

func (s *Streams) leads(id kafka.TopicPartition) {
	for _, f := range s.feeds(id) {
		f.o.tryAgain(f)
	}
}
