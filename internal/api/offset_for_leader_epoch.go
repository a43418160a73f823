package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// OffsetForLeaderEpoch (key 23): where a leader epoch ended, so that a consumer or a replica finds out where its log and
// the leader's part (KIP-101, KIP-320).
//
//	2   the client's own leader epoch
//	3   replica ID
//	4   flexible
func (h *Handlers) offsetForLeaderEpoch(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.OffsetForLeaderEpochRequest)
	return func(ctx context.Context) Response {
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		var sure surely
		for i := range req.Topics {
			in := &req.Topics[i]
			out := kmsg.OffsetForLeaderEpochResponseTopic{Topic: in.Topic}
			for j := range in.Partitions {
				out.Partitions = append(out.Partitions, h.epochEnd(ctx, &sure, in.Topic, &in.Partitions[j]))
			}
			resp.Topics = append(resp.Topics, out)
		}
		return Response{Message: resp}
	}
}

func (h *Handlers) epochEnd(ctx context.Context, sure *surely, topic string, in *kmsg.OffsetForLeaderEpochRequestTopicPartition) kmsg.OffsetForLeaderEpochResponseTopicPartition {
	out := kmsg.OffsetForLeaderEpochResponseTopicPartition{Partition: in.Partition, LeaderEpoch: -1, EndOffset: -1}
	var end replica.EpochEnd
	err := h.onPartition(ctx, sure, topic, in.Partition, func(p *replica.Partition) (err error) {
		end, err = p.EndOffsetForEpoch(kafka.LeaderEpoch(in.LeaderEpoch), kafka.LeaderEpoch(in.CurrentLeaderEpoch))
		return err
	})
	if err != nil {
		out.ErrorCode = kafka.CodeOf(err)
		return out
	}
	out.LeaderEpoch, out.EndOffset = int32(end.Epoch), int64(end.End)
	return out
}
