package api

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// offsetFetch: v2 lets null topics ask for all and adds an error of the group, v5 the leader epoch (KIP-320), v7
// require_stable (KIP-447: answers are always stable here, for they wait for what is pending), v8 several groups
// (KIP-709), v9 the member (KIP-848), v10 topic IDs.
func (h *Handlers) offsetFetch(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.OffsetFetchRequest)
	groups := req.Groups
	if req.Version < 8 {
		groups = []kmsg.OffsetFetchRequestGroup{singleGroup(req)}
	}
	img := h.Store.Image()
	fetches := make([]*groupFetch, len(groups))
	for i := range groups {
		fetches[i] = newGroupFetch(img, &groups[i], req.Version)
	}
	started := true
	for _, f := range fetches {
		started = started && len(f.unknown) == 0
	}
	if started {
		for _, f := range fetches {
			f.done = h.Groups.FetchAs(f.req.Group, f.req.MemberID, f.req.MemberEpoch, f.topics)
		}
	}
	return func(ctx context.Context) Response {
		if !started { // a topic ID that is not known here may be known elsewhere
			unsure := h.barrier(ctx)
			img := h.Store.Image()
			for i := range fetches {
				fetches[i] = newGroupFetch(img, &groups[i], req.Version)
				fetches[i].unsure = unsure
				fetches[i].done = h.Groups.FetchAs(groups[i].Group, groups[i].MemberID, groups[i].MemberEpoch, fetches[i].topics)
			}
		}
		resp := kmsg.NewPtrOffsetFetchResponse()
		for _, f := range fetches {
			resp.Groups = append(resp.Groups, f.response(ctx, h))
		}
		if req.Version < 8 {
			return Response{Message: singleResponse(resp)}
		}
		return Response{Message: resp}
	}
}

// singleGroup is a request of a version that knows one group only, in the form of the later ones.
func singleGroup(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics == nil && req.Version >= 2 {
		return g
	}
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	for i := range req.Topics {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.Partitions = req.Topics[i].Topic, req.Topics[i].Partitions
		g.Topics = append(g.Topics, t)
	}
	return g
}

func singleResponse(resp *kmsg.OffsetFetchResponse) *kmsg.OffsetFetchResponse {
	g := resp.Groups[0]
	resp.Groups, resp.ErrorCode = nil, g.ErrorCode
	for i := range g.Topics {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = g.Topics[i].Topic
		for _, p := range g.Topics[i].Partitions {
			row := kmsg.NewOffsetFetchResponseTopicPartition()
			row.Partition, row.Offset, row.LeaderEpoch, row.Metadata, row.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			t.Partitions = append(t.Partitions, row)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// groupFetch is the part of an OffsetFetch that is about one group.
type groupFetch struct {
	req     *kmsg.OffsetFetchRequestGroup
	version int16
	img     *metadata.Image
	topics  []group.FetchTopic // nil for all
	unknown []kmsg.OffsetFetchRequestGroupTopic
	unsure  error // why this node cannot say that what it does not know does not exist
	done    *coordinator.Promise[[]group.FetchedTopic]
}

func newGroupFetch(img *metadata.Image, req *kmsg.OffsetFetchRequestGroup, version int16) *groupFetch {
	f := &groupFetch{req: req, version: version, img: img}
	if req.Topics == nil {
		return f
	}
	f.topics = []group.FetchTopic{}
	for _, t := range req.Topics {
		ask := group.FetchTopic{Name: t.Topic, Partitions: t.Partitions}
		topic := img.Topic(t.Topic)
		if version >= 10 {
			if topic = img.TopicByID(t.TopicID); topic == nil {
				f.unknown = append(f.unknown, t)
				continue
			}
			ask.Name = topic.Name
		}
		if topic != nil {
			ask.ID = topic.ID
		}
		f.topics = append(f.topics, ask)
	}
	return f
}

func (f *groupFetch) response(ctx context.Context, h *Handlers) kmsg.OffsetFetchResponseGroup {
	g := kmsg.NewOffsetFetchResponseGroup()
	g.Group = f.req.Group
	topics, err := atCoordinator(ctx, h, f.done, func() *coordinator.Promise[[]group.FetchedTopic] {
		return h.Groups.FetchAs(f.req.Group, f.req.MemberID, f.req.MemberEpoch, f.topics)
	})
	if err == nil && f.unsure != nil && len(f.unknown) > 0 {
		err = kafka.ErrNotCoordinator.With("%v", f.unsure) // on which every client asks again
	}
	if err != nil {
		code := h.groupError("OffsetFetch", f.req.Group, err)
		if code == kafka.ErrCoordinatorNotAvailable.Code {
			code = kafka.ErrNotCoordinator.Code // consumers before Kafka 3.9 know no other retriable error here
		}
		if f.version >= 2 {
			g.ErrorCode = code
			return g
		}
		f.fail(&g, f.req.Topics, code)
		return g
	}
	for _, t := range topics {
		row := kmsg.NewOffsetFetchResponseGroupTopic()
		row.Topic = t.Name
		if f.version >= 10 {
			topic := f.img.Topic(t.Name)
			if topic == nil { // of all topics, one that is gone: it has no ID any more
				continue
			}
			row.TopicID = topic.ID
		}
		for _, p := range t.Partitions {
			one := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			one.Partition, one.Offset, one.LeaderEpoch = p.Partition, int64(p.Offset), int32(p.LeaderEpoch)
			one.Metadata, one.ErrorCode = &p.Metadata, p.ErrorCode
			row.Partitions = append(row.Partitions, one)
		}
		g.Topics = append(g.Topics, row)
	}
	f.fail(&g, f.unknown, kafka.ErrUnknownTopicID.Code)
	return g
}

// fail answers topics with one error for each partition.
func (f *groupFetch) fail(g *kmsg.OffsetFetchResponseGroup, topics []kmsg.OffsetFetchRequestGroupTopic, code int16) {
	for _, t := range topics {
		row := kmsg.NewOffsetFetchResponseGroupTopic()
		row.Topic, row.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			one := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			one.Partition, one.Offset, one.Metadata, one.ErrorCode = p, -1, kmsg.StringPtr(""), code
			row.Partitions = append(row.Partitions, one)
		}
		g.Topics = append(g.Topics, row)
	}
}
