package api

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/metadata"
)

// lagging is a metadata store that has not heard of anything new until somebody asks for a barrier.
type lagging struct {
	metadata.Store
	old   *metadata.Image
	fresh atomic.Bool
}

func (l *lagging) Image() *metadata.Image {
	if l.fresh.Load() {
		return l.Store.Image()
	}
	return l.old
}

func (l *lagging) Barrier(ctx context.Context) error {
	err := l.Store.Barrier(ctx)
	l.fresh.Store(true)
	return err
}

// Created at one node, used at another that has not heard of it: nobody is told that it does not exist.
func TestNothingIsCalledUnknownBeforeABarrier(t *testing.T) {
	c := newData(t)
	old := c.Store.Image()
	topic := c.create("orders", 1)
	real := c.Store
	for name, ask := range map[string]func() int16{
		"fetch by name": func() int16 { return c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode },
		"fetch by ID":   func() int16 { return c.fetchCall(13, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode },
		"list offsets":  func() int16 { return c.list(5, listOf(topic, -1)).ErrorCode },
	} {
		c.Store = &lagging{Store: real, old: old}
		wantError(t, name, ask(), nil)
	}
	for _, version := range []int16{9, 12, 13} {
		c.Store = &lagging{Store: real, old: old}
		resp := call[*kmsg.ProduceResponse](c.cluster, version, produceOf(topic, -1, batchOf(nil, "v")))
		wantError(t, "produce", resp.Topics[0].Partitions[0].ErrorCode, nil)
	}
	c.Store = real
	c.mustProduce(topic, "v")
}
