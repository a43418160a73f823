package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

const (
	streamsMax     = 32               // event streams at a time
	streamStallMax = 10 * time.Second // how long a client may take nothing
	keepAlive      = 15 * time.Second // between two signs of life
)

// EventTypes are what the Type of an EventView can be.
var EventTypes = []string{"TopicCreated", "TopicDeleted", "PartitionAssigned", "PartitionLeaderChanged", "ISRUpdated", "ConfigChanged",
	"BrokerRegistered", "BrokerFenced", "BrokerUnfenced", "BrokerStateChanged", "BrokerRemoved", "VotersChanged", "SnapshotInstalled"}

// EventView is one event of GET /v1/events. Fields that do not belong to its type are absent.
type EventView struct {
	Type   string          `json:"type"`
	Offset metadata.Offset `json:"metadata_offset"`
	Cause  string          `json:"cause"`

	Topic     string         `json:"topic,omitempty"`
	TopicID   string         `json:"topic_id,omitempty"`
	Partition *PartitionView `json:"partition,omitempty"`

	Broker      *kafka.BrokerID   `json:"broker,omitempty"`
	BrokerEpoch kafka.BrokerEpoch `json:"broker_epoch,omitempty"`
	Incarnation string            `json:"incarnation,omitempty"`

	ResourceType string `json:"resource_type,omitempty"` // topic, broker, group
	Resource     string `json:"resource,omitempty"`

	// Of a SnapshotInstalled: what follows up to the next event with an offset is the difference of two images, those of
	// From and of Offset; what came and went in between is not told.
	From *metadata.Offset `json:"from,omitempty"`
}

// eventView translates an event; what this version does not know of keeps its type's name.
func eventView(event metadata.Event) EventView {
	v := EventView{Offset: event.Meta().Offset, Cause: event.Meta().Reason}
	partition := func(kind string, t *metadata.Topic, p *metadata.Partition) {
		view := partitionView(p)
		v.Type, v.Topic, v.TopicID, v.Partition = kind, t.Name, t.ID.String(), &view
	}
	broker := func(kind string, b *metadata.Broker) {
		v.Type, v.Broker, v.BrokerEpoch, v.Incarnation = kind, &b.ID, b.Epoch, fmt.Sprintf("%x", b.Incarnation)
	}
	switch e := event.(type) {
	case metadata.TopicCreated:
		v.Type, v.Topic, v.TopicID = "TopicCreated", e.Topic.Name, e.Topic.ID.String()
	case metadata.TopicDeleted:
		v.Type, v.Topic, v.TopicID = "TopicDeleted", e.Topic.Name, e.Topic.ID.String()
	case metadata.PartitionAssigned:
		partition("PartitionAssigned", e.Topic, e.Partition)
	case metadata.PartitionLeaderChanged:
		partition("PartitionLeaderChanged", e.Topic, e.Partition)
	case metadata.ISRUpdated:
		partition("ISRUpdated", e.Topic, e.Partition)
	case metadata.ConfigChanged:
		v.Type, v.Resource = "ConfigChanged", e.Resource.Name
		v.ResourceType = map[metadata.ResourceType]string{metadata.TopicResource: "topic", metadata.BrokerResource: "broker", metadata.GroupResource: "group"}[e.Resource.Type]
	case metadata.BrokerRegistered:
		broker("BrokerRegistered", e.Broker)
	case metadata.BrokerFenced:
		broker("BrokerFenced", e.Broker)
	case metadata.BrokerUnfenced:
		broker("BrokerUnfenced", e.Broker)
	case metadata.BrokerStateChanged:
		broker("BrokerStateChanged", e.Broker)
	case metadata.BrokerRemoved:
		v.Type, v.Broker = "BrokerRemoved", &e.ID
	case metadata.SnapshotInstalled:
		from := e.Old.Offset()
		v.Type, v.From = "SnapshotInstalled", &from
	default:
		v.Type = fmt.Sprintf("%T", event)[len("metadata."):]
	}
	return v
}

// events streams the metadata bus from where the client left off: after the offset of Last-Event-ID or ?after=, else from
// now on. An offset may have several events; only the last of them carries the SSE id, so that a client that was cut
// off in their midst gets all of them again, rather than never.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	cluster := s.cluster(w)
	if cluster == nil {
		return
	}
	after := cluster.Image().Offset()
	given := r.Header.Get("Last-Event-ID")
	if given == "" {
		given = r.URL.Query().Get("after")
	}
	if given != "" {
		n, err := strconv.ParseInt(given, 10, 64)
		if err != nil || n < 0 {
			fail(w, http.StatusBadRequest, "after=%s is not a metadata offset", given)
			return
		}
		after = metadata.Offset(n)
	}
	if s.streams.Add(1) > streamsMax {
		s.streams.Add(-1)
		w.Header().Set("Retry-After", "5")
		fail(w, http.StatusServiceUnavailable, "%d event streams are open, which is the limit", streamsMax)
		return
	}
	defer s.streams.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	cursor := cluster.Subscribe("events", after)
	defer cursor.Close()
	out := &eventWriter{w: w, control: http.NewResponseController(w)}
	_ = out.control.SetReadDeadline(time.Time{}) // else the request would end with it
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	// Where the stream begins, for a client that is cut off before the first event.
	if out.comment("connected\nid: "+strconv.FormatInt(int64(after), 10)) != nil {
		return
	}
	follow(ctx, cursor, after, out)
}

// follow ends with the client, the node, or the cursor.
func follow(ctx context.Context, cursor *metadata.Cursor, after metadata.Offset, out *eventWriter) {
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, keepAlive)
		batch, err := cursor.Next(wait)
		cancel()
		switch {
		case err == nil && batch.Image.Offset() <= after: // the client came from a node that is ahead of this one
			continue
		case err == nil:
			err = out.batch(batch)
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			err = out.comment("alive")
		}
		if err != nil {
			return
		}
	}
}

// eventWriter writes server-sent events; each call is one flush.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     []byte
}

func (o *eventWriter) comment(text string) error {
	o.buf = append(append(append(o.buf, ": "...), text...), "\n\n"...)
	return o.flush()
}

const flushBytes = 64 << 10

func (o *eventWriter) batch(batch metadata.Batch) error {
	var held *EventView // the last one, which gets the id
	emit := func(v EventView) error {
		if held != nil {
			o.add(*held, false)
		}
		held = &v
		if len(o.buf) >= flushBytes {
			return o.flush()
		}
		return nil
	}
	for _, event := range batch.Events {
		if err := emit(eventView(event)); err != nil {
			return err
		}
		if snapshot, ok := event.(metadata.SnapshotInstalled); ok {
			for d := range metadata.Difference(snapshot.Old, snapshot.New) {
				if err := emit(eventView(d)); err != nil {
					return err
				}
			}
		}
	}
	if held != nil {
		held.Offset = batch.Image.Offset()
		o.add(*held, true)
	}
	return o.flush()
}

func (o *eventWriter) add(v EventView, last bool) {
	if last {
		o.buf = append(strconv.AppendInt(append(o.buf, "id: "...), int64(v.Offset), 10), '\n')
	}
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs
	}
	o.buf = append(append(append(o.buf, "event: "...), v.Type...), "\ndata: "...)
	o.buf = append(append(o.buf, data...), "\n\n"...)
}

func (o *eventWriter) flush() error {
	if err := o.control.SetWriteDeadline(time.Now().Add(streamStallMax)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	_, err := o.w.Write(o.buf)
	o.buf = o.buf[:0]
	return errors.Join(err, o.control.Flush())
}
