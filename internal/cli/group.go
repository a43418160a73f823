package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func newGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List, describe, reset and delete consumer groups, and see how far behind they are",
		Example: `  chronik group list
  chronik group describe billing
  chronik group lag
  chronik group reset-offsets billing --topic orders --to start`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := addClientFlags(cmd)
	cmd.AddCommand(newGroupList(c), newGroupDescribe(c), newGroupLag(c), newGroupReset(c), newGroupDelete(c))
	completeArguments(cmd, c.completeGroups(), "describe", "lag", "reset-offsets", "delete")
	return cmd
}

type groupRow struct {
	Group        string `json:"group"`
	Type         string `json:"type"` // classic or consumer (KIP-848)
	State        string `json:"state"`
	ProtocolType string `json:"protocol_type"`
	Coordinator  int32  `json:"coordinator"`
}

func newGroupList(c *clientFlags) *cobra.Command {
	var states, types []string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List groups, their types and states",
		Example: `  chronik group list --json
  chronik group list --state stable --type consumer`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.asking(cmd, func(ctx context.Context, client *kgo.Client) error {
				rows, err := listGroups(ctx, client, states, types)
				if err != nil {
					return err
				}
				if c.json {
					return printJSON(cmd.OutOrStdout(), rows)
				}
				var table [][]string
				for _, g := range rows {
					table = append(table, []string{g.Group, g.Type, g.State, g.ProtocolType, strconv.Itoa(int(g.Coordinator))})
				}
				return printTable(cmd.OutOrStdout(), []string{"GROUP", "TYPE", "STATE", "PROTOCOL", "COORDINATOR"}, table)
			})
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only groups in these states: empty, stable, preparingrebalance, ...")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only groups of these types: classic, consumer")
	c.addJSON(cmd)
	return cmd
}

// listGroups asks all brokers for the groups that they coordinate, sorted.
func listGroups(ctx context.Context, client *kgo.Client, states, types []string) ([]groupRow, error) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter, req.TypesFilter = states, types
	rows := []groupRow{}
	var failed []error
	for _, shard := range client.RequestSharded(ctx, req) {
		if shard.Err != nil {
			failed = append(failed, fmt.Errorf("groups of broker %d: %w", shard.Meta.NodeID, shard.Err))
			continue
		}
		resp := shard.Resp.(*kmsg.ListGroupsResponse)
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			failed = append(failed, fmt.Errorf("groups of broker %d: %w", shard.Meta.NodeID, err))
			continue
		}
		for i := range resp.Groups {
			g := &resp.Groups[i]
			rows = append(rows, groupRow{g.Group, strings.ToLower(g.GroupType), g.GroupState, g.ProtocolType, shard.Meta.NodeID})
		}
	}
	slices.SortFunc(rows, func(a, b groupRow) int { return cmp.Compare(a.Group, b.Group) })
	return rows, errors.Join(failed...)
}

func newGroupDelete(c *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "delete GROUP...",
		Short:   "Delete groups without members, and their offsets",
		Example: "  chronik group delete billing",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, groups []string) error {
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				deleted, err := admin.DeleteGroups(ctx, groups...)
				if err != nil {
					return err
				}
				var failed []error
				for _, g := range deleted.Sorted() {
					if g.Err != nil {
						failed = append(failed, fmt.Errorf("delete group %s: %w", g.Group, g.Err))
						continue
					}
					_, err := fmt.Fprintf(cmd.OutOrStdout(), "deleted %s\n", g.Group)
					failed = append(failed, err)
				}
				return errors.Join(failed...)
			})
		},
	}
}
