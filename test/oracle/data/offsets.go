package data

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/record"
	"chronik/test/oracle/pair"
)

func (s *side) createListed() {
	s.create("l", 1, "message.timestamp.before.max.ms", "9223372036854775807")
	s.create("le", 1)
	for _, times := range [][]int64{{100, 300, 200}, {250, 400, 400}, {350}} {
		b := record.NewBuilder()
		for _, at := range times {
			b.Add(at, nil, []byte("v"))
		}
		s.produce(9, -1, "l", 0, b.Build())
	}
}

func (s *side) listOffset(v int16, topic string, partition int32, time int64, edit func(r *kmsg.ListOffsetsRequest)) {
	r := kmsg.NewPtrListOffsetsRequest()
	r.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.CurrentLeaderEpoch = partition, time, -1
	t.Partitions = append(t.Partitions, p)
	r.Topics = append(r.Topics, t)
	if edit != nil {
		edit(r)
	}
	pair.Call[*kmsg.ListOffsetsResponse](s.Side, v, r)
}

func (s *side) listOffsets() {
	s.createListed()
	for v := int16(1); v <= 11; v++ {
		ask := func(topic string, partition int32, time int64, edit func(r *kmsg.ListOffsetsRequest)) {
			s.listOffset(v, topic, partition, time, edit)
		}
		for _, time := range []int64{-1, -2, -3, -4, -5, -6, -7, -100, 0, 100, 101, 201, 250, 300, 301, 400, 401, 1 << 60} {
			ask("l", 0, time, nil)
			ask("le", 0, time, nil)
		}
		ask("l", 0, -1, func(r *kmsg.ListOffsetsRequest) { r.IsolationLevel = 1 })
		ask("l", 0, -1, func(r *kmsg.ListOffsetsRequest) { r.ReplicaID = 5 })
		ask("l", 0, -1, func(r *kmsg.ListOffsetsRequest) { r.ReplicaID = -2 })
		ask("nope", 0, -1, nil)
		ask("l", 4, -1, nil)
		for _, epoch := range []int32{0, 5, -3} {
			ask("l", 0, -1, func(r *kmsg.ListOffsetsRequest) { r.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch })
		}
		ask("l", 0, -1, func(r *kmsg.ListOffsetsRequest) {
			r.Topics[0].Partitions = append(r.Topics[0].Partitions, r.Topics[0].Partitions[0])
		})
	}
}

func (s *side) deleteRecords() {
	s.create("d", 1)
	for v := int16(0); v <= 2; v++ {
		ask := func(topic string, partition int32, offset int64) {
			r := kmsg.NewPtrDeleteRecordsRequest()
			r.TimeoutMillis = 3000
			t := kmsg.NewDeleteRecordsRequestTopic()
			t.Topic = topic
			p := kmsg.NewDeleteRecordsRequestTopicPartition()
			p.Partition, p.Offset = partition, offset
			t.Partitions = append(t.Partitions, p)
			r.Topics = append(r.Topics, t)
			pair.Call[*kmsg.DeleteRecordsResponse](s.Side, v, r)
		}
		s.produce(9, -1, "d", 0, batch(nil, "a", "b", "c"))
		base := int64(v) * 3
		ask("d", 0, base+1)
		ask("d", 0, base)
		ask("d", 0, base+4)
		ask("d", 0, -2)
		s.fetch(12, s.request(at("d", 0, base)))
		s.fetch(12, s.request(at("d", 0, base+1)))
		ask("d", 0, -1)
		s.fetch(12, s.request(at("d", 0, base+3)))
		ask("d", 3, 0)
		ask("nope", 0, 0)
		ask("__consumer_offsets", 0, 0)
		s.produce(9, -1, "d", 0, batch(nil))
	}
}

// awaitProducerIDs waits until there are some: Apache Kafka's first requests tell that it does not have them yet.
func (s *side) awaitProducerIDs() {
	said := len(s.Said)
	for range 100 {
		r := kmsg.NewPtrInitProducerIDRequest()
		r.TransactionTimeoutMillis = 1000
		resp := pair.Call[*kmsg.InitProducerIDResponse](s.Side, 4, r)
		if resp != nil && resp.ErrorCode == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.Said = s.Said[:said]
}

func (s *side) producerIDs() {
	s.awaitProducerIDs()
	for v := int16(0); v <= 5; v++ {
		ask := func(transaction *string, timeout int32, id int64, epoch int16) {
			r := kmsg.NewPtrInitProducerIDRequest()
			r.TransactionalID, r.TransactionTimeoutMillis, r.ProducerID, r.ProducerEpoch = transaction, timeout, id, epoch
			resp := pair.Call[*kmsg.InitProducerIDResponse](s.Side, v, r)
			if resp != nil && resp.ProducerID >= 0 && resp.ProducerID != id {
				s.Last().Body.(map[string]any)["ProducerID"] = "new"
			}
		}
		ask(nil, 1000, -1, -1)
		ask(nil, 1000, 4, 3)
		ask(nil, 1000, 4, -1)
		ask(nil, 1000, -1, 3)
		ask(kmsg.StringPtr(""), 1000, -1, -1)
		ask(kmsg.StringPtr("x"), 100_000_000, -1, -1)
		ask(kmsg.StringPtr("x"), 0, -1, -1)
	}
}

func (s *side) leaderEpochs() {
	for v := int16(2); v <= 4; v++ {
		ask := func(topic string, partition, current, epoch int32) {
			r := kmsg.NewPtrOffsetForLeaderEpochRequest()
			r.ReplicaID = -1
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = topic
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = partition, current, epoch
			t.Partitions = append(t.Partitions, p)
			r.Topics = append(r.Topics, t)
			pair.Call[*kmsg.OffsetForLeaderEpochResponse](s.Side, v, r)
		}
		for _, epoch := range []int32{0, 1, -1, -2} {
			ask("l", 0, -1, epoch)
		}
		ask("l", 0, 0, 0)
		ask("l", 0, 4, 0)
		ask("le", 0, -1, 0)
		ask("nope", 0, -1, 0)
		ask("l", 3, -1, 0)
		ask("d", 0, -1, 0)
	}
}
