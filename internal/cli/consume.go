package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeFlags struct {
	from      string
	partition []int32
	count     int64
	follow    bool
	group     string
	format    string
	isolation string
}

func newConsume() *cobra.Command {
	p := &consumeFlags{}
	cmd := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Print the records of topics",
		Long: `Consume prints records from where --from says. With --from end (the default without a group) it follows the topic;
otherwise it stops at what was the end when it began, unless --follow is given. In a group it goes on where the group
stopped, commits what it printed, and follows.

Formats: value (one a line), key-value, json (one object a line), or a pattern with %t topic, %p partition, %o offset,
%T timestamp in ms, %k key, %s value, %h headers, %S size of the value, \n, \t and %%.`,
		Example: `  chronik consume greetings --from start
  chronik consume orders --from -10                      the last ten of each partition
  chronik consume orders --from @2026-11-22T08:00:00Z    since then
  chronik consume orders --from 42 --partition 3 -n 1
  chronik consume orders --group billing --format '%t/%p@%o %k: %s\n'`,
		Args: cobra.MinimumNArgs(1),
	}
	c := addClientFlags(cmd)
	cmd.ValidArgsFunction = c.completeTopics()
	cmd.RunE = func(cmd *cobra.Command, topics []string) error { return runConsume(cmd, c, p, topics) }
	f := cmd.Flags()
	f.StringVar(&p.from, "from", "", "start, end, an offset, -N (the last N), or @TIME (RFC 3339, or ms since 1970)")
	f.Int32SliceVarP(&p.partition, "partition", "p", nil, "only these partitions")
	f.Int64VarP(&p.count, "count", "n", 0, "stop after so many records")
	f.BoolVarP(&p.follow, "follow", "f", false, "wait for more at the end")
	f.StringVarP(&p.group, "group", "g", "", "consume as a member of this group, and commit")
	f.StringVar(&p.format, "format", "value", "value, key-value, json or a pattern")
	f.StringVar(&p.isolation, "isolation", "committed", "committed or uncommitted: whether records of open transactions are printed")
	return cmd
}

// offsetOf reads --from.
func offsetOf(from string) (kgo.Offset, error) {
	o := kgo.NewOffset()
	switch from {
	case "", "end":
		return o.AtEnd(), nil
	case "start":
		return o.AtStart(), nil
	}
	if at, ok := strings.CutPrefix(from, "@"); ok {
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			t, err := time.Parse(time.RFC3339, at)
			if err != nil {
				return o, usage(fmt.Errorf("--from %s: want @ and a time such as 2026-11-22T08:00:00Z, or ms since 1970", from))
			}
			ms = t.UnixMilli()
		}
		return o.AfterMilli(ms), nil
	}
	n, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return o, usage(fmt.Errorf("--from %s: want start, end, an offset, -N or @TIME", from))
	}
	if n < 0 {
		return o.AtEnd().Relative(n), nil
	}
	return o.At(n), nil
}

func (p *consumeFlags) options(topics []string, parts map[string]map[int32]kgo.Offset) ([]kgo.Opt, error) {
	from, err := offsetOf(p.from)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.ConsumeResetOffset(from)}
	switch p.isolation {
	case "committed":
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	case "uncommitted":
	default:
		return nil, usage(fmt.Errorf("--isolation %q: want committed or uncommitted", p.isolation))
	}
	if p.group == "" {
		return append(opts, kgo.ConsumePartitions(parts)), nil
	}
	if len(p.partition) > 0 {
		return nil, usage(fmt.Errorf("--partition and --group exclude each other: the group assigns partitions"))
	}
	return append(opts, kgo.ConsumeTopics(topics...), kgo.ConsumerGroup(p.group), kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll()), nil
}

func runConsume(cmd *cobra.Command, c *clientFlags, p *consumeFlags, topics []string) error {
	print, err := printer(p.format)
	if err != nil {
		return err
	}
	from, err := offsetOf(p.from)
	if err != nil {
		return err
	}
	// The first interrupt ends it cleanly: what was printed is committed, and the group knows at once that it left.
	ctx, stopSignals := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stopSignals()
	var parts map[string]map[int32]kgo.Offset
	var ends kadm.ListedOffsets
	err = c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
		if parts, err = assign(ctx, admin, topics, p.partition, from); err != nil {
			return err
		}
		ends, err = listed(ctx, admin.ListEndOffsets, topics...)
		return err
	})
	if err != nil {
		return err
	}
	opts, err := p.options(topics, parts)
	if err != nil {
		return err
	}
	client, err := c.open(opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	var stop map[string]map[int32]int64
	if !p.follow && p.group == "" && p.from != "" && p.from != "end" {
		stop = remaining(parts, ends)
	}
	err = p.loop(ctx, client, out, print, stop)
	stopSignals() // the second one ends it at once
	if p.group != "" {
		commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(c.timeout, 5*time.Second))
		err = errors.Join(err, client.CommitMarkedOffsets(commit))
		cancel()
		client.AllowRebalance()
	}
	return errors.Join(err, out.Flush())
}

