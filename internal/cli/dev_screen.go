package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"chronik/internal/admin"
	"chronik/internal/nodes"
)

const (
	devLook     = time.Second            // between two looks at the nodes
	devPatience = 900 * time.Millisecond // for a node's answer
)

// devScreen shows what the nodes do: lines that scroll, and on a terminal a panel below them that is drawn anew each
// second. Elsewhere what changes is a line each.
type devScreen struct {
	out      io.Writer
	terminal *os.File // nil if out is none
	laid     []nodes.Node
	greeting []string
	now      func() time.Time

	mu struct {
		sync.Mutex
		status  map[int]nodes.Status
		views   map[int]*admin.ClusterView // what each node answered last; nil for one that did not
		greeted bool
		drawn   int    // lines of the panel that stand on the terminal
		summary string // the last line about the cluster as a whole
	}
}

func newDevScreen(out io.Writer, laid []nodes.Node, greeting []string) *devScreen {
	s := &devScreen{out: out, laid: laid, greeting: greeting, now: time.Now}
	if isTerminal(out) {
		s.terminal, _ = out.(*os.File)
	}
	s.mu.status, s.mu.views = map[int]nodes.Status{}, map[int]*admin.ClusterView{}
	return s
}

// changed is told of each node's state.
func (s *devScreen) changed(st nodes.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.status[st.Node.ID] = st
	if st.State != nodes.Serving {
		s.mu.views[st.Node.ID] = nil
	}
	text := ""
	switch st.State {
	case nodes.Starting:
		text = fmt.Sprintf("starts as process %d", st.Pid)
	case nodes.Serving:
		text = fmt.Sprintf("serves: Kafka %s, HTTP %s, cluster %s", st.Node.Kafka, st.Node.HTTP, st.Node.Cluster)
	case nodes.Restarting:
		text = fmt.Sprintf("ended (%s); it starts again in %v", st.Why, st.After)
	case nodes.Down:
		text = fmt.Sprintf("ended (%s) and stays down", st.Why)
	case nodes.Stopping:
		text = "stops"
	case nodes.Stopped:
		text = "stopped"
		if st.Code != 0 {
			text = "ended: " + st.Why
		}
	}
	lines := []string{fmt.Sprintf("node %d: %s", st.Node.ID, text)}
	if !s.mu.greeted && s.allServeLocked() {
		s.mu.greeted = true
		lines = append(lines, s.greeting...)
	}
	s.printLocked(lines...)
}

func (s *devScreen) allServeLocked() bool {
	for _, n := range s.laid {
		if s.mu.status[n.ID].State != nodes.Serving {
			return false
		}
	}
	return true
}

// line is told of each line that a node prints: what goes to standard error is for people.
func (s *devScreen) line(id int, line string, stderr bool) {
	if !stderr {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.printLocked(fmt.Sprintf("node %d: %s", id, line))
}

// printLocked puts lines above the panel.
func (s *devScreen) printLocked(lines ...string) {
	s.eraseLocked()
	for _, line := range lines {
		_, _ = fmt.Fprintln(s.out, printable(line)) // a closed output stops nobody
	}
	s.drawLocked()
}

// printable keeps what a node logged from driving the terminal.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\t' || r == 0x7f {
			return '?'
		}
		return r
	}, line)
}

func (s *devScreen) eraseLocked() {
	if s.mu.drawn > 0 {
		_, _ = fmt.Fprintf(s.out, "\x1b[%dA\r\x1b[J", s.mu.drawn)
		s.mu.drawn = 0
	}
}

func (s *devScreen) drawLocked() {
	if s.terminal == nil {
		return
	}
	width, height := terminalSize(s.terminal)
	panel := fit(s.panelLocked(), width, height)
	if len(panel) == 0 {
		return
	}
	_, _ = io.WriteString(s.out, strings.Join(panel, "\n")+"\n")
	s.mu.drawn = len(panel)
}

// fit cuts lines to the terminal, with one line and one column to spare.
func fit(lines []string, width, height int) []string {
	lines = lines[:min(len(lines), max(0, height-1))]
	for i, line := range lines {
		if r := []rune(line); len(r) >= width {
			lines[i] = string(r[:max(0, width-1)])
		}
	}
	return lines
}

// terminalSize is 80 by 24 where the terminal does not say.
func terminalSize(f *os.File) (width, height int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return 80, 24
	}
	return int(size.Col), int(size.Row)
}

