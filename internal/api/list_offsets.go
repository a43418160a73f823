package api

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// ListOffsets (key 2).
//
//	2   isolation level
//	4   leader epochs (KIP-320)
//	5   OFFSET_NOT_AVAILABLE after an election (KIP-207); before it is LEADER_NOT_AVAILABLE
//	6   flexible
//	7   -3, the record with the largest timestamp (KIP-734)
//	8   -4, the earliest local offset (KIP-405): the earliest there is, nothing is tiered
//	9   -5, the latest tiered offset (KIP-1005): none
//	10  a timeout, for searches in tiered storage
//	11  -6, the earliest offset that waits to be tiered (KIP-1023): none
func (h *Handlers) listOffsets(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.ListOffsetsRequest)
	return func(ctx context.Context) Response {
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		l := listOffsets{h: h, req: req, duplicate: duplicatePartitions(req)}
		for i := range req.Topics {
			in := &req.Topics[i]
			out := kmsg.ListOffsetsResponseTopic{Topic: in.Topic, Partitions: make([]kmsg.ListOffsetsResponseTopicPartition, 0, len(in.Partitions))}
			for j := range in.Partitions {
				if !l.answered(in.Topic, in.Partitions[j].Partition) {
					out.Partitions = append(out.Partitions, l.partition(ctx, in.Topic, &in.Partitions[j]))
				}
			}
			resp.Topics = append(resp.Topics, out)
		}
		return Response{Message: resp}
	}
}

// listOffsets is one request being answered.
type listOffsets struct {
	h         *Handlers
	req       *kmsg.ListOffsetsRequest
	duplicate map[topicIndex]int // how often each partition is named; nil if there is but one
	sure      surely
}

// answered tells whether the partition was named before in the request: it is refused once.
func (l *listOffsets) answered(topic string, partition int32) bool {
	k := topicIndex{topic, partition}
	if n := l.duplicate[k]; n > 1 {
		l.duplicate[k] = -1
	} else if n < 0 {
		return true
	}
	return false
}

type topicIndex struct {
	topic     string
	partition int32
}

func duplicatePartitions(req *kmsg.ListOffsetsRequest) map[topicIndex]int {
	n := 0
	for i := range req.Topics {
		n += len(req.Topics[i].Partitions)
	}
	if n < 2 {
		return nil
	}
	seen := make(map[topicIndex]int, n)
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			seen[topicIndex{req.Topics[i].Topic, req.Topics[i].Partitions[j].Partition}]++
		}
	}
	return seen
}

func (l *listOffsets) partition(ctx context.Context, topic string, in *kmsg.ListOffsetsRequestTopicPartition) kmsg.ListOffsetsResponseTopicPartition {
	out := kmsg.ListOffsetsResponseTopicPartition{Partition: in.Partition, Timestamp: -1, Offset: -1, LeaderEpoch: -1}
	found, err := l.find(ctx, topic, in)
	if err != nil {
		out.ErrorCode = kafka.CodeOf(err)
		switch {
		case out.ErrorCode == kafka.ErrOffsetNotAvailable.Code && l.req.Version < 5:
			out.ErrorCode = kafka.ErrLeaderNotAvailable.Code
		case out.ErrorCode == kafka.ErrUnknownServerError.Code || out.ErrorCode == kafka.ErrKafkaStorageError.Code:
			l.h.Logger.Error("a search for an offset failed", "topic", topic, "partition", in.Partition, "timestamp", in.Timestamp, "error", err)
		}
		return out
	}
	out.Timestamp, out.Offset, out.LeaderEpoch = found.Timestamp, int64(found.Offset), int32(found.LeaderEpoch)
	return out
}

func (l *listOffsets) find(ctx context.Context, topic string, in *kmsg.ListOffsetsRequestTopicPartition) (replica.TimestampOffset, error) {
	if l.duplicate[topicIndex{topic, in.Partition}] < 0 {
		return replica.TimestampOffset{}, kafka.ErrInvalidRequest
	}
	if l.req.Version < timestampVersion(in.Timestamp) {
		return replica.TimestampOffset{}, kafka.ErrUnsupportedVersion
	}
	isolation := replica.ReadUncommitted
	switch {
	case l.req.ReplicaID != -1: // not a consumer
		isolation = replica.ReadToEnd
	case l.req.Version >= 2 && l.req.IsolationLevel == 1:
		isolation = replica.ReadCommitted
	}
	epoch := kafka.NoLeaderEpoch
	if l.req.Version >= 4 {
		epoch = kafka.LeaderEpoch(in.CurrentLeaderEpoch)
	}
	var found replica.TimestampOffset
	err := l.h.onPartition(ctx, &l.sure, topic, in.Partition, func(p *replica.Partition) (err error) {
		found, err = p.OffsetForTimestamp(in.Timestamp, isolation, epoch)
		return err
	})
	return found, err
}

// timestampVersion is the first version that knows the timestamp: the negative ones stand for places.
func timestampVersion(timestamp int64) int16 {
	switch timestamp {
	case replica.TimestampLatest, replica.TimestampEarliest:
		return 1
	case replica.TimestampMax:
		return 7
	case replica.TimestampEarliestLocal:
		return 8
	case replica.TimestampLatestTiered:
		return 9
	case replica.TimestampEarliestPendingUpload:
		return 11
	}
	if timestamp < 0 {
		return math.MaxInt16
	}
	return 1
}
