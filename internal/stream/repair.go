package stream

import (
	"errors"
	"sync"

	"chronik/internal/kafka"
)

// repairs are the cuts and resets under way: they wait for the disk, so the reader leaves them to goroutines of their own,
// of which there are Limits.Repairs at most.
type repairs struct {
	mu struct {
		sync.Mutex
		queue   []func()
		running int
	}
}

func (s *Streams) repair(do func()) {
	r := &s.repairs
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.queue = append(r.mu.queue, do)
	if r.mu.running < s.o.Limits.Repairs && s.begin(s.runRepairs) {
		r.mu.running++
	}
}

func (s *Streams) runRepairs() {
	r := &s.repairs
	for {
		r.mu.Lock()
		if len(r.mu.queue) == 0 || s.ctx.Err() != nil {
			r.mu.running--
			r.mu.Unlock()
			return
		}
		do := r.mu.queue[0]
		r.mu.queue[0] = nil
		r.mu.queue = r.mu.queue[1:]
		r.mu.Unlock()
		do()
	}
}

// mend ends a session, changes the partition's log and follows again, over the hot connection.
func (l *link) mend(id sessionID, epoch kafka.LeaderEpoch, change func(*following) error) {
	l.src.mu.Lock()
	f := l.findLocked(id, epoch)
	if f == nil {
		l.src.mu.Unlock()
		return
	}
	l.src.dropLocked(f, false)
	f.mending = true
	l.src.mu.Unlock()
	l.s.repair(func() {
		err := l.changed(f, change)
		l.src.mu.Lock()
		defer l.src.mu.Unlock()
		f.mending = false
		if f.gone || l.src.mu.closed {
			return
		}
		if err != nil {
			l.s.log.Warn("a log could not be made to agree with its leader's; trying again", "partition", f.id, "topic", f.p.Topic(), "leader", l.src.leader, "leader epoch", f.epoch, "error", err)
			l.src.retryLaterLocked(f)
			return
		}
		f.link.wantLocked(f)
	})
}

// errUnchanged: to follow again at once from the same place would get the same answer, and so on without end.
var errUnchanged = errors.New("the log is as it was: the leader and this replica do not agree on where their leader epochs begin")

// changed changes the log, and sees to it that there was something to change.
func (l *link) changed(f *following, change func(*following) error) error {
	before, err := f.p.FollowPosition(f.epoch)
	if err != nil {
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	after, err := f.p.FollowPosition(f.epoch)
	if err == nil && after.LogEnd == before.LogEnd && after.LastEpoch == before.LastEpoch {
		return errUnchanged
	}
	return err
}
