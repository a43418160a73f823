package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// clusterSuite is the suite for three nodes with acks=all, clients and all three nodes on this machine.
func clusterSuite(ctx context.Context, o *SuiteOptions) error {
	t, err := startTrio(ctx, o.Binary, o.Dir)
	if err != nil {
		return err
	}
	defer t.close()
	idle := t.memory(ctx)
	s := &subject{binary: o.Binary, dir: t.dir, addr: strings.Join(t.bootstrap(), ","), topics: map[string]string{}}
	rows := clusterRows(o, s, t.bootstrap())
	if err := runRows(ctx, o, rows); err != nil || o.Only != "" && o.Only != OnlyAbsolutes {
		return err
	}
	return t.absolutes(ctx, o, idle)
}

// clusterRows compare with the least code that is a log replicated three times, with fsync on all sides.
func clusterRows(o *SuiteOptions, s *subject, addrs []string) []row {
	ceiling := func(connections, bytes, inFlight int) func(context.Context) (*Report, error) {
		return func(ctx context.Context) (*Report, error) {
			return Ceiling(ctx, CeilingOptions{
				Binary: o.Binary, Dir: o.Dir, Replicas: 3, Sync: true, Connections: connections, Bytes: bytes, InFlight: inFlight,
				Warmup: time.Second, Duration: o.Duration,
			})
		}
	}
	chronik := func(connections, bytes, batch, inFlight int) func(context.Context) (*Report, error) {
		load := s.raw(o, "", connections, bytes, batch, inFlight)
		load.Bootstrap, load.Replicas = addrs, 3
		return produceRow(load)
	}
	rows := []row{
		{"3 nodes, 1 connection, 100 B", "<= 1.5", chronik(1, 100, 1, 1), ceiling(1, 100, 1), p50, "ms p50", p99Ratio},
		{"3 nodes, 16 connections, 1 KiB", "", chronik(16, 1024, 1, 1), ceiling(16, 1024, 1), rate, "req/s", p99Ratio},
		{"3 nodes, 128 connections, 1 KiB", ">= 0.6, p99 <= 2 times", chronik(128, 1024, 1, 1), ceiling(128, 1024, 1), rate, "req/s", p99Ratio},
		{"3 nodes, bulk, 870 x 1 KiB, 5 in flight", ">= 0.5", chronik(1, 1024, 870, 5), ceiling(1, 1<<20, 5), megabytes, "MB/s", p99Ratio},
		{"3 nodes, bulk, 8,700 x 100 B, 5 in flight", ">= 0.5", chronik(1, 100, 8700, 5), ceiling(1, 1<<20, 5), megabytes, "MB/s", p99Ratio},
	}
	commits := s.raw(o, "", 128, 0, 1, 1)
	commits.Bootstrap, commits.Replicas = addrs, 3
	rows = append(rows, row{"3 nodes, offset commits, 128 connections and groups", ">= 20,000", func(ctx context.Context) (*Report, error) {
		return Commit(ctx, commits)
	}, unity, records, "commits/s", nil})
	interval := s.raw(o, "", 128, 1024, 1, 1)
	interval.Bootstrap, interval.Replicas = addrs, 3
	interval.TopicConfig = map[string]string{"sync": "interval"}
	rows = append(rows, row{"3 nodes, sync=commit over sync=interval, 128 connections", ">= 0.5", chronik(128, 1024, 1, 1), produceRow(interval), rate, "req/s", p99Ratio})
	return append(rows, clusterPeerRows(o, chronik, s)...)
}

// clusterPeerRows compare with another cluster of three, whose topics get three replicas.
func clusterPeerRows(o *SuiteOptions, chronik func(connections, bytes, batch, inFlight int) func(context.Context) (*Report, error), s *subject) []row {
	if o.Peer == "" {
		return nil
	}
	peer := func(connections, bytes, batch, inFlight int) func(context.Context) (*Report, error) {
		load := s.raw(o, "", connections, bytes, batch, inFlight)
		load.Bootstrap, load.Replicas = strings.Split(o.Peer, ","), 3
		return produceRow(load)
	}
	named := func(name string) string { return "3 nodes, " + name + " / " + o.PeerName }
	return []row{
		{named("1 connection, 100 B"), "", chronik(1, 100, 1, 1), peer(1, 100, 1, 1), rate, "req/s", p99Ratio},
		{named("16 connections, 1 KiB"), "ahead", chronik(16, 1024, 1, 1), peer(16, 1024, 1, 1), rate, "req/s", p99Ratio},
		{named("128 connections, 1 KiB"), "ahead", chronik(128, 1024, 1, 1), peer(128, 1024, 1, 1), rate, "req/s", p99Ratio},
		{named("bulk 1 KiB"), "ahead", chronik(1, 1024, 870, 5), peer(1, 1024, 870, 5), megabytes, "MB/s", nil},
	}
}

