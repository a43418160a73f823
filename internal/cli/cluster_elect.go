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
)

func newClusterElect(c *clusterFlags) *cobra.Command {
	var all, unclean bool
	cmd := &cobra.Command{
		Use:   "elect TOPIC/PARTITION...",
		Short: "Give partitions back to their preferred leaders, or elect one that lost records",
		Long: `Elect gives partitions to their preferred leader, the first of their replicas, if it is in sync; so does the cluster by
itself every leader.imbalance.check.interval.seconds.

With --unclean, a partition that has no leader because nobody is left who holds all that was acknowledged gets any
replica that is up. WHAT ONLY THE OTHERS HELD IS LOST, for good, and they give it up when they come back. Nothing else
ever elects so. It takes the partitions' names, each.`,
		Example: `  chronik cluster elect orders/0 orders/1
  chronik cluster elect --all
  chronik cluster elect --unclean orders/3`,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := electionOf(args, all, unclean)
			if err != nil {
				return usage(err)
			}
			how := kadm.ElectPreferredReplica
			if unclean {
				how = kadm.ElectLiveReplica
			}
			return c.admin(cmd, func(ctx context.Context, adm *kadm.Client) error {
				results, err := adm.ElectLeaders(ctx, how, set)
				if err != nil {
					return fmt.Errorf("elect leaders: %w", err)
				}
				return printElection(cmd, results)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every partition of the cluster")
	cmd.Flags().BoolVar(&unclean, "unclean", false, "any replica that is up, for partitions that have no leader: loses records")
	return cmd
}

// electionOf is nil for all partitions.
func electionOf(args []string, all, unclean bool) (kadm.TopicsSet, error) {
	switch {
	case all && unclean:
		return nil, errors.New("--unclean loses records, so it does not go with --all: name the partitions")
	case all && len(args) > 0:
		return nil, errors.New("name partitions or give --all, not both")
	case all:
		return nil, nil
	case len(args) == 0:
		return nil, errors.New("name partitions as TOPIC/PARTITION, or give --all (see 'chronik cluster elect --help')")
	}
	set := kadm.TopicsSet{}
	for _, arg := range args {
		topic, partition, err := parsePartition(arg)
		if err != nil {
			return nil, err
		}
		set.Add(topic, partition)
	}
	return set, nil
}

// parsePartition reads TOPIC/PARTITION.
func parsePartition(arg string) (topic string, partition int32, err error) {
	i := strings.LastIndexByte(arg, '/')
	if i > 0 {
		n, err := strconv.ParseInt(arg[i+1:], 10, 32)
		if err == nil && n >= 0 {
			return arg[:i], int32(n), nil
		}
	}
	return "", 0, fmt.Errorf("%q: want TOPIC/PARTITION, for example orders/0", arg)
}

func printElection(cmd *cobra.Command, results kadm.ElectLeadersResults) error {
	var list []kadm.ElectLeadersResult
	for _, partitions := range results {
		for _, r := range partitions {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b kadm.ElectLeadersResult) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	var errs []error
	for _, r := range list {
		name := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
		said := "elected a leader for " + name
		switch {
		case errors.Is(r.Err, kerr.ElectionNotNeeded):
			said = name + " needs no election"
		case r.Err != nil:
			errs = append(errs, topicError("elect a leader for", name, r.Err, r.ErrMessage))
			continue
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), said); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// completePartitions completes TOPIC/PARTITION.
func (c *clusterFlags) completePartitions() cobra.CompletionFunc {
	return c.completeFrom(func(ctx context.Context, adm *kadm.Client) []string {
		topics, err := adm.ListTopics(ctx)
		if err != nil {
			return nil
		}
		var names []string
		for _, t := range topics.Sorted() {
			for _, p := range t.Partitions.Sorted() {
				names = append(names, fmt.Sprintf("%s/%d", t.Topic, p.Partition))
			}
		}
		return names
	})
}
