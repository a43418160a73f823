package wire

import (
	"bytes"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The answer encoded by hand is the one that kmsg encodes, whatever is in it.
func TestAppendProduceResponse(t *testing.T) {
	partition := func(change func(*kmsg.ProduceResponseTopicPartition)) kmsg.ProduceResponseTopicPartition {
		p := kmsg.NewProduceResponseTopicPartition()
		p.Partition, p.ErrorCode, p.BaseOffset, p.LogAppendTime, p.LogStartOffset = 7, 3, 1<<40, 1<<41, 1<<42
		if change != nil {
			change(&p)
		}
		return p
	}
	message := "no"
	tagged := func(tags *kmsg.Tags) { tags.Set(5, []byte("x")) }
	plain := partition(nil)
	for name, topics := range map[string][]kmsg.ProduceResponseTopic{
		"nothing":      {},
		"no partition": {{Topic: "t"}},
		"one":          {{Topic: "t", TopicID: [16]byte{1, 2}, Partitions: []kmsg.ProduceResponseTopicPartition{plain}}},
		"several": {
			{Topic: strings.Repeat("long", 60), Partitions: []kmsg.ProduceResponseTopicPartition{plain, plain}},
			{Topic: "u", Partitions: make([]kmsg.ProduceResponseTopicPartition, 200)},
		},
		"message": {{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{plain, partition(func(p *kmsg.ProduceResponseTopicPartition) { p.ErrorMessage = &message })}}},
		"error records": {{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{partition(func(p *kmsg.ProduceResponseTopicPartition) {
			p.ErrorRecords = make([]kmsg.ProduceResponseTopicPartitionErrorRecord, 1)
		})}}},
		"leader": {{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{partition(func(p *kmsg.ProduceResponseTopicPartition) { p.CurrentLeader.LeaderID = 2 })}}},
		"epoch":  {{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{partition(func(p *kmsg.ProduceResponseTopicPartition) { p.CurrentLeader.LeaderEpoch = 0 })}}},
		"tags":   {{Topic: "t", Partitions: []kmsg.ProduceResponseTopicPartition{partition(func(p *kmsg.ProduceResponseTopicPartition) { tagged(&p.UnknownTags) })}}},
	} {
		for version := int16(3); version <= 13; version++ {
			for _, brokers := range []int{0, 1} {
				r := kmsg.NewPtrProduceResponse()
				r.Version, r.Topics, r.ThrottleMillis, r.Brokers = version, topics, 9, make([]kmsg.ProduceResponseBroker, brokers)
				want := r.AppendTo([]byte("header"))
				if got := AppendProduceResponse([]byte("header"), r); !bytes.Equal(got, want) {
					t.Errorf("%s, v%d, %d brokers:\n got %x\nwant %x", name, version, brokers, got, want)
				}
			}
		}
	}
}
