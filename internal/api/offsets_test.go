package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/record"
	"chronik/internal/replica"
	"chronik/internal/vfs"
)

func listOf(topic *metadata.Topic, timestamp int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = topic.Name
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Timestamp = timestamp
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

func (c *dataCluster) list(version int16, req *kmsg.ListOffsetsRequest) kmsg.ListOffsetsResponseTopicPartition {
	c.t.Helper()
	return call[*kmsg.ListOffsetsResponse](c.cluster, version, req).Topics[0].Partitions[0]
}

func TestListOffsets(t *testing.T) {
	c := newData(t, "log.message.timestamp.before.max.ms=9223372036854775807")
	topic := c.create("orders", 1)
	if p := c.list(11, listOf(topic, replica.TimestampMax)); p.ErrorCode != 0 || p.Offset != -1 {
		t.Fatalf("the largest timestamp of nothing: %+v", p)
	}
	for _, times := range [][]int64{{100, 300, 200}, {250, 400}, {350}} {
		b := record.NewBuilder()
		for _, at := range times {
			b.Add(at, nil, []byte("v"))
		}
		if p := c.produceOne(topic, -1, b.Build()); p.ErrorCode != 0 {
			t.Fatal(codeName(p.ErrorCode))
		}
	}
	every(c.cluster, 2, func(version int16) {
		for _, test := range []struct {
			timestamp    int64
			from         int16 // version
			offset, time int64
			epoch        int32
		}{
			{replica.TimestampLatest, 1, 6, -1, 0},
			{replica.TimestampEarliest, 1, 0, -1, 0},
			{replica.TimestampMax, 7, 4, 400, 0},
			{replica.TimestampEarliestLocal, 8, 0, -1, 0},
			{replica.TimestampLatestTiered, 9, -1, -1, -1},
			{replica.TimestampEarliestPendingUpload, 11, -1, -1, -1},
			{0, 1, 0, 100, 0},
			{101, 1, 1, 300, 0},
			{301, 1, 4, 400, 0},
			{400, 1, 4, 400, 0},
			{401, 1, -1, -1, -1},
			{-7, 99, 0, 0, 0},
		} {
			p := c.list(version, listOf(topic, test.timestamp))
			if version < test.from {
				wantError(t, "too new a timestamp", p.ErrorCode, kafka.ErrUnsupportedVersion)
				continue
			}
			if version < 4 {
				test.epoch = -1
			}
			if p.ErrorCode != 0 || p.Offset != test.offset || p.Timestamp != test.time || p.LeaderEpoch != test.epoch {
				t.Errorf("v%d, timestamp %d: %+v, want %+v", version, test.timestamp, p, test)
			}
		}
	})
	twice := listOf(topic, -1)
	twice.Topics[0].Partitions = append(twice.Topics[0].Partitions, twice.Topics[0].Partitions[0])
	if p := call[*kmsg.ListOffsetsResponse](c.cluster, 5, twice).Topics[0].Partitions; len(p) != 1 || p[0].ErrorCode != kafka.ErrInvalidRequest.Code {
		t.Errorf("a partition named twice: %+v", p)
	}
	unknown := listOf(&metadata.Topic{Name: "unknown"}, -1)
	wantError(t, "unknown", c.list(5, unknown).ErrorCode, kafka.ErrUnknownTopicOrPartition)
	newer := listOf(topic, -1)
	newer.Topics[0].Partitions[0].CurrentLeaderEpoch = 9
	wantError(t, "newer epoch", c.list(5, newer).ErrorCode, kafka.ErrUnknownLeaderEpoch)
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	fs := vfs.NewMem(0)
	c := startData(t, fs, "/data", 1)
	topic := c.create("orders", 1)
	first := c.Store.Image().TopicByID(topic.ID).Partitions.At(0).LeaderEpoch
	c.mustProduce(topic, "a", "b")
	c = c.restart(fs, "/data", 2)
	c.mustProduce(topic, "c")
	now := c.Store.Image().TopicByID(topic.ID).Partitions.At(0).LeaderEpoch
	ask := func(version int16, current, epoch kafka.LeaderEpoch, name string) kmsg.OffsetForLeaderEpochResponseTopicPartition {
		req := kmsg.NewPtrOffsetForLeaderEpochRequest()
		topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
		topic.Topic = name
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.CurrentLeaderEpoch, p.LeaderEpoch = int32(current), int32(epoch)
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		return call[*kmsg.OffsetForLeaderEpochResponse](c.cluster, version, req).Topics[0].Partitions[0]
	}
	every(c.cluster, 23, func(version int16) {
		for _, test := range []struct {
			current, epoch kafka.LeaderEpoch
			topic          string
			want           *kafka.Error
			wantEpoch      kafka.LeaderEpoch
			end            int64
		}{
			{-1, first, "orders", nil, first, 2},
			{now, now, "orders", nil, now, 3},
			{now, now + 1, "orders", nil, -1, -1},
			{now + 1, first, "orders", kafka.ErrUnknownLeaderEpoch, -1, -1},
			{now - 1, first, "orders", kafka.ErrFencedLeaderEpoch, -1, -1},
			{-1, first, "unknown", kafka.ErrUnknownTopicOrPartition, -1, -1},
		} {
			p := ask(version, test.current, test.epoch, test.topic)
			wantError(t, "epoch end", p.ErrorCode, test.want)
			if p.LeaderEpoch != int32(test.wantEpoch) || p.EndOffset != test.end {
				t.Errorf("v%d %+v: got epoch %d, end %d", version, test, p.LeaderEpoch, p.EndOffset)
			}
		}
	})
}

func TestDeleteRecords(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1)
	remove := func(version int16, name string, partition int32, offset int64) kmsg.DeleteRecordsResponseTopicPartition {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = 5000
		topic := kmsg.NewDeleteRecordsRequestTopic()
		topic.Topic = name
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = partition, offset
		topic.Partitions = append(topic.Partitions, p)
		req.Topics = append(req.Topics, topic)
		return call[*kmsg.DeleteRecordsResponse](c.cluster, version, req).Topics[0].Partitions[0]
	}
	every(c.cluster, 21, func(version int16) {
		at := c.mustProduce(topic, "a", "b", "c")
		if p := remove(version, "orders", 0, at+1); p.ErrorCode != 0 || p.LowWatermark != at+1 {
			t.Fatalf("v%d: %s, low watermark %d", version, codeName(p.ErrorCode), p.LowWatermark)
		}
		f := c.fetchCall(12, fetchOf(topic, at)).Topics[0].Partitions[0]
		wantError(t, "below the log start", f.ErrorCode, kafka.ErrOffsetOutOfRange)
		f = c.fetchCall(12, fetchOf(topic, at+1)).Topics[0].Partitions[0]
		if f.ErrorCode != 0 || f.LogStartOffset != at+1 || len(values(t, f.RecordBatches)) == 0 {
			t.Fatalf("at the log start: %s, start %d", codeName(f.ErrorCode), f.LogStartOffset)
		}
		if p := remove(version, "orders", 0, at); p.ErrorCode != 0 || p.LowWatermark != at+1 {
			t.Fatalf("an offset already deleted: %+v", p)
		}
		if p := remove(version, "orders", 0, -1); p.ErrorCode != 0 || p.LowWatermark != at+3 {
			t.Fatalf("up to the watermark: %+v", p)
		}
		wantError(t, "beyond the watermark", remove(version, "orders", 0, at+4).ErrorCode, kafka.ErrOffsetOutOfRange)
		wantError(t, "below -1", remove(version, "orders", 0, -2).ErrorCode, kafka.ErrOffsetOutOfRange)
		wantError(t, "unknown", remove(version, "orders", 5, 0).ErrorCode, kafka.ErrUnknownTopicOrPartition)
	})
	if p := c.list(5, listOf(topic, replica.TimestampEarliest)); p.Offset != 9 {
		t.Fatalf("earliest is %d", p.Offset)
	}
}
