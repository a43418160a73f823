package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// SuiteOptions of a run over many rows. Each row compares two measurements, A B A B, so that both see the same machine.
type SuiteOptions struct {
	Nodes    int    // 1, or 3 for a cluster with acks=all
	Binary   string // this program, started as the broker under test and as the ceiling's nodes
	Dir      string // scratch; removed
	Peer     string // another broker's address: also the rows against it
	PeerName string
	Rounds   int // at least 5 for figures to keep
	Duration time.Duration
	Only     string // rows whose name contains it; OnlyAbsolutes for what has no yardstick
	Out      io.Writer
	Progress io.Writer
}

// row is one line of the suite: two measurements and the ratio that has a target.
type row struct {
	name   string
	target string // as benchmarks.md has it
	a, b   func(context.Context) (*Report, error)
	// figure is what is compared, and how it is called.
	figure func(*Report) float64
	unit   string
	also   *second // a second figure, for the same line; may be nil
}

// second is a figure that stands beside the one with the ratio.
type second struct {
	name  string
	of    func(*Report) float64
	print func(float64) string
}

func rate(r *Report) float64      { return r.RequestsPerSecond }
func megabytes(r *Report) float64 { return r.MBPerSecond }
func records(r *Report) float64   { return r.RecordsPerSecond }
func p99(r *Report) float64       { return float64(r.P99.Microseconds()) / 1e3 }
func p50(r *Report) float64       { return float64(r.P50.Microseconds()) / 1e3 }

// p99Ratio is the second figure of most rows.
var p99Ratio = &second{"p99", p99, func(ms float64) string { return short(time.Duration(ms * float64(time.Millisecond))) }}

// cpuPerGB is the broker's CPU time for a gigabyte, in ms.
var cpuPerGB = &second{"CPU", func(r *Report) float64 { return r.BrokerCPU.Seconds() * 1e3 / (float64(r.Bytes) / 1e9) },
	func(ms float64) string { return fmt.Sprintf("%.0f ms/GB", ms) }}

// line is the medians of both sides and of their ratio.
func (s *second) line(as, bs []*Report) string {
	if s == nil {
		return ""
	}
	var a, b, ratios []float64
	for i := range as {
		a, b = append(a, s.of(as[i])), append(b, s.of(bs[i]))
		ratios = append(ratios, a[i]/b[i])
	}
	return fmt.Sprintf("%s %s to %s (%.2f)", s.name, s.print(median(a)), s.print(median(b)), median(ratios))
}

// Suite runs the rows and prints a table in Markdown, a row as soon as it is measured.
func Suite(ctx context.Context, o SuiteOptions) error {
	setDefault(&o.Rounds, 5)
	setDefault(&o.Duration, 3*time.Second)
	if o.Nodes == 3 {
		return clusterSuite(ctx, &o)
	}
	s, err := startSubject(ctx, o.Binary, o.Dir)
	if err != nil {
		return err
	}
	defer s.stop()
	rows := ceilingRows(&o, s)
	rows = append(rows, chronikRows(&o, s)...)
	rows = append(rows, clientRows(&o, s)...)
	if o.Peer != "" {
		rows = append(rows, peerRows(&o, s)...)
	}
	if err := runRows(ctx, &o, rows); err != nil || o.Only != "" && o.Only != OnlyAbsolutes {
		return err
	}
	return s.absolutes(ctx, o.Out)
}

// OnlyAbsolutes leaves out all rows.
const OnlyAbsolutes = "absolutes"

// runRows prints the table's head and runs the rows that are asked for.
func runRows(ctx context.Context, o *SuiteOptions, rows []row) error {
	if _, err := fmt.Fprintf(o.Out, "| row | A: chronik | B | ratio A/B, median (min-max) | target | also |\n| --- | --- | --- | --- | --- | --- |\n"); err != nil {
		return err
	}
	for _, r := range rows {
		if !strings.Contains(r.name, o.Only) {
			continue
		}
		if err := runRow(ctx, o, r); err != nil {
			return fmt.Errorf("bench suite, row %q: %w", r.name, err)
		}
	}
	return nil
}

func runRow(ctx context.Context, o *SuiteOptions, r row) error {
	var as, bs []*Report
	for round := range o.Rounds {
		if o.Progress != nil {
			_, _ = fmt.Fprintf(o.Progress, "\r\x1b[K%s: round %d of %d", r.name, round+1, o.Rounds) // only for the eye
		}
		a, err := r.a(ctx)
		if err != nil {
			return err
		}
		b, err := r.b(ctx)
		if err != nil {
			return err
		}
		as, bs = append(as, a), append(bs, b)
	}
	if o.Progress != nil {
		_, _ = fmt.Fprint(o.Progress, "\r\x1b[K")
	}
	var a, b, ratios []float64
	for i := range as {
		a, b = append(a, r.figure(as[i])), append(b, r.figure(bs[i]))
		ratios = append(ratios, a[i]/b[i])
	}
	_, err := fmt.Fprintf(o.Out, "| %s | %s %s | %s | %.2f (%.2f-%.2f) | %s | %s |\n",
		r.name, spread(a), r.unit, spread(b), median(ratios), slices.Min(ratios), slices.Max(ratios), r.target, r.also.line(as, bs))
	return err
}

func median[T cmp.Ordered](v []T) T {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func spread(v []float64) string {
	format := "%.0f (%.0f-%.0f)"
	if median(v) < 20 {
		format = "%.2f (%.2f-%.2f)"
	}
	return fmt.Sprintf(format, median(v), slices.Min(v), slices.Max(v))
}
