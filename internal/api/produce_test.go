package api

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// Every version of Produce stores, and every version of Fetch returns, the same bytes; on files and in memory.
func TestProduceAndFetchEveryVersion(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []*dataCluster{newData(t), startData(t, vfs.OS{}, dir, 1)} {
		topic := c.create("orders", 1)
		offset := int64(0)
		for version := int16(3); version <= 13; version++ {
			for _, acks := range []int16{-1, 1} {
				b := batchOf(nil, fmt.Sprint(version), fmt.Sprint(acks))
				resp := call[*kmsg.ProduceResponse](c.cluster, version, produceOf(topic, acks, b))
				p := resp.Topics[0].Partitions[0]
				if p.ErrorCode != 0 || p.BaseOffset != offset {
					t.Fatalf("v%d acks %d: %s at %d, want %d", version, acks, codeName(p.ErrorCode), p.BaseOffset, offset)
				}
				if version >= 13 && resp.Topics[0].TopicID != topic.ID || version < 13 && resp.Topics[0].Topic != "orders" {
					t.Fatalf("v%d: answered for %q %v", version, resp.Topics[0].Topic, resp.Topics[0].TopicID)
				}
				stored := record.Batch(b)
				stored.SetBaseOffset(kafka.Offset(offset))
				stored.SetLeaderEpoch(0)
				for v := int16(4); v <= 18; v++ {
					f := c.fetchCall(v, fetchOf(topic, offset)).Topics[0].Partitions[0]
					if f.ErrorCode != 0 || string(f.RecordBatches) != string(stored) || f.HighWatermark != offset+2 || f.LastStableOffset != offset+2 {
						t.Fatalf("fetch v%d: %s, watermark %d, last stable %d\n got %x\nwant %x", v, codeName(f.ErrorCode), f.HighWatermark, f.LastStableOffset, f.RecordBatches, stored)
					}
				}
				offset += 2
			}
		}
		// An offset inside a batch returns the whole batch.
		f := c.fetchCall(12, fetchOf(topic, offset-1)).Topics[0].Partitions[0]
		if got := values(t, f.RecordBatches); len(got) != 2 || got[1] != "1" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestProduceErrors(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1, "max.message.bytes", "500")
	good := batchOf(nil, "v")
	corrupt := batchOf(nil, "v")
	corrupt[len(corrupt)-1] ^= 1
	numbered := batchOf(nil, "v")
	record.Batch(numbered).SetBaseOffset(3)
	old := batchOf(nil, "v")
	old[16] = 1
	for name, test := range map[string]struct {
		req  *kmsg.ProduceRequest
		want *kafka.Error
	}{
		"acks 2":               {produceOf(topic, 2, good), kafka.ErrInvalidRequiredAcks},
		"unknown partition":    {produceOf(topic, 1, good, good), nil},
		"corrupt":              {produceOf(topic, 1, corrupt), kafka.ErrCorruptMessage},
		"base offset":          {produceOf(topic, 1, numbered), kafka.ErrInvalidRecord},
		"magic 1":              {produceOf(topic, 1, old), kafka.ErrInvalidRecord},
		"two batches":          {produceOf(topic, 1, append(batchOf(nil, "v"), good...)), kafka.ErrInvalidRecord},
		"nothing":              {produceOf(topic, 1, nil), kafka.ErrInvalidRecord},
		"too large":            {produceOf(topic, 1, batchOf(nil, strings.Repeat("x", 500))), kafka.ErrMessageTooLarge},
		"transactional":        {produceOf(topic, 1, batchOf(func(b *record.Builder) { b.Transactional, b.ProducerID, b.BaseSequence = true, 4, 0 }, "v")), kafka.ErrTransactionalIDAuthorizationFailed},
		"control":              {produceOf(topic, 1, batchOf(func(b *record.Builder) { b.Control, b.ProducerID = true, 4 }, "v")), kafka.ErrInvalidRecord},
		"far future":           {produceOf(topic, 1, stamped(time.Now().Add(48*time.Hour))), kafka.ErrInvalidTimestamp},
		"sequence begins at 5": {produceOf(topic, 1, batchOf(func(b *record.Builder) { b.ProducerID, b.ProducerEpoch, b.BaseSequence = 77, 0, 5 }, "v")), nil},
	} {
		p := call[*kmsg.ProduceResponse](c.cluster, 12, test.req).Topics[0].Partitions
		wantError(t, name, p[0].ErrorCode, test.want)
		if len(p) > 1 {
			wantError(t, name, p[1].ErrorCode, kafka.ErrUnknownTopicOrPartition)
		}
		if test.want != nil && (p[0].BaseOffset != -1 || p[0].LogAppendTime != -1 || deref(p[0].ErrorMessage) == "<nil>") {
			t.Errorf("%s: offset %d, time %d, message %s", name, p[0].BaseOffset, p[0].LogAppendTime, deref(p[0].ErrorMessage))
		}
	}
	// KIP-467: which record, and why.
	p := c.produceOne(topic, 1, stamped(time.Now().Add(48*time.Hour)))
	if len(p.ErrorRecords) != 1 || p.ErrorRecords[0].RelativeOffset != 0 || p.LogStartOffset != 0 {
		t.Errorf("%+v", p)
	}
}

func stamped(at time.Time) []byte {
	b := record.NewBuilder()
	b.Add(at.UnixMilli(), nil, []byte("v"))
	return b.Build()
}

func TestProduceToUnknownTopics(t *testing.T) {
	c := newData(t)
	gone := c.create("gone", 1)
	c.deleteTopic(gone)
	b := batchOf(nil, "v")
	p := call[*kmsg.ProduceResponse](c.cluster, 12, produceOf(gone, -1, b)).Topics[0].Partitions[0]
	wantError(t, "by name", p.ErrorCode, kafka.ErrUnknownTopicOrPartition)
	p = call[*kmsg.ProduceResponse](c.cluster, 13, produceOf(gone, -1, b)).Topics[0].Partitions[0]
	wantError(t, "by ID", p.ErrorCode, kafka.ErrUnknownTopicID)
	again := c.create("gone", 1)
	p = call[*kmsg.ProduceResponse](c.cluster, 13, produceOf(gone, -1, b)).Topics[0].Partitions[0]
	wantError(t, "by the old ID", p.ErrorCode, kafka.ErrUnknownTopicID)
	c.mustProduce(again, "v")
}

func TestProduceWithoutAcks(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1)
	resp := c.dispatch(9, produceOf(topic, 0, batchOf(nil, "a")))(t.Context())
	if resp.Message != nil || resp.Payload != nil || resp.Close {
		t.Fatalf("acks=0 is not answered: %+v", resp)
	}
	resp = c.dispatch(9, produceOf(topic, 0, nil))(t.Context())
	if resp.Message != nil || !resp.Close {
		t.Fatalf("an error with acks=0 closes the connection: %+v", resp)
	}
	if at := c.mustProduce(topic, "b"); at != 1 {
		t.Fatalf("appended at %d", at)
	}
}

