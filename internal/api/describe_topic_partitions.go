package api

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// describeTopicPartitions: KIP-966. Topics come in order of their names, partitions up to a limit; the cursor of the
// answer, given in the next request, goes on from there.
func (h *Handlers) describeTopicPartitions(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DescribeTopicPartitionsRequest)
	return func(ctx context.Context) Response {
		resp := req.ResponseKind().(*kmsg.DescribeTopicPartitionsResponse)
		v := h.view(r.Conn)
		var sure surely
		for i := range req.Topics {
			if v.img.Topic(req.Topics[i].Topic) == nil {
				_ = sure.ask(ctx, h)
				v = h.view(r.Conn)
				break
			}
		}
		names, from, err := partitionPage(v.img, req)
		h.awaitElection(ctx, func(img *metadata.Image, lost map[kafka.BrokerID]bool) bool { return anyLedBy(img, false, names, lost) })
		v = h.view(r.Conn)
		if err != nil {
			for i := range req.Topics {
				t := absentPartitions(req.Topics[i].Topic, kafka.CodeOf(err))
				t.IsInternal, t.AuthorizedOperations = false, notAsked
				resp.Topics = append(resp.Topics, t)
			}
			return Response{Message: resp}
		}
		room := max(min(h.Config.Load().MaxPartitionsPerDescription, req.ResponsePartitionLimit), 1)
		for _, name := range names {
			if room == 0 {
				resp.NextCursor = cursorAt(name, 0)
				break
			}
			topic := v.img.Topic(name)
			if topic == nil {
				code := v.absent(name)
				if sure.err != nil && unknown(code) {
					code = kafka.ErrLeaderNotAvailable.Code
				}
				resp.Topics = append(resp.Topics, absentPartitions(name, code))
				continue
			}
			rt, next := v.describePartitions(topic, from[name], room)
			resp.Topics = append(resp.Topics, rt)
			if next >= 0 {
				resp.NextCursor = cursorAt(name, next)
				break
			}
			room -= int32(len(rt.Partitions))
		}
		return Response{Message: resp}
	}
}

// partitionPage lists the names to describe, sorted, and the first partition where it is not 0.
func partitionPage(img *metadata.Image, req *kmsg.DescribeTopicPartitionsRequest) (names []string, from map[string]int32, err error) {
	after := ""
	if req.Cursor != nil {
		after = req.Cursor.Topic
		from = map[string]int32{after: req.Cursor.Partition}
	}
	if len(req.Topics) == 0 {
		for topic := range img.Topics() {
			if topic.Name >= after {
				names = append(names, topic.Name)
			}
		}
	} else {
		for i := range req.Topics {
			if req.Topics[i].Topic >= after {
				names = append(names, req.Topics[i].Topic)
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		if req.Cursor != nil && !slices.Contains(names, after) {
			return nil, nil, kafka.ErrInvalidRequest.With("the cursor's topic %s is not among the topics", after)
		}
	}
	if req.Cursor != nil && req.Cursor.Partition < 0 {
		return nil, nil, kafka.ErrInvalidRequest.With("the cursor's partition is %d", req.Cursor.Partition)
	}
	return names, from, nil
}

func cursorAt(topic string, partition int32) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, partition
	return &c
}

func absentPartitions(name string, code int16) kmsg.DescribeTopicPartitionsResponseTopic {
	t := kmsg.NewDescribeTopicPartitionsResponseTopic()
	t.Topic, t.ErrorCode, t.IsInternal, t.AuthorizedOperations = &name, code, kafka.IsInternalTopic(name), topicOperations
	return t
}

// describePartitions describes at most room partitions; next is the first that was left out, -1 if none was.
func (v *view) describePartitions(topic *metadata.Topic, from, room int32) (rt kmsg.DescribeTopicPartitionsResponseTopic, next int32) {
	rt = kmsg.NewDescribeTopicPartitionsResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal, rt.AuthorizedOperations = &topic.Name, topic.ID, topic.Internal, topicOperations
	count := int32(topic.Partitions.Len())
	end := count
	if from < count && room < count-from {
		end = from + room
	}
	for i := from; i < end; i++ {
		p := topic.Partitions.At(i)
		rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		rp.Partition, rp.LeaderEpoch, rp.LeaderID = p.Index, int32(p.LeaderEpoch), int32(kafka.NoLeader)
		if _, _, ok := v.address(p.Leader); ok {
			rp.LeaderID = int32(p.Leader)
		}
		rp.Replicas, rp.ISR, rp.OfflineReplicas = brokerIDs(p.Replicas), brokerIDs(p.ISR), v.offline(p.Replicas)
		rp.EligibleLeaderReplicas, rp.LastKnownELR = brokerIDs(p.ELR), []int32{}
		rt.Partitions = append(rt.Partitions, rp)
	}
	if end < count {
		return rt, end
	}
	return rt, -1
}
