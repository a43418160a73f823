package replica

import (
	"chronik/internal/kafka"
	"chronik/internal/log"
)

// Streams carries records between the replicas: package stream. Its methods are called from any goroutine, also from the
// completion path of the WAL: they never block, and they call nothing of this package before they return. One call may
// overtake another; what counts is what the partition says when it is asked.
type Streams interface {
	// Follow asks to follow the leader in an epoch, from FollowPosition on, instead of whatever p followed before. It comes
	// again for each epoch, and when p has to follow anew in the same one.
	Follow(p *Partition, leader kafka.BrokerID, epoch kafka.LeaderEpoch)
	// Stop says that p follows nobody any more: it leads, has no leader, or is gone.
	Stop(p *Partition)
	// Lead says that p is led here and answers Follow in the epoch from now on: what was parked is to be tried again.
	Lead(p *Partition, epoch kafka.LeaderEpoch)
	// Appended says that so many bytes were appended to a led partition with a session. It comes from the goroutine that
	// appended, with nothing held: it alone may call back, and send before it returns.
	Appended(p *Partition, bytes int)
	// Changed says that a led partition with a session has something new for ReadForFollower: records, a log start, or the end
	// of its leadership.
	Changed(p *Partition)
	// Watermark says that only the high watermark of a led partition with a session moved.
	Watermark(p *Partition)
	// Durable says that a followed partition has more on its disk: AckPosition tells how much.
	Durable(p *Partition)
}

// FollowRequest is a follower's wish to be sent a partition: the frame Follow.
type FollowRequest struct {
	Follower    kafka.BrokerID
	BrokerEpoch kafka.BrokerEpoch // of the follower's process (KIP-903)
	LeaderEpoch kafka.LeaderEpoch // in which it follows
	LogEnd      kafka.Offset      // where its log ends
	LastEpoch   kafka.LeaderEpoch // of its last record; NoLeaderEpoch if it has none
}

// FollowAction is what is to be done about a Follow.
type FollowAction uint8

// The answers to a Follow.
const (
	// FollowRefuse: not here, or not so. FollowDecision.Err and LeaderEpoch tell why; it may be tried again later.
	FollowRefuse FollowAction = iota
	// FollowPark: the follower knows a newer epoch than this node. Ask again after Streams.Lead.
	FollowPark
	// FollowStream: its log is a prefix of the leader's. Send what comes from FollowDecision.From on, with Session.
	FollowStream
	// FollowTruncate: its log went another way. It cuts by FollowDecision.Truncate and follows again (KIP-101, KIP-279).
	FollowTruncate
	// FollowReset: it has nothing that the leader's log goes on from. It starts anew with FollowDecision.Reset and follows
	// again.
	FollowReset
)

// FollowDecision answers a Follow.
type FollowDecision struct {
	Action      FollowAction
	LeaderEpoch kafka.LeaderEpoch // as this node knows it
	From        kafka.Offset      // FollowStream: the first offset to send
	Session     *Session          // FollowStream
	Truncate    EpochEnd          // FollowTruncate
	Reset       Reset             // FollowReset
	Err         error             // FollowRefuse: a *kafka.Error
}

// Reset is what an empty replica begins with: the frame Reset. Its offset is the leader's log start, its epochs the history up
// to there, and its producers (opaque) make a repeated batch recognised by whoever leads.
type Reset = log.Beginning

// Stretch is what ReadForFollower found.
type Stretch struct {
	Records       []byte       // whole batches, appended to the buffer that was given
	Next          kafka.Offset // behind the last of them; without any, the offset up to which nothing is left
	Gaps          bool         // compaction left gaps, or removed deletions: it goes to Partition.AppendStretch
	Epochs        []log.EpochOffset
	Deletes       kafka.Offset
	HighWatermark kafka.Offset
	LogStart      kafka.Offset
	LogEnd        kafka.Offset // of the leader: what is still to be sent
}

// FollowPosition is where a follower's log stands: what its Follow says.
type FollowPosition struct {
	LogEnd    kafka.Offset
	LastEpoch kafka.LeaderEpoch // of the last record; NoLeaderEpoch if there is none
}
