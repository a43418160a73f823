package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/admin"
	"chronik/internal/kafka"
)

func newExplain() *cobra.Command {
	var isGroup bool
	cmd := &cobra.Command{
		Use:   "explain TOPIC/PARTITION | GROUP",
		Short: "Why a partition or a consumer group is as it is: since when, what caused it, what it waits for",
		Long: `Explain tells why a partition has this leader and this in-sync set, since when, which event caused it, and what it waits
for. The metadata keep the last changes of each partition, also after a snapshot; its leader adds what only it knows, such
as how far behind each follower is. If the leader does not answer, another node tells what it knows.

Of a consumer group it tells why it rebalanced last, who caused that, how long it took, and whom it waits for. The group's
coordinator remembers that since it began to coordinate the group.`,
		Example: `  chronik explain orders/0
  chronik explain orders/0 --json
  chronik explain billing
  chronik explain --group a/1`,
		Args: cobra.ExactArgs(1),
	}
	c := addClusterFlags(cmd)
	c.addJSON(cmd)
	cmd.Flags().BoolVarP(&isGroup, "group", "g", false, "the argument is a group, even if it looks like TOPIC/PARTITION")
	cmd.ValidArgsFunction = c.completePartitions()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		topic, partition, err := parsePartition(args[0])
		if err != nil || isGroup {
			return explainGroup(cmd, c, args[0])
		}
		return c.within(cmd, func(ctx context.Context, found []httpNode) error {
			e, err := askExplanation(ctx, found, topic, partition)
			if err != nil {
				return err
			}
			if c.json {
				return printJSON(cmd.OutOrStdout(), e)
			}
			return printExplanation(cmd.OutOrStdout(), e)
		})
	}
	return cmd
}

// askExplanation prefers what the partition's leader says, then what the node says that has applied most metadata.
func askExplanation(ctx context.Context, found []httpNode, topic string, partition int32) (*admin.Explanation, error) {
	path := fmt.Sprintf("/v1/explain/%s/%d", url.PathEscape(topic), partition)
	answers, errs := askEach(ctx, found, path, func(e *admin.Explanation) kafka.BrokerID { return e.Node })
	var best *admin.Explanation
	for _, e := range answers {
		if e != nil && (best == nil || leads(e) && (!leads(best) || e.LeaderEpoch > best.LeaderEpoch) || !leads(best) && e.Offset > best.Offset) {
			best = e
		}
	}
	if best != nil {
		return best, nil
	}
	// A node that knows says more than those that do not answer.
	var refused *refusedError
	for _, err := range errs {
		if errors.As(err, &refused) {
			return nil, err
		}
	}
	return nil, errors.Join(errs...)
}

func leads(e *admin.Explanation) bool { return e.Live != nil && e.Live.Role == "leader" }

func printExplanation(w io.Writer, e *admin.Explanation) error {
	p := &lines{w: w}
	leader := "no leader"
	if e.Leader >= 0 {
		leader = fmt.Sprintf("leader %d in epoch %d", e.Leader, e.LeaderEpoch)
	}
	p.line("%s/%d: %s, in sync %s of %s; min.insync.replicas %d", e.Topic, e.Partition, leader, orNone(idsOf(e.ISR)), idsOf(e.Replicas), e.MinInsync)
	p.line("  leader   %s", sinceLine(e.LeaderSince))
	p.line("  in sync  %s", sinceLine(e.ISRSince))
	for _, a := range e.OutOfSync {
		eligible := ""
		if a.Eligible {
			eligible = "; it may lead all the same (ELR)"
		}
		p.line("  not %d    %s%s", a.Broker, a.Why, eligible)
	}
	switch {
	case len(e.WaitsFor) > 0:
	case e.Leader >= 0 && e.Leader != e.Node:
		p.line("  waits for nothing that node %d knows of; what its leader, node %d, knows was not to be had", e.Node, e.Leader)
	default:
		p.line("  waits for nothing")
	}
	for _, what := range e.WaitsFor {
		p.line("  waits:   %s", what)
	}
	p.live(e)
	p.line("\nlast changes")
	var rows [][]string
	for _, c := range slices.Backward(e.History) {
		leader := "none"
		if c.Leader >= 0 {
			leader = strconv.Itoa(int(c.Leader))
		}
		rows = append(rows, []string{strconv.FormatInt(int64(c.Offset), 10), c.Time.Local().Format(time.DateTime), leader, strconv.Itoa(int(c.LeaderEpoch)), orNone(idsOf(c.ISR)), c.Cause})
	}
	if p.err != nil {
		return p.err
	}
	return printTable(w, []string{"METADATA", "TIME", "LEADER", "EPOCH", "IN SYNC", "CAUSE"}, rows)
}

func sinceLine(c *admin.ChangeView) string {
	if c == nil {
		return "since it was made"
	}
	before := ""
	if c.OrBefore {
		before = " or earlier"
	}
	return fmt.Sprintf("since %s%s (%s ago), metadata offset %d: %s", c.Time.Local().Format(time.DateTime), before, ago(time.Since(c.Time)), c.Offset, c.Cause)
}

// lines keeps the first error.
type lines struct {
	w   io.Writer
	err error
}

func (p *lines) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// live is what the node that answered sees for itself.
func (p *lines) live(e *admin.Explanation) {
	l := e.Live
	switch {
	case l == nil:
		p.line("\nnode %d, which answers, holds no replica", e.Node)
		return
	case !leads(e):
		p.line("\nseen by node %d, a follower (the leader does not answer)", e.Node)
	default:
		p.line("\nseen by its leader, node %d", e.Node)
	}
	p.line("  log %d to %d, durable up to %d, high watermark %d", l.LogStart, l.LogEnd, l.Durable, l.HighWatermark)
	for _, f := range l.Followers {
		switch {
		case !f.Connected:
			p.line("  broker %d does not follow, for %s", f.Broker, ago(time.Since(f.Since)))
		case f.Durable < 0:
			p.line("  broker %d follows and has acknowledged nothing yet", f.Broker)
		default:
			lagging := ""
			if f.Lagging != "" {
				lagging = ": " + f.Lagging
			}
			p.line("  broker %d follows for %s, is durable up to %d, %d records behind%s", f.Broker, ago(time.Since(f.Since)), f.Durable, f.Lag, lagging)
		}
	}
}
