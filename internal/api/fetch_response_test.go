package api

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/replica"
	"chronik/internal/wire"
)

// body puts a payload together as the socket would see it.
func body(t testing.TB, p *wire.Payload) []byte {
	t.Helper()
	var out []byte
	for _, part := range p.Parts {
		if part.File == nil {
			out = append(out, part.Bytes...)
			continue
		}
		b := make([]byte, part.Len)
		if _, err := part.File.ReadAt(b, part.Off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	if int64(len(out)) != p.Size() {
		t.Fatalf("the payload says %d bytes and has %d", p.Size(), len(out))
	}
	return out
}

func fetchEntriesForTest() []fetchEntry {
	id1, id2 := kafka.TopicID{1, 2, 3}, kafka.TopicID{9, 8, 7}
	entry := func(topic string, id kafka.TopicID, partition int32) fetchEntry {
		e := fetchEntry{key: fetchKey{id: id, name: topic, partition: partition}, topic: topic}
		e.clear()
		return e
	}
	data := entry("orders", id1, 0)
	data.highWatermark, data.lastStable, data.logStart = 1<<40, 1<<39, 17
	data.records, data.size = replica.CopiedRecords([]byte("some record batches")), len("some record batches")

	quiet := entry("orders", id1, 1)
	quiet.highWatermark, quiet.lastStable, quiet.logStart = 5, 5, 0
	quiet.withAborted = true

	unchanged := entry("orders", id1, 2)
	unchanged.unchanged = true

	aborted := entry("payments", id2, 300)
	aborted.withAborted = true
	aborted.aborted = []replica.AbortedTransaction{{ProducerID: 4000, FirstOffset: 3}, {ProducerID: 4001, FirstOffset: 9}}
	aborted.records, aborted.size = replica.CopiedRecords(bytes.Repeat([]byte("x"), 300)), 300

	diverging := entry("orders", id1, 7)
	diverging.diverging = &replica.EpochEnd{Epoch: 3, End: 99}

	moved := entry("orders", id1, 8)
	moved.code = kafka.ErrNotLeaderOrFollower.Code
	moved.leaderHint, moved.leaderEpoch = 2, 11

	storage := entry("orders", id1, 9)
	storage.code = kafka.ErrKafkaStorageError.Code

	unknown := entry("nothing", kafka.TopicID{5}, 0)
	unknown.refuse(kafka.ErrUnknownTopicOrPartition)
	// The refused one comes last in the answer although it stands first here.
	return []fetchEntry{unknown, data, quiet, unchanged, aborted, diverging, moved, storage}
}

// expected is the same response as kmsg has it.
func expectedFetch(r *fetchResponse) *kmsg.FetchResponse {
	m := kmsg.NewPtrFetchResponse()
	m.Version = r.version
	if r.version >= 7 {
		m.ErrorCode, m.SessionID = r.code, r.sessionID
	}
	for _, refused := range []bool{false, true} {
		for i := range r.entries {
			e := &r.entries[i]
			if e.refused != refused || e.unchanged {
				continue
			}
			n := len(m.Topics)
			if n == 0 || m.Topics[n-1].Topic != e.key.name && r.version < 13 || m.Topics[n-1].TopicID != e.key.id && r.version >= 13 {
				t := kmsg.NewFetchResponseTopic()
				if r.version >= 13 {
					t.TopicID = e.key.id
				} else {
					t.Topic = e.key.name
				}
				m.Topics = append(m.Topics, t)
				n++
			}
			m.Topics[n-1].Partitions = append(m.Topics[n-1].Partitions, expectedPartition(r, e))
		}
	}
	if r.version >= 16 {
		for _, n := range r.nodes {
			b := kmsg.NewFetchResponseBroker()
			b.NodeID, b.Host, b.Port, b.Rack = int32(n.id), n.host, n.port, n.rack
			m.Brokers = append(m.Brokers, b)
		}
	}
	return m
}

func expectedPartition(r *fetchResponse, e *fetchEntry) kmsg.FetchResponseTopicPartition {
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.ErrorCode = e.key.partition, e.code
	if r.version < 6 && e.code == kafka.ErrKafkaStorageError.Code {
		p.ErrorCode = kafka.ErrNotLeaderOrFollower.Code
	}
	p.HighWatermark, p.LastStableOffset = int64(e.highWatermark), int64(e.lastStable)
	if r.version >= 5 {
		p.LogStartOffset = int64(e.logStart)
	}
	if e.withAborted {
		p.AbortedTransactions = []kmsg.FetchResponseTopicPartitionAbortedTransaction{}
	}
	for _, a := range e.aborted {
		x := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
		x.ProducerID, x.FirstOffset = int64(a.ProducerID), int64(a.FirstOffset)
		p.AbortedTransactions = append(p.AbortedTransactions, x)
	}
	p.RecordBatches, _ = e.records.AppendTo([]byte{})
	if r.version >= 12 {
		if e.diverging != nil {
			p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = int32(e.diverging.Epoch), int64(e.diverging.End)
		}
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(e.leaderHint), int32(e.leaderEpoch)
	}
	return p
}

// What is encoded by hand is, byte for byte, what kmsg makes of the same response, in every version.
func TestFetchResponseEncoding(t *testing.T) {
	rack := "r1"
	for version := int16(4); version <= 18; version++ {
		for _, r := range []*fetchResponse{
			{version: version},
			{version: version, code: kafka.ErrFetchSessionIDNotFound.Code, sessionID: 12345},
			{version: version, sessionID: 77, entries: fetchEntriesForTest(), nodes: []nodeEndpoint{{2, "host.example", 9092, nil}, {3, "other", 1, &rack}}},
		} {
			p, err := r.encode(new(fetchEntries))
			if err != nil {
				t.Fatal(err)
			}
			got := body(t, p)
			want := expectedFetch(r)
			if encoded := want.AppendTo(nil); !bytes.Equal(got, encoded) {
				t.Errorf("version %d:\n got %x\nwant %x", version, got, encoded)
			}
			decoded := kmsg.NewPtrFetchResponse()
			decoded.Version = version
			if err := decoded.ReadFrom(got); err != nil {
				t.Fatalf("version %d: %v", version, err)
			}
			if !reflect.DeepEqual(decoded, want) {
				t.Errorf("version %d:\n got %+v\nwant %+v", version, decoded, want)
			}
			p.Release()
		}
	}
}

func TestFetchRequestReadsEveryVersion(t *testing.T) {
	for version := int16(4); version <= 18; version++ {
		m := kmsg.NewPtrFetchRequest()
		m.Version = version
		m.MaxWaitMillis, m.MinBytes, m.MaxBytes, m.IsolationLevel = 500, 10, 1000, 1
		m.SessionID, m.SessionEpoch = 5, 6
		topic := kmsg.NewFetchRequestTopic()
		topic.Topic, topic.TopicID = "orders", [16]byte{1}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch, p.LastFetchedEpoch = 3, 40, 50, 7, 8
		again := p
		again.FetchOffset = 41
		topic.Partitions = append(topic.Partitions, p, again)
		m.Topics = append(m.Topics, topic)
		decoded := kmsg.NewPtrFetchRequest()
		decoded.Version = version
		if err := decoded.ReadFrom(m.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		r, _ := newFetchRequest(decoded, nil)
		want := fetchEntry{key: fetchKey{name: "orders", partition: 3}, fetchParams: fetchParams{from: 41, maxBytes: 50, leaderEpochAsked: -1, lastFetchedEpoch: -1}}
		if version >= 9 {
			want.leaderEpochAsked = 7
		}
		if version >= 12 {
			want.lastFetchedEpoch = 8
		}
		if version >= 13 {
			want.key = fetchKey{id: kafka.TopicID{1}, partition: 3}
		}
		if len(r.entries) != 1 || !reflect.DeepEqual(r.entries[0], want) {
			t.Errorf("version %d: got %+v, want %+v", version, r.entries, want)
		}
		if session := r.sessionID == 5 && r.sessionEpoch == 6; session != (version >= 7) {
			t.Errorf("version %d: session %d epoch %d", version, r.sessionID, r.sessionEpoch)
		}
		if r.isolation != replica.ReadCommitted || r.minBytes != 10 || r.maxBytes != 1000 || r.replicaID != -1 {
			t.Errorf("version %d: %+v", version, r)
		}
	}
}
