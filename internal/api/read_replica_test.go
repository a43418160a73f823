package api

import (
	"bytes"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/replica"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *dataCluster) fetchFrom(version int16, req *kmsg.FetchRequest, rack string) kmsg.FetchResponseTopicPartition {
	c.t.Helper()
	req.Rack = rack
	return c.fetchCall(version, req).Topics[0].Partitions[0]
}

// A consumer is sent to the in-sync replica of its rack that has the offset, from version 11 on (KIP-392); else the leader
// answers.
func TestLeaderNamesTheReplicaOfTheRack(t *testing.T) {
	c := newData(t)
	c.addBroker(2, "r2")
	c.addBroker(3, "r3")
	topic := c.assign("orders", []kafka.BrokerID{1, 2, 3})
	p, err := c.Replicas.Partition(topic.TopicPartition(0))
	if err != nil {
		t.Fatal(err)
	}
	produce := func(value string) {
		wantError(t, "produce", c.produceOne(topic, 1, batchOf(nil, value)).ErrorCode, nil)
	}
	follow := func(id kafka.BrokerID) *replica.Session {
		_, epoch, _ := p.Leader()
		d := p.Follow(replica.FollowRequest{Follower: id, BrokerEpoch: c.Store.Image().Broker(id).Epoch, LeaderEpoch: epoch, LastEpoch: kafka.NoLeaderEpoch})
		if d.Session == nil {
			t.Fatalf("follow: %+v", d)
		}
		return d.Session
	}
	two, three := follow(2), follow(3)
	produce("a")
	ack := func(s *replica.Session, end kafka.Offset) {
		if err := s.Acked(end, 0); err != nil {
			t.Fatal(err)
		}
	}
	ack(two, 1)
	ack(three, 1)
	check := func(what string, version int16, rack string, from int64, want int32) {
		t.Helper()
		req := fetchOf(topic, from)
		req.MaxWaitMillis = 0
		got := c.fetchFrom(version, req, rack)
		if got.ErrorCode != 0 || got.PreferredReadReplica != want || (len(got.RecordBatches) > 0) != (want < 0 && from < got.HighWatermark) {
			t.Errorf("%s: %s, replica %d, %d bytes; want replica %d", what, codeName(got.ErrorCode), got.PreferredReadReplica, len(got.RecordBatches), want)
		}
		if want >= 0 && (got.HighWatermark != int64(p.HighWatermark()) || got.LogStartOffset != 0) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	for _, v := range []int16{11, 12, 13, 18} {
		check("the rack of 2", v, "r2", 0, 2)
	}
	check("the rack of 3", 12, "r3", 0, 3)
	check("before version 11", 10, "r2", 0, -1)
	check("no rack", 12, "", 0, -1)
	check("a rack of nobody", 12, "r9", 0, -1)
	check("the end", 12, "r2", 1, 2)
	produce("b")
	ack(three, 2)
	check("an offset that 2 does not have yet", 12, "r2", 2, -1)
	check("an offset that 3 has", 12, "r3", 2, 3)

	req := fetchOf(topic, 0)
	req.MaxWaitMillis, req.Rack = 60_000, "r2"
	began := time.Now()
	if got := c.fetchCall(12, req).Topics[0].Partitions[0]; got.PreferredReadReplica != 2 || time.Since(began) > 30*time.Second {
		t.Errorf("replica %d after %v", got.PreferredReadReplica, time.Since(began))
	}
	// A session hears of it with each fetch, though nothing else has changed.
	req.SessionEpoch, req.MaxWaitMillis = 0, 0
	session := c.fetchCall(12, req)
	for epoch := int32(1); epoch < 3; epoch++ {
		again := kmsg.NewPtrFetchRequest()
		again.MaxBytes, again.SessionID, again.SessionEpoch, again.Rack = 1<<20, session.SessionID, epoch, "r2"
		got := c.fetchCall(12, again)
		if len(got.Topics) != 1 || got.Topics[0].Partitions[0].PreferredReadReplica != 2 {
			t.Errorf("session epoch %d: %+v", epoch, got)
		}
	}
	c.fence(2, true)
	if err := c.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("a fenced replica", 12, "r2", 0, -1)
	stale := fetchOf(topic, 0)
	stale.Topics[0].Partitions[0].CurrentLeaderEpoch = 99
	wantError(t, "an unknown epoch", c.fetchFrom(12, stale, "r3").ErrorCode, kafka.ErrUnknownLeaderEpoch)
}

// A follower answers consumers from version 11 on, as far as it knows the watermark.
func TestFollowerAnswers(t *testing.T) {
	c := newData(t)
	c.addBroker(2, "r2")
	topic := c.assign("orders", []kafka.BrokerID{2, 1})
	p, err := c.Replicas.Partition(topic.TopicPartition(0))
	if err != nil {
		t.Fatal(err)
	}
	_, epoch, _ := p.Leader()
	send := func(base, hw kafka.Offset, value string) {
		b := bytes.Clone(batchOf(nil, value))
		record.Batch(b).SetBaseOffset(base)
		record.Batch(b).SetLeaderEpoch(epoch)
		if err := p.AppendFollower(epoch, base, b, hw, 0, false); err != nil {
			t.Fatal(err)
		}
	}
	send(0, 0, "a")
	send(1, 1, "b")
	req := fetchOf(topic, 0)
	req.MaxWaitMillis = 60_000
	got := c.fetchFrom(12, req, "r1") // waits until what is below the watermark is on the disk
	if v := values(t, got.RecordBatches); got.ErrorCode != 0 || len(v) != 1 || v[0] != "a" || got.HighWatermark != 1 || got.PreferredReadReplica != -1 {
		t.Errorf("%s, %q, watermark %d, replica %d", codeName(got.ErrorCode), v, got.HighWatermark, got.PreferredReadReplica)
	}
	wantError(t, "before version 11", c.fetchFrom(10, fetchOf(topic, 0), "").ErrorCode, kafka.ErrNotLeaderOrFollower)
	if l := c.list(5, listOf(topic, -1)); l.ErrorCode != kafka.ErrNotLeaderOrFollower.Code {
		t.Errorf("list offsets: %s", codeName(l.ErrorCode))
	}
	next := fetchOf(topic, 1)
	next.MaxWaitMillis = 60_000
	done := make(chan *kmsg.FetchResponse, 1)
	reply := c.dispatch(12, next)
	go func() { done <- c.fetchReply(12, reply) }()
	time.Sleep(10 * time.Millisecond)
	if err := p.FollowerWatermark(epoch, 2, 0); err != nil {
		t.Fatal(err)
	}
	if v := values(t, (<-done).Topics[0].Partitions[0].RecordBatches); len(v) != 1 || v[0] != "b" {
		t.Errorf("after the watermark moved: %q", v)
	}
	fenced := fetchOf(topic, 0)
	fenced.Topics[0].Partitions[0].CurrentLeaderEpoch = int32(epoch) + 5
	wantError(t, "a newer epoch", c.fetchFrom(12, fenced, "").ErrorCode, kafka.ErrUnknownLeaderEpoch)
}
