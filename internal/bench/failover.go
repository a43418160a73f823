package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// FailoverOptions of a run that interrupts nodes of a cluster and measures how long produces with acks=all do not work.
type FailoverOptions struct {
	Binary string   // this program: three nodes of it are started in Dir, unless Kill is given
	Dir    string   // scratch
	Set    []string // KEY=VALUE for those nodes

	Bootstrap []string // of a cluster that runs already, with Kill and Restart
	Kill      string   // a command that interrupts node $NODE
	Restart   string   // a command that brings it back

	Commits bool // commit offsets of groups instead of producing

	Driver string        // raw or client, as everywhere; raw asks for leaders all the time, client is franz-go
	Count  int           // interruptions in all, of leaders, followers and controllers in turn
	Pause  time.Duration // freeze a node for so long (SIGSTOP) instead of killing it; 0 kills
	Stop   bool          // stop nodes cleanly (SIGTERM): what is measured is then the slowest produce meanwhile
	Settle time.Duration // between a whole cluster and the next interruption

	Out      io.Writer // a line for each interruption; nil for none
	Progress io.Writer
}

// The targets of an interruption.
const (
	killLeader     = "leader"
	killFollower   = "follower"
	killController = "controller"
)

// failoverPatience is how long one interruption may last before the run is given up.
const failoverPatience = 60 * time.Second

// Interruption is one of them.
type Interruption struct {
	Target  string        `json:"target"` // leader, follower or controller
	Node    int32         `json:"node"`
	Was     string        `json:"was"` // all that the node was
	Outage  time.Duration `json:"outage_ns"`
	Healed  time.Duration `json:"healed_ns"` // until every replica was in sync again
	Details string        `json:"details"`   // of each partition
}

// FailoverReport is the outcome of Failover.
type FailoverReport struct {
	Kind          string                   `json:"kind"` // kill, pause or stop
	What          string                   `json:"what"` // acks=all, or a commit of offsets
	Driver        string                   `json:"driver"`
	Interruptions []Interruption           `json:"interruptions"`
	Median        time.Duration            `json:"median_ns"`
	Worst         time.Duration            `json:"worst_ns"`
	ByTarget      map[string]time.Duration `json:"worst_by_target_ns"`
	Acked         int64                    `json:"acknowledged"`
	Verified      string                   `json:"verified"` // what was read back
}

