package api

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// A compacted topic as clients see it: records without a key are refused one by one; after compaction a fetch from any
// offset, with a session too, goes on at the next record that is left, offsets stay, and searches find what is left.
func TestCompactedTopic(t *testing.T) {
	c := newData(t, "log.cleaner.backoff.ms=60000")
	topic := c.create("table", 1, "cleanup.policy", "compact", "max.compaction.lag.ms", "1", "min.cleanable.dirty.ratio", "0.01")
	keyless := batchOf(nil, "a", "b")
	p := call[*kmsg.ProduceResponse](c.cluster, 9, produceOf(topic, -1, keyless)).Topics[0].Partitions[0]
	wantError(t, "no keys", p.ErrorCode, kafka.ErrInvalidRecord)
	if len(p.ErrorRecords) != 2 || p.ErrorRecords[0].RelativeOffset != 0 || p.ErrorRecords[1].RelativeOffset != 1 {
		t.Errorf("record errors %+v", p.ErrorRecords)
	}
	const records, keys = 50, 7
	last := map[string]int64{}
	for i := range int64(records) {
		b := record.NewBuilder()
		key := fmt.Sprint("key ", i*i%keys)
		b.Add(1_700_000_000_000+1000*i, []byte(key), fmt.Appendf(nil, "value %d", i)) // each in a segment of its own
		if p := call[*kmsg.ProduceResponse](c.cluster, 9, produceOf(topic, -1, b.Build())).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != i {
			t.Fatalf("record %d: %s at %d", i, codeName(p.ErrorCode), p.BaseOffset)
		}
		if i < records-1 { // the last segment is appended to
			last[key] = i
		}
	}
	if err := c.store.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	for c.store.Clean() {
	}
	left := map[int64]bool{records - 1: true, records - 2: true}
	for _, offset := range last {
		left[offset] = true
	}
	want := func(from int64) int64 {
		for !left[from] && from < records {
			from++
		}
		return from
	}
	req := fetchOf(topic, 0)
	req.SessionEpoch = 0
	session := c.fetchCall(12, req).SessionID
	for from := range int64(records) {
		req := fetchOf(topic, from)
		req.MaxBytes = 1 // a batch
		req.IsolationLevel = int8(from % 2)
		if from%3 == 0 {
			req.SessionID, req.SessionEpoch = session, int32(from/3)+1
		}
		f := c.fetchCall(12, req).Topics[0].Partitions[0]
		b, _, err := record.Next(f.RecordBatches)
		if err != nil || f.ErrorCode != 0 || b == nil {
			t.Fatalf("from %d: %s, %v, %d bytes", from, codeName(f.ErrorCode), err, len(f.RecordBatches))
		}
		if int64(b.BaseOffset()) != want(from) || f.HighWatermark != records || f.LastStableOffset != records {
			t.Fatalf("from %d there is offset %d, want %d; watermark %d, last stable %d", from, b.BaseOffset(), want(from), f.HighWatermark, f.LastStableOffset)
		}
	}
	list := func(millis int64) kmsg.ListOffsetsResponseTopicPartition {
		req := kmsg.NewPtrListOffsetsRequest()
		rt, rp := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		rt.Topic, rp.Timestamp = "table", millis
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		return call[*kmsg.ListOffsetsResponse](c.cluster, 7, req).Topics[0].Partitions[0]
	}
	for i := range int64(records) {
		if got := list(1_700_000_000_000 + 1000*i); got.ErrorCode != 0 || got.Offset != want(i) {
			t.Errorf("the first at the time of %d: %s, offset %d, want %d", i, codeName(got.ErrorCode), got.Offset, want(i))
		}
	}
	for millis, offset := range map[int64]int64{-1: records, -2: 0, -3: records - 1, 1_800_000_000_000: -1} {
		if got := list(millis); got.ErrorCode != 0 || got.Offset != offset {
			t.Errorf("timestamp %d: %s, offset %d, want %d", millis, codeName(got.ErrorCode), got.Offset, offset)
		}
	}
	if size := c.store.Partition(kafka.TopicPartition{Topic: topic.ID}).Size(); size > 12*100 {
		t.Errorf("%d bytes are left", size)
	}
}
