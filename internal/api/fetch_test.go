package api

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

func TestFetchWaits(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 2)
	req := fetchOf(topic, 0, 0)
	req.MaxWaitMillis, req.MinBytes = 60_000, 1
	done := make(chan *kmsg.FetchResponse)
	reply := c.dispatch(12, req)
	go func() { done <- c.fetchReply(12, reply) }()
	time.Sleep(20 * time.Millisecond)
	select {
	case r := <-done:
		t.Fatalf("answered with nothing to say: %+v", r)
	default:
	}
	c.mustProduce(topic, "hello")
	if got := values(t, (<-done).Topics[0].Partitions[0].RecordBatches); len(got) != 1 || got[0] != "hello" {
		t.Fatalf("got %q", got)
	}

	req.MinBytes, req.MaxWaitMillis = 1000, 30 // the time ends first: what there is, is answered
	if got := values(t, c.fetchCall(12, req).Topics[0].Partitions[0].RecordBatches); len(got) != 1 {
		t.Fatalf("got %q", got)
	}

	req = fetchOf(topic, 1, 0)
	req.MaxWaitMillis = 60_000
	reply = c.dispatch(12, req)
	go func() { done <- c.fetchReply(12, reply) }()
	time.Sleep(20 * time.Millisecond)
	c.deleteTopic(topic)
	wantError(t, "deleted while waiting", (<-done).Topics[0].Partitions[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)

	again := c.create("orders", 1)
	req = fetchOf(again, 0)
	req.MaxWaitMillis = 60_000
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan Response)
	reply = c.dispatch(12, req)
	go func() { ended <- reply(ctx) }()
	time.Sleep(10 * time.Millisecond)
	cancel()
	if resp := <-ended; !resp.Close {
		t.Fatalf("the connection ended: %+v", resp)
	}
}

func TestFetchLimits(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 3)
	big := strings.Repeat("x", 1000)
	for range 3 {
		call[*kmsg.ProduceResponse](c.cluster, 9, produceOf(topic, -1, batchOf(nil, big), batchOf(nil, big), batchOf(nil, big)))
	}
	count := func(req *kmsg.FetchRequest) string {
		var out []string
		for _, p := range c.fetchCall(12, req).Topics[0].Partitions {
			if p.ErrorCode != 0 {
				out = append(out, codeName(p.ErrorCode))
				continue
			}
			out = append(out, fmt.Sprint(len(values(t, p.RecordBatches))))
		}
		return strings.Join(out, " ")
	}
	req := fetchOf(topic, 0, 0, 0)
	if got := count(req); got != "3 3 3" {
		t.Errorf("no limit: %s", got)
	}
	req.MaxBytes = 1
	if got := count(req); got != "1 0 0" {
		t.Errorf("less than a batch: %s, want the first one all the same", got)
	}
	req.MaxBytes = 4500
	if got := count(req); got != "3 1 0" {
		t.Errorf("room for four: %s", got)
	}
	req.MaxBytes = 1 << 20
	for i := range req.Topics[0].Partitions {
		req.Topics[0].Partitions[i].PartitionMaxBytes = 10
	}
	if got := count(req); got != "1 0 0" {
		t.Errorf("partition limit less than a batch: %s", got)
	}
	req = fetchOf(topic, 3, 4, -1)
	if got := count(req); got != "0 OFFSET_OUT_OF_RANGE OFFSET_OUT_OF_RANGE" {
		t.Errorf("at the end, behind it, before the start: %s", got)
	}
}

func TestFetchEpochs(t *testing.T) {
	fs := vfs.NewMem(0)
	c := startData(t, fs, "/data", 1)
	topic := c.create("orders", 1)
	c.mustProduce(topic, "a", "b")
	c = c.restart(fs, "/data", 2) // another epoch
	c.mustProduce(topic, "c")
	meta := c.Store.Image().TopicByID(topic.ID).Partitions.At(0)
	if meta.LeaderEpoch == 0 {
		t.Fatal("the epoch is the old process's")
	}
	fetch := func(version int16, current, last int32, from int64) kmsg.FetchResponseTopicPartition {
		req := fetchOf(topic, from)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch, req.Topics[0].Partitions[0].LastFetchedEpoch = current, last
		resp := c.fetchCall(version, req)
		if version >= 16 && resp.Topics[0].Partitions[0].ErrorCode == kafka.ErrFencedLeaderEpoch.Code {
			if len(resp.Brokers) != 1 || resp.Brokers[0].Host != "10.1.2.3" || resp.Brokers[0].Port != 19092 {
				t.Errorf("v%d: hints %+v", version, resp.Brokers)
			}
		}
		return resp.Topics[0].Partitions[0]
	}
	epoch := int32(meta.LeaderEpoch)
	for version := int16(9); version <= 18; version++ {
		wantError(t, "current epoch", fetch(version, epoch, -1, 0).ErrorCode, nil)
		wantError(t, "newer epoch", fetch(version, epoch+1, -1, 0).ErrorCode, kafka.ErrUnknownLeaderEpoch)
		p := fetch(version, epoch-1, -1, 0)
		wantError(t, "older epoch", p.ErrorCode, kafka.ErrFencedLeaderEpoch)
		if hinted := p.CurrentLeader.LeaderID == 1 && p.CurrentLeader.LeaderEpoch == epoch; hinted != (version >= 16) {
			t.Errorf("v%d: leader hint %+v", version, p.CurrentLeader)
		}
	}
	first := epoch - 1 // of a and b
	if p := fetch(12, epoch, first, 2); p.ErrorCode != 0 || p.DivergingEpoch.Epoch != -1 || len(values(t, p.RecordBatches)) != 1 {
		t.Errorf("the last record is of the old epoch: %s %+v", codeName(p.ErrorCode), p.DivergingEpoch)
	}
	if p := fetch(12, epoch, first, 3); p.DivergingEpoch.Epoch != first || p.DivergingEpoch.EndOffset != 2 || len(p.RecordBatches) != 0 {
		t.Errorf("offset 2 was never of the old epoch: %s %+v", codeName(p.ErrorCode), p.DivergingEpoch)
	}
}

