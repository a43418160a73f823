package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"chronik/internal/nodes"
)

// devFlags are those of `chronik dev`.
type devFlags struct {
	plan      nodes.Plan
	ephemeral bool
	noRestart bool
}

func newDev() *cobra.Command {
	d := &devFlags{}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine",
		Long: `Dev runs the nodes of a cluster as processes of their own on this machine: Kafka on 9092, 9093, 9094, the nodes' own port
on 9291, 9292, 9293, HTTP on 6092, 6093, 6094. Their data stays in DIR/node-1 and so on, each with its node.toml and,
while it runs, chronik.pid: kill one, and watch; a node that dies is started again. To run one by hand:

  chronik start --config DIR/node-1/node.toml

Ctrl-C or SIGTERM stops all of them cleanly; a second one ends them at once.`,
		Example: `  chronik dev
  chronik dev --nodes 5 --data /tmp/five --set num.partitions=6
  chronik dev --ephemeral --no-restart
  kill -9 $(cat chronik-dev/node-2/chronik.pid)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd, d) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&d.plan.Nodes, "nodes", 3, "how many nodes")
	f.StringVar(&d.plan.Dir, "data", "./chronik-dev", "`DIR` for the nodes' data; made if it is not there")
	f.BoolVar(&d.ephemeral, "ephemeral", false, "keep the data in a temporary directory and remove it at the end")
	f.StringArrayVar(&d.plan.Set, "set", nil, "`KEY=VALUE` of every node's configuration; may be repeated")
	f.BoolVar(&d.noRestart, "no-restart", false, "leave a node that dies down")
	f.IntVar(&d.plan.KafkaPort, "kafka-port", 9092, "Kafka port of node 1, the others follow; 0 picks free ports")
	f.IntVar(&d.plan.ClusterPort, "cluster-port", 9291, "cluster port of node 1, likewise")
	f.IntVar(&d.plan.HTTPPort, "http-port", 6092, "HTTP port of node 1, likewise")
	cmd.MarkFlagsMutuallyExclusive("data", "ephemeral")
	return cmd
}

func runDev(cmd *cobra.Command, d *devFlags) error {
	if d.ephemeral {
		dir, err := os.MkdirTemp("", "chronik-dev-")
		if err != nil {
			return err
		}
		d.plan.Dir = dir
		defer func() { _ = os.RemoveAll(dir) }() // what is left is in the system's directory for that
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	laid, err := nodes.Lay(d.plan)
	if err != nil {
		return usage(err)
	}
	if err := nodes.CheckPorts(laid); err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	kill := make(chan struct{})
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		dropEcho(signals)
		stop()
		<-signals
		close(kill)
	}()
	return d.supervise(ctx, cmd, self, laid, kill)
}

func (d *devFlags) supervise(ctx context.Context, cmd *cobra.Command, self string, laid []nodes.Node, kill <-chan struct{}) error {
	screen := newDevScreen(cmd.OutOrStdout(), laid, d.greeting(laid))
	sup := &nodes.Supervisor{Binary: self, Nodes: laid, NoRestart: d.noRestart, Changed: screen.changed, Line: screen.line}
	watching, done := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		screen.watch(watching)
	}()
	err := sup.Run(ctx, kill)
	done()
	<-ended
	switch {
	case errors.Is(err, nodes.ErrAllDown):
		return err
	case err != nil:
		return usage(err)
	}
	return howStopped(sup.Status())
}

// howStopped is the worst of the nodes' clean stops.
func howStopped(all []nodes.Status) error {
	worst := exitOK
	var told []string
	for _, st := range all {
		if st.State != nodes.Stopped || st.Why == "" || st.Code == exitOK {
			continue
		}
		told = append(told, fmt.Sprintf("node %d: %s", st.Node.ID, st.Why))
		if st.Code == exitFatal || worst == exitFatal {
			worst = exitFatal
		} else {
			worst = exitCut
		}
	}
	if worst == exitOK {
		return nil
	}
	return &exitError{worst, fmt.Errorf("not every node stopped cleanly; nothing acknowledged is lost: %s", strings.Join(told, "; "))}
}

// greeting says how to talk to the cluster.
func (d *devFlags) greeting(laid []nodes.Node) []string {
	self := filepath.Base(os.Args[0])
	if strings.ContainsRune(os.Args[0], filepath.Separator) {
		self = os.Args[0]
	}
	var addrs []string
	for _, n := range laid {
		addrs = append(addrs, n.Kafka)
	}
	at := ""
	if laid[0].Kafka != defaultBootstrap {
		at = " -b " + laid[0].Kafka
	}
	dir := d.plan.Dir
	if rel, err := filepath.Rel(".", dir); err == nil && !strings.HasPrefix(rel, "..") {
		dir = rel
	}
	return []string{
		fmt.Sprintf("All %d nodes serve. Kafka clients: %s", len(laid), strings.Join(addrs, ",")),
		"Try, in another terminal:",
		fmt.Sprintf("  echo hello | %s produce greetings%s", self, at),
		fmt.Sprintf("  %s consume greetings --from start%s", self, at),
		fmt.Sprintf("  kcat -b %s -L", laid[0].Kafka),
		fmt.Sprintf("  %s cluster status%s", self, at),
		fmt.Sprintf("  %s explain greetings/0%s", self, at),
		fmt.Sprintf("  kill -9 $(cat %s)", filepath.Join(dir, "node-1", "chronik.pid")),
		"Stop all of them with Ctrl-C.",
	}
}
