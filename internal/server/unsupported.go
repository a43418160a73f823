package server

import (
	"context"
	"encoding/binary"
	"errors"
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/kafka"
	"chronik/internal/wire"
)

// acceptUnsupported answers a request that no handler takes: a client gets UNSUPPORTED_VERSION in a form that it can
// read, and keeps its connection. (Kafka closes the connection, ApiVersions apart.)
func (c *connection) acceptUnsupported(h *wire.Header, known bool, minVersion, maxVersion int16) error {
	it := &inflight{key: h.Key, version: h.Version, correlationID: h.CorrelationID, began: c.server.opts.Clock.Now()}
	it.request.Conn = &c.api
	c.server.counters.api(h.Key).unsupported.Add(1)
	switch {
	case !known:
		c.frame.Release()
		code := binary.BigEndian.AppendUint16(nil, uint16(kafka.ErrUnsupportedVersion.Code))
		it.key = -1 // a plain header: nobody knows whether the key is flexible
		it.reply = replyWith(api.Response{Payload: &wire.Payload{Parts: []wire.Part{{Bytes: code}}}})
	case h.Key == apiVersionsKey:
		c.frame.Release()
		it.version = 0
		it.reply = replyWith(api.Response{Message: unsupportedApiVersions(minVersion, maxVersion)})
	default:
		message, err := c.unsupported(it, h, minVersion, maxVersion)
		if err != nil {
			return err
		}
		c.frame.Release()
		it.version = message.GetVersion()
		it.reply = replyWith(api.Response{Message: message})
	}
	c.queue <- it
	return nil
}

func replyWith(r api.Response) api.Reply {
	return func(context.Context) api.Response { return r }
}

// unsupportedApiVersions tells the client which version to ask again with (KIP-511).
func unsupportedApiVersions(minVersion, maxVersion int16) kmsg.Response {
	r := kmsg.NewPtrApiVersionsResponse()
	r.ErrorCode = kafka.ErrUnsupportedVersion.Code
	key := kmsg.NewApiVersionsResponseApiKey()
	key.ApiKey, key.MinVersion, key.MaxVersion = apiVersionsKey, minVersion, maxVersion
	r.ApiKeys = append(r.ApiKeys, key)
	return r
}

// errUnanswerable is for acks=0: Kafka too closes the connection where such a request fails.
var errUnanswerable = errors.New("a Produce of an unsupported version with acks=0 has no answer to carry the error")

// unsupported makes the answer of a known API. A version that is too old can still be decoded: its items come back,
// each with the error. One that is too new cannot: the answer is in the newest version that is known, without items.
func (c *connection) unsupported(it *inflight, h *wire.Header, minVersion, maxVersion int16) (kmsg.Response, error) {
	request := kmsg.RequestForKey(h.Key)
	response := request.ResponseKind()
	setError(reflect.ValueOf(response).Elem())
	if h.Version > maxVersion || h.Version < 0 {
		response.SetVersion(maxVersion)
		return response, nil
	}
	cost, err := wire.Check(h.Key, h.Version, h.Body, c.server.opts.Limits.Guard)
	if err != nil {
		return nil, err
	}
	if err := c.holdDecoded(it, cost.Decoded); err != nil { // until it is answered, with an echo of what was decoded
		return nil, err
	}
	request.SetVersion(h.Version)
	if err := request.ReadFrom(h.Body); err != nil {
		it.dropDecoded()
		return nil, err
	}
	if p, ok := request.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		it.dropDecoded()
		return nil, errUnanswerable
	}
	response.SetVersion(h.Version)
	echo(reflect.ValueOf(request).Elem(), reflect.ValueOf(response).Elem())
	return response, nil
}

// echo gives the response an item for each item of the request, with its name and the error.
func echo(request, response reflect.Value) {
	for i := range response.NumField() {
		to := response.Field(i)
		if to.Kind() != reflect.Slice || to.Type().Elem().Kind() != reflect.Struct {
			continue
		}
		from := request.FieldByName(response.Type().Field(i).Name)
		if !from.IsValid() || from.Kind() != reflect.Slice {
			continue
		}
		items := reflect.MakeSlice(to.Type(), from.Len(), from.Len())
		for j := range from.Len() {
			item := items.Index(j)
			if d, ok := item.Addr().Interface().(interface{ Default() }); ok {
				d.Default()
			}
			setError(item)
			if from.Index(j).Kind() == reflect.Struct {
				identify(from.Index(j), item)
				echo(from.Index(j), item)
			}
		}
		to.Set(items)
	}
}

// identity are the fields that say what an item is about.
var identity = []string{"Topic", "TopicID", "Partition", "Group", "ResourceType", "ResourceName", "MemberID", "Name"}

func identify(from, to reflect.Value) {
	for _, name := range identity {
		a, b := from.FieldByName(name), to.FieldByName(name)
		if a.IsValid() && b.IsValid() && a.Type() == b.Type() {
			b.Set(a)
		}
	}
}

func setError(v reflect.Value) {
	if code := v.FieldByName("ErrorCode"); code.IsValid() && code.Kind() == reflect.Int16 {
		code.SetInt(int64(kafka.ErrUnsupportedVersion.Code))
	}
}
