package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/record"
)

// fill produces o.Records records, spread over the partitions, before a consume workload.
func fill(ctx context.Context, o *Options, t *target) error {
	count := o.Records
	if count == 0 {
		count = (1 << 30) / int64(max(o.RecordBytes, 1))
	}
	load := *o
	load.BatchSize = max(1, min(o.BatchSize, 1_000_000/(o.RecordBytes+32)))
	if load.BatchSize == 1 {
		load.BatchSize = max(1, 870_000/(o.RecordBytes+32))
	}
	frames := make([][]byte, len(t.leaders))
	codecs := &record.Codecs{}
	for p := range frames {
		batch, err := makeBatch(&load, codecs, uint64(p))
		if err != nil {
			return err
		}
		frames[p], _ = produceFrame(t.name, int32(p), -1, batch)
	}
	m := &meter{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go progress(ctx, o.Progress, "fill", m)
	errs := make([]error, len(frames))
	var group sync.WaitGroup
	for p := range frames {
		group.Go(func() { errs[p] = fillPartition(ctx, &load, t, p, frames[p], count/int64(len(frames))+1, m) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func fillPartition(ctx context.Context, o *Options, t *target, p int, frame []byte, count int64, m *meter) error {
	r, err := openReader(ctx, t, int32(p), 1, 0)
	if err != nil {
		return err
	}
	defer func() { _ = r.conn.Close() }()
	for n := int64(0); n < count && ctx.Err() == nil; n += int64(o.BatchSize) {
		if _, err := r.conn.Write(frame); err != nil {
			return fmt.Errorf("bench: fill %s/%d: %w", t.name, p, err)
		}
		if r.buf, err = readFrame(r.in, r.buf); err != nil {
			return fmt.Errorf("bench: fill %s/%d: %w", t.name, p, err)
		}
		if err := produceError(r.buf, t.name); err != nil {
			return fmt.Errorf("bench: fill %s/%d: %w", t.name, p, err)
		}
		m.records.Add(int64(o.BatchSize))
	}
	return ctx.Err()
}

// consumeClient reads with o.Connections franz-go clients, each all partitions from the start, round and round.
func consumeClient(ctx context.Context, o *Options, t *target) (*Report, error) {
	ends, err := t.ends(ctx)
	if err != nil {
		return nil, err
	}
	starts, err := t.starts(ctx)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for p := range ends {
		total += ends[p] - starts[p]
	}
	if total == 0 {
		return nil, fmt.Errorf("bench: topic %s is empty; produce to it first", t.name)
	}
	progressCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	phase, m := &phases{}, &meter{}
	hists := make([]histogram, o.Connections)
	errs := make([]error, o.Connections)
	var group sync.WaitGroup
	for i := range o.Connections {
		group.Go(func() {
			for errs[i] == nil && !phase.stop.Load() && ctx.Err() == nil {
				errs[i] = consumeRound(ctx, o, t, total, phase, m, &hists[i])
			}
		})
	}
	go progress(progressCtx, o.Progress, "consume", m)
	elapsed := phase.run(ctx, o.Warmup, o.Duration, func() bool { return o.Records > 0 && o.Topic != "" && m.records.Load() >= o.Records })
	group.Wait()
	r := newReport("consume", o)
	r.Records, r.Bytes = m.records.Load(), m.bytes.Load()
	var h histogram
	for i := range hists {
		h.merge(&hists[i])
	}
	r.Requests = h.n
	r.finish(elapsed, &h)
	return r, errors.Join(errs...)
}

// consumeRound reads the topic once from its start, or until the workload stops. A poll counts as a request.
func consumeRound(ctx context.Context, o *Options, t *target, total int64, phase *phases, m *meter, h *histogram) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap...), kgo.ConsumeTopics(t.name), kgo.ClientID("chronik-bench"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(o.FetchBytes))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer client.Close()
	next := map[int32]int64{}
	for read := int64(0); read < total && !phase.stop.Load(); {
		began := time.Now()
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("bench: consume %s: %w", t.name, err)
		}
		n, bytes := int64(0), int64(0)
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if want, ok := next[r.Partition]; ok && r.Offset != want {
				return fmt.Errorf("bench: %s/%d: offset %d follows %d", t.name, r.Partition, r.Offset, want-1)
			}
			next[r.Partition] = r.Offset + 1
			n++
			bytes += int64(len(r.Value))
		}
		read += n
		if phase.measuring.Load() {
			h.add(time.Since(began))
			m.records.Add(n)
			m.bytes.Add(bytes)
		}
	}
	return nil
}
