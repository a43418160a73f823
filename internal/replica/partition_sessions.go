package replica

import (
	"errors"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// Follow answers a follower that wants to be streamed to. What was known of it no longer counts, and its session before
// ends. It may open files, and waits for nothing else.
func (p *Partition) Follow(r FollowRequest) FollowDecision {
	p.mu.Lock()
	d, ok := p.admitFollowerLocked(r)
	if !ok {
		p.mu.Unlock()
		return d
	}
	p.endSessionLocked(r.Follower)
	p.mu.progress.reset(r.Follower, kafka.NoOffset)
	member := slices.Contains(p.mu.progress.committed, r.Follower)
	p.mu.Unlock()

	found := p.disk.EndOffsetForEpoch(r.LastEpoch)
	same := member || p.disk.EpochForOffset(r.LogEnd-1) == r.LastEpoch
	d.Action = compareLogs(r, p.disk.LogStart(), p.disk.LogEnd(), EpochEnd{found.Epoch, found.Offset}, same)
	deletes, err := p.disk.DeletesRemovedBelow()
	if err != nil {
		return d.refuse(err)
	}
	if d.Action == FollowStream && !member && p.missedDeletes(r, deletes) {
		d.Action = FollowReset
	}
	switch d.Action {
	case FollowStream:
		d.From = r.LogEnd
		return p.openSession(r, d, deletes)
	case FollowTruncate:
		d.Truncate = EpochEnd{found.Epoch, found.Offset}
	case FollowReset:
		if member {
			return d.refuse(kafka.ErrInvalidRequest.With("broker %d is in the in-sync set of %s-%d and has nothing that its log goes on from "+
				"(it ends at %d, the leader's starts at %d): it leaves the in-sync set first", r.Follower, p.topic, p.id.Partition, r.LogEnd, p.disk.LogStart()))
		}
		var err error
		if d.Reset, err = p.disk.Beginning(); err != nil {
			return d.refuse(err)
		}
	case FollowRefuse:
		d.Err = kafka.ErrUnknownLeaderEpoch.With("broker %d has records of leader epoch %d in %s-%d, which its leader in epoch %d does not know",
			r.Follower, r.LastEpoch, p.topic, p.id.Partition, r.LeaderEpoch)
	}
	return d
}

func (d FollowDecision) refuse(err error) FollowDecision {
	d.Action, d.Err = FollowRefuse, err
	return d
}

// admitFollowerLocked decides about what needs no look into the logs.
func (p *Partition) admitFollowerLocked(r FollowRequest) (d FollowDecision, ok bool) {
	d.LeaderEpoch = p.mu.leaderEpoch
	switch {
	case p.mu.gone != nil:
		return d.refuse(p.mu.gone), false
	case r.LeaderEpoch > p.mu.leaderEpoch, r.LeaderEpoch == p.mu.leaderEpoch && p.mu.leaderID == p.node.broker && !p.mu.leader:
		d.Action = FollowPark
		return d, false
	case r.LeaderEpoch < p.mu.leaderEpoch:
		return d.refuse(kafka.ErrFencedLeaderEpoch.With("broker %d follows %s-%d in leader epoch %d, it is at %d",
			r.Follower, p.topic, p.id.Partition, r.LeaderEpoch, p.mu.leaderEpoch)), false
	case !p.mu.leader:
		return d.refuse(kafka.ErrNotLeaderOrFollower.With("broker %d does not lead %s-%d", p.node.broker, p.topic, p.id.Partition)), false
	case p.mu.progress.replica(r.Follower) == nil || r.Follower == p.node.broker:
		d.Action = FollowPark // this node has yet to hear that it is a replica
		return d, false
	}
	if b := p.node.registered(r.Follower); b != nil && r.BrokerEpoch < b.Epoch {
		return d.refuse(kafka.ErrStaleBrokerEpoch.With("broker %d follows with broker epoch %d, it has registered again with %d",
			r.Follower, r.BrokerEpoch, b.Epoch)), false
	}
	return d, true
}

// compareLogs decides how a follower's log and the leader's go together. found is the leader's end of the largest epoch that
// is not above the follower's last one. Two logs that both have a record of the same epoch at an offset are the same up to
// there; so the follower's is a prefix if the leader has its last one. Same tells that: where the log starts just behind
// that record the leader may no longer know which epoch it was of, and what the follower has may be anything, unless it is in
// sync and what it has is committed.
func compareLogs(r FollowRequest, logStart, logEnd kafka.Offset, found EpochEnd, same bool) FollowAction {
	switch {
	case r.LogEnd < logStart:
		return FollowReset
	case r.LastEpoch == kafka.NoLeaderEpoch && r.LogEnd > logEnd:
		return FollowReset
	case r.LastEpoch == kafka.NoLeaderEpoch: // it has no record that could be another
		return FollowStream
	case found.Epoch == kafka.NoLeaderEpoch:
		return FollowRefuse
	case found.Epoch != r.LastEpoch || found.End < r.LogEnd:
		return FollowTruncate
	case !same:
		return FollowReset
	}
	return FollowStream
}

func (p *Partition) openSession(r FollowRequest, d FollowDecision, deletes kafka.Offset) FollowDecision {
	p.mu.Lock()
	defer p.mu.Unlock()
	again, ok := p.admitFollowerLocked(r)
	if !ok {
		return again
	}
	p.endSessionLocked(r.Follower)
	s := &Session{p: p, follower: r.Follower, brokerEpoch: r.BrokerEpoch, epoch: p.mu.leaderEpoch, logStart: kafka.NoOffset}
	s.deletes = p.beganLocked(r, deletes)
	p.mu.sessions = append(p.mu.sessions, s)
	p.mu.progress.streams(r.Follower, true, p.node.clock.Now())
	p.streamed.Store(true)
	d.Session = s
	return d
}

func (p *Partition) endSessionLocked(b kafka.BrokerID) {
	p.mu.sessions = slices.DeleteFunc(p.mu.sessions, func(s *Session) bool { return s.follower == b })
	p.mu.progress.streams(b, false, p.node.clock.Now())
}

func (p *Partition) sessionLocked(b kafka.BrokerID) *Session {
	for _, s := range p.mu.sessions {
		if s.follower == b {
			return s
		}
	}
	return nil
}

func (p *Partition) closeSession(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessionLocked(s.follower) == s {
		p.endSessionLocked(s.follower)
	}
}

func (p *Partition) acked(s *Session, durable, logStart kafka.Offset) error {
	p.mu.Lock()
	if p.sessionLocked(s.follower) != s {
		p.mu.Unlock()
		return nil
	}
	if end := p.disk.LogEnd(); durable > end {
		p.mu.Unlock()
		return kafka.ErrInvalidRequest.With("broker %d acknowledges offsets of %s-%d up to %d, its leader's log ends at %d",
			s.follower, p.topic, p.id.Partition, durable, end)
	}
	if logStart > s.logStart {
		s.logStart = logStart
		p.signalLocked() // DeleteRecords may wait for it
	}
	p.mu.progress.durable(s.follower, durable)
	moved := p.advanceLocked()
	if !p.mu.progress.inMaximalISR(s.follower) {
		p.reviewLocked()
	}
	p.mu.Unlock()
	if moved {
		p.tellWatermark()
	}
	return nil
}

// ReadForFollower appends batches from an offset on to dst: at most maxBytes, but the first batch always. It does not wait:
// at the log's end there are none, but the offsets are still those of now. NOT_LEADER_OR_FOLLOWER once the session has
// ended; OFFSET_OUT_OF_RANGE if the log starts behind the offset by now: the follower is to follow again.
func (p *Partition) ReadForFollower(s *Session, dst []byte, from kafka.Offset, maxBytes int) (Stretch, error) {
	st, err := p.stretch(s)
	st.Records, st.Next = dst, from
	if err != nil || from >= st.LogEnd {
		return st, err
	}
	n := len(dst)
	var next kafka.Offset
	if st.Records, next, err = p.disk.ReadStretch(dst, from, maxBytes, st.LogEnd, true); err != nil {
		p.scrubIfCorrupt(err)
		return st, err
	}
	if st.Next, st.Gaps, err = endOfBatches(st.Records[n:], from); err != nil {
		p.node.background.add(p, jobScrub)
		return st, err
	}
	if len(st.Records) == n {
		st.Next, st.Gaps = next, next > from
	}
	if st.Gaps {
		if err = p.proveGaps(&st, from); err != nil {
			return st, err
		}
	}
	if st.Deletes, err = p.checkDeletes(s, from); err != nil {
		return st, err
	}
	st.Gaps = st.Gaps || from < st.Deletes && st.Next > from
	_, err = p.stretch(s) // what was read is this epoch's if it still lasts: its leader cuts nothing
	return st, err
}

func (p *Partition) scrubIfCorrupt(err error) {
	if errors.Is(err, kafka.ErrCorruptMessage) && !p.damaged.Load() {
		p.node.background.add(p, jobScrub)
	}
}

func (p *Partition) stretch(s *Session) (Stretch, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessionLocked(s.follower) != s {
		return Stretch{}, kafka.ErrNotLeaderOrFollower.With("the stream of %s-%d to broker %d in leader epoch %d is over",
			p.topic, p.id.Partition, s.follower, s.epoch)
	}
	o := p.offsetsLocked()
	return Stretch{HighWatermark: o.HighWatermark, LogStart: o.LogStart, LogEnd: o.LogEnd}, nil
}

// endOfBatches is the offset behind whole batches, each of which fits its checksum, and whether there are gaps before or
// between them.
func endOfBatches(b []byte, from kafka.Offset) (next kafka.Offset, gaps bool, err error) {
	for next = from; ; {
		batch, rest, err := record.Next(b)
		switch {
		case err != nil:
			return from, false, kafka.ErrCorruptMessage.With("what was read to be sent to a follower does not end with a whole batch: %v", err)
		case batch == nil:
			return next, gaps, nil
		case !batch.VerifyCRC():
			return from, false, kafka.ErrCorruptMessage.With("the batch at offset %d does not fit its CRC", batch.BaseOffset())
		}
		gaps = gaps || batch.BaseOffset() > next
		next, b = batch.NextOffset(), rest
	}
}