// The order of appends is that of the first halves, whatever becomes of the second.
func TestProduceKeepsTheOrderOfRequests(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1)
	var replies []Reply
	for i := range 20 {
		replies = append(replies, c.dispatch(9, produceOf(topic, -1, batchOf(nil, fmt.Sprint(i)))))
	}
	for i, reply := range replies {
		p := reply(t.Context()).Message.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.BaseOffset != int64(i) {
			t.Fatalf("request %d: %s at %d", i, codeName(p.ErrorCode), p.BaseOffset)
		}
	}
	f := c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0]
	for i, v := range values(t, f.RecordBatches) {
		if v != fmt.Sprint(i) {
			t.Fatalf("record %d is %s", i, v)
		}
	}
}

func TestProduceIdempotent(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1)
	id := call[*kmsg.InitProducerIDResponse](c.cluster, 4, kmsg.NewPtrInitProducerIDRequest()).ProducerID
	send := func(epoch kafka.ProducerEpoch, sequence int32) kmsg.ProduceResponseTopicPartition {
		return c.produceOne(topic, -1, batchOf(func(b *record.Builder) {
			b.ProducerID, b.ProducerEpoch, b.BaseSequence = kafka.ProducerID(id), epoch, sequence
		}, "x", "y"))
	}
	for i := range int32(7) {
		if p := send(0, 2*i); p.ErrorCode != 0 || p.BaseOffset != int64(2*i) {
			t.Fatalf("%s at %d", codeName(p.ErrorCode), p.BaseOffset)
		}
	}
	for i := range int32(5) { // the last five are known again
		if p := send(0, 2*(i+2)); p.ErrorCode != 0 || p.BaseOffset != int64(2*(i+2)) {
			t.Fatalf("duplicate: %s at %d", codeName(p.ErrorCode), p.BaseOffset)
		}
	}
	wantError(t, "a gap", send(0, 20).ErrorCode, kafka.ErrOutOfOrderSequenceNumber)
	wantError(t, "a new epoch", send(1, 0).ErrorCode, nil)
	wantError(t, "the old epoch", send(0, 14).ErrorCode, kafka.ErrInvalidProducerEpoch)
	if end := c.mustProduce(topic, "z"); end != 16 {
		t.Fatalf("the log ended at %d: a duplicate was stored", end)
	}
}

