package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

type produceFlags struct {
	key, keySeparator string
	headers           []string
	partition         int32
	acks              string
	compression       string
	format            string
	whole             bool
	maxRecord         int
}

func newProduce() *cobra.Command {
	p := &produceFlags{}
	cmd := &cobra.Command{
		Use:   "produce TOPIC [FILE...]",
		Short: "Produce lines of standard input or of files, or whole files, as records",
		Long: `Produce reads standard input, or the files named, and makes each line a record. With --whole each file is one record.
With --format json each line is {"key": …, "value": …, "headers": [{"name": …, "value": …}], "partition": …, "timestamp": ms}.
It ends once every record is acknowledged, and fails if one is not.`,
		Example: `  echo hello | chronik produce greetings
  chronik produce orders --key-separator : orders.txt
  chronik produce images --whole --key cat --header type=image/png cat.png
  chronik consume orders --from start --format json | chronik produce copy --format json`,
		Args: cobra.MinimumNArgs(1),
	}
	c := addClientFlags(cmd)
	cmd.ValidArgsFunction = c.completeTopicThenFiles()
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runProduce(cmd, c, p, args[0], args[1:]) }
	f := cmd.Flags()
	f.StringVarP(&p.key, "key", "k", "", "key of every record")
	f.StringVarP(&p.keySeparator, "key-separator", "K", "", "each line is KEY, this separator, VALUE")
	f.StringArrayVarP(&p.headers, "header", "H", nil, "`NAME=VALUE` on every record; may be repeated")
	f.Int32VarP(&p.partition, "partition", "p", -1, "partition; -1 lets the key decide")
	f.StringVar(&p.acks, "acks", "all", "0, 1 or all")
	f.StringVarP(&p.compression, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	f.StringVar(&p.format, "format", "line", "line or json")
	f.BoolVar(&p.whole, "whole", false, "each file is one record")
	f.IntVar(&p.maxRecord, "max-line-bytes", 16<<20, "longest line")
	return cmd
}

func (p *produceFlags) options(topic string) ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(int32(max(p.maxRecord, 1<<20))), kgo.BrokerMaxWriteBytes(int32(max(2*p.maxRecord, 100<<20)))}
	compression := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, ok := compression[p.compression]
	if !ok {
		return nil, usage(fmt.Errorf("--compression %q: want none, gzip, snappy, lz4 or zstd", p.compression))
	}
	opts = append(opts, kgo.ProducerBatchCompression(codec))
	switch p.acks {
	case "all", "-1":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, usage(fmt.Errorf("--acks %q: want 0, 1 or all", p.acks))
	}
	if p.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if p.format != "line" && p.format != "json" {
		return nil, usage(fmt.Errorf("--format %q: want line or json", p.format))
	}
	return opts, nil
}

// delivery counts what became of the records.
type delivery struct {
	sync.Mutex
	acked, failed int64
	first         error
}

func (d *delivery) done(_ *kgo.Record, err error) {
	d.Lock()
	defer d.Unlock()
	if err == nil {
		d.acked++
		return
	}
	if d.failed++; d.first == nil {
		d.first = err
	}
}

func runProduce(cmd *cobra.Command, c *clientFlags, p *produceFlags, topic string, files []string) error {
	opts, err := p.options(topic)
	if err != nil {
		return err
	}
	client, err := c.open(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := cmd.Context()
	if err := c.ping(ctx, client); err != nil {
		return err
	}
	d := &delivery{}
	stop := p.progress(cmd, d)
	err = p.readAll(ctx, cmd, client, d, files)
	err = errors.Join(err, client.Flush(ctx))
	stop()
	d.Lock()
	defer d.Unlock()
	if d.first != nil {
		err = errors.Join(err, fmt.Errorf("%d of %d records were not acknowledged; the first: %w", d.failed, d.failed+d.acked, c.explain(d.first)))
	}
	if err == nil && isTerminal(cmd.ErrOrStderr()) {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%d records to %s\n", d.acked, topic)
	}
	return err
}

// progress tells a person how far it is, once it takes over a second.
func (p *produceFlags) progress(cmd *cobra.Command, d *delivery) (stop func()) {
	if !isTerminal(cmd.ErrOrStderr()) {
		return func() {}
	}
	ended, finished := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				d.Lock()
				n := d.acked
				d.Unlock()
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "\r%d records\x1b[K\r", n) // only for the eye
			}
		}
	}()
	return func() { close(ended); <-finished }
}

func (p *produceFlags) readAll(ctx context.Context, cmd *cobra.Command, client *kgo.Client, d *delivery, files []string) error {
	headers, err := keyValues("header", p.headers)
	if err != nil {
		return err
	}
	send := func(r *kgo.Record) {
		if p.key != "" {
			r.Key = []byte(p.key)
		}
		for k, v := range headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(*v)})
		}
		if p.partition >= 0 {
			r.Partition = p.partition
		}
		client.Produce(ctx, r, d.done)
	}
	if len(files) == 0 {
		return p.read(ctx, cmd.InOrStdin(), "standard input", send)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = p.read(ctx, f, name, send)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// read makes records of one input.
func (p *produceFlags) read(ctx context.Context, in io.Reader, name string, send func(*kgo.Record)) error {
	if p.whole {
		all, err := io.ReadAll(in)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		send(&kgo.Record{Value: all})
		return nil
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), max(p.maxRecord, 64<<10))
	for n := 1; lines.Scan() && ctx.Err() == nil; n++ {
		r := &kgo.Record{}
		switch {
		case p.format == "json":
			var line jsonRecord
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				return fmt.Errorf("%s, line %d: %w", name, n, err)
			}
			r = line.record()
		case p.keySeparator != "":
			key, value, ok := strings.Cut(lines.Text(), p.keySeparator)
			if !ok {
				return fmt.Errorf("%s, line %d: no %q between key and value", name, n, p.keySeparator)
			}
			r.Key, r.Value = []byte(key), []byte(value)
		default:
			r.Value = []byte(lines.Text())
		}
		send(r)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w (--max-line-bytes is %d)", name, err, p.maxRecord)
	}
	return ctx.Err()
}
