package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/bench"
)

func newBenchFailover() *cobra.Command {
	o := bench.FailoverOptions{}
	var asJSON bool
	var worst time.Duration
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "How long produces with acks=all do not work after a node is killed, and that nothing is lost",
		Long: `Failover starts three nodes in a temporary directory, or takes commands that kill and restart the nodes of another cluster.
While producers write to every partition of a topic with three replicas, it interrupts leaders, followers and controllers in
turn, by SIGKILL or, with --pause, by freezing them. What is measured is the time from the interruption to the first
acknowledgement of a record that was sent after it, of the partition where that took longest. In between it waits until
every replica is in sync. At the end it reads everything back: a record that was acknowledged and is not at its offset is
an error.

Driver "raw" asks all nodes for the leaders every 20 ms, so that it measures the cluster; driver "client" is franz-go, told
to look for new leaders every 100 ms (by itself it does so every 5 s).`,
		Example: `  chronik bench failover
  chronik bench failover --count 9 --pause 8s
  chronik bench failover --commits --at-most 2s
  chronik bench failover -b a:9092,b:9092,c:9092 --kill 'ssh node$NODE pkill -9 chronik' --restart 'ssh node$NODE systemctl start chronik'`,
		Args: cobra.NoArgs,
	}
	c := addClientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o.Binary, o.Bootstrap = self, c.bootstrap
		if o.Driver != bench.DriverRaw && o.Driver != bench.DriverClient {
			return usage(fmt.Errorf("--driver %q: want raw or client", o.Driver))
		}
		if !asJSON {
			o.Out = cmd.OutOrStdout()
		}
		if isTerminal(cmd.ErrOrStderr()) {
			o.Progress = cmd.ErrOrStderr()
		}
		r, err := bench.Failover(cmd.Context(), o)
		if r != nil && len(r.Interruptions) > 0 {
			print := func() error { return r.WriteTable(cmd.OutOrStdout()) }
			if asJSON {
				print = func() error { return json.NewEncoder(cmd.OutOrStdout()).Encode(r) }
			}
			err = errors.Join(err, print())
		}
		if err == nil && worst > 0 && r.Worst > worst {
			err = fmt.Errorf("the worst of %d took %v, more than --at-most %v", len(r.Interruptions), r.Worst, worst)
		}
		return err
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "folder for the data of nodes that are started, which is removed (default the system's for temporary files)")
	f.StringArrayVar(&o.Set, "set", nil, "`KEY=VALUE` of the configuration of nodes that are started; may be repeated")
	f.StringVar(&o.Kill, "kill", "", "shell `COMMAND` that interrupts node $NODE of the cluster at --bootstrap")
	f.StringVar(&o.Restart, "restart", "", "shell `COMMAND` that brings node $NODE back")
	f.BoolVar(&o.Commits, "commits", false, "commit the offsets of groups instead of producing: what is measured is the failover of coordinators")
	f.StringVar(&o.Driver, "driver", bench.DriverRaw, "raw or client (franz-go)")
	f.IntVar(&o.Count, "count", 30, "interruptions in all")
	f.DurationVar(&o.Pause, "pause", 0, "freeze nodes for so long instead of killing them")
	f.BoolVar(&o.Stop, "stop", false, "stop nodes cleanly (SIGTERM); measures the slowest produce meanwhile")
	f.DurationVar(&o.Settle, "settle", 300*time.Millisecond, "how long the cluster is left alone once it is whole")
	f.DurationVar(&worst, "at-most", 0, "fail if an interruption takes longer")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.MarkFlagsMutuallyExclusive("pause", "stop", "kill")
	return cmd
}

func newBenchColdStart() *cobra.Command {
	var dir string
	var count int
	cmd := &cobra.Command{
		Use:   "cold-start",
		Short: "From starting three nodes on empty directories to the first acknowledged record",
		Long: `Cold-start starts three nodes at once on empty directories, and measures until a record is acknowledged with acks=all of a
topic that is made for it: forming the cluster, electing a controller, registering, creating the topic.`,
		Example: "  chronik bench cold-start --count 10",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			all, err := bench.ColdStarts(cmd.Context(), self, dir, count)
			if err != nil {
				return err
			}
			slices.Sort(all)
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d cold starts of three nodes to the first acked produce: median %v, min %v, max %v\n",
				len(all), all[len(all)/2].Round(time.Millisecond), all[0].Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder for data, which is removed (default the system's for temporary files)")
	cmd.Flags().IntVar(&count, "count", 5, "how often")
	return cmd
}
