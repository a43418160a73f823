package bench

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// meter is what the workers of a workload count while they run.
type meter struct {
	requests, records, bytes, errors atomic.Int64
	first                            atomic.Pointer[string] // the first error
}

func (m *meter) fail(err error) {
	m.errors.Add(1)
	s := err.Error()
	m.first.CompareAndSwap(nil, &s)
}

// progress prints a line a second until ctx ends.
func progress(ctx context.Context, w io.Writer, what string, m *meter) {
	if w == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, began := int64(0), time.Now()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprint(w, "\r\x1b[K")
			return
		case <-tick.C:
			n := m.records.Load()
			fmt.Fprintf(w, "\r\x1b[K%s: %d s, %d records/s, %d errors", what, int(time.Since(began).Seconds()), n-last, m.errors.Load())
			last = n
		}
	}
}

// phases runs work through warm-up and measurement: measuring is set between them, stop at the end.
type phases struct {
	measuring, stop atomic.Bool
	began           time.Time
}

// run returns how long was measured.
func (p *phases) run(ctx context.Context, warmup, duration time.Duration, enough func() bool) time.Duration {
	wait(ctx, warmup, nil)
	p.began = time.Now()
	p.measuring.Store(true)
	wait(ctx, duration, enough)
	p.measuring.Store(false)
	elapsed := time.Since(p.began)
	p.stop.Store(true)
	return elapsed
}

func wait(ctx context.Context, d time.Duration, enough func() bool) {
	end := time.Now().Add(d)
	for ctx.Err() == nil && time.Now().Before(end) && (enough == nil || !enough()) {
		time.Sleep(min(time.Until(end), 10*time.Millisecond))
	}
}
