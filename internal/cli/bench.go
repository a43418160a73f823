package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/bench"
	"chronik/internal/record"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a Kafka-compatible broker, and what the machine allows",
		Long: `Bench loads any Kafka-compatible broker and prints rates and latencies. Driver "client" is franz-go, what a user sees;
driver "raw" sends prebuilt frames, so that the broker is the bottleneck. What was acknowledged is read back.
"ceiling" and "discard" are yardsticks: the least code that is a replicated log, and a broker that forgets.`,
		Example: `  chronik bench produce --driver raw --connections 128
  chronik bench produce --batch 870 --driver raw --in-flight 5 --connections 1
  chronik bench consume --driver raw --fetch-bytes 4194304
  chronik bench ceiling --connections 128 --sync`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, w := range []struct {
		use, short, example string
		defaults            bench.Options
		run                 func(context.Context, bench.Options) ([]*bench.Report, error)
	}{
		{"produce", "Records a second, and the latency of each request",
			"  chronik bench produce --driver raw --connections 128 --duration 10s\n  chronik bench produce --batch 1000 --in-flight 5 --compression lz4",
			bench.Options{Acks: -1}, one(bench.Produce)},
		{"consume", "Records a second, from a topic or from one that is filled first",
			"  chronik bench consume --driver raw --records 1000000\n  chronik bench consume --topic orders",
			bench.Options{Acks: -1}, one(bench.Consume)},
		{"latency", "From the call to produce to the arrival at a consumer",
			"  chronik bench latency --rate 200", bench.Options{Acks: -1}, one(bench.Latency)},
		{"commit", "Offset commits a second, and the latency of each",
			"  chronik bench commit --connections 128 --groups 128\n  chronik bench commit --connections 128 --batch 10", bench.Options{Acks: -1}, one(bench.Commit)},
		{"metadata", "Topics created a second, the first record of an auto-created topic, and until every broker sees a new one",
			"  chronik bench metadata\n  chronik bench metadata --batch 50 --records 1000 --warmup 0", bench.Options{Acks: -1}, bench.Metadata},
	} {
		cmd.AddCommand(newWorkload(w.use, w.short, w.example, w.defaults, w.run))
	}
	cmd.AddCommand(newBenchSuite(), newBenchCeiling(), newBenchDiscard(), newBenchFailover(), newBenchMembers(), newBenchColdStart(), newCeilingNode())
	return cmd
}

func one(run func(context.Context, bench.Options) (*bench.Report, error)) func(context.Context, bench.Options) ([]*bench.Report, error) {
	return func(ctx context.Context, o bench.Options) ([]*bench.Report, error) {
		r, err := run(ctx, o)
		if r == nil {
			return nil, err
		}
		return []*bench.Report{r}, err
	}
}

// outFlags are where reports go.
type outFlags struct {
	json     bool
	jsonFile string
	csvFile  string
}

func addOutFlags(cmd *cobra.Command) *outFlags {
	out := &outFlags{}
	cmd.Flags().BoolVar(&out.json, "json", false, "print JSON, a line a report")
	cmd.Flags().StringVar(&out.jsonFile, "json-file", "", "append the reports to `FILE` as JSON")
	cmd.Flags().StringVar(&out.csvFile, "csv-file", "", "append the reports to `FILE` as CSV")
	return out
}

func (out *outFlags) write(cmd *cobra.Command, reports []*bench.Report) error {
	for _, r := range reports {
		print := r.WriteTable
		if out.json {
			print = r.WriteJSON
		}
		err := errors.Join(print(cmd.OutOrStdout()), appendTo(out.jsonFile, r.WriteJSON), appendTo(out.csvFile, r.WriteCSV))
		if err != nil {
			return err
		}
	}
	return nil
}

