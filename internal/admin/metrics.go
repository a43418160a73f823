package admin

import (
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Kind is what a Sample is.
type Kind int8

// The kinds.
const (
	Gauge Kind = iota
	Counter
	Histogram
)

// Sample is one metric with one set of labels.
type Sample struct {
	Name   string // in Prometheus's form, such as chronik_connections_open
	Help   string
	Kind   Kind
	Labels []string // name, value, name, value, ...
	Value  float64  // of a gauge or counter

	// Of a histogram: bucket i counts what is at most Bounds[i], not cumulative; the last one has no bound.
	Bounds  []float64
	Buckets []int64
	Sum     float64
}

func newMetrics(opts *Options) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		samples{opts.Samples},
	)
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "chronik_info", Help: "The version that runs; the value is 1.",
		ConstLabels: prometheus.Labels{"version": opts.Version}})
	info.Set(1)
	registry.MustRegister(info)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// samples is a collector that describes nothing in advance: labels come and go with topics and connections.
type samples struct {
	each func(add func(Sample))
}

func (s samples) Describe(chan<- *prometheus.Desc) {}

func (s samples) Collect(out chan<- prometheus.Metric) {
	if s.each != nil {
		s.each(func(sample Sample) { out <- sample.metric() })
	}
}

func (s *Sample) metric() prometheus.Metric {
	var names, values []string
	for pair := range slices.Chunk(s.Labels, 2) {
		names, values = append(names, pair[0]), append(values, pair[1])
	}
	desc := prometheus.NewDesc(s.Name, s.Help, names, nil)
	var m prometheus.Metric
	var err error
	switch s.Kind {
	case Histogram:
		cumulative := make(map[float64]uint64, len(s.Bounds))
		var count uint64
		for i, n := range s.Buckets {
			count += uint64(n)
			if i < len(s.Bounds) {
				cumulative[s.Bounds[i]] = count
			}
		}
		m, err = prometheus.NewConstHistogram(desc, count, s.Sum, cumulative, values...)
	case Counter:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.Value, values...)
	default:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.Value, values...)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}
