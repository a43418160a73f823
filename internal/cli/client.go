package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/bench"
)

// clientFlags are those of every command that talks to a broker.
type clientFlags struct {
	bootstrap []string
	tls       bool
	ca        string
	timeout   time.Duration
	json      bool
	flags     *pflag.FlagSet
	answered  bool // some broker has answered
}

// defaultBootstrap is what they ask first, and where a node listens that was told nothing.
const defaultBootstrap = "127.0.0.1:9092"

// nearBootstrap is asked in turn where nobody says whom to ask: the first nodes of `chronik dev`, one of which may be down.
var nearBootstrap = []string{defaultBootstrap, "127.0.0.1:9093", "127.0.0.1:9094"}

// timeoutMin is the least that --timeout may be.
const timeoutMin = time.Second

// envBootstrap is where the commands look for a broker without --bootstrap.
const envBootstrap = "CHRONIK_BOOTSTRAP"

func addClientFlags(cmd *cobra.Command) *clientFlags {
	c := &clientFlags{}
	bootstrap := defaultBootstrap
	if env := os.Getenv(envBootstrap); env != "" {
		bootstrap = env
	}
	f := cmd.PersistentFlags()
	c.flags = f
	f.StringSliceVarP(&c.bootstrap, "bootstrap", "b", strings.Split(bootstrap, ","), "brokers to ask first, HOST:PORT (or $"+envBootstrap+"); without, also ports 9093 and 9094")
	f.BoolVar(&c.tls, "tls", false, "speak TLS")
	f.StringVar(&c.ca, "tls-ca", "", "PEM `FILE` with the authority that signed the brokers' certificates; means --tls")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long to wait for the brokers")
	return c
}

// addJSON gives a command --json, for scripts.
func (c *clientFlags) addJSON(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON, for scripts")
}

// seeds are the brokers to ask first. Where none was named and nobody listens at the usual address, the next nodes of `chronik
// dev` are tried.
func (c *clientFlags) seeds() []string {
	if c.flags.Changed("bootstrap") || os.Getenv(envBootstrap) != "" {
		return c.bootstrap
	}
	for i, addr := range nearBootstrap {
		if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = conn.Close()
			return nearBootstrap[i:]
		}
	}
	return c.bootstrap
}

// open connects. The client retries for as long as --timeout.
func (c *clientFlags) open(opts ...kgo.Opt) (*kgo.Client, error) {
	if c.timeout < timeoutMin {
		return nil, usage(fmt.Errorf("--timeout %v: want at least %v", c.timeout, timeoutMin))
	}
	if len(c.bootstrap) == 0 {
		return nil, usage(errors.New("--bootstrap is empty: want HOST:PORT of at least one broker"))
	}
	all := append(bench.QuickFailover(), kgo.RequestTimeoutOverhead(min(c.timeout, 10*time.Second)), kgo.SeedBrokers(c.seeds()...), kgo.ClientID("chronik-cli"), kgo.RetryTimeout(c.timeout), kgo.RecordDeliveryTimeout(c.timeout))
	if c.tls || c.ca != "" {
		conf, err := c.tlsConfig()
		if err != nil {
			return nil, usage(err)
		}
		all = append(all, kgo.DialTLSConfig(conf))
	}
	client, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, usage(err)
	}
	return client, nil
}

func (c *clientFlags) tlsConfig() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, fmt.Errorf("--tls-ca: %w", err)
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-ca: %s holds no certificate in PEM", c.ca)
	}
	return conf, nil
}

// ping fails early, and with a sentence that helps, where no broker answers.
func (c *clientFlags) ping(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, min(c.timeout, 5*time.Second))
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		return c.explain(err)
	}
	c.answered = true
	return nil
}

// explain says what to do about an error that a person can do something about.
func (c *clientFlags) explain(err error) error {
	var op *net.OpError
	switch {
	case err == nil:
		return nil
	case c.answered && (errors.As(err, &op) && op.Op == "dial" || errors.Is(err, context.DeadlineExceeded)):
		return fmt.Errorf("not done within --timeout %v: %w\nA broker answers, but others that this needs may not: `chronik cluster status` shows which do, and whether there is a controller",
			c.timeout, err)
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no broker answers at %s: %w\nIs a node running? `chronik start` starts one; --bootstrap names another", strings.Join(c.bootstrap, ", "), err)
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("%w `chronik topic list` shows what is there", err)
	}
	return err
}

// asking runs f with a client within --timeout.
func (c *clientFlags) asking(cmd *cobra.Command, f func(context.Context, *kgo.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
	defer cancel()
	client, err := c.open()
	if err != nil {
		return err
	}
	defer client.Close()
	if err := c.ping(ctx, client); err != nil {
		return err
	}
	return c.explain(f(ctx, client))
}

// admin runs f with an admin client within --timeout.
func (c *clientFlags) admin(cmd *cobra.Command, f func(context.Context, *kadm.Client) error) error {
	return c.asking(cmd, func(ctx context.Context, client *kgo.Client) error { return f(ctx, kadm.NewClient(client)) })
}

// listed asks for offsets again while a partition says that it cannot tell them yet: it has no leader at the moment, or a new
// one that does not know yet what is committed. What it says when ctx ends is the answer.
func listed(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error), topics ...string) (kadm.ListedOffsets, error) {
	for {
		offsets, err := list(ctx, topics...)
		if err != nil {
			return offsets, err
		}
		var yet error
		offsets.Each(func(o kadm.ListedOffset) {
			if kerr.IsRetriable(o.Err) && !errors.Is(o.Err, kerr.UnknownTopicOrPartition) {
				yet = fmt.Errorf("offsets of %s/%d: %w", o.Topic, o.Partition, o.Err)
			}
		})
		if yet == nil {
			return offsets, nil
		}
		select {
		case <-ctx.Done():
			return offsets, yet
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// printJSON writes one indented value.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printTable writes rows under a header, aligned.
func printTable(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		if _, err := fmt.Fprintln(t, strings.TrimRight(strings.Join(row, "\t"), "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// keyValues reads KEY=VALUE arguments of a flag.
func keyValues(flag string, args []string) (map[string]*string, error) {
	values := map[string]*string{}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if !ok || k == "" {
			return nil, usage(fmt.Errorf("--%s %q: want KEY=VALUE", flag, arg))
		}
		values[k] = &v
	}
	return values, nil
}

// isTerminal tells whether a person may be looking.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
