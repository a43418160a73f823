package stream

import (
	"slices"
	"sync"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// admitters is how many Follows are answered at a time: the answer may have to open a log.
const admitters = 8

// admitter answers Follows, those of one partition one after the other in the order in which they came: the last one must
// win. Its goroutine lives while there are any.
type admitter struct {
	mu struct {
		sync.Mutex
		queue   []*feed
		running bool
	}
}

// admit has a Follow answered.
func (s *Streams) admit(f *feed) {
	id := f.request.id
	a := &s.admitters[(uint32(id.Topic[15])+uint32(id.Partition))%admitters]
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.queue = append(a.mu.queue, f)
	if !a.mu.running {
		a.mu.running = s.begin(func() { s.runAdmitter(a) })
	}
}

func (s *Streams) runAdmitter(a *admitter) {
	for {
		a.mu.Lock()
		if len(a.mu.queue) == 0 || s.ctx.Err() != nil {
			a.mu.running = false
			a.mu.queue = nil
			a.mu.Unlock()
			return
		}
		f := a.mu.queue[0]
		a.mu.queue[0] = nil
		a.mu.queue = a.mu.queue[1:]
		a.mu.Unlock()
		if s.enlist(f) {
			f.o.answer(f)
		}
	}
}

// enlist makes f the feed of its follower, unless there is a later one. The earlier one ends.
func (s *Streams) enlist(f *feed) bool {
	id := f.request.id
	s.led.Lock()
	old := s.led.feeds[id]
	var kept []*feed
	var before *feed
	known := false
	for _, g := range old {
		switch {
		case g == f:
			known = true
		case g.o.follower != f.o.follower:
			kept = append(kept, g)
		case g.newer(f):
			s.led.Unlock()
			f.o.end(f)
			return false
		default:
			before = g
		}
	}
	if !known || before != nil {
		s.led.feeds[id] = append(kept, f)
	}
	s.led.Unlock()
	if before != nil {
		before.o.end(before)
	}
	return true
}

// unlist forgets a feed that has ended.
func (s *Streams) unlist(f *feed) {
	id := f.request.id
	s.led.Lock()
	defer s.led.Unlock()
	old := s.led.feeds[id]
	at := slices.Index(old, f)
	switch {
	case at < 0:
	case len(old) == 1:
		delete(s.led.feeds, id)
	default:
		s.led.feeds[id] = slices.Delete(slices.Clone(old), at, at+1)
	}
}

// decide asks the partition. One that is not known here is newer than this node's metadata, or gone: time will tell.
func (s *Streams) decide(f *feed) (partition, decision) {
	p, err := s.replicas.find(f.request.id)
	if err != nil {
		return nil, decision{FollowDecision: replica.FollowDecision{Action: replica.FollowPark, LeaderEpoch: kafka.NoLeaderEpoch, Err: err}}
	}
	return p, p.follow(f.replicaRequest())
}
