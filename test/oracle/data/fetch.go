package data

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// from is one partition of a fetch.
type from struct {
	topic          string
	partition      int32
	offset         int64
	max            int32
	current, epoch int32 // the leader epochs: of the partition, of the last record fetched
}

func at(topic string, partition int32, offset int64) from {
	return from{topic, partition, offset, 1 << 20, -1, -1}
}

func (s *side) request(parts ...from) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.MaxBytes, r.MinBytes, r.SessionEpoch = 1<<20, 1, -1
	for i, p := range parts {
		n := len(r.Topics)
		if n == 0 || p.topic != parts[i-1].topic {
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.TopicID = strings.TrimSuffix(p.topic, before), s.topicID(p.topic)
			r.Topics = append(r.Topics, t)
			n++
		}
		x := kmsg.NewFetchRequestTopicPartition()
		x.Partition, x.FetchOffset, x.PartitionMaxBytes, x.CurrentLeaderEpoch, x.LastFetchedEpoch = p.partition, p.offset, p.max, p.current, p.epoch
		r.Topics[n-1].Partitions = append(r.Topics[n-1].Partitions, x)
	}
	return r
}

func (s *side) forget(r *kmsg.FetchRequest, topic string, partitions ...int32) *kmsg.FetchRequest {
	t := kmsg.NewFetchRequestForgottenTopic()
	t.Topic, t.TopicID, t.Partitions = topic, s.topicID(topic), partitions
	r.ForgottenTopics = append(r.ForgottenTopics, t)
	return r
}

// longPoll is the max wait of fetches that may have to wait; whether one did is compared.
const longPoll = 500 * time.Millisecond

// fetch returns the session ID, which the request of the next call may name; in what is compared it is "some".
func (s *side) fetch(v int16, r *kmsg.FetchRequest) int32 {
	session, began := r.SessionID, time.Now()
	resp := pair.Call[*kmsg.FetchResponse](s.Side, v, r)
	s.view()
	if last := s.Last(); last != nil {
		if session != 0 {
			last.What = strings.Replace(last.What, fmt.Sprintf(`"SessionID":%d`, session), `"SessionID":"some"`, 1)
		}
		if body, ok := last.Body.(map[string]any); ok && r.MaxWaitMillis > 0 {
			body["Waited"] = time.Since(began) >= longPoll
		}
	}
	if resp == nil {
		return 0
	}
	return resp.SessionID
}

func (s *side) fetches() {
	s.create("f", 3)
	s.create("g", 1)
	s.create("gone", 1)
	for range 3 {
		for p := range int32(2) {
			s.produce(9, -1, "f", p, batch(nil, strings.Repeat("x", 500), "b"))
		}
	}
	s.produce(9, -1, "g", 0, batch(nil, "b"))
	for v := int16(4); v <= 18; v++ {
		s.places(v)
		s.sizes(v)
		s.epochs(v)
		s.noSessions(v)
		if v == 4 || v == 12 || v == 18 {
			s.longPolls(v)
		}
		if v >= 7 {
			s.session(v)
		}
	}
}

func (s *side) places(v int16) {
	for _, parts := range [][]from{
		{at("f", 0, 0), at("f", 1, 0), at("f", 2, 0)}, {at("f", 0, 1)}, {at("f", 0, 6)}, {at("f", 0, 7)}, {at("f", 0, -1)}, {at("f", 9, 0)},
		{at("nope", 0, 0)}, {at("nope", 0, 0), at("f", 0, 0), at("f", 9, 0), at("g", 0, 0)}, {at("f", 0, 0), at("f", 0, 4)},
	} {
		s.fetch(v, s.request(parts...))
	}
	for _, parts := range [][]from{{at("f", 0, 0)}, {at("f", 0, 6)}, {at("f", 0, 7), at("nope", 0, 0)}} {
		r := s.request(parts...)
		r.IsolationLevel = 1
		s.fetch(v, r)
	}
}

func (s *side) sizes(v int16) {
	for _, size := range []int32{10, 0, -1} {
		r := s.request(at("f", 0, 0), at("f", 1, 0))
		r.MaxBytes = size
		s.fetch(v, r)
	}
	little := at("f", 0, 0)
	little.max = 0
	s.fetch(v, s.request(little, at("f", 1, 0)))
	for _, size := range []int32{700, -5} {
		little.max = size
		s.fetch(v, s.request(at("f", 1, 0), little))
	}
}

