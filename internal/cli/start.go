package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/broker"
	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/vfs"
)

// signalEcho is how long after the first signal another one counts as the same.
const signalEcho = 10 * time.Millisecond

func newStart() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a node",
		Long: `Run a node until it gets SIGTERM or SIGINT; a second signal ends it at once.

The first line on standard output says that it serves, and where. Every configuration key can be given with --set,
as an environment variable (num.partitions is CHRONIK_NUM_PARTITIONS) or in a TOML file; a flag wins over --set, that
over the environment, that over the file. 'chronik help configuration' lists the keys.`,
		Example: `  chronik start
  chronik start --data /var/lib/chronik --kafka 0.0.0.0:9092
  chronik start --kafka 127.0.0.1:9092 --kafka tls://0.0.0.0:9093 --tls-cert cert.pem --tls-key key.pem
  chronik start --set num.partitions=6 --set auto.create.topics.enable=false
  CHRONIK_LOG_RETENTION_HOURS=48 chronik start --config /etc/chronik.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			return runNode(cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	addConfigFlags(cmd)
	return cmd
}

// runNode runs a node until it is told to stop, or has to.
func runNode(cfg *config.Config, stdout, stderr io.Writer) error {
	tuneRuntime()
	logger := newLogger(cfg, stderr)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	// A log or a terminal that is gone must not take the node with it: writes to it fail, and nothing else.
	gone := make(chan os.Signal, 1)
	signal.Notify(gone, syscall.SIGPIPE)
	defer signal.Stop(gone)
	fatal := make(chan error, 1)
	node := broker.New(cfg, broker.Deps{
		FS: vfs.OS{}, Clock: clock.System{}, Logger: logger, Version: Version,
		Fatal: func(err error) { fatal <- err },
	})

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- node.Start(ctx) }()
	var stop os.Signal
	for serving := false; stop == nil; {
		select {
		case err := <-started:
			if err != nil {
				return err
			}
			serving = true
			announce(stdout, cfg, node)
		case err := <-fatal:
			return &exitError{exitFatal, fmt.Errorf("stopped, because nothing can be made durable any more: %w", err)}
		case stop = <-signals:
			if !serving {
				cancel()
				return &exitError{exitCut, fmt.Errorf("%v while starting", stop)}
			}
		}
	}
	dropEcho(signals)
	return stopNode(cfg, node, logger, signals, fatal)
}

func announce(stdout io.Writer, cfg *config.Config, node *broker.Broker) {
	addrs, http := node.Serves()
	if http == "" {
		http = "off"
	}
	_, _ = fmt.Fprintf(stdout, "chronik %s serves Kafka on %s (HTTP %s, data %s)\n", Version, strings.Join(addrs, ", "), http, cfg.DataDir)
	if addr := localAddr(addrs); addr != "" {
		at := ""
		if addr != defaultBootstrap {
			at = " -b " + addr
		}
		_, _ = fmt.Fprintf(stdout, "Try: echo hello | chronik produce greetings%s; chronik consume greetings --from start%s; or kcat -b %s -L. Stop it with Ctrl-C.\n",
			at, at, addr)
	}
}

// localAddr is an address without TLS by which this machine reaches the node, empty if there is none.
func localAddr(addrs []string) string {
	for _, addr := range addrs {
		if host, port, err := config.SplitHostPort(addr); err == nil {
			if host == "::" || host == "0.0.0.0" {
				return fmt.Sprintf("127.0.0.1:%d", port)
			}
			return addr
		}
	}
	return ""
}

// dropEcho passes over what comes with a first signal: timeout(1) and some supervisors send it to the process and to its
// group, which is not somebody's second wish.
func dropEcho(signals <-chan os.Signal) {
	echo := clock.System{}.NewTimer(signalEcho)
	defer echo.Stop()
	for {
		select {
		case <-signals:
		case <-echo.C():
			return
		}
	}
}

// stopNode closes the node within the configured time; a second signal or a fatal error ends it at once.
func stopNode(cfg *config.Config, node *broker.Broker, logger *slog.Logger, signals <-chan os.Signal, fatal <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cfg.ShutdownLimit)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- node.Close(ctx) }()
	late := clock.System{}.NewTimer(cfg.ShutdownLimit + cfg.ShutdownLimit/2) // for what does not look at ctx
	defer late.Stop()
	select {
	case err := <-closed:
		if errors.Is(err, context.DeadlineExceeded) {
			logger.Warn("requests were cut off at shutdown", "error", err)
			return &exitError{exitCut, fmt.Errorf("stopped after shutdown.max.ms with requests unanswered; nothing acknowledged is lost")}
		}
		if err != nil {
			return fmt.Errorf("stop: %w", err)
		}
		return nil
	case <-signals:
		return &exitError{exitCut, errors.New("ended at once by a second signal; nothing acknowledged is lost")}
	case err := <-fatal:
		return &exitError{exitFatal, fmt.Errorf("stopped, because nothing can be made durable any more: %w", err)}
	case <-late.C():
		return &exitError{exitCut, errors.New("ended after shutdown.max.ms; nothing acknowledged is lost")}
	}
}

func newLogger(cfg *config.Config, stderr io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelWarn
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, opts))
	}
	return slog.New(slog.NewTextHandler(stderr, opts))
}
