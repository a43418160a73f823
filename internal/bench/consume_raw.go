package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"chronik/internal/record"
)

// reader fetches one partition over a socket, from an offset on.
type reader struct {
	conn      net.Conn
	in        *bufio.Reader
	topic     string
	frame     []byte
	setOffset func(int64)
	buf       []byte
	next      int64 // offset
}

func openReader(ctx context.Context, t *target, partition, maxBytes int32, from int64) (*reader, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.leaders[partition])
	if err != nil {
		return nil, fmt.Errorf("bench: connect to the leader of %s/%d: %w", t.name, partition, err)
	}
	r := &reader{conn: conn, in: bufio.NewReaderSize(conn, 4096), topic: t.name, next: from}
	r.frame, r.setOffset = fetchFrame(t.name, partition, maxBytes)
	return r, nil
}

// fetch asks once and hands each whole batch to visit. It returns the bytes of records that came.
func (r *reader) fetch(visit func(record.Batch) error) (int, error) {
	r.setOffset(r.next)
	if _, err := r.conn.Write(r.frame); err != nil {
		return 0, err
	}
	var err error
	if r.buf, err = readFrame(r.in, r.buf); err != nil {
		return 0, err
	}
	records, _, err := fetched(r.buf, r.topic)
	if err != nil {
		return 0, err
	}
	n := len(records)
	for len(records) > 0 {
		batch, rest, err := record.Next(records)
		if errors.Is(err, record.ErrPartial) {
			break
		}
		if err != nil {
			return 0, err
		}
		if visit != nil {
			if err := visit(batch); err != nil {
				return 0, err
			}
		}
		r.next = int64(batch.LastOffset()) + 1
		records = rest
	}
	return n, nil
}

// consumeRaw reads with o.Connections sockets, round and round, each a partition from start to end.
func consumeRaw(ctx context.Context, o *Options, t *target) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ends, err := t.ends(ctx)
	if err != nil {
		return nil, err
	}
	starts, err := t.starts(ctx)
	if err != nil {
		return nil, err
	}
	phase, m := &phases{}, &meter{}
	hists := make([]histogram, o.Connections)
	errs := make([]error, o.Connections)
	var group sync.WaitGroup
	for i := range o.Connections {
		p := int32(i) % int32(len(t.leaders))
		group.Go(func() { errs[i] = readRounds(ctx, o, t, p, starts[p], ends[p], phase, m, &hists[i]) })
	}
	go progress(ctx, o.Progress, "consume", m)
	enough := func() bool { return o.Records > 0 && m.records.Load() >= o.Records }
	elapsed := phase.run(ctx, o.Warmup, o.Duration, enough)
	group.Wait()
	r := newReport("consume", o)
	r.Requests, r.Records, r.Bytes = m.requests.Load(), m.records.Load(), m.bytes.Load()
	var h histogram
	for i := range hists {
		h.merge(&hists[i])
	}
	r.finish(elapsed, &h)
	return r, errors.Join(errs...)
}

func readRounds(ctx context.Context, o *Options, t *target, p int32, start, end int64, phase *phases, m *meter, h *histogram) error {
	if end == start {
		return fmt.Errorf("bench: %s/%d is empty; produce to it first", t.name, p)
	}
	r, err := openReader(ctx, t, p, o.FetchBytes, start)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Close() })
	defer stop()
	defer func() { _ = r.conn.Close() }()
	count := int64(0)
	visit := func(b record.Batch) error {
		count += int64(b.Count())
		return nil
	}
	for !phase.stop.Load() {
		if r.next >= end {
			r.next = start
		}
		began := time.Now()
		count = 0
		n, err := r.fetch(visit)
		if err != nil {
			return fmt.Errorf("bench: fetch %s/%d at %d: %w", t.name, p, r.next, err)
		}
		if phase.measuring.Load() {
			h.add(time.Since(began))
			m.requests.Add(1)
			m.records.Add(count)
			m.bytes.Add(int64(n))
		}
	}
	return nil
}

// starts are the log start offsets.
func (t *target) starts(ctx context.Context) ([]int64, error) {
	listed, err := t.admin.ListStartOffsets(ctx, t.name)
	if err != nil {
		return nil, fmt.Errorf("bench: start offsets of %s: %w", t.name, err)
	}
	starts := make([]int64, len(t.leaders))
	for p := range starts {
		o, _ := listed.Lookup(t.name, int32(p))
		if o.Err != nil {
			return nil, fmt.Errorf("bench: start offset of %s/%d: %w", t.name, p, o.Err)
		}
		starts[p] = o.Offset
	}
	return starts, nil
}
