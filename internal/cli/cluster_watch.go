package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"chronik/internal/admin"
)

const (
	watchSilence = 40 * time.Second // a node says at least that it is alive every 15 s
	watchPause   = 500 * time.Millisecond
	eventMax     = 1 << 20 // bytes of one event
)

func newClusterWatch(c *clusterFlags) *cobra.Command {
	var after int64
	var types []string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show each change of the metadata as it is committed",
		Long: `Watch prints the events of the metadata, a line each: offset, type, what it is about, and its cause. It begins with what
comes next, or after an offset. When its node goes away it goes on at another, and misses nothing: offsets are those of
the cluster, not of the node. Where the events after --after are no longer held, SnapshotInstalled says so, and the
difference to what is now follows.`,
		Example: `  chronik cluster watch
  chronik cluster watch --after 0 --type ISRUpdated,PartitionLeaderChanged
  chronik cluster watch --json | jq -c 'select(.topic == "orders")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, t := range types {
				if !slices.Contains(admin.EventTypes, t) {
					return usage(fmt.Errorf("--type %q: there is no such event; there are %s", t, strings.Join(admin.EventTypes, ", ")))
				}
			}
			w := &watcher{flags: c, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr(), types: types, last: "", json: c.json}
			if cmd.Flags().Changed("after") {
				w.last = strconv.FormatInt(after, 10)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return w.run(ctx)
		},
	}
	c.addJSON(cmd)
	cmd.Flags().Int64Var(&after, "after", 0, "metadata offset to begin after; without it, what comes next")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only events of these types: "+strings.Join(admin.EventTypes, ", "))
	return cmd
}

type watcher struct {
	flags *clusterFlags
	out   io.Writer
	errs  io.Writer
	types []string
	json  bool
	last  string // the ID of the last event, to go on after it
}

// run goes from node to node until ctx ends. That no node can be reached is an error only for --timeout's length.
func (w *watcher) run(ctx context.Context) error {
	lost := time.Time{}
	for turn := 0; ctx.Err() == nil; turn++ {
		err := w.one(ctx, turn)
		var refused *refusedError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refused) && refused.status == http.StatusBadRequest:
			return usage(err)
		case errors.Is(err, errOutput):
			return nil
		case err == nil:
			lost = time.Time{}
		case lost.IsZero():
			lost = time.Now()
			_, _ = fmt.Fprintf(w.errs, "chronik: %v; trying others\n", err)
		case time.Since(lost) > w.flags.timeout:
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
	return nil
}

// errOutput says that nobody reads what is printed.
var errOutput = errors.New("the output is closed")

// one follows one node; nil if it told anything before it ended.
func (w *watcher) one(ctx context.Context, turn int) error {
	found, err := w.flags.find(ctx)
	if err != nil {
		return err
	}
	node := found[turn%len(found)]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+node.Addr+"/v1/events", nil)
	if err != nil {
		return err
	}
	if w.last != "" {
		req.Header.Set("Last-Event-ID", w.last)
	}
	resp, err := nodeClient.Do(req)
	if err != nil {
		return fmt.Errorf("watch at http://%s: %w", node.Addr, unwrapURL(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp, node.Addr)
	}
	silence := time.AfterFunc(watchSilence, cancel)
	defer silence.Stop()
	told := false
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, eventMax)
	id := ""
	for lines.Scan() {
		silence.Reset(watchSilence)
		told = true
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "data":
			if err := w.print([]byte(value)); err != nil {
				return err
			}
		case "": // the end of an event, or of the ID that stands for where the stream begins
			if id != "" {
				w.last, id = id, ""
			}
		}
	}
	if told {
		return nil
	}
	return fmt.Errorf("watch at http://%s: %w", node.Addr, errors.Join(lines.Err(), io.ErrUnexpectedEOF))
}

func (w *watcher) print(data []byte) error {
	var v admin.EventView
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("an event that is none: %w", err)
	}
	if len(w.types) > 0 && !slices.Contains(w.types, v.Type) {
		return nil
	}
	text := string(data)
	if !w.json {
		text = eventLine(&v)
	}
	if _, err := fmt.Fprintln(w.out, text); err != nil {
		return errOutput
	}
	return nil
}

// eventLine is an event for a person.
func eventLine(v *admin.EventView) string {
	about := v.Topic
	switch {
	case v.Partition != nil:
		p := v.Partition
		leader := "no leader"
		if p.Leader >= 0 {
			leader = fmt.Sprintf("leader %d", p.Leader)
		}
		about = fmt.Sprintf("%s/%d  %s in epoch %d, in sync %s of %s", v.Topic, p.Partition, leader, p.LeaderEpoch, orNone(idsOf(p.ISR)), idsOf(p.Replicas))
		if len(p.ELR) > 0 {
			about += ", eligible " + idsOf(p.ELR)
		}
	case v.Broker != nil:
		about = fmt.Sprintf("broker %d", *v.Broker)
		if v.BrokerEpoch > 0 {
			about += fmt.Sprintf(" in epoch %d", v.BrokerEpoch)
		}
	case v.ResourceType != "":
		about = strings.TrimSpace(v.ResourceType + " " + v.Resource)
	case v.From != nil:
		about = fmt.Sprintf("what happened after %d is no longer held; the difference follows", *v.From)
	}
	if v.Cause != "" {
		about += "  (" + v.Cause + ")"
	}
	return printable(fmt.Sprintf("%-8d %-22s %s", v.Offset, v.Type, about))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
