package api

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// deletionsAtOnce is how many topics of one request are deleted side by side, so that they share commits.
const deletionsAtOnce = 64

// deleteTopics: by name; v5 adds messages, v6 topic IDs.
func (h *Handlers) deleteTopics(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DeleteTopicsRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, req.TimeoutMillis)
		defer cancel()
		return Response{Message: h.doDeleteTopics(ctx, r, req)}
	}
}

// deletion is one topic that is asked for, and what becomes of it.
type deletion struct {
	name  *string
	id    kafka.TopicID
	err   error
	valid bool
}

func (d *deletion) find(img *metadata.Image) *metadata.Topic {
	if d.name != nil {
		return img.Topic(*d.name)
	}
	return img.TopicByID(d.id)
}

func (h *Handlers) doDeleteTopics(ctx context.Context, r *Request, req *kmsg.DeleteTopicsRequest) *kmsg.DeleteTopicsResponse {
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	topics := asked(req)
	if h.Config.Load().DeleteTopics {
		topics = h.resolveDeletions(ctx, topics)
		h.delete(ctx, topics)
	} else {
		for i := range topics {
			topics[i].err = kafka.ErrTopicDeletionDisabled.With("delete.topic.enable is false on this broker")
			if r.Version < 3 {
				topics[i].err = kafka.ErrInvalidRequest.With("delete.topic.enable is false on this broker")
			}
		}
	}
	resp.Topics = make([]kmsg.DeleteTopicsResponseTopic, 0, len(topics))
	for i := range topics {
		t := kmsg.NewDeleteTopicsResponseTopic()
		t.Topic, t.TopicID = topics[i].name, topics[i].id
		t.ErrorCode, t.ErrorMessage = kafka.CodeOf(topics[i].err), kafka.Message(topics[i].err)
		if t.Topic == nil && r.Version < 6 {
			t.Topic = kmsg.StringPtr("")
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

func asked(req *kmsg.DeleteTopicsRequest) []deletion {
	var topics []deletion
	for i := range req.TopicNames {
		topics = append(topics, deletion{name: &req.TopicNames[i]})
	}
	for i := range req.Topics {
		topics = append(topics, deletion{name: req.Topics[i].Topic, id: req.Topics[i].TopicID})
	}
	return topics
}

// resolveDeletions finds names and IDs; what is named more than once is answered once, with an error.
func (h *Handlers) resolveDeletions(ctx context.Context, topics []deletion) []deletion {
	img := h.Store.Image()
	var sure surely
	if slices.ContainsFunc(topics, func(d deletion) bool { return d.find(img) == nil }) { // another node may know better
		_ = sure.ask(ctx, h)
		img = h.Store.Image()
	}
	names, ids := map[string]int{}, map[kafka.TopicID]int{}
	for i := range topics {
		switch d := &topics[i]; {
		case d.name != nil && d.id.IsZero():
			names[*d.name]++
		case d.name == nil && !d.id.IsZero():
			ids[d.id]++
		}
	}
	both := map[kafka.TopicID]bool{} // given by name and by ID: not deleted, and answered by name only, as in Kafka
	for name, n := range names {
		if topic := img.Topic(name); n == 1 && topic != nil && ids[topic.ID] > 0 {
			both[topic.ID] = true
		}
	}
	var out []deletion
	for _, d := range topics {
		switch {
		case d.name == nil && d.id.IsZero():
			d.err = kafka.ErrInvalidRequest.With("a topic has neither name nor ID")
		case d.name != nil && !d.id.IsZero():
			d.err = kafka.ErrInvalidRequest.With("topic %s has both a name and an ID, give one of them", *d.name)
		case d.name != nil && names[*d.name] != 1:
			if names[*d.name] == 0 {
				continue // answered
			}
			d.err = kafka.ErrInvalidRequest.With("topic %s is named %d times", *d.name, names[*d.name])
			names[*d.name] = 0
		case d.name == nil && ids[d.id] != 1:
			if ids[d.id] == 0 {
				continue
			}
			d.err = kafka.ErrInvalidRequest.With("topic ID %s is given %d times", d.id, ids[d.id])
			ids[d.id] = 0
		default:
			topic := d.find(img)
			switch {
			case topic == nil && sure.err != nil:
				d.err = sure.err
			case topic == nil && d.name != nil:
				d.err = kafka.ErrUnknownTopicOrPartition.With("there is no topic %s", *d.name)
			case topic == nil:
				d.err = kafka.ErrUnknownTopicID.With("there is no topic with ID %s", d.id)
			case both[topic.ID] && d.name == nil:
				continue
			case both[topic.ID]:
				d.id = topic.ID
				d.err = kafka.ErrInvalidRequest.With("topic %s is also given by its ID", topic.Name)
			default:
				d.name, d.id, d.valid = &topic.Name, topic.ID, true
			}
		}
		out = append(out, d)
	}
	return out
}

func (h *Handlers) delete(ctx context.Context, topics []deletion) {
	var wait sync.WaitGroup
	room := make(chan struct{}, deletionsAtOnce)
	for i := range topics {
		if !topics[i].valid {
			continue
		}
		room <- struct{}{}
		wait.Go(func() {
			d := &topics[i]
			d.err = h.outcome("deletion of topic "+*d.name, h.deleteOne(ctx, d.id))
			<-room
		})
	}
	wait.Wait()
	if err := h.settle(ctx); err != nil {
		h.Logger.Warn("deleted topics are not gone yet", "error", err)
	}
}

// deleteOne deletes a topic. Where the outcome is not known it is tried again while there is time: that it is gone then is a
// success.
func (h *Handlers) deleteOne(ctx context.Context, id kafka.TopicID) error {
	for tries := 0; ; tries++ {
		err := h.Store.DeleteTopic(ctx, id)
		switch {
		case tries > 0 && errors.Is(err, kafka.ErrUnknownTopicID):
			return nil
		case errors.Is(err, kafka.ErrRequestTimedOut), errors.Is(err, kafka.ErrNotController):
			if h.pause(ctx, creationPause) {
				continue
			}
		}
		return err
	}
}
