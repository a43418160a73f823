package stream

import (
	"fmt"
	"log/slog"

	"chronik/internal/kafka"
	"chronik/internal/peer"
)

// receive reads what the leader sends. It waits for nothing but the append itself: the disk answers to the writer, and cuts
// run elsewhere.
func (l *link) receive(c conn) error {
	pace := l.s.newPace()
	defer func() {
		if l.held != nil {
			l.held.Commit()
			l.held, l.heldBytes = nil, 0
		}
	}()
	for {
		if l.held != nil && !c.Ready() {
			l.commit(c)
		}
		frame, err := c.ReadFrame()
		if err == nil {
			l.heard = true
			err = l.handle(frame, &pace)
		}
		if err != nil {
			l.src.mu.Lock()
			l.broken = true
			l.work.Broadcast()
			l.src.mu.Unlock()
			return err
		}
	}
}

// commitBytes: with so much to be synced the reader leaves that to the WAL's writer, and goes on appending meanwhile.
const commitBytes = 128 << 10

// commit makes durable what the reader has appended since it last waited, and acknowledges it, on this goroutine: what the
// leader sends meanwhile could only wait for the next group commit anyway, and to wake the WAL's writer, and that one the
// link's, takes about as long as the rest of the work together.
func (l *link) commit(c conn) {
	l.src.mu.Lock()
	l.committing = true
	l.src.mu.Unlock()
	l.held.Commit()
	l.held, l.heldBytes = nil, 0
	l.src.mu.Lock()
	l.committing = false
	if l.writing || len(l.follows)+len(l.stops) > 0 {
		l.work.Signal()
		l.src.mu.Unlock()
		return
	}
	l.writing = true
	l.takeAcksLocked(&l.committed)
	l.src.mu.Unlock()
	l.writeAcks(c, l.committed.acks)
	if c.Buffered() > 0 {
		_ = c.Flush() // the next read tells
	}
	l.src.mu.Lock()
	l.writing = false
	l.work.Signal() // there may be more by now
	l.src.mu.Unlock()
}

// handle acts on a frame. An error is one of the leader, which does not keep to the protocol: the connection ends.
func (l *link) handle(frame peer.Frame, pace *pace) error {
	switch frame.Type {
	case frameAppend:
		return l.append(frame.Body, pace)
	case frameStretch:
		return l.stretch(frame.Body, pace)
	case frameWatermark:
		return l.watermarks(frame.Body)
	case frameTruncate:
		m, err := decodeTruncate(frame.Body)
		if err != nil {
			return err
		}
		l.s.stats.truncates.Add(1)
		l.mend(m.session, m.leaderEpoch, func(f *following) error {
			return f.p.TruncateFollower(l.s.ctx, f.epoch, m.to)
		})
	case frameReset:
		m, err := decodeReset(frame.Body)
		if err != nil {
			return err
		}
		l.s.stats.resets.Add(1)
		l.mend(m.session, m.leaderEpoch, func(f *following) error {
			return f.p.ResetFollower(l.s.ctx, f.epoch, m.start)
		})
	case frameRefuse:
		m, err := decodeRefuse(frame.Body)
		if err != nil {
			return err
		}
		l.refused(m)
	case frameMove:
		m, err := decodeMove(frame.Body)
		if err != nil {
			return err
		}
		l.moved(m)
	default:
		return fmt.Errorf("a leader sent a frame of type %d", frame.Type)
	}
	return nil
}

// find is the partition of a session that still counts, in its epoch; nil otherwise. retried tells that it failed before.
func (l *link) find(id sessionID, epoch kafka.LeaderEpoch) (f *following, retried bool) {
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	f = l.findLocked(id, epoch)
	return f, f != nil && f.retries > 0
}

func (l *link) findLocked(id sessionID, epoch kafka.LeaderEpoch) *following {
	f := l.sessions[id]
	if f == nil || f.epoch != epoch || f.gone {
		return nil
	}
	return f
}

