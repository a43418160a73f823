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
