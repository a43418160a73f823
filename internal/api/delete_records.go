package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// DeleteRecords (key 21, KIP-107): raises a partition's log start, -1 up to the high watermark.
//
//	2   flexible
func (h *Handlers) deleteRecords(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DeleteRecordsRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, req.TimeoutMillis)
		defer cancel()
		resp := req.ResponseKind().(*kmsg.DeleteRecordsResponse)
		var sure surely
		for i := range req.Topics {
			in := &req.Topics[i]
			out := kmsg.DeleteRecordsResponseTopic{Topic: in.Topic}
			for j := range in.Partitions {
				p := &in.Partitions[j]
				low, err := h.deletePartitionRecords(ctx, &sure, in.Topic, p.Partition, kafka.Offset(p.Offset))
				out.Partitions = append(out.Partitions, kmsg.DeleteRecordsResponseTopicPartition{
					Partition: p.Partition, LowWatermark: int64(low), ErrorCode: kafka.CodeOf(h.outcome("delete records", err))})
			}
			resp.Topics = append(resp.Topics, out)
		}
		return Response{Message: resp}
	}
}

func (h *Handlers) deletePartitionRecords(ctx context.Context, sure *surely, topic string, partition int32, offset kafka.Offset) (kafka.Offset, error) {
	low := kafka.NoOffset
	err := h.onPartition(ctx, sure, topic, partition, func(p *replica.Partition) (err error) {
		if kafka.IsInternalTopic(topic) {
			return kafka.ErrInvalidTopic.With("records of the internal topic %s cannot be deleted", topic)
		}
		low, err = p.DeleteRecords(ctx, offset)
		return err
	})
	return low, err
}
