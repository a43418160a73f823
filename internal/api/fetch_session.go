package api

import (
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"chronik/internal/kafka"
)

// fetchKey names a partition inside a fetch session: by topic ID from version 13 on, by name before (KIP-516).
type fetchKey struct {
	id        kafka.TopicID // zero before version 13
	name      string        // empty from version 13 on
	partition int32
}

// fetchParams is what a client wants of one partition.
type fetchParams struct {
	from             kafka.Offset
	maxBytes         int32
	leaderEpochAsked kafka.LeaderEpoch
	lastFetchedEpoch kafka.LeaderEpoch
}

// sessionPartition is one partition of a fetch session: what the client wants of it and what it was last told. The
// session keeps its partitions in the order in which they are read.
type sessionPartition struct {
	key           fetchKey
	topic         string // the name, once resolved; it stays when the topic is deleted
	fetchParams          // as last asked
	highWatermark kafka.Offset
	logStart      kafka.Offset
	prev, next    *sessionPartition
}

// fetchSession is an incremental fetch session (KIP-227). All fields are guarded by the cache's mutex.
type fetchSession struct {
	id         int32
	epoch      int32 // that the next request must carry
	topicIDs   bool  // made by a version that names topics by ID
	partitions map[fetchKey]*sessionPartition
	order      sessionPartition // sentinel of the ring
	created    time.Time
	lastUsed   time.Time
	// evictable: old enough, when last used, to give way to a larger session.
	evictable bool
}

const (
	initialSessionEpoch = 0  // a full fetch that wants a session
	finalSessionEpoch   = -1 // a full fetch that wants none
	noSession           = 0
	sessionEvictionMin  = 2 * time.Minute // Kafka's min.incremental.fetch.session.eviction.ms
)

func nextSessionEpoch(epoch int32) int32 {
	switch {
	case epoch < 0:
		return finalSessionEpoch
	case epoch == math.MaxInt32:
		return 1
	}
	return epoch + 1
}

func newFetchSession(topicIDs bool, size int) *fetchSession {
	s := &fetchSession{topicIDs: topicIDs, partitions: make(map[fetchKey]*sessionPartition, size)}
	s.order.next, s.order.prev = &s.order, &s.order
	return s
}

func (s *fetchSession) add(p *sessionPartition) {
	s.partitions[p.key] = p
	s.pushBack(p)
}

func (s *fetchSession) pushBack(p *sessionPartition) {
	last := s.order.prev
	p.prev, p.next = last, &s.order
	last.next, s.order.prev = p, p
}

func (p *sessionPartition) unlink() { p.prev.next, p.next.prev = p.next, p.prev }

func (s *fetchSession) remove(k fetchKey) {
	if p := s.partitions[k]; p != nil {
		p.unlink()
		delete(s.partitions, k)
	}
}

// rotate moves a partition that was just served to the end, so that a limit on the answer's size starves nobody.
func (s *fetchSession) rotate(p *sessionPartition) {
	p.unlink()
	s.pushBack(p)
}

// fetchSessions is the node's cache of sessions; the zero value is an empty one. It is bounded in sessions, of which a
// stale or a smaller one gives way as in Kafka, and in partitions of all sessions.
type fetchSessions struct {
	mu struct {
		sync.Mutex
		byID       map[int32]*fetchSession
		partitions int // of all sessions
	}
}

// sessionLimits bound the cache; they come from the configuration in force.
type sessionLimits struct {
	sessions   int
	partitions int // of all sessions
}

// drop forgets a session: a full fetch that names one closes it.
func (c *fetchSessions) drop(id int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.mu.byID[id]; s != nil {
		c.dropLocked(s)
	}
}

func (c *fetchSessions) dropLocked(s *fetchSession) {
	delete(c.mu.byID, s.id)
	c.mu.partitions -= len(s.partitions)
}

