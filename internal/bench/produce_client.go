package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/record"
)

// clientOptions are those of one producing franz-go client.
func clientOptions(o *Options, topic string) []kgo.Opt {
	compression := map[record.Codec]kgo.CompressionCodec{
		record.None: kgo.NoCompression(), record.Gzip: kgo.GzipCompression(), record.Snappy: kgo.SnappyCompression(),
		record.LZ4: kgo.Lz4Compression(), record.Zstd: kgo.ZstdCompression(),
	}
	opts := append(QuickFailover(),
		kgo.SeedBrokers(o.Bootstrap...), kgo.ClientID("chronik-bench"), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(o.Linger),
		kgo.ProducerBatchCompression(compression[o.Codec]), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		kgo.MaxBufferedRecords(max(10_000, 8*o.BatchSize*o.InFlight)),
		kgo.ProducerBatchMaxBytes(int32(min(max((o.RecordBytes+32)*o.BatchSize+256, 16<<10), 1_000_000))),
	)
	switch o.Acks {
	case 0:
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case 1:
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	return opts
}

type clientProducer struct {
	mu struct {
		sync.Mutex
		hist histogram
	}
	acked atomic.Int64
}

// produceClient runs o.Connections franz-go clients. With one record a batch and one request in flight each client sends
// record after record; otherwise it sends as fast as its buffer takes them, and latency is that of each record.
func produceClient(ctx context.Context, o *Options, t *target) (*Report, []ack, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	phase, m := &phases{}, &meter{}
	workers := make([]*clientProducer, o.Connections)
	errs := make([]error, o.Connections)
	var group sync.WaitGroup
	for i := range workers {
		workers[i] = &clientProducer{}
		group.Go(func() { errs[i] = workers[i].run(ctx, o, t.name, i, phase, m) })
	}
	go progress(ctx, o.Progress, "produce", m)
	elapsed := phase.run(ctx, o.Warmup, o.Duration, nil)
	group.Wait()
	r := newReport("produce", o)
	var h histogram
	var acked []ack
	for _, w := range workers {
		h.merge(&w.mu.hist)
		acked = append(acked, ack{records: w.acked.Load()})
	}
	r.count(m)
	r.Requests = h.n
	r.finish(elapsed, &h)
	return r, acked, errors.Join(errs...)
}

func (w *clientProducer) run(ctx context.Context, o *Options, topic string, index int, phase *phases, m *meter) error {
	client, err := kgo.NewClient(clientOptions(o, topic)...)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer client.Close()
	// Values are shared by all records: the client copies them into batches.
	value := make([]byte, o.RecordBytes)
	for i := range value {
		value[i] = " etaoinshrdlucmf"[(i*7+index*3+i/13)&15]
	}
	var key []byte
	if o.keys {
		key = fmt.Appendf(nil, "connection %d", index)
	}
	sequential := o.BatchSize == 1 && o.InFlight == 1
	pace := newPacer(o)
	for !phase.stop.Load() && ctx.Err() == nil {
		pace.wait()
		began := time.Now()
		done := func(_ *kgo.Record, err error) { w.done(began, err, o, phase, m) }
		if sequential {
			done(nil, client.ProduceSync(ctx, &kgo.Record{Key: key, Value: value}).FirstErr())
		} else {
			client.Produce(ctx, &kgo.Record{Key: key, Value: value}, done)
		}
	}
	if err := client.Flush(ctx); err != nil {
		return fmt.Errorf("bench: flush: %w", err)
	}
	return nil
}

func (w *clientProducer) done(began time.Time, err error, o *Options, phase *phases, m *meter) {
	if err != nil {
		m.fail(err)
		return
	}
	w.acked.Add(1)
	if !phase.measuring.Load() {
		return
	}
	m.records.Add(1)
	m.bytes.Add(int64(o.RecordBytes))
	if began.After(phase.began) {
		w.mu.Lock()
		w.mu.hist.add(time.Since(began))
		w.mu.Unlock()
	}
}

// pacer spaces the records of one client so that all clients together reach o.Rate.
type pacer struct {
	every time.Duration
	next  time.Time
}

func newPacer(o *Options) *pacer {
	p := &pacer{next: time.Now()}
	if o.Rate > 0 {
		p.every = time.Second * time.Duration(o.Connections) / time.Duration(o.Rate)
	}
	return p
}

func (p *pacer) wait() {
	if p.every > 0 {
		time.Sleep(time.Until(p.next))
		p.next = p.next.Add(p.every)
	}
}