// memory is each node's resident set once it is left alone for two seconds.
func (t *trio) memory(ctx context.Context) []float64 {
	_ = sleep(ctx, 2*time.Second) // a run that ends does so at its next step
	var mb []float64
	for _, p := range t.running {
		mb = append(mb, residentMB(p.Pid()))
	}
	return mb
}

// absolutes measures what users of a cluster feel.
func (t *trio) absolutes(ctx context.Context, o *SuiteOptions, idle []float64) error {
	loaded := t.memory(ctx)
	addrs := t.bootstrap()
	topics, err := Metadata(ctx, Options{Bootstrap: addrs, Warmup: 500 * time.Millisecond, Duration: 3 * time.Second, BatchSize: 1})
	if err != nil {
		return err
	}
	batched, err := createTopics(ctx, &Options{Bootstrap: addrs, Duration: 30 * time.Second, BatchSize: 50, Records: 1000, Connections: 1, Partitions: 1, Replicas: -1})
	if err != nil {
		return err
	}
	members, err := Members(ctx, MembersOptions{Bootstrap: addrs})
	if err != nil {
		return err
	}
	starts, err := ColdStarts(ctx, o.Binary, o.Dir, 5)
	if err != nil {
		return err
	}
	rows := [][3]string{
		{"3 nodes, cold start to the first acked produce", fmt.Sprintf("%s (%s-%s)", short(median(starts)), short(slices.Min(starts)), short(slices.Max(starts))), "<= 1.1 s"},
		{"memory of a node, idle", fmt.Sprintf("%.0f MB RSS", slices.Max(idle)), "<= 40 MB"},
		{"memory of a node, after all rows above", fmt.Sprintf("%.0f MB RSS", slices.Max(loaded)), "<= 300 MB"},
		{"create a topic, one at a time, fsynced on a quorum", fmt.Sprintf("p50 %s, p99 %s", short(topics[0].P50), short(topics[0].P99)), "p50 <= 5 ms"},
		{"a new topic seen by all nodes", fmt.Sprintf("p50 %s, max %s", short(topics[2].P50), short(topics[2].Max)), "<= 100 ms"},
		{"first acked record of an auto-created topic", fmt.Sprintf("p50 %s, p99 %s", short(topics[1].P50), short(topics[1].P99)), "p99 <= 50 ms"},
		{"1,000 topics in requests of 50", short(batched.Elapsed), "<= 1 s"},
	}
	rows = append(rows, [3]string{"1,000 members of a classic group all stable after the last one joined (all at once / one more)",
		short(members.Storm) + " / " + short(members.Late), "<= 10 s"})
	for _, f := range []struct {
		what, target string
		o            FailoverOptions
	}{
		{"kill -9 to the next acked produce (raw driver)", "worst of 30 <= 1 s", FailoverOptions{Count: 30}},
		{"the same (franz-go)", "worst of 30 <= 1 s", FailoverOptions{Count: 30, Driver: DriverClient}},
		{"kill -9 to the next committed offset of any of 6 groups (raw driver)", "<= 2 s", FailoverOptions{Count: 30, Commits: true}},
		{"the same (franz-go)", "<= 2 s", FailoverOptions{Count: 30, Commits: true, Driver: DriverClient}},
		{"SIGSTOP to the next acked produce", "<= 5 s", FailoverOptions{Count: 6, Pause: 8 * time.Second}},
		{"clean stop: the slowest produce", "<= 250 ms", FailoverOptions{Count: 6, Stop: true}},
	} {
		f.o.Binary, f.o.Dir, f.o.Progress = o.Binary, o.Dir, o.Progress
		r, err := Failover(ctx, f.o)
		if err != nil {
			return err
		}
		rows = append(rows, [3]string{f.what, fmt.Sprintf("median %s, worst %s of %d; %s", short(r.Median), short(r.Worst), len(r.Interruptions), r.Verified), f.target})
	}
	return printAbsolutes(o.Out, rows)
}

// ColdStarts starts three nodes on empty directories and measures, each time, until a record is acknowledged by acks=all
// of a topic that must be made for it.
func ColdStarts(ctx context.Context, binary, dir string, count int) ([]time.Duration, error) {
	var all []time.Duration
	for range count {
		took, err := coldTrio(ctx, binary, dir)
		if err != nil {
			return all, err
		}
		all = append(all, took)
	}
	return all, nil
}

func coldTrio(ctx context.Context, binary, dir string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, failoverPatience)
	defer cancel()
	t := &trio{binary: binary}
	if err := t.lay(dir); err != nil {
		return 0, err
	}
	defer t.close()
	began := time.Now()
	for i := range t.laid {
		if err := t.start(i); err != nil {
			return 0, err
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(t.bootstrap()...), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.DialTimeout(time.Second), kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	for {
		err := client.ProduceSync(ctx, &kgo.Record{Topic: "cold", Value: []byte("first")}).FirstErr()
		if err == nil {
			return time.Since(began), nil
		}
		if ctx.Err() != nil {
			return 0, errors.Join(fmt.Errorf("bench: three nodes take no record within %v", failoverPatience), err)
		}
	}
}
