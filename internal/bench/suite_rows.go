package bench

import (
	"context"
	"time"
)

// The shapes of load that most rows share.
func (s *subject) raw(o *SuiteOptions, addr string, connections, recordBytes, batch, inFlight int) Options {
	return Options{
		Bootstrap: []string{addr}, Driver: DriverRaw, Acks: -1, Connections: connections, RecordBytes: recordBytes, BatchSize: batch, InFlight: inFlight,
		Warmup: time.Second, Duration: o.Duration, Verify: true,
	}
}

func produceRow(o Options) func(context.Context) (*Report, error) {
	return func(ctx context.Context) (*Report, error) { return Produce(ctx, o) }
}

// watched also measures the broker's CPU.
func (s *subject) watched(run func(context.Context) (*Report, error)) func(context.Context) (*Report, error) {
	return func(ctx context.Context) (*Report, error) {
		before, began := processCPU(s.pid()), time.Now()
		r, err := run(ctx)
		if err == nil {
			// The workload's own time is all but the warm-up: scale to what was measured.
			spent := processCPU(s.pid()) - before
			r.BrokerCPU = time.Duration(float64(spent) * r.Elapsed.Seconds() / time.Since(began).Seconds())
		}
		return r, err
	}
}

// ceilingRows compare with the machine's own limit, with fsync on both sides.
func ceilingRows(o *SuiteOptions, s *subject) []row {
	ceiling := func(connections, bytes, inFlight int) func(context.Context) (*Report, error) {
		return func(ctx context.Context) (*Report, error) {
			return Ceiling(ctx, CeilingOptions{
				Binary: o.Binary, Dir: o.Dir, Sync: true, Connections: connections, Bytes: bytes, InFlight: inFlight, Warmup: time.Second, Duration: o.Duration,
			})
		}
	}
	return []row{
		{"1 connection, 100 B", "", produceRow(s.raw(o, s.addr, 1, 100, 1, 1)), ceiling(1, 100, 1), p50, "ms p50", p99Ratio},
		{"16 connections, 1 KiB", "", produceRow(s.raw(o, s.addr, 16, 1024, 1, 1)), ceiling(16, 1024, 1), rate, "req/s", p99Ratio},
		{"128 connections, 1 KiB", ">= 0.6, p99 <= 2 times", produceRow(s.raw(o, s.addr, 128, 1024, 1, 1)), ceiling(128, 1024, 1), rate, "req/s", p99Ratio},
		{"bulk, 870 x 1 KiB, 5 in flight", ">= 0.55", produceRow(s.raw(o, s.addr, 1, 1024, 870, 5)), ceiling(1, 1<<20, 5), megabytes, "MB/s", p99Ratio},
		{"bulk, 8,700 x 100 B, 5 in flight", ">= 0.55", produceRow(s.raw(o, s.addr, 1, 100, 8700, 5)), ceiling(1, 1<<20, 5), megabytes, "MB/s", p99Ratio},
		{"bulk, 4 connections, 870 x 1 KiB", ">= 0.55", produceRow(s.raw(o, s.addr, 4, 1024, 870, 5)), ceiling(4, 1<<20, 5), megabytes, "MB/s", p99Ratio},
		{"fetch, cached, 1 MiB", ">= 0.6, CPU <= 2.5 times", s.fetch(o, s.addr), func(ctx context.Context) (*Report, error) {
			return Ceiling(ctx, CeilingOptions{Binary: o.Binary, Dir: o.Dir, Sendfile: true, Bytes: 1 << 20, Warmup: time.Second, Duration: o.Duration})
		}, megabytes, "MB/s", cpuPerGB},
	}
}

// fetch reads a warm topic that it fills at its first call.
func (s *subject) fetch(o *SuiteOptions, addr string) func(context.Context) (*Report, error) {
	load := s.raw(o, addr, 1, 1024, 870, 1)
	load.FetchBytes, load.Records, load.Topic, load.KeepTopic = 1<<20, 0, "", false
	return func(ctx context.Context) (*Report, error) {
		topic, err := s.filled(ctx, addr, load)
		if err != nil {
			return nil, err
		}
		load := load
		load.Topic = topic
		return s.watched(func(ctx context.Context) (*Report, error) { return Consume(ctx, load) })(ctx)
	}
}

// chronikRows compare chronik with itself.
func chronikRows(o *SuiteOptions, s *subject) []row {
	base := s.raw(o, s.addr, 128, 1024, 1, 1)
	interval, spread, many, one := base, base, base, base
	interval.TopicConfig = map[string]string{"sync": "interval"}
	spread.Partitions = 64
	many.Partitions, many.Rate = 10_000, 5_000
	many.Verify = false
	one.Rate = many.Rate
	return []row{
		{"sync=commit over sync=interval, 128 connections", ">= 0.5", produceRow(base), produceRow(interval), rate, "req/s", p99Ratio},
		{"64 partitions over 1, 128 connections", ">= 0.85", produceRow(spread), produceRow(base), rate, "req/s", p99Ratio},
		{"records a fdatasync, 128 connections", ">= 20", s.perSync(base), unity, records, "records", nil},
		{"10,000 partitions over 1, 5,000 records/s: p99", "<= 3", produceRow(many), produceRow(one), p99, "ms", nil},
		{"produce p99 beside a reader of the backlog", "<= 1.5", s.besideReader(o), produceRow(s.paced(o)), p99, "ms", nil},
	}
}

