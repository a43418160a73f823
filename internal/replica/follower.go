package replica

import (
	"context"
	"errors"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/metadata"
	"chronik/internal/record"
)

// The follower's side of a stream. Every method takes the epoch in which the caller follows, and refuses
// (NOT_LEADER_OR_FOLLOWER) unless it is the one that the partition follows in now: a stream of an older epoch changes
// nothing any more. The methods that change the log are ordered among themselves and against changes of leadership.

// followed is what a follower knows of its leader. Guarded by Partition.mu.
type followed struct {
	highWatermark kafka.Offset // the leader's
	logStart      kafka.Offset // the leader's
}

// startFollowing ends leadership on the disk, and asks to be streamed to. The caller holds the ordered slot.
func (p *Partition) startFollowing(m *metadata.Partition) {
	p.disk.Follow(m.LeaderEpoch)
	p.mu.Lock()
	gone, whole := p.mu.gone != nil, false
	if !gone {
		whole = p.refilledLocked()
		p.mu.follower = true
		p.mu.progress.reset(p.node.broker, p.disk.DurableEnd())
		p.signalLocked()
	}
	p.mu.Unlock()
	if whole {
		p.wholeAgain()
	}
	if !gone {
		p.node.streams.Follow(p, m.Leader, m.LeaderEpoch)
	}
}

// checkFollower is nil while the partition follows in the epoch.
func (p *Partition) checkFollower(epoch kafka.LeaderEpoch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checkFollowerLocked(epoch)
}

func (p *Partition) checkFollowerLocked(epoch kafka.LeaderEpoch) error {
	switch {
	case p.mu.gone != nil:
		return p.mu.gone
	case !p.mu.follower || epoch != p.mu.leaderEpoch:
		return kafka.ErrNotLeaderOrFollower.With("broker %d does not follow %s-%d in leader epoch %d, it is at %d",
			p.node.broker, p.topic, p.id.Partition, epoch, p.mu.leaderEpoch)
	}
	return nil
}

// order takes the ordered slot for what a leader of the epoch wants done.
func (p *Partition) order(epoch kafka.LeaderEpoch) error {
	if err := p.checkFollower(epoch); err != nil {
		return err // without waiting behind a change of leadership
	}
	p.ordered <- struct{}{}
	if err := p.checkFollower(epoch); err != nil {
		<-p.ordered
		return err
	}
	return nil
}

// FollowPosition is where the log stands: what to ask the leader for. It may open files.
func (p *Partition) FollowPosition(epoch kafka.LeaderEpoch) (FollowPosition, error) {
	if err := p.order(epoch); err != nil {
		return FollowPosition{}, err
	}
	defer func() { <-p.ordered }()
	return FollowPosition{LogEnd: p.disk.LogEnd(), LastEpoch: p.disk.LastRecordEpoch()}, nil
}

// AckPosition is what is on the disk, and where the log starts: what to tell the leader. It never blocks.
func (p *Partition) AckPosition(epoch kafka.LeaderEpoch) (durable, logStart kafka.Offset, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkFollowerLocked(epoch); err != nil {
		return kafka.NoOffset, kafka.NoOffset, err
	}
	return p.mu.progress.endOf(p.node.broker), p.disk.LogStart(), nil
}

// AppendFollower appends what the leader sent, which begins at base, and does not wait for the disk: Streams.Durable tells
// when it is there. The batches are checked and copied; the caller may reuse them. An error other than that of the epoch
// means that the log does not go on from there, or that this disk failed: follow again, after a while. With hold the disk is
// not asked to begin: the caller calls Commit before it waits for anything else.
func (p *Partition) AppendFollower(epoch kafka.LeaderEpoch, base kafka.Offset, batches []byte, highWatermark, logStart kafka.Offset, hold bool) error {
	if err := p.order(epoch); err != nil {
		return err
	}
	err := p.replicate(epoch, base, batches, hold)
	<-p.ordered
	if err != nil {
		return err
	}
	return p.FollowerWatermark(epoch, highWatermark, logStart)
}

