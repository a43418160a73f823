package api

import (
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// While the disk does not answer nothing is acknowledged and nothing is visible: not the original, not its duplicate.
func TestSlowDisk(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(0), clock.System{})
	c := startData(t, fs, "/data", 1)
	topic := c.create("orders", 1)
	c.mustProduce(topic, "first")
	release := make(chan struct{})
	remove := fs.Add(vfs.Rule{Path: "/data/wal", Op: vfs.OpSync, Hook: func(vfs.Operation, string) { <-release }})
	send := func(timeoutMillis int32) Reply {
		req := produceOf(topic, -1, batchOf(func(b *record.Builder) { b.ProducerID, b.ProducerEpoch, b.BaseSequence = 7, 0, 0 }, "second"))
		req.TimeoutMillis = timeoutMillis
		return c.dispatch(9, req)
	}
	result := func(reply Reply) kmsg.ProduceResponseTopicPartition {
		return reply(t.Context()).Message.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	}
	p := result(send(30))
	wantError(t, "the disk does not answer", p.ErrorCode, kafka.ErrRequestTimedOut)
	if p.BaseOffset != 1 {
		t.Errorf("base offset %d of what was appended", p.BaseOffset)
	}
	p = result(send(30))
	wantError(t, "the duplicate", p.ErrorCode, kafka.ErrRequestTimedOut)
	f := c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0]
	if f.HighWatermark != 1 || len(values(t, f.RecordBatches)) != 1 {
		t.Errorf("watermark %d, %d records before they are on the disk", f.HighWatermark, len(values(t, f.RecordBatches)))
	}
	f = c.fetchCall(12, fetchOf(topic, 2)).Topics[0].Partitions[0]
	wantError(t, "between watermark and end", f.ErrorCode, nil)
	if l := c.list(5, listOf(topic, -1)); l.Offset != 1 {
		t.Errorf("latest is %d", l.Offset)
	}
	again := send(120_000)
	done := make(chan kmsg.ProduceResponseTopicPartition, 1)
	go func() { done <- result(again) }()
	select {
	case p = <-done:
		t.Fatalf("the duplicate is acknowledged before its original: %+v", p)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if p = <-done; p.ErrorCode != 0 || p.BaseOffset != 1 {
		t.Fatalf("%s at %d", codeName(p.ErrorCode), p.BaseOffset)
	}
	remove()
	if at := c.mustProduce(topic, "third"); at != 2 {
		t.Fatalf("appended at %d: a duplicate was stored", at)
	}
}

// With sync=interval the page cache is enough: nothing waits for the disk.
func TestSyncIntervalDoesNotWait(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(0), clock.System{})
	c := startData(t, fs, "/data", 1)
	topic := c.create("metrics", 1, "sync", "interval")
	release := make(chan struct{})
	remove := fs.Add(vfs.Rule{Path: "/data/wal", Op: vfs.OpSync, Hook: func(vfs.Operation, string) { <-release }})
	c.mustProduce(topic, "a")
	f := c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0]
	if f.HighWatermark != 1 || len(values(t, f.RecordBatches)) != 1 {
		t.Errorf("watermark %d", f.HighWatermark)
	}
	remove()
	close(release)
}

// A full disk refuses appends by name, loses nothing, and heals.
func TestFullDisk(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(0), clock.System{})
	c := startData(t, fs, "/data", 1)
	topic := c.create("orders", 1)
	c.mustProduce(topic, "first")
	remove := fs.Add(vfs.Rule{Path: "partitions", Op: vfs.OpWrite, Err: syscall.ENOSPC})
	p := c.produceOne(topic, -1, batchOf(nil, "refused"))
	wantError(t, "no space", p.ErrorCode, kafka.ErrKafkaStorageError)
	remove()
	if at := c.mustProduce(topic, "second"); at != 1 {
		t.Fatalf("appended at %d", at)
	}
	f := c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0]
	if got := values(t, f.RecordBatches); len(got) != 2 || got[1] != "second" {
		t.Fatalf("got %q", got)
	}
}
