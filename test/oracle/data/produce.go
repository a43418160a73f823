package data

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/test/oracle/pair"
)

func (s *side) produces() {
	s.create("p", 2, "max.message.bytes", "2000")
	s.create("lat", 1, "message.timestamp.type", "LogAppendTime", "compression.type", "gzip")
	for v := int16(3); v <= 13; v++ {
		s.acks(v)
		s.badBatches(v)
		s.timestamps(v)
		s.idempotent(v)
	}
}

func (s *side) produce(v, acks int16, topic string, partition int32, records []byte) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = acks, 3000
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic, s.topicID(topic)
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, records
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	if acks == 0 {
		s.Silent(v, req)
		return
	}
	pair.Call[*kmsg.ProduceResponse](s.Side, v, req)
	s.view()
}

func (s *side) acks(v int16) {
	s.produce(v, -1, "p", 0, batch(nil, "a", "b"))
	s.produce(v, 1, "p", 1, batch(nil, "a"))
	s.produce(v, 0, "p", 1, batch(nil, "a"))
	s.produce(v, 0, "p", 1, []byte{})
	s.produce(v, 0, "p", 9, batch(nil, "a"))
	s.produce(v, -1, "lat", 0, batch(nil, "a"))
	s.produce(v, 2, "p", 0, batch(nil, "a"))
	s.produce(v, 2, "nope", 0, batch(nil, "a"))
	s.produce(v, -1, "nope", 0, batch(nil, "a"))
	s.produce(v, -1, "p", 9, batch(nil, "a"))
	s.produce(v, -1, "p", -1, batch(nil, "a"))
	s.produce(v, -1, "__consumer_offsets", 0, batch(nil, "a"))
}

func (s *side) badBatches(v int16) {
	one := func() []byte { return batch(nil, "a") }
	if v == 3 || v == 13 {
		s.produce(v, -1, "p", 0, nil)
	}
	s.produce(v, -1, "p", 0, []byte{})
	s.produce(v, -1, "p", 0, []byte{1, 2, 3})
	crc, base, magic1, magic3 := one(), one(), one(), one()
	crc[len(crc)-1] ^= 1
	record.Batch(base).SetBaseOffset(4)
	magic1[16], magic3[16] = 1, 3
	for _, b := range [][]byte{crc, base, magic1, magic3} {
		s.produce(v, -1, "p", 0, b)
	}
	s.produce(v, -1, "p", 0, append(one(), one()...))
	s.produce(v, -1, "p", 0, append(one(), one()[:30]...))
	s.produce(v, -1, "p", 0, one()[:50])
	s.produce(v, -1, "p", 0, batch(nil, strings.Repeat("x", 3000)))
	for _, edit := range []func(b []byte){
		func(b []byte) { binary.BigEndian.PutUint32(b[57:], 3) },          // more records than there are
		func(b []byte) { binary.BigEndian.PutUint32(b[57:], 1) },          // fewer
		func(b []byte) { binary.BigEndian.PutUint32(b[57:], 0) },          // none
		func(b []byte) { binary.BigEndian.PutUint32(b[23:], 5) },          // the last offset delta
		func(b []byte) { binary.BigEndian.PutUint32(b[23:], 0xffffffff) }, // negative
		func(b []byte) { b[22] = 5 },                                      // a codec that is none
		func(b []byte) { b[22] = 1 },                                      // not gzip
		func(b []byte) { b[61] = 0x7f },                                   // a record's length
		func(b []byte) { b[22] = 8 },                                      // append time
	} {
		s.produce(v, -1, "p", 0, changed(edit))
	}
	s.produce(v, -1, "p", 0, batch(func(b *record.Builder) { b.Codec = record.Zstd }, "a"))
	s.produce(v, -1, "p", 0, batch(func(b *record.Builder) {
		b.Control = true
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = 900, 0, 0
	}, "a"))
	s.produce(v, -1, "p", 0, batch(func(b *record.Builder) {
		b.Transactional = true
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = 901, 0, 0
	}, "a"))
}

func (s *side) timestamps(v int16) {
	future := now + (48 * time.Hour).Milliseconds()
	for _, times := range [][]int64{{future, now, future + 3_600_000}, {-5}, {-1}} {
		b := record.NewBuilder()
		for _, at := range times {
			b.Add(at, nil, []byte("a"))
		}
		s.produce(v, -1, "p", 0, b.Build())
	}
}

func (s *side) idempotent(v int16) {
	id := kafka.ProducerID(1000 + int64(v))
	ask := func(epoch int16, sequence int32, n int) {
		s.produce(v, -1, "p", 0, batch(func(b *record.Builder) {
			b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, kafka.ProducerEpoch(epoch), sequence
		}, strings.Split(strings.Repeat("x", n), "")...))
	}
	ask(0, 5, 2) // the first one may have any sequence
	ask(0, 7, 2)
	ask(0, 7, 2) // duplicates
	ask(0, 5, 2)
	ask(0, 8, 2)  // overlaps
	ask(0, 20, 2) // a gap
	ask(1, 3, 2)
	ask(1, 0, 2)
	ask(0, 9, 2) // fenced
	ask(1, -1, 2)
	id = -1
	ask(3, 0, 1)
}