// Commit makes durable what was appended with hold, of all partitions of this node. It waits for the disk where nobody else
// does so already.
func (p *Partition) Commit() { p.disk.Commit() }

func (p *Partition) replicate(epoch kafka.LeaderEpoch, base kafka.Offset, batches []byte, hold bool) error {
	first, _, err := record.Next(batches)
	switch {
	case err != nil || first == nil:
		return kafka.ErrCorruptMessage.With("what the leader of %s-%d sent is not a record batch: %v", p.topic, p.id.Partition, err)
	case first.LeaderEpoch() > epoch:
		return kafka.ErrCorruptMessage.With("the leader of %s-%d in epoch %d sent a batch of epoch %d", p.topic, p.id.Partition, epoch, first.LeaderEpoch())
	}
	end := p.disk.LogEnd()
	if base != end || first.BaseOffset() != end {
		return kafka.ErrOffsetOutOfRange.With("the log of %s-%d ends at %d, and its leader sent offset %d", p.topic, p.id.Partition, end, first.BaseOffset())
	}
	_, err = p.disk.AppendReplicated(batches, hold)
	if errors.Is(err, log.ErrNotAtEnd) {
		// This node began an epoch at this offset, as leader, and appended nothing in it; the records that come are older.
		if err = p.disk.Truncate(context.Background(), end); err == nil {
			_, err = p.disk.AppendReplicated(batches, hold)
		}
	}
	return diskError(err)
}

// FollowerWatermark takes note of the leader's high watermark and log start where no append carries them.
func (p *Partition) FollowerWatermark(epoch kafka.LeaderEpoch, highWatermark, logStart kafka.Offset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkFollowerLocked(epoch); err != nil {
		return err
	}
	p.mu.followed.highWatermark = max(p.mu.followed.highWatermark, highWatermark)
	p.mu.followed.logStart = max(p.mu.followed.logStart, logStart)
	p.advanceFollowerLocked()
	return nil
}

// advanceFollowerLocked moves the high watermark of a followed partition: to its leader's, as far as this disk has it.
func (p *Partition) advanceFollowerLocked() {
	to := min(p.mu.followed.highWatermark, p.mu.progress.endOf(p.node.broker))
	if to > p.mu.progress.highWatermark {
		p.mu.progress.highWatermark = to
		p.mu.watermarkEpoch = p.mu.leaderEpoch
		p.disk.SetHighWatermark(to)
		p.signalLocked()
	}
	if min(p.mu.followed.logStart, p.mu.progress.highWatermark) > p.disk.LogStart() {
		p.node.background.add(p, jobLogStart)
	}
}

// followLogStart raises the log's start to the leader's: retention and DeleteRecords happened there. It syncs the log, and
// does not hold up appends for that: what is below the high watermark may go whoever leads.
func (p *Partition) followLogStart(ctx context.Context) {
	p.mu.Lock()
	to := min(p.mu.followed.logStart, p.mu.progress.highWatermark)
	follows := p.mu.follower
	p.mu.Unlock()
	if !follows || to <= p.disk.LogStart() {
		return
	}
	if err := p.disk.SetLogStart(ctx, to); err != nil {
		if ctx.Err() == nil {
			p.node.log.Warn("the log start of a leader could not be followed", "topic", p.topic, "partition", p.id.Partition, "offset", int64(to), "error", err)
		}
		return
	}
	p.node.streams.Durable(p) // the leader may wait for it
}

