package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/admin"
	"chronik/internal/kafka"
)

func explainGroup(cmd *cobra.Command, c *clusterFlags, name string) error {
	return c.within(cmd, func(ctx context.Context, found []httpNode) error {
		g, err := askGroup(ctx, found, name)
		if err != nil {
			return err
		}
		if c.json {
			return printJSON(cmd.OutOrStdout(), g)
		}
		return printGroupExplanation(cmd.OutOrStdout(), g, time.Now())
	})
}

// askGroup is what the group's coordinator says. Of the others' answers, "there is no such group" tells most, then who should
// know.
func askGroup(ctx context.Context, found []httpNode, name string) (*admin.GroupView, error) {
	answers, errs := askEach(ctx, found, "/v1/groups/"+url.PathEscape(name), func(g *admin.GroupView) kafka.BrokerID { return g.Node })
	for _, g := range answers {
		if g != nil {
			return g, nil
		}
	}
	for _, status := range []int{http.StatusNotFound, http.StatusServiceUnavailable, http.StatusMisdirectedRequest} {
		for _, err := range errs {
			var refused *refusedError
			if !errors.As(err, &refused) || refused.status != status {
				continue
			}
			if status == http.StatusNotFound {
				if isTopic(ctx, found, name) {
					return nil, usage(fmt.Errorf("%s is a topic, and no group: want TOPIC/PARTITION, for example %s/0", name, name))
				}
				return nil, fmt.Errorf("%w; `chronik group list` shows what is there (a partition is explained as TOPIC/PARTITION)", err)
			}
			return nil, err
		}
	}
	return nil, errors.Join(errs...)
}

func isTopic(ctx context.Context, found []httpNode, name string) bool {
	for _, n := range found {
		var t admin.TopicDetail
		if getNode(ctx, n.Addr, "/v1/topics/"+url.PathEscape(name), &t) == nil {
			return true
		}
	}
	return false
}

func printGroupExplanation(w io.Writer, g *admin.GroupView, now time.Time) error {
	p := &lines{w: w}
	epoch := "generation"
	if g.Type == "consumer" {
		epoch = "epoch"
	}
	behind := "nothing committed"
	if len(g.Offsets) > 0 {
		behind = fmt.Sprintf("lag %d", g.Lag)
	}
	p.line("group %s: %s (%s protocol), %s %d, %d members, coordinator node %d, %s", g.Group, g.State, g.Type, epoch, g.Epoch, len(g.MemberRows), g.Node, behind)
	if g.StateSince != nil {
		p.line("  since    %s (%s ago)", g.StateSince.Local().Format(time.DateTime), ago(now.Sub(*g.StateSince)))
	}
	switch n := len(g.History); {
	case n == 0:
		p.line("  why      node %d has seen no rebalance of it since it began to coordinate it", g.Node)
	default:
		p.line("  why      %s", causeLine(&g.History[n-1], now))
	}
	for _, what := range g.WaitsFor {
		p.line("  waits:   %s", what)
	}
	if len(g.WaitsFor) == 0 {
		p.line("  waits for nothing")
	}
	if p.err != nil {
		return p.err
	}
	if len(g.MemberRows) > 0 {
		p.line("\nmembers")
		var rows [][]string
		for _, m := range g.MemberRows {
			partitions := 0
			for _, n := range slices.Collect(maps.Values(m.Assigned)) {
				partitions += n
			}
			name := m.ID
			if m.Instance != "" {
				name = m.Instance + " (" + m.ID + ")"
			}
			rows = append(rows, []string{name, m.Client, m.Host, strconv.Itoa(int(m.Epoch)), strconv.Itoa(partitions), m.Waits})
		}
		if err := printTable(w, []string{"MEMBER", "CLIENT", "HOST", "EPOCH", "PARTITIONS", "AWAITED"}, rows); err != nil {
			return err
		}
	}
	p.line("\nlast rebalances")
	var rows [][]string
	for i := range slices.Backward(g.History) {
		r := &g.History[i]
		took := "goes on"
		if r.Took > 0 {
			took = time.Duration(r.Took * float64(time.Second)).Round(time.Millisecond).String()
		}
		rows = append(rows, []string{r.Time.Local().Format(time.DateTime), strconv.Itoa(int(r.Epoch)), took, whoCaused(r), r.Cause, r.Reason})
	}
	if p.err != nil {
		return p.err
	}
	return printTable(w, []string{"TIME", "EPOCH", "TOOK", "WHO", "CAUSE", "REASON"}, rows)
}

func whoCaused(r *admin.RebalanceView) string {
	switch {
	case r.Member == "":
		return "-"
	case r.Client == "":
		return r.Member
	}
	return r.Member + " (" + r.Client + ")"
}

func causeLine(r *admin.RebalanceView, now time.Time) string {
	text := fmt.Sprintf("%s ago: %s", ago(now.Sub(r.Time)), r.Cause)
	if r.Member != "" {
		text += ", by " + whoCaused(r)
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}
