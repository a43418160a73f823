package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/bench"
)

func newBenchMembers() *cobra.Command {
	o := bench.MembersOptions{}
	var asJSON bool
	var atMost time.Duration
	cmd := &cobra.Command{
		Use:   "members",
		Short: "How long a classic group of many members takes until all of them are stable",
		Long: `Members opens a connection for each member of one classic consumer group. All join at once, then one more joins, then that one leaves.
What is measured is the time until every member has synchronised in one generation, with an assignment of its own. Members
hear of a rebalance with their next heartbeat.`,
		Example: "  chronik bench members\n  chronik bench members --members 5000 --heartbeat 1s --at-most 10s",
		Args:    cobra.NoArgs,
	}
	c := addClientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Bootstrap = c.bootstrap
		if o.Members < 1 {
			return usage(fmt.Errorf("--members %d: want at least 1", o.Members))
		}
		if isTerminal(cmd.ErrOrStderr()) {
			o.Progress = cmd.ErrOrStderr()
		}
		r, err := bench.Members(cmd.Context(), o)
		if err != nil {
			return c.explain(err)
		}
		if asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(r)
		} else {
			err = r.WriteTable(cmd.OutOrStdout())
		}
		if worst := max(r.Storm, r.Late, r.Leave); err == nil && atMost > 0 && worst > atMost {
			err = fmt.Errorf("the slowest step took %v, more than --at-most %v", worst, atMost)
		}
		return err
	}
	f := cmd.Flags()
	f.IntVar(&o.Members, "members", 1000, "members, with a connection each")
	f.DurationVar(&o.Heartbeat, "heartbeat", 3*time.Second, "between two heartbeats of a member")
	f.DurationVar(&o.Session, "session", 45*time.Second, "session timeout of the members")
	f.DurationVar(&o.Patience, "patience", time.Minute, "how long a step may take; the members' rebalance timeout")
	f.DurationVar(&atMost, "at-most", 0, "fail if a step takes longer")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
