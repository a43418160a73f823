package stream

import (
	"context"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/peer"
	"chronik/internal/replica"
)

// What the streams need of packages peer and replica. The tests put something else in their place.

// conn is a *peer.Conn: one goroutine reads while another writes.
type conn interface {
	Peer() peer.Identity
	Kind() peer.Kind
	ReadFrame() (peer.Frame, error)
	Ready() bool
	BeginFrame(typ byte) []byte
	EndFrame(b []byte)
	CancelFrame(b []byte)
	Buffered() int
	Flush() error
	Close() error
}

// partition is a *replica.Partition.
type partition interface {
	ID() kafka.TopicPartition
	Topic() string

	// As a leader.
	follow(r replica.FollowRequest) decision
	read(s session, dst []byte, from kafka.Offset, maxBytes int) (replica.Stretch, error)

	// As a follower.
	FollowPosition(epoch kafka.LeaderEpoch) (replica.FollowPosition, error)
	AckPosition(epoch kafka.LeaderEpoch) (durable, logStart kafka.Offset, err error)
	AppendFollower(epoch kafka.LeaderEpoch, base kafka.Offset, batches []byte, highWatermark, logStart kafka.Offset, hold bool) error
	AppendStretch(epoch kafka.LeaderEpoch, s *log.Stretch, highWatermark, logStart kafka.Offset) error
	Commit()
	FollowerWatermark(epoch kafka.LeaderEpoch, highWatermark, logStart kafka.Offset) error
	TruncateFollower(ctx context.Context, epoch kafka.LeaderEpoch, to replica.EpochEnd) error
	ResetFollower(ctx context.Context, epoch kafka.LeaderEpoch, r replica.Reset) error
}

// session is a *replica.Session.
type session interface {
	Acked(durable, logStart kafka.Offset) error
	Close()
}

// decision is a replica.FollowDecision with its session as an interface.
type decision struct {
	replica.FollowDecision
	session session
}

// onReplica is the real partition.
type onReplica struct{ *replica.Partition }

func (p onReplica) follow(r replica.FollowRequest) decision {
	d := decision{FollowDecision: p.Follow(r)}
	if d.Session != nil { // a nil pointer in an interface is no nil
		d.session = d.Session
	}
	return d
}

func (p onReplica) read(s session, dst []byte, from kafka.Offset, maxBytes int) (replica.Stretch, error) {
	return p.ReadForFollower(s.(*replica.Session), dst, from, maxBytes)
}

// network is a *peer.Node.
type network interface {
	dial(ctx context.Context, to kafka.BrokerID, kind peer.Kind) (conn, error)
}

type onPeers struct{ n *peer.Node }

func (o onPeers) dial(ctx context.Context, to kafka.BrokerID, kind peer.Kind) (conn, error) {
	c, err := o.n.DialData(ctx, to, kind)
	if err != nil {
		return nil, err // not c: a nil pointer in an interface is no nil
	}
	return c, nil
}

// finder finds partitions; it is a Replicas.
type finder interface {
	find(id kafka.TopicPartition) (partition, error)
}

type onReplicas struct{ r Replicas }

func (o onReplicas) find(id kafka.TopicPartition) (partition, error) {
	p, err := o.r.Partition(id)
	if err != nil {
		return nil, err
	}
	return onReplica{p}, nil
}
