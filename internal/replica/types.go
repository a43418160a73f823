package replica

import (
	"chronik/internal/kafka"
	"chronik/internal/record"
)

// Acks is what a producer asks to wait for (the field acks of Produce).
type Acks int16

// The levels of acknowledgement.
const (
	AcksNone   Acks = 0
	AcksLeader Acks = 1
	AcksAll    Acks = -1
)

// Origin is who appends.
type Origin = record.Origin

// AppendRequest asks a leader to append.
type AppendRequest struct {
	// Batches are whole record batches (v2), one after the other. They are patched in place (base offset, leader epoch,
	// append time) and copied or written out before Append returns: the caller may then reuse the bytes.
	Batches []byte
	Acks    Acks
	Origin  Origin // FromClient: everything about the batches is checked; else they are taken as well-formed
	Version int16  // of the Produce request, where it is one
	// LeaderEpoch, unless NoLeaderEpoch, is the only epoch in which the append may happen: a coordinator gives the one
	// that it loaded in.
	LeaderEpoch kafka.LeaderEpoch
}

// Appended tells what became of an append.
type Appended struct {
	BaseOffset  kafka.Offset
	EndOffset   kafka.Offset      // exclusive; what to wait for
	LeaderEpoch kafka.LeaderEpoch // in which the wait counts
	AppendTime  int64             // milliseconds; -1 unless the topic stamps the time of the append
	LogStart    kafka.Offset
	Duplicate   bool // the producer had sent it before: the offsets are those of the original
}

// Isolation is up to where a fetch reads.
type Isolation int8

const (
	// ReadUncommitted reads up to the high watermark.
	ReadUncommitted Isolation = 0
	// ReadCommitted reads up to the last stable offset and tells the aborted transactions (KIP-98).
	ReadCommitted Isolation = 1
	// ReadToEnd reads up to the log end, as copies above the high watermark: for the node's own coordinators.
	ReadToEnd Isolation = 2
)

// FetchRequest asks for records of one partition.
type FetchRequest struct {
	From             kafka.Offset
	MaxBytes         int
	MinOneBatch      bool // the first batch is returned even where it is larger than MaxBytes
	Isolation        Isolation
	LeaderEpoch      kafka.LeaderEpoch // the epoch that the client believes in (KIP-320); NoLeaderEpoch to skip the check
	LastFetchedEpoch kafka.LeaderEpoch // of the record before From (KIP-595); NoLeaderEpoch to skip the check
	AnyReplica       bool              // a follower may answer too (KIP-392), as far as its own high watermark goes
}

// EpochEnd is a leader epoch and the end offset of its records.
type EpochEnd struct {
	Epoch kafka.LeaderEpoch // NoLeaderEpoch if there is none
	End   kafka.Offset      // exclusive; NoOffset if there is none
}

// Snapshot is a partition's offsets at one moment.
type Snapshot struct {
	LogStart      kafka.Offset
	LastStable    kafka.Offset
	HighWatermark kafka.Offset
	LogEnd        kafka.Offset
	LeaderEpoch   kafka.LeaderEpoch
}

// TimestampOffset is the answer to a search by timestamp: offset -1 if nothing was found.
type TimestampOffset struct {
	Timestamp   int64 // milliseconds; -1 where none belongs to the answer
	Offset      kafka.Offset
	LeaderEpoch kafka.LeaderEpoch
}