func TestFetchSessionEndToEnd(t *testing.T) {
	c := newData(t)
	topic, quiet := c.create("orders", 1), c.create("quiet", 1)
	for _, version := range []int16{7, 12, 13, 18} {
		start := c.mustProduce(topic, "a")
		req := fetchOf(topic, start)
		req.Topics = append(req.Topics, fetchOf(quiet, 0).Topics...)
		req.SessionEpoch = 0
		resp := c.fetchCall(version, req)
		id := resp.SessionID
		if resp.ErrorCode != 0 || id == 0 || len(resp.Topics) != 2 {
			t.Fatalf("v%d: %+v", version, resp)
		}
		next := func(epoch int32, topics ...kmsg.FetchRequestTopic) *kmsg.FetchResponse {
			req := fetchOf(topic)
			req.Topics, req.SessionID, req.SessionEpoch = topics, id, epoch
			return c.fetchCall(version, req)
		}
		resp = next(1, fetchOf(topic, start+1).Topics...)
		if resp.ErrorCode != 0 || len(resp.Topics) != 0 || resp.SessionID != id {
			t.Fatalf("v%d: nothing changed: %+v", version, resp)
		}
		c.mustProduce(topic, "b")
		resp = next(2)
		if len(resp.Topics) != 1 || len(values(t, resp.Topics[0].Partitions[0].RecordBatches)) != 1 {
			t.Fatalf("v%d: one changed: %+v", version, resp)
		}
		wantError(t, "an epoch again", next(2).ErrorCode, kafka.ErrInvalidFetchSessionEpoch)
		other := int16(12)
		if version < 13 {
			other = 13
		}
		req = fetchOf(topic)
		req.Topics, req.SessionID, req.SessionEpoch = nil, id, 3
		wantError(t, "names and IDs mixed", c.fetchCall(other, req).ErrorCode, kafka.ErrFetchSessionTopicIDError)
		req = fetchOf(topic, 0)
		req.SessionID, req.SessionEpoch = id, -1
		if resp = c.fetchCall(version, req); resp.ErrorCode != 0 || resp.SessionID != 0 {
			t.Fatalf("v%d: closing: %+v", version, resp)
		}
		wantError(t, "closed", next(3).ErrorCode, kafka.ErrFetchSessionIDNotFound)
	}
}

func TestFetchOfTopicsThatAreGone(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1)
	req := fetchOf(topic, 0)
	req.SessionEpoch = 0
	session := c.fetchCall(13, req).SessionID
	epoch := int32(0)
	next := func() (int16, int) {
		epoch++
		req := fetchOf(topic)
		req.Topics, req.SessionID, req.SessionEpoch = nil, session, epoch
		resp := c.fetchCall(13, req)
		if resp.ErrorCode != 0 || len(resp.Topics) == 0 {
			return resp.ErrorCode, len(resp.Topics)
		}
		return resp.Topics[0].Partitions[0].ErrorCode, len(resp.Topics)
	}
	c.deleteTopic(topic)
	code, _ := next()
	wantError(t, "deleted, in a session that knew its name", code, kafka.ErrUnknownTopicOrPartition)
	wantError(t, "deleted, by ID", c.fetchCall(13, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode, kafka.ErrUnknownTopicID)
	wantError(t, "deleted, by name", c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	c.create("orders", 1)
	code, _ = next()
	wantError(t, "made again with another ID, in a session", code, kafka.ErrInconsistentTopicID)
	wantError(t, "made again, by the old ID", c.fetchCall(13, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode, kafka.ErrUnknownTopicID)
	wantError(t, "made again, by name", c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode, nil)
	req = fetchOf(topic, 0)
	req.ReplicaID = 7
	wantError(t, "a foreign replica", c.fetchCall(12, req).Topics[0].Partitions[0].ErrorCode, kafka.ErrNotLeaderOrFollower)
}

// What was acknowledged is there after a restart, committed, in a new leader epoch, and appends go on behind it.
func TestDataSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	c := startData(t, vfs.OS{}, dir, 1)
	topic := c.create("orders", 4)
	for i := range 10 {
		c.mustProduce(topic, fmt.Sprint(i))
	}
	c = c.restart(vfs.OS{}, dir, 2)
	if at := c.mustProduce(topic, "10"); at != 10 {
		t.Fatalf("appended at %d", at)
	}
	p := c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0]
	got := values(t, p.RecordBatches)
	if len(got) != 11 || got[10] != "10" || p.HighWatermark != 11 {
		t.Fatalf("watermark %d, records %q", p.HighWatermark, got)
	}
}