func (s *side) epochs(v int16) {
	for _, epoch := range []int32{-2, 0, 1, 5} {
		p := at("f", 0, 0)
		p.current = epoch
		s.fetch(v, s.request(p))
		p = at("f", 0, 0)
		p.epoch = epoch
		s.fetch(v, s.request(p))
	}
	p := at("f", 0, 7)
	p.epoch = 0
	s.fetch(v, s.request(p))
	r := s.request(at("f", 0, 0))
	r.ReplicaID = 5
	r.ReplicaState.ID = 5
	s.fetch(v, r)
}

func (s *side) noSessions(v int16) {
	for _, session := range [][2]int32{{12345, 1}, {0, 5}, {12345, -1}, {0, -2}} {
		r := s.request(at("f", 0, 0))
		r.SessionID, r.SessionEpoch = session[0], session[1]
		s.fetch(v, r)
	}
}

func (s *side) longPolls(v int16) {
	for _, poll := range []struct {
		minBytes, maxBytes int32
		parts              []from
	}{
		{1, 1 << 20, []from{at("nope", 0, 0), at("f", 0, 6)}},
		{1, 1 << 20, []from{at("f", 0, 7), at("f", 1, 6)}},
		{1, 1 << 20, []from{at("f", 0, 6)}},
		{0, 1 << 20, []from{at("f", 0, 6)}},
		{100_000, 1 << 20, []from{at("f", 0, 0)}},
		{100_000, 100, []from{at("f", 0, 0)}},
	} {
		r := s.request(poll.parts...)
		r.MaxWaitMillis, r.MinBytes, r.MaxBytes = int32(longPoll.Milliseconds()), poll.minBytes, poll.maxBytes
		s.fetch(v, r)
	}
}

func (s *side) session(v int16) {
	full := func(id int32, parts ...from) int32 {
		r := s.request(parts...)
		r.SessionID, r.SessionEpoch = id, 0
		return s.fetch(v, r)
	}
	id := full(0, at("f", 0, 0), at("f", 1, 6), at("nope", 0, 0), at("g", 0, 0))
	next := func(epoch int32, parts ...from) *kmsg.FetchRequest {
		r := s.request(parts...)
		r.SessionID, r.SessionEpoch = id, epoch
		return r
	}
	s.fetch(v, next(1))
	s.fetch(v, next(2, at("f", 0, 6), at("g", 0, 1)))
	s.fetch(v, next(3, at("f", 0, 0), at("g", 0, 0), at("f", 1, 0)))
	s.fetch(v, next(4))
	s.fetch(v, s.forget(next(5), "f", 0, 7))
	s.fetch(v, next(9)) // not the next one
	s.fetch(v, next(6, at("f", 2, 99)))
	s.fetch(v, next(7))
	s.fetch(v, next(8, at("f", 2, 0)))
	s.fetch(v, next(9))
	if v == 12 || v == 13 {
		s.fetch(25-v, next(10)) // topics by name in a session by ID, or the other way round
	}
	old := id
	id = full(old, at("f", 0, 0))
	replaced := next(10)
	replaced.SessionID = old
	s.fetch(v, replaced)
	s.fetch(v, s.forget(next(1), "f", 0))
	full(0)
	s.fetch(v, next(2))
}

// goneTopics are deleted while a session has them, and made again.
func (s *side) goneTopics() {
	for _, v := range []int16{12, 13, 18} {
		r := s.request(at("gone", 0, 0), at("f", 0, 6))
		r.SessionEpoch = 0
		id := s.fetch(v, r)
		next := func(epoch int32) {
			r := s.request()
			r.SessionID, r.SessionEpoch = id, epoch
			s.fetch(v, r)
		}
		s.remove("gone")
		next(1)
		s.fetch(v, s.request(at("gone", 0, 0)))
		s.create("gone", 1)
		next(2)
		s.fetch(v, s.request(at("gone"+before, 0, 0)))
		next(3)
	}
}
