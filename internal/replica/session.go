package replica

import (
	"chronik/internal/kafka"
)

// Session is a follower that is streamed to in one leader epoch. It ends with the next Follow of the same broker, with the
// epoch, or by Close; what an ended one says counts nothing.
type Session struct {
	p           *Partition
	follower    kafka.BrokerID
	brokerEpoch kafka.BrokerEpoch
	epoch       kafka.LeaderEpoch
	logStart    kafka.Offset // the follower's; guarded by Partition.mu
	deletes     kafka.Offset // the deletions removed below it were removed before the follower got anything; see gaps.go
}

// Follower is the broker that is streamed to.
func (s *Session) Follower() kafka.BrokerID { return s.follower }

// LeaderEpoch is the only epoch in which the session counts.
func (s *Session) LeaderEpoch() kafka.LeaderEpoch { return s.epoch }

// Acked takes note of what the follower has on its disk, and of where its log starts. Acks are cumulative; they come in the
// order in which they were sent, on the connection of the Follow. An ack above the leader's log end is an error of the
// follower's (INVALID_REQUEST): its connection is to be closed. It never blocks.
func (s *Session) Acked(durable, logStart kafka.Offset) error {
	return s.p.acked(s, durable, logStart)
}

// Close ends the session: its connection is gone. The follower stays in the in-sync set until it lags, or the controller
// takes it out. Closing again, or an ended session, changes nothing.
func (s *Session) Close() { s.p.closeSession(s) }