func (l *link) append(body []byte, pace *pace) error {
	m, batches, err := decodeAppend(body)
	if err != nil {
		return err
	}
	l.received(m.session, m.leaderEpoch, len(batches), pace, func(f *following) error {
		hold := l.kind == peer.Hot && l.heldBytes+len(batches) <= commitBytes
		if hold { // also where it fails: it may have appended before the epoch ended
			l.held = f.p
			l.heldBytes += len(batches)
		}
		return f.p.AppendFollower(f.epoch, m.base, batches, m.highWatermark, m.logStart, hold)
	})
	return nil
}

func (l *link) stretch(body []byte, pace *pace) error {
	m, err := decodeStretch(body)
	if err != nil {
		return err
	}
	l.s.stats.stretchesReceived.Add(1)
	l.received(m.session, m.leaderEpoch, len(m.Batches), pace, func(f *following) error {
		return f.p.AppendStretch(f.epoch, &m.Stretch, m.highWatermark, m.logStart)
	})
	return nil
}

// received has a session's partition append what a frame holds.
func (l *link) received(id sessionID, epoch kafka.LeaderEpoch, bytes int, pace *pace, do func(*following) error) {
	f, retried := l.find(id, epoch)
	if f == nil {
		return // sent before the leader knew
	}
	l.s.stats.framesReceived.Add(1)
	l.s.stats.bytesReceived.Add(int64(bytes))
	if err := do(f); err != nil {
		l.failed(f, id, "append", err)
		return
	}
	if retried {
		l.recovered(f)
	}
	if l.kind == peer.CatchUp {
		pace.wait(int64(bytes), l.s.ctx.Done())
	} else {
		l.s.hot.Add(int64(bytes))
	}
}

func (l *link) watermarks(body []byte) error {
	if err := checkWatermarks(body); err != nil {
		return err
	}
	l.s.stats.framesReceived.Add(1)
	var m watermark
	for len(body) > 0 {
		m, body = nextWatermark(body)
		f, _ := l.find(m.session, m.leaderEpoch)
		if f == nil {
			continue
		}
		if err := f.p.FollowerWatermark(f.epoch, m.highWatermark, m.logStart); err != nil {
			l.failed(f, m.session, "watermark", err)
		}
	}
	return nil
}

// failed ends a session that cannot go on, and follows again after a while.
func (l *link) failed(f *following, id sessionID, what string, err error) {
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	if f.session != id || f.gone {
		return
	}
	level := slog.LevelWarn
	if over(err) || f.retries > 0 { // it follows in another epoch, and is about to tell; or this was said already
		level = slog.LevelDebug
	}
	l.s.log.Log(l.s.ctx, level, "following fails; trying again", "what", what, "partition", f.id, "topic", f.p.Topic(),
		"leader", l.src.leader, "leader epoch", f.epoch, "error", err)
	l.src.dropLocked(f, true)
	l.src.retryLaterLocked(f)
}

// recovered is told that a partition goes on that had failed.
func (l *link) recovered(f *following) {
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	f.retries = 0
}

// refused is told that the leader does not stream, or no longer.
func (l *link) refused(m refuse) {
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	f := l.sessions[m.session]
	if f == nil || f.gone {
		return
	}
	l.s.stats.refusals.Add(1)
	level := slog.LevelInfo
	if f.retries > 0 {
		level = slog.LevelDebug
	}
	l.s.log.Log(l.s.ctx, level, "a leader refuses to be followed; trying again", "partition", f.id, "topic", f.p.Topic(), "leader", l.src.leader, "leader epoch", f.epoch,
		"its leader epoch", m.leaderEpoch, "error", kafka.ByCode(m.code), "text", m.text)
	l.src.dropLocked(f, false)
	l.src.retryLaterLocked(f)
}

// moved is told to follow on the other connection.
func (l *link) moved(m move) {
	l.src.mu.Lock()
	defer l.src.mu.Unlock()
	f := l.sessions[m.session]
	if f == nil || f.gone || m.to == l.kind {
		return
	}
	f.retries = 0
	l.src.dropLocked(f, false)
	l.src.placeLocked(f, m.to)
	if len(l.partitions) == 0 {
		l.work.Signal()
	}
}
