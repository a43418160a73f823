package bench

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"chronik/internal/record"
)

// Drivers.
const (
	DriverClient = "client"
	DriverRaw    = "raw"
)

// Options of a workload. Bytes and durations are what their types say; zero values are filled by Check.
type Options struct {
	Bootstrap   []string          // host:port
	Topic       string            // made if missing; "" draws a name and deletes the topic afterwards
	Partitions  int32             // of a topic that is made
	Replicas    int16             // of a topic that is made; -1 is the broker's default
	TopicConfig map[string]string // of a topic that is made
	KeepTopic   bool

	Driver      string // client or raw
	RecordBytes int    // of a record's value
	BatchSize   int    // records in a batch (raw); upper bound by bytes for the client
	Linger      time.Duration
	Acks        int16
	Connections int // sockets (raw) or clients
	InFlight    int // requests in flight on each connection
	Codec       record.Codec
	Rate        int // records a second over all connections, 0 for as many as go

	Groups int // of Commit; as many as connections unless set

	FetchBytes int32 // of a partition in one fetch
	Records    int64 // how many to consume at least; 0 consumes for Duration

	Warmup   time.Duration
	Duration time.Duration
	Verify   bool // read everything back after producing

	keys bool // records have keys: the topic is compacted

	Progress io.Writer // nil for none
	Logger   *slog.Logger
}

// Check fills in defaults and refuses what makes no sense.
func (o *Options) Check() error {
	if len(o.Bootstrap) == 0 {
		o.Bootstrap = []string{"127.0.0.1:9092"}
	}
	setDefault(&o.Partitions, 1)
	setDefault(&o.Replicas, -1)
	setDefault(&o.RecordBytes, 1024)
	setDefault(&o.BatchSize, 1)
	setDefault(&o.Connections, 1)
	setDefault(&o.InFlight, 1)
	setDefault(&o.FetchBytes, 1<<20)
	setDefault(&o.Duration, 5*time.Second)
	if o.Driver == "" {
		o.Driver = DriverClient
	}
	switch {
	case o.Driver != DriverClient && o.Driver != DriverRaw:
		return fmt.Errorf("driver %q: want client or raw", o.Driver)
	case o.Acks < -1 || o.Acks > 1:
		return fmt.Errorf("acks %d: want 0, 1 or -1 (all)", o.Acks)
	case o.RecordBytes < 0 || o.BatchSize < 1 || o.Connections < 1 || o.InFlight < 1 || o.Partitions < 1:
		return fmt.Errorf("record size, batch size, connections, requests in flight and partitions must be positive")
	case o.Driver == DriverRaw && o.Acks == 0:
		return fmt.Errorf("the raw driver counts answers, and acks=0 has none; use --driver client")
	}
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