// resume applies an incremental request to its session: partitions named are added or changed, forgotten ones removed.
// It calls each for every partition of the session, in order of reading. The session is nil, without an error, if
// nothing is left in it: it is closed, and the request is one without a session.
func (c *fetchSessions) resume(r *fetchRequest, limits sessionLimits, now time.Time, each func(*sessionPartition)) (*fetchSession, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.mu.byID[r.sessionID]
	switch {
	case s == nil:
		return nil, kafka.ErrFetchSessionIDNotFound
	case s.epoch != r.sessionEpoch:
		return nil, kafka.ErrInvalidFetchSessionEpoch
	case s.topicIDs != r.topicIDs:
		return nil, kafka.ErrFetchSessionTopicIDError
	}
	before := len(s.partitions)
	for i := range r.entries {
		e := &r.entries[i]
		if p := s.partitions[e.key]; p != nil {
			p.fetchParams = e.fetchParams
		} else {
			s.add(&sessionPartition{key: e.key, fetchParams: e.fetchParams, highWatermark: kafka.NoOffset, logStart: kafka.NoOffset})
		}
	}
	for _, k := range r.forgotten {
		s.remove(k)
	}
	c.mu.partitions += len(s.partitions) - before
	if len(s.partitions) == 0 {
		c.dropLocked(s)
		return nil, nil
	}
	if c.mu.partitions > limits.partitions && len(s.partitions) > before {
		// No room for what it adds. The client starts over with a full fetch, and gets no session if there is still none.
		c.dropLocked(s)
		return nil, kafka.ErrFetchSessionIDNotFound
	}
	c.touchLocked(s, now)
	s.epoch = nextSessionEpoch(s.epoch)
	for p := s.order.next; p != &s.order; p = p.next {
		each(p)
	}
	return s, nil
}

func (c *fetchSessions) touchLocked(s *fetchSession, now time.Time) {
	s.lastUsed = now
	s.evictable = now.Sub(s.created) > sessionEvictionMin
}

// create makes a session out of a full fetch and its results, and returns its ID, or noSession if there is no room. The
// session's partitions stand in the order of the entries.
func (c *fetchSessions) create(r *fetchRequest, entries []fetchEntry, limits sessionLimits, now time.Time) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.partitions+len(entries) > limits.partitions {
		return noSession
	}
	if len(c.mu.byID) >= limits.sessions && !c.evictLocked(len(entries), now) {
		return noSession
	}
	s := newFetchSession(r.topicIDs, len(entries))
	s.epoch, s.created = nextSessionEpoch(initialSessionEpoch), now
	for i := range entries {
		e := &entries[i]
		s.add(&sessionPartition{key: e.key, topic: e.topic, fetchParams: e.fetchParams, highWatermark: e.highWatermark, logStart: e.logStart})
	}
	for {
		s.id = rand.Int32N(math.MaxInt32-1) + 1
		if c.mu.byID[s.id] == nil {
			break
		}
	}
	if c.mu.byID == nil {
		c.mu.byID = make(map[int32]*fetchSession)
	}
	c.mu.byID[s.id] = s
	c.mu.partitions += len(s.partitions)
	c.touchLocked(s, now)
	return s.id
}

// evictLocked makes room for a session of that many partitions: the longest unused session goes if nobody used it for
// two minutes, else the smallest one of those that live for longer than that, if it is smaller than the new one.
func (c *fetchSessions) evictLocked(size int, now time.Time) bool {
	var oldest, smallest *fetchSession
	for _, s := range c.mu.byID {
		if oldest == nil || s.lastUsed.Before(oldest.lastUsed) {
			oldest = s
		}
		if s.evictable && (smallest == nil || len(s.partitions) < len(smallest.partitions)) {
			smallest = s
		}
	}
	switch {
	case oldest != nil && now.Sub(oldest.lastUsed) > sessionEvictionMin:
		c.dropLocked(oldest)
	case smallest != nil && len(smallest.partitions) < size:
		c.dropLocked(smallest)
	default:
		return false
	}
	return true
}

// finish decides what of an incremental answer is sent, notes it in the session, and marks the rest as unchanged.
// INVALID_FETCH_SESSION_EPOCH if another request has used the session meanwhile: nothing is sent or noted then.
func (c *fetchSessions) finish(s *fetchSession, r *fetchRequest, entries []fetchEntry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.epoch != nextSessionEpoch(r.sessionEpoch) {
		return kafka.ErrInvalidFetchSessionEpoch
	}
	for i := range entries {
		e := &entries[i]
		p := s.partitions[e.key]
		if p == nil { // cannot be: only a request with the session's epoch removes partitions
			continue
		}
		if p.topic == "" {
			p.topic = e.topic
		}
		e.unchanged = !p.changed(e)
		if e.size > 0 {
			s.rotate(p)
		}
	}
	return nil
}

// changed tells whether the client must hear of the result, and notes what it hears.
func (p *sessionPartition) changed(e *fetchEntry) bool {
	changed := e.size > 0 || e.code != 0 || e.diverging != nil || e.readReplica != kafka.NoLeader
	if p.highWatermark != e.highWatermark {
		changed, p.highWatermark = true, e.highWatermark
	}
	if p.logStart != e.logStart {
		changed, p.logStart = true, e.logStart
	}
	if e.code != 0 {
		p.highWatermark = kafka.NoOffset // so that it is sent again once the error is gone
	}
	return changed
}
