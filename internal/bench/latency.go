package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Latency measures from the call to produce a record to its arrival at a consumer that waits for it, o.Rate records a
// second (100 unless set), and checks that each comes once and in order.
func Latency(ctx context.Context, o Options) (*Report, error) {
	o.Driver = DriverClient
	setDefault(&o.Rate, 100)
	if err := o.Check(); err != nil {
		return nil, err
	}
	o.RecordBytes = max(o.RecordBytes, 16)
	t, err := prepare(ctx, &o)
	if err != nil {
		return nil, err
	}
	r, err := latencyOf(ctx, &o, t)
	return r, errors.Join(err, t.close(context.WithoutCancel(ctx)))
}

// stamped is a record's value: when it was sent, in ns, and its number.
func stamped(size int, n uint64) []byte {
	v := make([]byte, size)
	binary.BigEndian.PutUint64(v, uint64(time.Now().UnixNano()))
	binary.BigEndian.PutUint64(v[8:], n)
	return v
}

func latencyOf(ctx context.Context, o *Options, t *target) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Warmup+o.Duration+30*time.Second)
	defer cancel()
	from := map[int32]kgo.Offset{}
	for p, end := range t.start {
		from[int32(p)] = kgo.NewOffset().At(end)
	}
	consumer, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.name: from}), kgo.FetchMaxWait(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer consumer.Close()
	producer, err := kgo.NewClient(clientOptions(o, t.name)...)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer producer.Close()
	phase, m := &phases{}, &meter{}
	var sent uint64
	var group sync.WaitGroup
	group.Go(func() {
		for pace := newPacer(o); !phase.stop.Load() && ctx.Err() == nil; {
			pace.wait()
			producer.Produce(ctx, &kgo.Record{Value: stamped(o.RecordBytes, sent), Partition: 0}, func(_ *kgo.Record, err error) {
				if err != nil {
					m.fail(err)
				}
			})
			sent++
		}
		if err := producer.Flush(ctx); err != nil {
			m.fail(err)
		}
	})
	measured := make(chan time.Duration, 1)
	go func() { measured <- phase.run(ctx, o.Warmup, o.Duration, nil) }()
	go progress(ctx, o.Progress, "latency", m)
	h, got, err := arrivals(ctx, consumer, phase, m, func() uint64 { group.Wait(); return sent })
	group.Wait()
	if err != nil {
		return nil, err
	}
	r := newReport("latency", o)
	r.Requests, r.Records, r.Bytes, r.Errors = h.n, h.n, h.n*int64(o.RecordBytes), m.errors.Load()
	r.Verified = fmt.Sprintf("%d records, each once", got)
	r.finish(<-measured, h)
	return r, nil
}

// arrivals consumes until everything that was sent has come.
func arrivals(ctx context.Context, consumer *kgo.Client, phase *phases, m *meter, total func() uint64) (*histogram, uint64, error) {
	h := &histogram{}
	seen := map[uint64]bool{}
	want := ^uint64(0)
	for uint64(len(seen)) < want {
		if phase.stop.Load() && want == ^uint64(0) {
			want = total() - uint64(m.errors.Load())
			continue
		}
		poll, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		fetches := consumer.PollFetches(poll)
		cancel()
		if ctx.Err() != nil {
			return nil, 0, fmt.Errorf("bench: %d of %d records arrived: %w", len(seen), want, ctx.Err())
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return nil, 0, fmt.Errorf("bench: consume %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		now := time.Now()
		for _, r := range fetches.Records() {
			n := binary.BigEndian.Uint64(r.Value[8:])
			if seen[n] {
				return nil, 0, fmt.Errorf("bench: record %d came twice", n)
			}
			seen[n] = true
			if phase.measuring.Load() {
				h.add(now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))))
				m.records.Add(1)
			}
		}
	}
	return h, uint64(len(seen)), nil
}
