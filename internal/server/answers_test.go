package server

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/api"
	"chronik/internal/wire"
)

// largeAnswers answers Metadata with n bytes, Fetch with a payload of n bytes, the rest with little.
func largeAnswers(n int) fake {
	text := string(make([]byte, 32<<10-1))
	return func(ctx context.Context, r *api.Request) api.Reply {
		switch r.Key {
		case 1:
			return func(context.Context) api.Response {
				return api.Response{Payload: &wire.Payload{Parts: []wire.Part{{Bytes: make([]byte, n)}}}}
			}
		case 3:
			return func(context.Context) api.Response {
				m := r.Body.ResponseKind().(*kmsg.MetadataResponse)
				for range n >> 15 {
					m.Topics = append(m.Topics, kmsg.MetadataResponseTopic{Topic: &text})
				}
				return api.Response{Message: m}
			}
		}
		return empty(ctx, r)
	}
}

// Clients that ask for large answers and never read them: what is encoded for them stays near its bound, other clients do
// not notice, and once the slow ones are closed, those who waited get theirs.
func TestLargeAnswersThatNobodyReadsAreBounded(t *testing.T) {
	for name, request := range map[string]kmsg.Request{"messages": manyTopics(0), "payloads": minimalFetch()} {
		t.Run(name, func(t *testing.T) {
			const limit, answer, n = 32 << 20, 16 << 20, 40
			clock := newManualClock()
			s := start(t, largeAnswers(answer), func(o *Options) {
				o.Clock = clock
				o.Limits.ResponsesInFlightBytes = limit
				o.Limits.Idle = 1000 * time.Hour
			})
			other := dial(t, s)
			other.ask(1, heartbeat("g"))
			for range n {
				dial(t, s).send(1, request)
			}
			eventually(t, "the bound is reached", func() bool { return s.Stats().ResponseBytesHeld > limit })
			for i := range int32(100) {
				other.ask(i, heartbeat("g"))
			}
			most := s.Stats().ResponseBytesHeld
			clock.pass(t, "those who do not read are closed", func() bool {
				most = max(most, s.Stats().ResponseBytesHeld)
				return s.Stats().ConnectionsOpen == 1
			})
			// A payload is made by its handler, and counted then.
			if bound := int64(limit + (encodersAtOnce+1)*answer); most > bound && name == "messages" {
				t.Errorf("%d MiB were held", most>>20)
			}
			other.ask(99, request)
		})
	}
}
