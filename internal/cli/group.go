package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func newGroup() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "List, describe, reset and delete consumer groups",
		Example: `  chronik group list
  chronik group describe billing
  chronik group reset-offsets billing --topic orders --to start`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c := addClientFlags(cmd)
	cmd.AddCommand(newGroupList(c), newGroupDescribe(c), newGroupReset(c), newGroupDelete(c))
	completeArguments(cmd, c.completeGroups(), "describe", "reset-offsets", "delete")
	return cmd
}

type groupRow struct {
	Group       string `json:"group"`
	State       string `json:"state"`
	Protocol    string `json:"protocol_type"`
	Coordinator int32  `json:"coordinator"`
}

func newGroupList(c *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List groups and their states",
		Example: "  chronik group list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				listed, err := admin.ListGroups(ctx)
				if err != nil {
					return err
				}
				rows := []groupRow{}
				var table [][]string
				for _, g := range listed.Sorted() {
					rows = append(rows, groupRow{g.Group, g.State, g.ProtocolType, g.Coordinator})
					table = append(table, []string{g.Group, g.State, g.ProtocolType, strconv.Itoa(int(g.Coordinator))})
				}
				if c.json {
					return printJSON(cmd.OutOrStdout(), rows)
				}
				return printTable(cmd.OutOrStdout(), []string{"GROUP", "STATE", "PROTOCOL", "COORDINATOR"}, table)
			})
		},
	}
	c.addJSON(cmd)
	return cmd
}

// groupDescription is a group as `group describe --json` prints it.
type groupDescription struct {
	Group       string         `json:"group"`
	State       string         `json:"state"`
	Protocol    string         `json:"protocol"`
	Coordinator int32          `json:"coordinator"`
	Members     []memberRow    `json:"members"`
	Partitions  []committedRow `json:"partitions"`
	TotalLag    int64          `json:"total_lag"`
}

type memberRow struct {
	ID       string `json:"id"`
	Instance string `json:"instance,omitempty"`
	Client   string `json:"client"`
	Host     string `json:"host"`
}

type committedRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"` // -1 if none
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
	Member    string `json:"member,omitempty"`
}

