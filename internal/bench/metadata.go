package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Metadata creates topics, o.BatchSize in a request over o.Connections clients, and deletes them again; the report's
// requests are creations. It also measures the time from nothing to the first acknowledged record of a topic that must be
// auto-created, and, of a cluster, until every broker has seen a new topic.
func Metadata(ctx context.Context, o Options) ([]*Report, error) {
	o.Driver = DriverClient
	if err := o.Check(); err != nil {
		return nil, err
	}
	created, err := createTopics(ctx, &o)
	if err != nil {
		return nil, err
	}
	first, err := firstProduce(ctx, &o)
	if err != nil {
		return []*Report{created}, err
	}
	reports := []*Report{created, first}
	seen, err := seenByAll(ctx, &o)
	if seen != nil {
		reports = append(reports, seen)
	}
	return reports, err
}

func createTopics(ctx context.Context, o *Options) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	phase, m := &phases{}, &meter{}
	run := fmt.Sprintf("bench-%08x", rand.Uint32())
	hists := make([]histogram, o.Connections)
	names := make([][]string, o.Connections)
	errs := make([]error, o.Connections)
	var group sync.WaitGroup
	for i := range o.Connections {
		group.Go(func() {
			names[i], errs[i] = createLoop(ctx, o, fmt.Sprintf("%s-%d", run, i), phase, m, &hists[i])
		})
	}
	go progress(ctx, o.Progress, "create topics", m)
	elapsed := phase.run(ctx, o.Warmup, o.Duration, func() bool { return o.Records > 0 && m.records.Load() >= o.Records })
	group.Wait()
	r := newReport("create-topics", o)
	r.Requests, r.Records, r.Errors = m.requests.Load(), m.records.Load(), m.errors.Load()
	var h histogram
	for i := range hists {
		h.merge(&hists[i])
	}
	r.finish(elapsed, &h)
	return r, errors.Join(append(errs, deleteTopics(ctx, o, names))...)
}

func createLoop(ctx context.Context, o *Options, prefix string, phase *phases, m *meter, h *histogram) (names []string, err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap...))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for n := 0; !phase.stop.Load() && ctx.Err() == nil; n++ {
		batch := make([]string, o.BatchSize)
		for i := range batch {
			batch[i] = fmt.Sprintf("%s-%d-%d", prefix, n, i)
		}
		began := time.Now()
		res, err := admin.CreateTopics(ctx, o.Partitions, o.Replicas, nil, batch...)
		if err == nil {
			err = res.Error()
		}
		if err != nil {
			return names, fmt.Errorf("bench: create topics: %w", err)
		}
		names = append(names, batch...)
		if phase.measuring.Load() {
			h.add(time.Since(began))
			m.requests.Add(1)
			m.records.Add(int64(len(batch)))
		}
	}
	return names, nil
}

func deleteTopics(ctx context.Context, o *Options, names [][]string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap...))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for _, list := range names {
		for len(list) > 0 {
			n := min(len(list), 500)
			if _, err := admin.DeleteTopics(ctx, list[:n]...); err != nil {
				return fmt.Errorf("bench: delete topics: %w", err)
			}
			list = list[n:]
		}
	}
	return nil
}

// firstProduce measures, 30 times, a record to a topic that does not exist, from the first Metadata request of a client
// that is connected already.
func firstProduce(ctx context.Context, o *Options) (*Report, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap...), kgo.AllowAutoTopicCreation())
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	var h histogram
	var names []string
	began := time.Now()
	for i := range 30 {
		name := fmt.Sprintf("bench-first-%08x-%d", rand.Uint32(), i)
		start := time.Now()
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: name, Value: []byte("first")}).FirstErr(); err != nil {
			return nil, fmt.Errorf("bench: first record of %s: %w", name, err)
		}
		h.add(time.Since(start))
		names = append(names, name)
	}
	r := newReport("first-produce", o)
	r.Requests, r.Records = h.n, h.n
	r.finish(time.Since(began), &h)
	return r, deleteTopics(ctx, o, [][]string{names})
}
