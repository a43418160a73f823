package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"
)

// Report is the outcome of one workload.
type Report struct {
	Workload    string        `json:"workload"`
	Driver      string        `json:"driver,omitempty"`
	Acks        int16         `json:"acks"`
	Connections int           `json:"connections"`
	Partitions  int32         `json:"partitions"`
	RecordBytes int           `json:"record_bytes"`
	BatchSize   int           `json:"batch_records"`
	Compression string        `json:"compression"`
	Elapsed     time.Duration `json:"elapsed_ns"`
	Requests    int64         `json:"requests"`
	Records     int64         `json:"records"`
	Bytes       int64         `json:"bytes"` // of batches (raw) or of record values (client)
	Errors      int64         `json:"errors"`
	FirstError  string        `json:"first_error,omitempty"`
	Verified    string        `json:"verified,omitempty"` // what was read back

	RequestsPerSecond float64       `json:"requests_per_second"`
	RecordsPerSecond  float64       `json:"records_per_second"`
	MBPerSecond       float64       `json:"mb_per_second"` // 10^6 bytes
	P50               time.Duration `json:"p50_ns"`
	P95               time.Duration `json:"p95_ns"`
	P99               time.Duration `json:"p99_ns"`
	P999              time.Duration `json:"p999_ns"`
	Max               time.Duration `json:"max_ns"`
	BrokerCPU         time.Duration `json:"broker_cpu_ns,omitempty"` // user and system, while measuring
}

func newReport(workload string, o *Options) *Report {
	return &Report{
		Workload: workload, Driver: o.Driver, Acks: o.Acks, Connections: o.Connections, Partitions: o.Partitions,
		RecordBytes: o.RecordBytes, BatchSize: o.BatchSize, Compression: o.Codec.String(),
	}
}

// count takes over what a run has counted.
func (r *Report) count(m *meter) {
	r.Requests, r.Records, r.Bytes, r.Errors = m.requests.Load(), m.records.Load(), m.bytes.Load(), m.errors.Load()
	if s := m.first.Load(); s != nil {
		r.FirstError = *s
	}
}

// finish computes rates and quantiles.
func (r *Report) finish(elapsed time.Duration, h *histogram) {
	r.Elapsed = elapsed
	s := elapsed.Seconds()
	if s > 0 {
		r.RequestsPerSecond = float64(r.Requests) / s
		r.RecordsPerSecond = float64(r.Records) / s
		r.MBPerSecond = float64(r.Bytes) / 1e6 / s
	}
	r.P50, r.P95, r.P99, r.P999, r.Max = h.quantile(.5), h.quantile(.95), h.quantile(.99), h.quantile(.999), h.max
}

// WriteTable prints the report for a person.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("workload", "%s (driver %s, acks %d, %d connections, %d partitions, %d B records, %d a batch, %s)",
		r.Workload, r.Driver, r.Acks, r.Connections, r.Partitions, r.RecordBytes, r.BatchSize, r.Compression)
	row("requests", "%d in %.1f s: %.0f/s", r.Requests, r.Elapsed.Seconds(), r.RequestsPerSecond)
	row("records", "%d: %.0f/s, %.1f MB/s", r.Records, r.RecordsPerSecond, r.MBPerSecond)
	row("latency", "p50 %s  p95 %s  p99 %s  p99.9 %s  max %s", short(r.P50), short(r.P95), short(r.P99), short(r.P999), short(r.Max))
	if r.Errors > 0 {
		row("errors", "%d, the first: %s", r.Errors, r.FirstError)
	}
	if r.Verified != "" {
		row("read back", "%s", r.Verified)
	}
	return t.Flush()
}

// WriteJSON appends the report as one line.
func (r *Report) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteCSV writes a header and a row.
func (r *Report) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	us := func(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }
	rows := [][]string{
		{"workload", "driver", "acks", "connections", "partitions", "record_bytes", "batch_records", "compression", "requests_per_second", "records_per_second", "mb_per_second", "p50_us", "p95_us", "p99_us", "p999_us", "max_us", "errors"},
		{r.Workload, r.Driver, strconv.Itoa(int(r.Acks)), strconv.Itoa(r.Connections), strconv.Itoa(int(r.Partitions)), strconv.Itoa(r.RecordBytes), strconv.Itoa(r.BatchSize), r.Compression,
			fmt.Sprintf("%.1f", r.RequestsPerSecond), fmt.Sprintf("%.1f", r.RecordsPerSecond), fmt.Sprintf("%.2f", r.MBPerSecond), us(r.P50), us(r.P95), us(r.P99), us(r.P999), us(r.Max), strconv.FormatInt(r.Errors, 10)},
	}
	return c.WriteAll(rows)
}

// short prints a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1e3)
	case d < 10*time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
