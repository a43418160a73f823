package replica

import (
	"context"
	"errors"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
)

// Compaction leaves gaps in a leader's log, and each replica compacts by itself: logs of a compacted topic are equal in what
// they mean, not byte by byte.
//
// Two things would be lost on a follower that only took what is left. Leader epochs whose first records are gone: so a
// stretch with gaps tells of them. And deletions, so that a stretch tells too up to where they may be missing: a follower that has an old value of a key, and comes back after its
// leader has removed the key's tombstone, would keep the value for ever; the same with a transaction whose marker is
// gone. Such a follower is never in the in-sync set, for what is compacted is committed, and it begins anew. One that began
// anew in this leader epoch, after those deletions were removed, has got nothing that they deleted: it may be streamed to
// from anywhere.

// AppendStretch is AppendFollower for a stretch that compaction left gaps in.
func (p *Partition) AppendStretch(epoch kafka.LeaderEpoch, s *log.Stretch, highWatermark, logStart kafka.Offset) error {
	if err := p.order(epoch); err != nil {
		return err
	}
	err := p.replicateStretch(epoch, s)
	<-p.ordered
	if err != nil {
		return err
	}
	return p.FollowerWatermark(epoch, highWatermark, logStart)
}

func (p *Partition) replicateStretch(epoch kafka.LeaderEpoch, s *log.Stretch) error {
	first, _, err := record.Next(s.Batches)
	if err != nil {
		return kafka.ErrCorruptMessage.With("what the leader of %s-%d sent is not a record batch: %v", p.topic, p.id.Partition, err)
	}
	if n := len(s.Epochs); first != nil && first.LeaderEpoch() > epoch || n > 0 && s.Epochs[n-1].Epoch > epoch {
		return kafka.ErrCorruptMessage.With("the leader of %s-%d in epoch %d sent what is of a later one", p.topic, p.id.Partition, epoch)
	}
	end := p.disk.LogEnd()
	if s.From != end {
		return kafka.ErrOffsetOutOfRange.With("the log of %s-%d ends at %d, and its leader sent what begins at offset %d", p.topic, p.id.Partition, end, s.From)
	}
	_, err = p.disk.AppendStretch(s)
	if errors.Is(err, log.ErrNotAtEnd) { // as in replicate
		if err = p.disk.Truncate(context.Background(), end); err == nil {
			_, err = p.disk.AppendStretch(s)
		}
	}
	return diskError(err)
}

// proveGaps makes sure that what looks like a gap is one, and not a base offset that changed on the disk: a batch's CRC does
// not cover it.
func (p *Partition) proveGaps(st *Stretch, from kafka.Offset) error {
	if err := p.disk.CheckStretch(from, st.Next); err != nil {
		p.scrubIfCorrupt(err)
		return err
	}
	var err error
	st.Epochs, err = p.disk.EpochsIn(from, st.Next)
	return err
}

// missedDeletes tells whether a follower has records whose deletion it will not get to see.
func (p *Partition) missedDeletes(r FollowRequest, deletes kafka.Offset) bool {
	if r.LogEnd >= deletes || r.LastEpoch == kafka.NoLeaderEpoch || r.LogEnd <= p.disk.LogStart() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.mu.began[r.Follower]
	return !ok || b.epoch != r.LeaderEpoch || b.deletes < deletes
}

// beginning is a follower that began from an empty log.
type beginning struct {
	epoch   kafka.LeaderEpoch
	deletes kafka.Offset
}

// beganLocked takes note of a follower that begins, and returns up to where it has missed no deletion.
func (p *Partition) beganLocked(r FollowRequest, deletes kafka.Offset) kafka.Offset {
	if r.LastEpoch == kafka.NoLeaderEpoch || r.LogEnd <= p.disk.LogStart() {
		if p.mu.began == nil {
			p.mu.began = map[kafka.BrokerID]beginning{}
		}
		p.mu.began[r.Follower] = beginning{p.mu.leaderEpoch, deletes}
		return deletes
	}
	if b, ok := p.mu.began[r.Follower]; ok && b.epoch == p.mu.leaderEpoch {
		return max(b.deletes, r.LogEnd)
	}
	return r.LogEnd
}

// checkDeletes is an error where deletions behind an offset were removed that the follower has not got, while it may have
// got before what they deleted.
func (p *Partition) checkDeletes(s *Session, from kafka.Offset) (deletes kafka.Offset, err error) {
	deletes, err = p.disk.DeletesRemovedBelow()
	if err != nil || from >= deletes || s.deletes >= deletes {
		return deletes, err
	}
	return deletes, kafka.ErrOffsetOutOfRange.With("%s-%d: compaction removed deletions up to offset %d, and broker %d has got no further than %d: it has to begin anew",
		p.topic, p.id.Partition, deletes, s.follower, from)
}

// cutsCompacted tells whether a cut takes records away for which compaction has removed older ones that would stay: only
// after an unclean election is anything cut that is committed.
func (p *Partition) cutsCompacted(to kafka.Offset) bool {
	p.mu.Lock()
	committed := to < p.mu.progress.highWatermark
	member := p.mu.progress.inMaximalISR(p.node.broker)
	p.mu.Unlock()
	if member || to <= p.disk.LogStart() {
		return false
	}
	dirty, err := p.disk.FirstDirty()
	return err == nil && to < dirty || committed && p.Config().CleanupPolicy.Compact
}

// beginAnew drops all that there is, in place of a cut.
func (p *Partition) beginAnew(ctx context.Context, cut kafka.Offset) error {
	b, err := p.disk.Beginning()
	if err == nil {
		err = p.disk.ResetTo(ctx, b)
	}
	if err != nil {
		return diskError(err)
	}
	p.node.log.Warn("a replica of a compacted topic drops its log and begins anew: its leader's log ends where this one was compacted", "topic", p.topic,
		"partition", p.id.Partition, "cut", int64(cut), "from", int64(b.Offset))
	p.wasCut()
	return nil
}