// assign is where to start in each partition.
func assign(ctx context.Context, admin *kadm.Client, topics []string, only []int32, from kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	details, err := admin.ListTopicsWithInternal(ctx, topics...)
	if err != nil {
		return nil, err
	}
	parts := map[string]map[int32]kgo.Offset{}
	for _, t := range details.Sorted() {
		if t.Err != nil {
			return nil, topicError("consume", t.Topic, t.Err, "")
		}
		parts[t.Topic] = map[int32]kgo.Offset{}
		for _, p := range t.Partitions.Sorted() {
			parts[t.Topic][p.Partition] = from
		}
		if len(only) == 0 {
			continue
		}
		chosen := map[int32]kgo.Offset{}
		for _, p := range only {
			if _, ok := parts[t.Topic][p]; !ok {
				return nil, usage(fmt.Errorf("topic %s has no partition %d, but 0 to %d", t.Topic, p, len(parts[t.Topic])-1))
			}
			chosen[p] = from
		}
		parts[t.Topic] = chosen
	}
	return parts, nil
}

// remaining are the end offsets of the partitions that hold something.
func remaining(parts map[string]map[int32]kgo.Offset, ends kadm.ListedOffsets) map[string]map[int32]int64 {
	stop := map[string]map[int32]int64{}
	for topic, list := range parts {
		stop[topic] = map[int32]int64{}
		for p := range list {
			if end, ok := ends.Lookup(topic, p); ok && end.Offset > 0 {
				stop[topic][p] = end.Offset
			}
		}
	}
	return stop
}

// loop prints until the context ends, --count is reached, or every partition of stop has reached its end.
func (p *consumeFlags) loop(ctx context.Context, client *kgo.Client, out *bufio.Writer, print func(io.Writer, *kgo.Record) error, stop map[string]map[int32]int64) error {
	printed := int64(0)
	idle := 0
	for stop == nil || left(stop) > 0 {
		poll, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		fetches := client.PollFetches(poll)
		cancel()
		if ctx.Err() != nil {
			return nil // interrupted: that is how following ends
		}
		if err := fetchError(fetches); err != nil {
			return err
		}
		for _, r := range fetches.Records() {
			if end, ok := stop[r.Topic][r.Partition]; stop != nil && (!ok || r.Offset >= end) {
				continue
			} else if ok && r.Offset == end-1 {
				delete(stop[r.Topic], r.Partition)
			}
			if err := print(out, r); err != nil {
				return err
			}
			client.MarkCommitRecords(r)
			if printed++; printed == p.count {
				return nil
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if p.group != "" {
			client.AllowRebalance()
		}
		// The last offsets may belong to no record (control records, deleted ones): nothing more comes then.
		if idle++; fetches.NumRecords() > 0 {
			idle = 0
		}
		if stop != nil && idle >= 3 {
			return nil
		}
	}
	return nil
}

func left(stop map[string]map[int32]int64) (n int) {
	for _, parts := range stop {
		n += len(parts)
	}
	return n
}

func fetchError(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.DeadlineExceeded) {
			return fmt.Errorf("consume %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
	}
	return nil
}

// printer turns a --format into a function.
func printer(format string) (func(io.Writer, *kgo.Record) error, error) {
	switch format {
	case "json":
		return func(w io.Writer, r *kgo.Record) error { return json.NewEncoder(w).Encode(toJSON(r)) }, nil
	case "value":
		format = `%s\n`
	case "key-value":
		format = `%k\t%s\n`
	}
	if !strings.ContainsAny(format, `%\`) {
		return nil, usage(fmt.Errorf("--format %q: want value, key-value, json, or a pattern with %%s for the value", format))
	}
	return pattern(format)
}

// pattern compiles a kcat-like format.
func pattern(format string) (func(io.Writer, *kgo.Record) error, error) {
	var parts []func([]byte, *kgo.Record) []byte
	literal := func(s string) {
		parts = append(parts, func(b []byte, _ *kgo.Record) []byte { return append(b, s...) })
	}
	fields := map[byte]func([]byte, *kgo.Record) []byte{
		't': func(b []byte, r *kgo.Record) []byte { return append(b, r.Topic...) },
		'p': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, int64(r.Partition), 10) },
		'o': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, r.Offset, 10) },
		'T': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, r.Timestamp.UnixMilli(), 10) },
		'k': func(b []byte, r *kgo.Record) []byte { return append(b, r.Key...) },
		's': func(b []byte, r *kgo.Record) []byte { return append(b, r.Value...) },
		'S': func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, int64(len(r.Value)), 10) },
		'h': func(b []byte, r *kgo.Record) []byte {
			for i, h := range r.Headers {
				if i > 0 {
					b = append(b, ',')
				}
				b = append(append(append(b, h.Key...), '='), h.Value...)
			}
			return b
		},
		'%': func(b []byte, _ *kgo.Record) []byte { return append(b, '%') },
	}
	escapes := map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '0': "\x00", '\\': "\\"}
	for i := 0; i < len(format); i++ {
		switch c := format[i]; {
		case c == '%' && i+1 < len(format) && fields[format[i+1]] != nil:
			i++
			parts = append(parts, fields[format[i]])
		case c == '%':
			return nil, usage(fmt.Errorf("--format %q: %q is not among %%t %%p %%o %%T %%k %%s %%S %%h %%%%", format, format[i:min(i+2, len(format))]))
		case c == '\\' && i+1 < len(format) && escapes[format[i+1]] != "":
			i++
			literal(escapes[format[i]])
		default:
			literal(string(c))
		}
	}
	var buf []byte
	return func(w io.Writer, r *kgo.Record) error {
		buf = buf[:0]
		for _, part := range parts {
			buf = part(buf, r)
		}
		_, err := w.Write(buf)
		return err
	}, nil
}