func newGroupDescribe(c *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "describe GROUP...",
		Short:   "Show members, committed offsets and lag of groups",
		Example: "  chronik group describe billing",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, groups []string) error {
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				lags, err := admin.Lag(ctx, groups...)
				if err != nil {
					return err
				}
				all := []groupDescription{}
				for _, g := range lags.Sorted() {
					if err := errors.Join(g.DescribeErr, g.FetchErr); err != nil {
						return fmt.Errorf("group %s: %w", g.Group, err)
					}
					if g.State == "Dead" {
						return fmt.Errorf("there is no group %s; `chronik group list` shows what is there", g.Group)
					}
					all = append(all, describeGroup(g))
				}
				if c.json {
					return printJSON(cmd.OutOrStdout(), all)
				}
				for _, g := range all {
					if err := printGroup(cmd, g); err != nil {
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

func describeGroup(g kadm.DescribedGroupLag) groupDescription {
	d := groupDescription{Group: g.Group, State: g.State, Protocol: g.Protocol, Coordinator: g.Coordinator.NodeID, TotalLag: g.Lag.Total(), Members: []memberRow{}, Partitions: []committedRow{}}
	for _, m := range g.Members {
		row := memberRow{ID: m.MemberID, Client: m.ClientID, Host: m.ClientHost}
		if m.InstanceID != nil {
			row.Instance = *m.InstanceID
		}
		d.Members = append(d.Members, row)
	}
	for _, l := range g.Lag.Sorted() {
		row := committedRow{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At, End: l.End.Offset, Lag: l.Lag}
		if l.Member != nil {
			row.Member = l.Member.MemberID
		}
		d.Partitions = append(d.Partitions, row)
	}
	return d
}

func printGroup(cmd *cobra.Command, g groupDescription) error {
	w := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(w, "%s  %s, %d members, protocol %q, coordinator %d, lag %d\n", g.Group, g.State, len(g.Members), g.Protocol, g.Coordinator, g.TotalLag); err != nil {
		return err
	}
	var rows [][]string
	for _, p := range g.Partitions {
		committed := "-"
		if p.Committed >= 0 {
			committed = strconv.FormatInt(p.Committed, 10)
		}
		rows = append(rows, []string{p.Topic, strconv.Itoa(int(p.Partition)), committed, strconv.FormatInt(p.End, 10), strconv.FormatInt(p.Lag, 10), p.Member})
	}
	return printTable(w, []string{"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"}, rows)
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

func newGroupReset(c *clientFlags) *cobra.Command {
	var topics []string
	var to string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "reset-offsets GROUP",
		Short: "Move a group's committed offsets; the group must have no members",
		Example: `  chronik group reset-offsets billing --topic orders --to start --dry-run
  chronik group reset-offsets billing --topic orders:0 --topic orders:3 --to 1500
  chronik group reset-offsets billing --to @2026-11-22T08:00:00Z`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, groups []string) error {
			if to == "" {
				return usage(fmt.Errorf("--to is missing: start, end, an offset or @TIME"))
			}
			return c.admin(cmd, func(ctx context.Context, admin *kadm.Client) error {
				return resetOffsets(ctx, cmd, admin, groups[0], topics, to, dryRun)
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&topics, "topic", "t", nil, "TOPIC or TOPIC:PARTITION; may be repeated; all that the group has committed without it")
	f.StringVar(&to, "to", "", "start, end, an offset, or @TIME (RFC 3339, or ms since 1970)")
	f.BoolVar(&dryRun, "dry-run", false, "show what would change, and change nothing")
	return cmd
}

func resetOffsets(ctx context.Context, cmd *cobra.Command, admin *kadm.Client, group string, topics []string, to string, dryRun bool) error {
	before, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	chosen, err := choose(ctx, admin, before, topics)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		return fmt.Errorf("group %s has committed nothing; name topics with --topic", group)
	}
	targets, err := resetTargets(ctx, admin, chosen, to)
	if err != nil {
		return err
	}
	var rows [][]string
	targets.Each(func(o kadm.Offset) {
		was := "-"
		if b, ok := before.Lookup(o.Topic, o.Partition); ok && b.At >= 0 {
			was = strconv.FormatInt(b.At, 10)
		}
		rows = append(rows, []string{o.Topic, strconv.Itoa(int(o.Partition)), was, strconv.FormatInt(o.At, 10)})
	})
	sortRows(rows)
	if !dryRun {
		committed, err := admin.CommitOffsets(ctx, group, targets)
		if err != nil {
			return err
		}
		if err := committed.Error(); err != nil {
			return fmt.Errorf("reset group %s: %w (a group with members can not be reset)", group, err)
		}
	}
	return printTable(cmd.OutOrStdout(), []string{"TOPIC", "PARTITION", "FROM", "TO"}, rows)
}

// choose is what --topic names, or all that the group has committed.
func choose(ctx context.Context, admin *kadm.Client, before kadm.OffsetResponses, topics []string) (kadm.TopicsSet, error) {
	chosen := kadm.TopicsSet{}
	if len(topics) == 0 {
		before.Each(func(o kadm.OffsetResponse) { chosen.Add(o.Topic, o.Partition) })
		return chosen, nil
	}
	for _, t := range topics {
		name, part, one := strings.Cut(t, ":")
		if one {
			p, err := strconv.ParseInt(part, 10, 32)
			if err != nil {
				return nil, usage(fmt.Errorf("--topic %s: want TOPIC or TOPIC:PARTITION", t))
			}
			chosen.Add(name, int32(p))
			continue
		}
		details, err := admin.ListTopics(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := details[name].Err; err != nil {
			return nil, topicError("reset", name, err, "")
		}
		for p := range details[name].Partitions {
			chosen.Add(name, p)
		}
	}
	return chosen, nil
}

// resetTargets finds the offset that --to means in each partition, within what the partition holds.
func resetTargets(ctx context.Context, admin *kadm.Client, chosen kadm.TopicsSet, to string) (kadm.Offsets, error) {
	topics := chosen.Topics()
	starts, err := listed(ctx, admin.ListStartOffsets, topics...)
	if err != nil {
		return nil, err
	}
	ends, err := listed(ctx, admin.ListEndOffsets, topics...)
	if err != nil {
		return nil, err
	}
	from, err := offsetOf(to)
	if err != nil {
		return nil, usage(fmt.Errorf("--to %s: want start, end, an offset, -N or @TIME", to))
	}
	times := ends
	if strings.HasPrefix(to, "@") {
		if times, err = admin.ListOffsetsAfterMilli(ctx, from.EpochOffset().Offset, topics...); err != nil {
			return nil, err
		}
	}
	targets := kadm.Offsets{}
	for topic, parts := range chosen {
		for p := range parts {
			start, _ := starts.Lookup(topic, p)
			end, ok := ends.Lookup(topic, p)
			if err := errors.Join(start.Err, end.Err); err != nil || !ok {
				return nil, fmt.Errorf("%s/%d: %w", topic, p, err)
			}
			at := end.Offset
			switch n, err := strconv.ParseInt(to, 10, 64); {
			case to == "start":
				at = start.Offset
			case strings.HasPrefix(to, "@"):
				t, _ := times.Lookup(topic, p)
				at = t.Offset
			case err == nil && n < 0:
				at = end.Offset + n
			case err == nil:
				at = n
			}
			targets.AddOffset(topic, p, min(max(at, start.Offset), end.Offset), -1)
		}
	}
	return targets, nil
}