func appendTo(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func newWorkload(use, short, example string, o bench.Options, run func(context.Context, bench.Options) ([]*bench.Report, error)) *cobra.Command {
	var acks, compression string
	var config []string
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.NoArgs}
	c := addClientFlags(cmd)
	out := addOutFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Bootstrap = c.bootstrap
		if err := parseWorkload(&o, acks, compression, config); err != nil {
			return err
		}
		if isTerminal(cmd.ErrOrStderr()) {
			o.Progress = cmd.ErrOrStderr()
		}
		reports, err := run(cmd.Context(), o)
		return errors.Join(c.explain(err), out.write(cmd, reports))
	}
	f := cmd.Flags()
	f.StringVar(&o.Topic, "topic", "", "topic, made if missing; without it one is made and deleted afterwards")
	f.Int32Var(&o.Partitions, "partitions", 1, "partitions of a topic that is made")
	f.Int16Var(&o.Replicas, "replicas", -1, "replicas of a topic that is made")
	f.StringArrayVar(&config, "topic-config", nil, "`KEY=VALUE` of a topic that is made; may be repeated")
	f.BoolVar(&o.KeepTopic, "keep", false, "do not delete the topic that was made")
	f.StringVar(&o.Driver, "driver", bench.DriverClient, "client (franz-go) or raw (prebuilt frames)")
	f.IntVar(&o.RecordBytes, "record-size", 1024, "bytes of a value")
	f.IntVar(&o.BatchSize, "batch", 1, "records in a batch (metadata: topics in a request; commit: partitions in a request)")
	f.DurationVar(&o.Linger, "linger", 0, "how long the client waits for a batch to fill")
	f.StringVar(&acks, "acks", "all", "0, 1 or all")
	f.IntVar(&o.Connections, "connections", 1, "sockets or clients")
	f.IntVar(&o.Groups, "groups", 0, "commit: groups, each with a coordinator (default as many as connections)")
	f.IntVar(&o.InFlight, "in-flight", 1, "requests in flight on each connection")
	f.StringVar(&compression, "compression", "none", "none, gzip, snappy, lz4 or zstd")
	f.IntVar(&o.Rate, "rate", 0, "records a second in all; 0 for as many as go (latency: 100)")
	f.Int32Var(&o.FetchBytes, "fetch-bytes", 1<<20, "bytes of a partition in one fetch")
	f.Int64Var(&o.Records, "records", 0, "consume: how many records; metadata: how many topics; 0 goes by --duration")
	f.DurationVar(&o.Warmup, "warmup", time.Second, "load before measuring")
	f.DurationVar(&o.Duration, "duration", 5*time.Second, "how long to measure")
	f.BoolVar(&o.Verify, "verify", true, "read back what was acknowledged")
	return cmd
}

func parseWorkload(o *bench.Options, acks, compression string, config []string) error {
	switch acks {
	case "all", "-1":
		o.Acks = -1
	case "0", "1":
		o.Acks = int16(acks[0] - '0')
	default:
		return usage(fmt.Errorf("--acks %q: want 0, 1 or all", acks))
	}
	codec, err := record.ParseCodec(compression)
	if err != nil {
		return usage(fmt.Errorf("--compression: %w", err))
	}
	o.Codec = codec
	values, err := keyValues("topic-config", config)
	if err != nil {
		return err
	}
	o.TopicConfig = map[string]string{}
	for k, v := range values {
		o.TopicConfig[k] = *v
	}
	if err := o.Check(); err != nil {
		return usage(err)
	}
	return nil
}

