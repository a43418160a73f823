package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

func newGroupDescribe(c *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "describe GROUP...",
		Short:   "Show members, committed offsets and lag of groups",
		Example: "  chronik group describe billing",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, groups []string) error {
			return c.asking(cmd, func(ctx context.Context, client *kgo.Client) error {
				all, err := inspectGroups(ctx, client, groups)
				if err != nil {
					return err
				}
				if c.json {
					return printJSON(cmd.OutOrStdout(), all)
				}
				for i := range all {
					if err := printGroup(cmd, &all[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.addJSON(cmd)
	return cmd
}

func printGroup(cmd *cobra.Command, g *groupDescription) error {
	w := cmd.OutOrStdout()
	epoch := ""
	if g.Epoch != nil {
		epoch = fmt.Sprintf(" in epoch %d", *g.Epoch)
	}
	if _, err := fmt.Fprintf(w, "%s  %s%s, %d members, %s protocol, assignor %q, coordinator %d, lag %d\n",
		g.Group, g.State, epoch, len(g.Members), g.Type, g.Protocol, g.Coordinator, g.TotalLag); err != nil {
		return err
	}
	var members [][]string
	for _, m := range g.Members {
		epoch := "-"
		if m.Epoch != nil {
			epoch = strconv.Itoa(int(*m.Epoch))
		}
		members = append(members, []string{m.ID, cmp.Or(m.Instance, "-"), m.Client, m.Host, epoch, strconv.Itoa(m.Partitions)})
	}
	if len(members) > 0 {
		if err := printTable(w, []string{"MEMBER", "INSTANCE", "CLIENT", "HOST", "EPOCH", "PARTITIONS"}, members); err != nil {
			return err
		}
	}
	var rows [][]string
	for _, p := range g.Partitions {
		rows = append(rows, []string{p.Topic, strconv.Itoa(int(p.Partition)), offsetText(p.Committed), offsetText(p.End), strconv.FormatInt(p.Lag, 10), p.Member})
	}
	return printTable(w, []string{"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"}, rows)
}

func offsetText(offset int64) string {
	if offset < 0 {
		return "-"
	}
	return strconv.FormatInt(offset, 10)
}

func newGroupLag(c *clientFlags) *cobra.Command {
	var byPartition bool
	cmd := &cobra.Command{
		Use:   "lag [GROUP...]",
		Short: "How far groups are behind, in records and in seconds",
		Long: `Lag tells how many records a group has not committed yet, and how old the first of them is: the time by which the group
is behind. Without names it tells of all groups that have committed something.`,
		Example: `  chronik group lag
  chronik group lag billing --partitions
  chronik group lag billing --json`,
		RunE: func(cmd *cobra.Command, groups []string) error {
			return c.asking(cmd, func(ctx context.Context, client *kgo.Client) error {
				all, err := groupLags(ctx, c, client, groups)
				if err != nil {
					return err
				}
				if c.json {
					return printJSON(cmd.OutOrStdout(), all)
				}
				return printTable(cmd.OutOrStdout(), lagHead(byPartition), lagRows(all, byPartition))
			})
		},
	}
	cmd.Flags().BoolVarP(&byPartition, "partitions", "p", false, "a row for each partition")
	c.addJSON(cmd)
	return cmd
}

func groupLags(ctx context.Context, c *clientFlags, client *kgo.Client, groups []string) ([]groupDescription, error) {
	named := len(groups) > 0
	if !named {
		rows, err := listGroups(ctx, client, nil, nil)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r.Type == "classic" || r.Type == "consumer" || r.Type == "" {
				groups = append(groups, r.Group)
			}
		}
	}
	described, err := inspectGroups(ctx, client, groups)
	if err != nil {
		return nil, err
	}
	all := []groupDescription{}
	for _, g := range described {
		if named || len(g.Partitions) > 0 {
			all = append(all, g)
		}
	}
	return all, addAges(ctx, c, all, time.Now())
}

func lagHead(byPartition bool) []string {
	if byPartition {
		return []string{"GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "BEHIND", "MEMBER"}
	}
	return []string{"GROUP", "STATE", "MEMBERS", "PARTITIONS", "LAG", "BEHIND"}
}

func lagRows(all []groupDescription, byPartition bool) [][]string {
	var rows [][]string
	for _, g := range all {
		if !byPartition {
			rows = append(rows, []string{g.Group, g.State, strconv.Itoa(len(g.Members)), strconv.Itoa(len(g.Partitions)), strconv.FormatInt(g.TotalLag, 10), behindText(g.LagSeconds)})
			continue
		}
		for _, p := range g.Partitions {
			rows = append(rows, []string{
				g.Group, p.Topic, strconv.Itoa(int(p.Partition)), offsetText(p.Committed), offsetText(p.End), strconv.FormatInt(p.Lag, 10), behindText(p.LagSeconds), p.Member,
			})
		}
	}
	return rows
}

// behindText is an age as people read it: 0, 0.3s, 42s, 17m30s.
func behindText(seconds *float64) string {
	switch {
	case seconds == nil:
		return "?"
	case *seconds == 0:
		return "0"
	case *seconds < 10:
		return strconv.FormatFloat(*seconds, 'f', 1, 64) + "s"
	case *seconds > math.MaxInt32:
		return "?" // a timestamp that is none
	}
	return (time.Duration(*seconds) * time.Second).String()
}
