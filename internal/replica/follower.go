package replica

import (
	"context"

	"chronik/internal/kafka"
)

// The follower's side of a stream. Every method takes the epoch in which the caller follows, and refuses
// (NOT_LEADER_OR_FOLLOWER) unless it is the one that the partition follows in now: a stream of an older epoch changes
// nothing any more. The methods that change the log are ordered among themselves and against changes of leadership.

// FollowPosition is where the log stands: what to ask the leader for. It may open files.
func (p *Partition) FollowPosition(epoch kafka.LeaderEpoch) (FollowPosition, error) {
	return p.followPosition(epoch)
}

// AckPosition is what is on the disk, and where the log starts: what to tell the leader. It never blocks.
func (p *Partition) AckPosition(epoch kafka.LeaderEpoch) (durable, logStart kafka.Offset, err error) {
	return p.ackPosition(epoch)
}

// AppendFollower appends what the leader sent, which begins at base, and does not wait for the disk: Streams.Durable tells
// when it is there. The batches are checked and copied; the caller may reuse them. An error other than that of the epoch
// means that the log does not go on from there, or that this disk failed: follow again, after a while.
func (p *Partition) AppendFollower(epoch kafka.LeaderEpoch, base kafka.Offset, batches []byte, highWatermark, logStart kafka.Offset) error {
	return p.appendFollower(epoch, base, batches, highWatermark, logStart)
}

// FollowerWatermark takes note of the leader's high watermark and log start where no append carries them.
func (p *Partition) FollowerWatermark(epoch kafka.LeaderEpoch, highWatermark, logStart kafka.Offset) error {
	return p.followerWatermark(epoch, highWatermark, logStart)
}

// TruncateFollower cuts to the smaller of the leader's end of an epoch and this log's own end of it. It returns once that is
// durable; follow again then.
func (p *Partition) TruncateFollower(ctx context.Context, epoch kafka.LeaderEpoch, to EpochEnd) error {
	return p.truncateFollower(ctx, epoch, to)
}

// ResetFollower drops everything and begins anew. It returns once that is durable; follow again then. It is refused while
// the replica is in the in-sync set.
func (p *Partition) ResetFollower(ctx context.Context, epoch kafka.LeaderEpoch, r Reset) error {
	return p.resetFollower(ctx, epoch, r)
}