// watch looks at the nodes until ctx ends, and then leaves the terminal clean.
func (s *devScreen) watch(ctx context.Context) {
	tick := time.NewTicker(devLook)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.look(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eraseLocked()
}

// look asks every node that serves what it sees.
func (s *devScreen) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, devPatience)
	defer cancel()
	views := make([]*admin.ClusterView, len(s.laid))
	var group sync.WaitGroup
	for i, n := range s.laid {
		s.mu.Lock()
		serves := s.mu.status[n.ID].State == nodes.Serving
		s.mu.Unlock()
		if !serves {
			continue
		}
		group.Go(func() {
			var v admin.ClusterView
			if getNode(ctx, n.HTTP, "/v1/cluster", &v) == nil {
				views[i] = &v
			}
		})
	}
	group.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range s.laid {
		s.mu.views[n.ID] = views[i]
	}
	summary := summaryOf(newest(views))
	if s.terminal == nil && summary != "" && summary != s.mu.summary && s.mu.greeted {
		_, _ = fmt.Fprintln(s.out, summary)
	}
	s.mu.summary = summary
	s.eraseLocked()
	s.drawLocked()
}

// newest is the view of the node that has applied most; nil if none answered.
func newest(views []*admin.ClusterView) *admin.ClusterView {
	var best *admin.ClusterView
	for _, v := range views {
		if v != nil && (best == nil || v.Offset > best.Offset) {
			best = v
		}
	}
	return best
}

// summaryOf is what matters of the cluster as a whole, without what moves all the time.
func summaryOf(v *admin.ClusterView) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("cluster: %d of %d brokers live, %s, %d offline of %d partitions", liveOf(v), len(v.Brokers), controllerOf(v), v.Offline, v.Partitions)
}

func controllerOf(v *admin.ClusterView) string {
	if v.Controller < 0 {
		return "no controller"
	}
	return fmt.Sprintf("controller %d", v.Controller)
}

// panelLocked is the live status.
func (s *devScreen) panelLocked() []string {
	var views []*admin.ClusterView
	for _, n := range s.laid {
		views = append(views, s.mu.views[n.ID])
	}
	cluster := newest(views)
	head := "chronik: no node answers yet"
	if cluster != nil {
		head = fmt.Sprintf("%d of %d live, %s, %d partitions: %d offline, %d under-replicated", liveOf(cluster), len(cluster.Brokers),
			controllerOf(cluster), cluster.Partitions, cluster.Offline, cluster.UnderReplicated)
	}
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "NODE\tSTATE\tFOR\tLEADS\tIN SYNC\tMETADATA\tPROCESS\tKAFKA\tHTTP")
	for _, n := range s.laid {
		_, _ = fmt.Fprintln(t, strings.Join(s.rowLocked(n, cluster), "\t"))
	}
	_ = t.Flush() // into memory
	return append([]string{"", head}, strings.Split(strings.TrimRight(table.String(), "\n"), "\n")...)
}

func (s *devScreen) rowLocked(n nodes.Node, cluster *admin.ClusterView) []string {
	st, view := s.mu.status[n.ID], s.mu.views[n.ID]
	state, leads, inSync, offset, pid, since := string(st.State), "", "", "", "", st.Since
	if cluster != nil {
		if i := slices.IndexFunc(cluster.Brokers, func(b admin.BrokerView) bool { return int(b.ID) == n.ID }); i >= 0 {
			b := cluster.Brokers[i]
			leads, inSync = strconv.Itoa(b.Leads), fmt.Sprintf("%d of %d", b.InSync, b.Replicas)
			if st.State == nodes.Serving {
				state, since = b.State, b.Since
			}
		}
		if int(cluster.Controller) == n.ID && st.State == nodes.Serving {
			state += ", controller"
		}
	}
	switch {
	case view != nil:
		offset = strconv.FormatInt(int64(view.Offset), 10)
	case st.State == nodes.Serving && s.now().Sub(st.Since) > 2*devLook: // it was asked
		offset = "no answer"
	}
	if st.Pid > 0 {
		pid = strconv.Itoa(st.Pid)
	}
	return []string{strconv.Itoa(n.ID), state, ago(s.now().Sub(since)), leads, inSync, offset, pid, n.Kafka, n.HTTP}
}

// ago prints a time span for a table.
func ago(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}
