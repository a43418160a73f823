package api

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/replica"
)

// fetchRequest is a Fetch request of any version in one form.
type fetchRequest struct {
	version      int16
	topicIDs     bool // topics are named by ID (version 13 on)
	sessionID    int32
	sessionEpoch int32
	maxWait      time.Duration
	minBytes     int
	maxBytes     int
	isolation    replica.Isolation
	rack         string // of the client (version 11 on)
	replicaID    int32  // -1 for a consumer, -2 for a debugging one, else a Kafka broker
	entries      []fetchEntry
	forgotten    []fetchKey
}

// fetchEntry is one partition of a Fetch request and what became of it.
type fetchEntry struct {
	key   fetchKey
	topic string // the topic's name; empty if nobody knows the ID
	fetchParams

	// refused: decided without asking the partition. Such entries come last in the answer and end no wait, as in Kafka.
	refused       bool
	unchanged     bool // nothing new for the session: left out of the answer
	code          int16
	partition     *replica.Partition
	highWatermark kafka.Offset
	lastStable    kafka.Offset
	logStart      kafka.Offset
	aborted       []replica.AbortedTransaction
	withAborted   bool // the list is there, though it may be empty
	diverging     *replica.EpochEnd
	leaderHint    kafka.BrokerID // KIP-951; NoLeader for none
	leaderEpoch   kafka.LeaderEpoch
	readReplica   kafka.BrokerID // KIP-392; NoLeader for none
	records       replica.Records
	size          int // of records, in bytes
}

// clear forgets the last attempt's result.
func (e *fetchEntry) clear() {
	e.records.Release()
	e.records = replica.Records{}
	e.size, e.code = 0, 0
	e.highWatermark, e.lastStable, e.logStart = kafka.NoOffset, kafka.NoOffset, kafka.NoOffset
	e.aborted, e.withAborted, e.diverging = nil, false, nil
	e.leaderHint, e.leaderEpoch, e.readReplica = kafka.NoLeader, kafka.NoLeaderEpoch, kafka.NoLeader
}

// refuse gives the entry an error without asking its partition.
func (e *fetchEntry) refuse(err error) {
	e.clear()
	e.refused, e.withAborted, e.code = true, true, kafka.CodeOf(err)
}

// fail gives the entry the partition's error.
func (e *fetchEntry) fail(err error) {
	e.clear()
	e.code = kafka.CodeOf(err)
}

// fetchPartitionsMax bounds the partitions of one request. No client asks for more than there are, and each costs more
// memory here than it does on the wire.
const fetchPartitionsMax = 200_000

// newFetchRequest reads a decoded request into entries, which it may grow. A partition that is named twice counts once,
// with its last parameters. INVALID_REQUEST for more partitions than fetchPartitionsMax.
func newFetchRequest(m *kmsg.FetchRequest, entries []fetchEntry) (*fetchRequest, error) {
	r := &fetchRequest{
		version:      m.Version,
		topicIDs:     m.Version >= 13,
		sessionID:    noSession,
		sessionEpoch: finalSessionEpoch,
		maxWait:      time.Duration(m.MaxWaitMillis) * time.Millisecond,
		minBytes:     int(m.MinBytes),
		maxBytes:     int(m.MaxBytes),
		isolation:    replica.ReadUncommitted,
		replicaID:    m.ReplicaID,
	}
	if m.Version >= 7 {
		r.sessionID, r.sessionEpoch = m.SessionID, m.SessionEpoch
	}
	if m.Version >= 11 {
		r.rack = m.Rack
	}
	if m.Version >= 15 {
		r.replicaID = m.ReplicaState.ID
	}
	if m.IsolationLevel == 1 {
		r.isolation = replica.ReadCommitted
	}
	n := 0
	for i := range m.Topics {
		n += len(m.Topics[i].Partitions)
	}
	for i := range m.ForgottenTopics {
		n += len(m.ForgottenTopics[i].Partitions)
	}
	if n > fetchPartitionsMax {
		return r, kafka.ErrInvalidRequest
	}
	r.entries = slices.Grow(entries[:0], n)
	var seen map[fetchKey]int
	if n > 16 {
		seen = make(map[fetchKey]int, n)
	}
	for i := range m.Topics {
		t := &m.Topics[i]
		for j := range t.Partitions {
			r.addEntry(r.key(t.Topic, t.TopicID, t.Partitions[j].Partition), &t.Partitions[j], seen)
		}
	}
	for i := range m.ForgottenTopics {
		t := &m.ForgottenTopics[i]
		for _, p := range t.Partitions {
			r.forgotten = append(r.forgotten, r.key(t.Topic, t.TopicID, p))
		}
	}
	return r, nil
}

func (r *fetchRequest) key(name string, id [16]byte, partition int32) fetchKey {
	if r.topicIDs {
		return fetchKey{id: id, partition: partition}
	}
	return fetchKey{name: name, partition: partition}
}

func (r *fetchRequest) addEntry(k fetchKey, p *kmsg.FetchRequestTopicPartition, seen map[fetchKey]int) {
	params := fetchParams{
		from:             kafka.Offset(p.FetchOffset),
		maxBytes:         max(0, p.PartitionMaxBytes),
		leaderEpochAsked: kafka.NoLeaderEpoch,
		lastFetchedEpoch: kafka.NoLeaderEpoch,
	}
	if r.version >= 9 {
		params.leaderEpochAsked = optionalEpoch(p.CurrentLeaderEpoch)
	}
	if r.version >= 12 {
		params.lastFetchedEpoch = optionalEpoch(p.LastFetchedEpoch)
	}
	if seen != nil {
		if i, ok := seen[k]; ok {
			r.entries[i].fetchParams = params
			return
		}
		seen[k] = len(r.entries)
	} else {
		for i := range r.entries {
			if r.entries[i].key == k {
				r.entries[i].fetchParams = params
				return
			}
		}
	}
	r.entries = append(r.entries, fetchEntry{key: k, fetchParams: params})
}

// optionalEpoch: any negative epoch means that the client gives none.
func optionalEpoch(epoch int32) kafka.LeaderEpoch {
	return max(kafka.NoLeaderEpoch, kafka.LeaderEpoch(epoch))
}

// resolve finds an entry's topic in the image: its ID to read from, or the error that Kafka gives.
func (e *fetchEntry) resolve(img *metadata.Image, topicIDs bool) (kafka.TopicPartition, error) {
	var topic *metadata.Topic
	if !topicIDs {
		e.topic = e.key.name
		topic = img.Topic(e.topic)
	} else {
		topic = img.TopicByID(e.key.id)
		switch {
		case topic != nil:
			e.topic = topic.Name
		case e.topic == "":
			return kafka.TopicPartition{}, kafka.ErrUnknownTopicID
		default: // a session's topic that was deleted, and perhaps made again with another ID
			if again := img.Topic(e.topic); again != nil && again.Partitions.At(e.key.partition) != nil {
				return kafka.TopicPartition{}, kafka.ErrInconsistentTopicID
			}
		}
	}
	if topic == nil || topic.Partitions.At(e.key.partition) == nil {
		return kafka.TopicPartition{}, kafka.ErrUnknownTopicOrPartition
	}
	return kafka.TopicPartition{Topic: topic.ID, Partition: e.key.partition}, nil
}
