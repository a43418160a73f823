package stream

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/peer"
)

// source is a broker that leads partitions which this node follows, with up to two connections to it.
type source struct {
	s      *Streams
	leader kafka.BrokerID

	mu struct {
		sync.Mutex
		links  [2]*link // hot, catch-up
		closed bool
	}
}

// following is a partition that follows a leader in an epoch. It belongs to one source for good, and to one of its links
// at a time.
type following struct {
	src   *source
	p     partition
	id    kafka.TopicPartition
	epoch kafka.LeaderEpoch

	// Guarded by src.mu.
	link     *link
	session  sessionID // the one that counts; 0 while there is none
	wanting  bool      // it is in its link's follows
	acking   bool      // it is in its link's acks, and nowhere else
	mending  bool      // it is being cut or reset, and follows when that is done
	gone     bool      // this node follows otherwise, or not at all
	retries  int       // in a row
	retry    clock.Timer
	retrySet bool
}

// follow replaces what the partition followed before.
func (s *Streams) follow(p partition, leader kafka.BrokerID, epoch kafka.LeaderEpoch) {
	f := &following{p: p, id: p.ID(), epoch: epoch}
	s.followed.Lock()
	if s.ctx.Err() != nil {
		s.followed.Unlock()
		return
	}
	before := s.followed.partitions[f.id]
	if before != nil && before.epoch > epoch { // one call has overtaken another
		s.followed.Unlock()
		return
	}
	f.src = s.followed.sources[leader]
	if f.src == nil {
		f.src = newSource(s, leader)
		s.followed.sources[leader] = f.src
	}
	s.followed.partitions[f.id] = f
	s.followed.Unlock()
	if before != nil {
		before.src.remove(before)
	}
	f.src.add(f)
}

func (s *Streams) unfollow(id kafka.TopicPartition) {
	s.followed.Lock()
	f := s.followed.partitions[id]
	delete(s.followed.partitions, id)
	s.followed.Unlock()
	if f != nil {
		f.src.remove(f)
	}
}

// forget drops what is over without having been told.
func (s *Streams) forget(f *following) {
	s.followed.Lock()
	if s.followed.partitions[f.id] == f {
		delete(s.followed.partitions, f.id)
	}
	s.followed.Unlock()
	f.src.remove(f)
}

// over tells whether an error of a partition means that it does not follow in that epoch any more.
func over(err error) bool {
	return errors.Is(err, kafka.ErrNotLeaderOrFollower) || errors.Is(err, kafka.ErrUnknownTopicOrPartition)
}

// durable is told that a partition has more on the disk.
func (s *Streams) durable(id kafka.TopicPartition) {
	s.followed.RLock()
	f := s.followed.partitions[id]
	s.followed.RUnlock()
	if f == nil {
		return
	}
	f.src.mu.Lock()
	if f.session != 0 {
		f.link.ackLocked(f)
	}
	f.src.mu.Unlock()
}

func (s *Streams) sources() []*source {
	s.followed.RLock()
	defer s.followed.RUnlock()
	return slices.SortedFunc(maps.Values(s.followed.sources), func(a, b *source) int { return cmp.Compare(a.leader, b.leader) })
}

// peerUp is told that a broker can be reached.
func (s *Streams) peerUp(id kafka.BrokerID) {
	s.followed.RLock()
	src := s.followed.sources[id]
	s.followed.RUnlock()
	if src != nil {
		src.mu.Lock()
		for _, l := range src.mu.links {
			l.reachable = true
			l.work.Broadcast()
		}
		src.mu.Unlock()
	}
}

func newSource(s *Streams, leader kafka.BrokerID) *source {
	src := &source{s: s, leader: leader}
	for i, kind := range []peer.Kind{peer.Hot, peer.CatchUp} {
		src.mu.links[i] = &link{s: s, src: src, kind: kind, work: sync.NewCond(&src.mu.Mutex), partitions: map[kafka.TopicPartition]*following{}}
	}
	return src
}

func (src *source) linkLocked(kind peer.Kind) *link {
	if kind == peer.Hot {
		return src.mu.links[0]
	}
	return src.mu.links[1]
}

// add begins to follow, over the hot connection.
func (src *source) add(f *following) {
	src.mu.Lock()
	defer src.mu.Unlock()
	if !f.gone { // it may be over before it began
		src.placeLocked(f, peer.Hot)
	}
}

// placeLocked gives a partition to a link, where it follows anew.
func (src *source) placeLocked(f *following, kind peer.Kind) {
	if f.link != nil {
		f.link.leaveLocked(f)
	}
	f.link = src.linkLocked(kind)
	f.link.partitions[f.id] = f
	f.link.wantLocked(f)
	f.link.runLocked()
}

// remove ends following, and tells the leader.
func (src *source) remove(f *following) {
	src.mu.Lock()
	defer src.mu.Unlock()
	f.gone = true
	if f.retry != nil {
		f.retry.Stop()
	}
	l := f.link
	if l == nil {
		return
	}
	src.dropLocked(f, true)
	if l.partitions[f.id] == f {
		delete(l.partitions, f.id)
	}
	if len(l.partitions) == 0 {
		l.work.Signal() // it is idle now
	}
}

// dropLocked ends the session; tell says that the leader does not know.
func (src *source) dropLocked(f *following, tell bool) {
	if f.session == 0 {
		return
	}
	l := f.link
	delete(l.sessions, f.session)
	if tell && l.conn != nil {
		l.stops = append(l.stops, f.session)
		l.work.Signal()
	}
	f.session = 0
}

// retryLater follows again after a while: longer each time, until something arrives.
func (src *source) retryLaterLocked(f *following) {
	if f.gone || f.retrySet || src.mu.closed {
		return
	}
	src.s.stats.retries.Add(1)
	f.retrySet = true
	l := &src.s.o.Limits
	delay := min(l.RetryMin<<min(f.retries, 20), l.RetryMax)
	f.retries++
	if f.retry == nil {
		f.retry = src.s.clock.AfterFunc(delay, func() { src.followAgain(f) })
		return
	}
	f.retry.Reset(delay)
}

func (src *source) followAgain(f *following) {
	src.mu.Lock()
	defer src.mu.Unlock()
	f.retrySet = false
	if !f.gone && !f.mending && f.session == 0 && !src.mu.closed {
		f.link.wantLocked(f)
	}
}

func (src *source) shut() {
	var conns []conn
	src.mu.Lock()
	src.mu.closed = true
	for _, l := range src.mu.links {
		for _, f := range l.partitions {
			if f.retry != nil {
				f.retry.Stop()
			}
		}
		if c := l.closeLocked(); c != nil {
			conns = append(conns, c)
		}
	}
	src.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // ends its goroutines
	}
}

// backoff is how long a link waits before it dials again.
func (s *Streams) backoff(failures int) time.Duration {
	return min(s.o.Limits.RetryMin<<min(failures, 20), s.o.Limits.RetryMax)
}