func TestProduceRecompressesAndStamps(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1, "compression.type", "zstd", "message.timestamp.type", "LogAppendTime")
	before := time.Now().UnixMilli()
	p := c.produceOne(topic, -1, batchOf(func(b *record.Builder) { b.Codec = record.None }, strings.Repeat("a", 300)))
	if p.ErrorCode != 0 || p.LogAppendTime < before {
		t.Fatalf("%s, append time %d", codeName(p.ErrorCode), p.LogAppendTime)
	}
	f := c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0]
	b := record.Batch(f.RecordBatches)
	if b.Codec() != record.Zstd || b.MaxTimestamp() != p.LogAppendTime || !b.VerifyCRC() {
		t.Fatalf("stored with %s, time %d", b.Codec(), b.MaxTimestamp())
	}
	if got := values(t, f.RecordBatches); len(got) != 1 || len(got[0]) != 300 {
		t.Fatalf("got %d records", len(got))
	}
	old := c.fetchCall(9, fetchOf(topic, 0)).Topics[0].Partitions[0]
	wantError(t, "zstd before version 10", old.ErrorCode, kafka.ErrUnsupportedCompressionType)
	zstd := batchOf(nil, "v")
	binary.BigEndian.PutUint16(zstd[21:], uint16(record.Zstd))
	resp := call[*kmsg.ProduceResponse](c.cluster, 6, produceOf(topic, -1, zstd)).Topics[0].Partitions[0]
	wantError(t, "zstd before version 7", resp.ErrorCode, kafka.ErrUnsupportedCompressionType)
}

func TestInitProducerID(t *testing.T) {
	c := newData(t)
	seen := map[int64]bool{}
	every(c.cluster, 22, func(version int16) {
		for range 3 {
			resp := call[*kmsg.InitProducerIDResponse](c.cluster, version, kmsg.NewPtrInitProducerIDRequest())
			if resp.ErrorCode != 0 || resp.ProducerEpoch != 0 || seen[resp.ProducerID] {
				t.Fatalf("v%d: %+v", version, resp)
			}
			seen[resp.ProducerID] = true
		}
	})
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = 5, 3
	if resp := call[*kmsg.InitProducerIDResponse](c.cluster, 4, req); resp.ErrorCode != 0 || resp.ProducerID == 5 {
		t.Fatalf("%+v", resp)
	}
	req.ProducerEpoch = -1
	resp := call[*kmsg.InitProducerIDResponse](c.cluster, 4, req)
	wantError(t, "an ID without an epoch", resp.ErrorCode, kafka.ErrInvalidRequest)
	req = kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr("tx"), 1000
	resp = call[*kmsg.InitProducerIDResponse](c.cluster, 4, req)
	wantError(t, "transactional", resp.ErrorCode, kafka.ErrTransactionalIDAuthorizationFailed)
	if resp.ProducerID != -1 || resp.ProducerEpoch != -1 {
		t.Fatalf("%+v", resp)
	}
}
