package api

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/record"
	"chronik/internal/vfs"
)

// BenchmarkProduce is 128 connections that each send 1 KiB at a time, without the network: acks=all, fsync and all.
func BenchmarkProduce(b *testing.B) {
	c := startData(b, vfs.OS{}, b.TempDir(), 1)
	topic := c.create("orders", 1)
	value := bytes.Repeat([]byte("x"), 1024)
	var failed atomic.Int64
	left := atomic.Int64{}
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.SetBytes(1024)
	b.ResetTimer()
	var clients sync.WaitGroup
	for range 128 {
		clients.Go(func() {
			batch := batchOf(nil, string(value))
			req := produceOf(topic, -1, batch)
			req.Version = 9
			request := &Request{}
			records := req.Topics[0].Partitions[0].Records
			for left.Add(-1) >= 0 {
				record.Batch(records).SetBaseOffset(0)
				request.Reset()
				request.Version, request.Conn, request.Body = 9, c.conn, req
				resp := c.Dispatch(b.Context(), request)(b.Context())
				if resp.Message.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode != 0 {
					failed.Add(1)
				}
			}
		})
	}
	clients.Wait()
	b.StopTimer()
	if failed.Load() > 0 {
		b.Fatalf("%d failed", failed.Load())
	}
}