// TruncateFollower cuts to the smaller of the leader's end of an epoch and this log's own end of it. It returns once that is
// durable; follow again then.
func (p *Partition) TruncateFollower(ctx context.Context, epoch kafka.LeaderEpoch, to EpochEnd) error {
	if err := p.order(epoch); err != nil {
		return err
	}
	defer func() { <-p.ordered }()
	own := p.disk.EndOffsetForEpoch(to.Epoch)
	cut := cutFor(EpochEnd{own.Epoch, own.Offset}, to, p.disk.LogEnd())
	if err := p.checkCut(cut); err != nil {
		return err
	}
	if p.cutsCompacted(cut) {
		return p.beginAnew(ctx, cut)
	}
	if err := p.disk.Truncate(ctx, cut); err != nil {
		return diskError(err)
	}
	p.wasCut()
	return nil
}

// cutFor is where a follower's log is to end: own is its own end of the largest epoch that is not above the leader's.
func cutFor(own, leaders EpochEnd, logEnd kafka.Offset) kafka.Offset {
	cut := min(leaders.End, logEnd)
	if own.Epoch != kafka.NoLeaderEpoch {
		cut = min(cut, own.End)
	}
	return max(cut, 0)
}

// checkCut refuses to cut what is committed. Only an unclean election can ask for that, which a person asked for by name.
func (p *Partition) checkCut(to kafka.Offset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	highWatermark := p.mu.progress.highWatermark
	if to >= highWatermark {
		return nil
	}
	if electedOutside(p.mu.meta, p.mu.watermarkEpoch) {
		p.node.log.Warn("committed records are cut after a leader was elected that was not in sync", "topic", p.topic,
			"partition", p.id.Partition, "from", int64(to), "highWatermark", int64(highWatermark))
		return nil
	}
	err := kafka.ErrKafkaStorageError.With("%s-%d: the leader in epoch %d asks broker %d to cut to offset %d, and everything up to %d is committed; "+
		"nothing is cut", p.topic, p.id.Partition, p.mu.leaderEpoch, p.node.broker, to, highWatermark)
	p.node.log.Error("a leader asks to cut what is committed", "topic", p.topic, "partition", p.id.Partition, "error", err)
	return err
}

// electedOutside tells whether a leader after the epoch may have been elected that was not in the in-sync set: out of the
// eligible replicas, or because a person asked for it.
func electedOutside(m *metadata.Partition, after kafka.LeaderEpoch) bool {
	for i, c := range m.History {
		switch {
		case c.LeaderEpoch <= after || c.Leader == kafka.NoLeader:
		case i == 0:
			return true // what was before is no longer known
		default:
			in := false
			for _, b := range m.History[i-1].ISR {
				in = in || b == c.Leader
			}
			if !in {
				return true
			}
		}
	}
	return false
}

// wasCut takes note of where the log ends now.
func (p *Partition) wasCut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.progress.reset(p.node.broker, p.disk.DurableEnd())
	if end := p.disk.LogEnd(); end < p.mu.progress.highWatermark {
		p.mu.progress.highWatermark = end
		p.mu.followed.highWatermark = end
		p.disk.SetHighWatermark(end)
	}
	p.signalLocked()
}

// ResetFollower drops everything and begins anew. It returns once that is durable; follow again then. It is refused while
// the replica is in the in-sync set.
func (p *Partition) ResetFollower(ctx context.Context, epoch kafka.LeaderEpoch, r Reset) error {
	if err := p.order(epoch); err != nil {
		return err
	}
	defer func() { <-p.ordered }()
	p.mu.Lock()
	member := p.mu.progress.inMaximalISR(p.node.broker)
	p.mu.Unlock()
	if member {
		return kafka.ErrInvalidRequest.With("%s-%d: broker %d is in the in-sync set and does not drop its log", p.topic, p.id.Partition, p.node.broker)
	}
	if err := p.disk.ResetTo(ctx, r); err != nil {
		return diskError(err)
	}
	p.mu.Lock()
	p.mu.progress.highWatermark, p.mu.followed.highWatermark = r.Offset, r.Offset
	p.disk.SetHighWatermark(r.Offset)
	p.mu.Unlock()
	p.wasCut()
	return nil
}