// unity is the B of a row whose figure needs no comparison.
func unity(context.Context) (*Report, error) { return &Report{RecordsPerSecond: 1}, nil }

// paced is a load below what the machine can do, for latencies.
func (s *subject) paced(o *SuiteOptions) Options {
	load := s.raw(o, s.addr, 16, 1024, 1, 1)
	load.Rate = 5_000
	return load
}

// besideReader produces at a steady rate while another connection reads a full topic.
func (s *subject) besideReader(o *SuiteOptions) func(context.Context) (*Report, error) {
	return func(ctx context.Context) (*Report, error) {
		reading, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		read := s.fetch(&SuiteOptions{Duration: o.Duration + 3*time.Second}, s.addr)
		if _, err := s.filled(ctx, s.addr, s.raw(o, s.addr, 1, 1024, 870, 1)); err != nil {
			cancel()
			return nil, err
		}
		go func() {
			_, err := read(reading)
			done <- err
		}()
		r, err := Produce(ctx, s.paced(o))
		cancel()
		<-done // ended by cancel: its error says so
		return r, err
	}
}

// clientRows are what a franz-go user sees.
func clientRows(o *SuiteOptions, s *subject) []row {
	bulk := func(addr string, bytes int) Options {
		load := s.raw(o, addr, 1, bytes, 8000, 5)
		load.Driver = DriverClient
		return load
	}
	discard := func(bytes int) func(context.Context) (*Report, error) {
		return func(ctx context.Context) (*Report, error) {
			addr, stop, err := startDiscard(ctx, o.Binary)
			if err != nil {
				return nil, err
			}
			defer stop()
			load := bulk(addr, bytes)
			load.Verify = false
			return Produce(ctx, load)
		}
	}
	return []row{
		{"franz-go bulk 100 B / a broker that discards", ">= 0.75", produceRow(bulk(s.addr, 100)), discard(100), records, "records/s", nil},
		{"franz-go bulk 1 KiB / a broker that discards", ">= 0.75", produceRow(bulk(s.addr, 1024)), discard(1024), records, "records/s", nil},
	}
}

// peerRows compare with another broker as it is: chronik with fsync before the ack.
func peerRows(o *SuiteOptions, s *subject) []row {
	var rows []row
	both := func(name, target string, load func(addr string) func(context.Context) (*Report, error), figure func(*Report) float64, unit string, also *second) {
		rows = append(rows, row{name + " / " + o.PeerName, target, load(s.addr), load(o.Peer), figure, unit, also})
	}
	raw := func(connections, bytes, batch, inFlight int) func(string) func(context.Context) (*Report, error) {
		return func(addr string) func(context.Context) (*Report, error) {
			return produceRow(s.raw(o, addr, connections, bytes, batch, inFlight))
		}
	}
	client := func(connections, bytes, batch, inFlight int) func(string) func(context.Context) (*Report, error) {
		return func(addr string) func(context.Context) (*Report, error) {
			load := s.raw(o, addr, connections, bytes, batch, inFlight)
			load.Driver = DriverClient
			return produceRow(load)
		}
	}
	both("1 connection, 100 B", "", raw(1, 100, 1, 1), rate, "req/s", p99Ratio)
	both("16 connections, 1 KiB", "ahead", raw(16, 1024, 1, 1), rate, "req/s", p99Ratio)
	both("128 connections, 1 KiB", "ahead", raw(128, 1024, 1, 1), rate, "req/s", p99Ratio)
	both("bulk 100 B", "ahead", raw(1, 100, 8700, 5), megabytes, "MB/s", nil)
	both("bulk 1 KiB", "ahead", raw(1, 1024, 870, 5), megabytes, "MB/s", nil)
	both("fetch 1 KiB, cached", "ahead", func(addr string) func(context.Context) (*Report, error) { return s.fetch(o, addr) }, megabytes, "MB/s", nil)
	both("franz-go, 128 clients, 1 KiB", "ahead", client(128, 1024, 1, 1), rate, "records/s", p99Ratio)
	both("franz-go bulk 100 B", "ahead", client(1, 100, 8000, 5), records, "records/s", nil)
	both("franz-go bulk 1 KiB", "ahead", client(1, 1024, 8000, 5), records, "records/s", nil)
	both("franz-go fetch 1 KiB", ">= 1.0", func(addr string) func(context.Context) (*Report, error) {
		return func(ctx context.Context) (*Report, error) {
			load := s.raw(o, addr, 1, 1024, 870, 1)
			topic, err := s.filled(ctx, addr, load)
			if err != nil {
				return nil, err
			}
			load.Driver, load.Topic = DriverClient, topic
			return Consume(ctx, load)
		}
	}, records, "records/s", nil)
	return rows
}