// Failover interrupts nodes while producers write to every partition, one record after the other, and measures from the
// interruption to the first acknowledgement of a record that was sent after it, of the partition where that took
// longest. At the end everything is read back: a record that was acknowledged and is not where it was acknowledged is an
// error.
func Failover(ctx context.Context, o FailoverOptions) (r *FailoverReport, err error) {
	setDefault(&o.Count, 30)
	setDefault(&o.Settle, 300*time.Millisecond)
	setDefault(&o.Driver, DriverRaw)
	if o.Out == nil {
		o.Out = io.Discard
	}
	cluster, err := openFailover(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer cluster.close()
	f := &failover{o: &o, cluster: cluster, r: &FailoverReport{Kind: "kill", What: "acks=all", Driver: o.Driver, ByTarget: map[string]time.Duration{}}}
	switch {
	case o.Pause > 0:
		f.r.Kind = "pause"
	case o.Stop:
		f.r.Kind = "stop"
	}
	if o.Commits {
		f.r.What = "a commit of offsets"
	}
	if err := f.prepare(ctx); err != nil {
		return nil, err
	}
	defer f.close()
	for i := range o.Count {
		if o.Progress != nil {
			_, _ = fmt.Fprintf(o.Progress, "\r\x1b[K%s %d of %d, worst so far %s", f.r.Kind, i+1, o.Count, short(f.r.Worst)) // only for the eye
		}
		if err := f.interrupt(ctx, []string{killLeader, killFollower, killController}[i%3]); err != nil {
			return f.r, fmt.Errorf("bench failover, %s %d: %w", f.r.Kind, i+1, err)
		}
	}
	return f.r, f.verify(ctx)
}

// failover is a run.
type failover struct {
	o       *FailoverOptions
	cluster failoverCluster
	topic   string
	// committed is the topic whose offsets are committed.
	committed string
	watch     *leaderWatch
	probes    []*probe
	stop      context.CancelFunc
	r         *FailoverReport
}

func (f *failover) close() {
	f.stop()
	for _, p := range f.probes {
		<-p.ended
	}
	f.watch.close()
}

// interrupt takes one node away and waits until the cluster is whole again.
func (f *failover) interrupt(ctx context.Context, target string) error {
	if err := f.whole(ctx); err != nil {
		return err
	}
	f.cluster.prefer(ctx, f.topic)
	if err := f.whole(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, f.o.Settle); err != nil {
		return err
	}
	state := f.watch.now()
	node, was := state.pick(target)
	if node < 0 {
		return fmt.Errorf("there is no %s to interrupt", target)
	}
	began := time.Now()
	if err := f.cluster.interrupt(ctx, node, f.r.Kind); err != nil {
		return err
	}
	outage, details, err := f.outage(ctx, began)
	i := Interruption{Target: target, Node: node, Was: was, Outage: outage, Details: details}
	if err == nil && f.o.Pause > 0 {
		err = sleep(ctx, f.o.Pause-time.Since(began))
	}
	if err := errors.Join(err, f.cluster.restore(ctx, node)); err != nil {
		return fmt.Errorf("node %d (%s): %w", node, was, err)
	}
	back := time.Now()
	if err := f.whole(ctx); err != nil {
		return fmt.Errorf("after node %d (%s) came back: %w", node, was, err)
	}
	i.Healed = time.Since(back)
	if f.o.Stop {
		i.Outage, i.Details = f.slowest(began)
	}
	f.r.add(i)
	what := f.r.What + " again after"
	if f.o.Stop {
		what = "the slowest " + f.r.What + " took"
	}
	_, err = fmt.Fprintf(f.o.Out, "%-10s node %d (%s): %s %s (%s); every replica in sync %s after it was back\n",
		target, node, was, what, short(i.Outage), i.Details, short(i.Healed))
	return err
}

func (r *FailoverReport) add(i Interruption) {
	r.Interruptions = append(r.Interruptions, i)
	var all []time.Duration
	for _, i := range r.Interruptions {
		all = append(all, i.Outage)
	}
	r.Median, r.Worst = median(all), slices.Max(all)
	r.ByTarget[i.Target] = max(r.ByTarget[i.Target], i.Outage)
}

// outage waits until every partition has acknowledged a record that was sent after began.
func (f *failover) outage(ctx context.Context, began time.Time) (worst time.Duration, details string, err error) {
	end := began.Add(failoverPatience)
	var each []string
	for _, p := range f.probes {
		for {
			at, ok := p.firstAfter(began)
			if ok {
				took := at.Sub(began)
				worst = max(worst, took)
				each = append(each, fmt.Sprintf("%s/%d %s", f.topic, p.partition, short(took)))
				break
			}
			if time.Now().After(end) {
				return 0, "", fmt.Errorf("%s/%d took no %s for %v; the last error: %s", f.topic, p.partition, f.r.What, failoverPatience, p.lastError())
			}
			if err := sleep(ctx, time.Millisecond); err != nil {
				return 0, "", err
			}
		}
	}
	return worst, strings.Join(each, ", "), nil
}

// slowest is the longest that a record took, of those that were acknowledged after began.
func (f *failover) slowest(began time.Time) (worst time.Duration, details string) {
	var each []string
	for _, p := range f.probes {
		took := p.slowestAfter(began)
		worst = max(worst, took)
		each = append(each, fmt.Sprintf("%s/%d %s", f.topic, p.partition, short(took)))
	}
	return worst, strings.Join(each, ", ")
}

// whole waits until every node tells that all replicas are in sync.
func (f *failover) whole(ctx context.Context) error {
	end := time.Now().Add(failoverPatience)
	for {
		lacks := f.watch.lacks()
		if lacks == "" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the cluster is not whole after %v: %s", failoverPatience, lacks)
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WriteTable prints the report for a person.
func (r *FailoverReport) WriteTable(w io.Writer) error {
	var targets []string
	for _, t := range slices.Sorted(maps.Keys(r.ByTarget)) {
		targets = append(targets, fmt.Sprintf("%s %s", t, short(r.ByTarget[t])))
	}
	_, err := fmt.Fprintf(w, "%d of kind %s, driver %s: %s took %s (median), %s (worst)\nworst of each target: %s\nread back: %s\n",
		len(r.Interruptions), r.Kind, r.Driver, r.What, short(r.Median), short(r.Worst), strings.Join(targets, ", "), r.Verified)
	return err
}

// pick chooses a node: for a leader, one that leads and is not the controller if there is such; for a follower, one that
// leads nothing, likewise.
func (s *clusterState) pick(target string) (node int32, was string) {
	leads := map[int32]int{}
	for _, p := range s.partitions {
		leads[p.leader]++
	}
	// Lower is better.
	score := func(id int32) int {
		isController := 0
		if id == s.controller {
			isController = 1
		}
		switch target {
		case killController:
			return 1 - isController
		case killLeader:
			if leads[id] == 0 {
				return 10
			}
			return isController
		}
		return 10*min(leads[id], 1) + isController
	}
	if len(s.nodes) == 0 {
		return -1, ""
	}
	node = slices.MinFunc(s.nodes, func(a, b int32) int { return cmp.Or(cmp.Compare(score(a), score(b)), cmp.Compare(a, b)) })
	roles := []string{"follower"}
	if n := leads[node]; n > 0 {
		roles = []string{fmt.Sprintf("leads %d of %d", n, len(s.partitions))}
	}
	if node == s.controller {
		roles = append(roles, "controller")
	}
	return node, strings.Join(roles, ", ")
}