func newBenchCeiling() *cobra.Command {
	o := bench.CeilingOptions{}
	cmd := &cobra.Command{
		Use:   "ceiling",
		Short: "What the machine allows: the least code that is still a replicated log, or a sendfile server",
		Example: `  chronik bench ceiling --connections 128 --sync
  chronik bench ceiling --nodes 3 --size 1048576 --in-flight 5 --sync
  chronik bench ceiling --sendfile --size 1048576`,
		Args: cobra.NoArgs,
	}
	out := addOutFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o.Binary = self
		if o.Replicas != 1 && o.Replicas != 3 {
			return usage(fmt.Errorf("--replicas %d: want 1 or 3", o.Replicas))
		}
		if isTerminal(cmd.ErrOrStderr()) {
			o.Progress = cmd.ErrOrStderr()
		}
		r, err := bench.Ceiling(cmd.Context(), o)
		if err != nil {
			return err
		}
		return out.write(cmd, []*bench.Report{r})
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", ".", "folder for the log files, which are removed")
	f.IntVar(&o.Replicas, "nodes", 1, "1 or 3: each logs everything, the answer waits for all")
	f.IntVar(&o.Replicas, "replicas", 1, "the same as --nodes")
	f.BoolVar(&o.Sync, "sync", false, "fdatasync before every answer")
	f.BoolVar(&o.Sendfile, "sendfile", false, "serve a warm file instead of keeping a log")
	f.IntVar(&o.Connections, "connections", 1, "sockets")
	f.IntVar(&o.Bytes, "size", 1024, "bytes of a payload")
	f.IntVar(&o.InFlight, "in-flight", 1, "payloads in flight on each connection")
	f.DurationVar(&o.Warmup, "warmup", time.Second, "load before measuring")
	f.DurationVar(&o.Duration, "duration", 3*time.Second, "how long to measure")
	return cmd
}

// newCeilingNode is what `bench ceiling` starts for each node.
func newCeilingNode() *cobra.Command {
	var role, path, followers string
	var sync bool
	cmd := &cobra.Command{
		Use: "ceiling-node", Short: "A node of the ceiling", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.CeilingNode(role, path, sync, followers, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "leader", "leader, follower or file")
	f.StringVar(&path, "path", "", "log file")
	f.BoolVar(&sync, "sync", false, "fdatasync")
	f.StringVar(&followers, "followers", "", "addresses, separated by commas")
	return cmd
}

func newBenchDiscard() *cobra.Command {
	d := &bench.Discard{}
	var listen string
	cmd := &cobra.Command{
		Use:     "discard",
		Short:   "A broker that acknowledges every record and forgets it: what a producing client can do at most",
		Example: "  chronik bench discard --kafka 127.0.0.1:9192 &\n  chronik bench produce -b 127.0.0.1:9192 --topic any --verify=false --batch 1000 --in-flight 5",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := d.Listen(listen)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "discards what comes to %s\n", strings.TrimSpace(addr.String())); err != nil {
				return err
			}
			return d.Serve(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "kafka", "127.0.0.1:9192", "address to listen on")
	f.Int32Var(&d.Partitions, "partitions", 1, "partitions of every topic")
	return cmd
}

func newBenchSuite() *cobra.Command {
	o := bench.SuiteOptions{}
	cmd := &cobra.Command{
		Use:   "suite",
		Short: "Measure a fresh node, or a cluster of three, against the ceiling, row by row, A B A B",
		Long: `Suite starts a node on free ports, or three with --nodes 3, and measures the rows of docs/benchmarks.md, each beside its yardstick in the same
minutes. Nothing else should run on the machine. It takes several minutes.`,
		Example: "  chronik bench suite\n  chronik bench suite --nodes 3\n  chronik bench suite --rounds 1 --only fetch\n  chronik bench suite --peer 127.0.0.1:19092 --peer-name 'Apache Kafka'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if o.Nodes != 1 && o.Nodes != 3 {
				return usage(fmt.Errorf("--nodes %d: want 1 or 3", o.Nodes))
			}
			o.Binary, o.Out = self, cmd.OutOrStdout()
			if isTerminal(cmd.ErrOrStderr()) {
				o.Progress = cmd.ErrOrStderr()
			}
			return bench.Suite(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 1, "1, or 3 for a cluster with acks=all")
	f.StringVar(&o.Dir, "dir", ".", "folder for data, which is removed")
	f.StringVar(&o.Peer, "peer", "", "address of another broker (of three, with --nodes 3): also measure against it")
	f.StringVar(&o.PeerName, "peer-name", "peer", "what to call it")
	f.IntVar(&o.Rounds, "rounds", 5, "rounds of each row")
	f.DurationVar(&o.Duration, "duration", 3*time.Second, "how long to measure each time")
	f.StringVar(&o.Only, "only", "", "only rows whose name contains this; absolutes for what has no yardstick: starts, memory, topics, failover")
	return cmd
}
