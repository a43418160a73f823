package group

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// BenchmarkConsumerGroup is a group of many members: all join, then each heartbeat that changes nothing.
func BenchmarkConsumerGroup(b *testing.B) {
	for _, members := range []int{100, 1000} {
		topics := &fakeTopics{topics: map[string]fakeTopic{"t": {kafka.TopicID{1}, 1000}}}
		heartbeat := func(m *Machine, timers *coordinator.Timers, i int, epoch int32) *kmsg.ConsumerGroupHeartbeatResponse {
			r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			r.Version, r.Group, r.MemberID, r.MemberEpoch = 1, "g", fmt.Sprint("member", i), epoch
			if epoch == 0 {
				r.RebalanceTimeoutMillis, r.SubscribedTopicNames, r.Topics = 60_000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
			}
			tx := coordinator.NewTx(time.UnixMilli(0), timers)
			resp, err := m.ConsumerHeartbeat(tx, &ConsumerHeartbeatRequest{ConsumerGroupHeartbeatRequest: r, ClientID: "c", ClientHost: "/h"})
			if err != nil {
				b.Fatal(err)
			}
			tx.Take()
			return resp
		}
		join := func() (*Machine, *coordinator.Timers, []int32) {
			m := New(func() Limits { return Limits{RecordMaxBytes: 1 << 20} }, func() string { return "" }, slog.New(slog.DiscardHandler))
			m.SetTopics(func() Topics { return topics })
			timers, epochs := coordinator.NewTimers(), make([]int32, members)
			for i := range members {
				epochs[i] = heartbeat(m, timers, i, 0).MemberEpoch
			}
			return m, timers, epochs
		}
		b.Run(fmt.Sprint("join/", members), func(b *testing.B) {
			for b.Loop() {
				join()
			}
		})
		b.Run(fmt.Sprint("heartbeat/", members), func(b *testing.B) {
			m, timers, epochs := join()
			i := 0
			for b.Loop() {
				epochs[i] = heartbeat(m, timers, i, epochs[i]).MemberEpoch
				i = (i + 1) % members
			}
		})
	}
}
