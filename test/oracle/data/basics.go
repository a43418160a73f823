package data

import (
	"fmt"
	"strings"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/test/oracle/pair"
)

// Basics is the part of Talk that a fake can follow: records in and out, and what most often goes wrong, at every version.
func Basics(p *pair.Side) {
	p.Ordered = true
	s := &side{p}
	for v := int16(3); v <= 13; v++ {
		s.basicProduce(v)
	}
	s.create("f", 3)
	for range 3 {
		for p := range int32(2) {
			s.produce(9, -1, "f", p, batch(nil, strings.Repeat("x", 500), "b"))
		}
	}
	for v := int16(4); v <= 18; v++ {
		s.basicFetch(v)
	}
	s.basicListOffsets()
	s.deleteRecords()
	s.producerIDs()
	s.leaderEpochs()
}

func (s *side) basicProduce(v int16) {
	topic := fmt.Sprint("p", v)
	s.create(topic, 2)
	s.produce(v, -1, topic, 0, batch(nil, "a", "b"))
	s.produce(v, 1, topic, 1, batch(nil, "a"))
	s.produce(v, 0, topic, 1, batch(nil, "a"))
	s.produce(v, -1, topic, 1, batch(func(b *record.Builder) { b.Codec = record.Gzip }, "a"))
	s.produce(v, 2, topic, 0, batch(nil, "a"))
	s.produce(v, -1, "nope", 0, batch(nil, "a"))
	s.produce(v, -1, topic, 9, batch(nil, "a"))
	crc := batch(nil, "a")
	crc[len(crc)-1] ^= 1
	s.produce(v, -1, topic, 0, crc)
	for _, step := range []struct {
		epoch    int16
		sequence int32
	}{{0, 0}, {0, 2}, {0, 2}, {0, 20}, {1, 0}, {0, 4}} { // a duplicate, a gap, a new epoch, the old one
		s.produce(v, -1, topic, 0, batch(func(b *record.Builder) {
			b.ProducerID, b.ProducerEpoch, b.BaseSequence = kafka.ProducerID(1000+int64(v)), kafka.ProducerEpoch(step.epoch), step.sequence
		}, "a", "b"))
	}
	s.fetch(12, s.request(at(topic, 0, 0), at(topic, 1, 0)))
}

func (s *side) basicFetch(v int16) {
	for _, parts := range [][]from{
		{at("f", 0, 0), at("f", 1, 0), at("f", 2, 0)}, {at("f", 0, 1)}, {at("f", 0, 6)}, {at("f", 0, 7)}, {at("f", 9, 0)}, {at("nope", 0, 0)},
	} {
		s.fetch(v, s.request(parts...))
	}
	committed := s.request(at("f", 0, 0))
	committed.IsolationLevel = 1
	s.fetch(v, committed)
	little := s.request(at("f", 0, 0), at("f", 1, 0))
	little.MaxBytes = 10
	s.fetch(v, little)
	for _, epoch := range []int32{0, 5} {
		p := at("f", 0, 0)
		p.current = epoch
		s.fetch(v, s.request(p))
	}
	if v < 7 {
		return
	}
	full := s.request(at("f", 0, 0), at("f", 1, 6))
	full.SessionEpoch = 0
	id := s.fetch(v, full)
	for _, epoch := range []int32{1, 2, 9} {
		r := s.request()
		r.SessionID, r.SessionEpoch = id, epoch
		s.fetch(v, r)
	}
	r := s.request(at("f", 0, 0))
	r.SessionID, r.SessionEpoch = 12345, 1
	s.fetch(v, r)
}

func (s *side) basicListOffsets() {
	s.createListed()
	for v := int16(1); v <= 11; v++ {
		for _, time := range []int64{-1, -2, -3, 0, 100, 101, 201, 301, 401} {
			s.listOffset(v, "l", 0, time, nil)
			s.listOffset(v, "le", 0, time, nil)
		}
		s.listOffset(v, "nope", 0, -1, nil)
		s.listOffset(v, "l", 4, -1, nil)
	}
}
