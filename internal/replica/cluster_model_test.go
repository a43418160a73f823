package replica

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// TestClusterModel draws histories of elections, fencing, power losses, lost answers, log starts and slow streams, and
// checks after every step that what was acknowledged is on the disk of whoever may be elected, that no offset below a
// high watermark is given to another record, and that nobody cuts what is committed. In the end all replicas are the same.
func TestClusterModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runClusterModel(t, false, false) })
}

// TestClusterModelCompacted has every replica compact by itself, and replicas that begin anew: in the end all mean the same,
// whatever gaps and missing deletions they were filled from.
func TestClusterModelCompacted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runClusterModel(t, false, true) })
}

// TestClusterModelUnclean adds elections outside the in-sync set: records are lost, and yet all replicas agree in the end.
func TestClusterModelUnclean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runClusterModel(t, true, false) })
}

func runClusterModel(t *rapid.T, unclean, compacted bool) {
	minInsync := rapid.Int32Range(1, 2).Draw(t, "min.insync.replicas")
	c := newTestCluster(t, minInsync)
	draw := func(t *rapid.T) *testReplica { return c.nodes[rapid.IntRange(0, 2).Draw(t, "broker")] }
	actions := map[string]func(*rapid.T){
		"append": func(t *rapid.T) {
			r := draw(t)
			for range rapid.IntRange(1, 4).Draw(t, "records") {
				r.append()
			}
		},
		"sync":    func(t *rapid.T) { draw(t).disk.sync() },
		"stream":  func(t *rapid.T) { draw(t).stream(rapid.SampledFrom([]int{1, 1 << 20}).Draw(t, "bytes")) },
		"ack":     func(t *rapid.T) { draw(t).ack() },
		"deliver": func(t *rapid.T) { draw(t).deliver() },
		"jobs":    func(t *rapid.T) { draw(t).jobs() },
		"works": func(t *rapid.T) { // all of it, for one follower
			r := draw(t)
			r.deliver()
			for range 5 {
				r.stream(1 << 20)
			}
			r.disk.sync()
			r.ack()
		},
		"time": func(t *rapid.T) {
			c.now = c.now.Add(time.Duration(rapid.IntRange(1, 11).Draw(t, "seconds")) * time.Second)
			for _, r := range c.nodes {
				r.p.look(c.now)
			}
		},
		"disconnect": func(t *rapid.T) {
			if r := draw(t); r.session != nil {
				r.session.Close()
				r.session = nil
			}
		},
		"late": func(t *rapid.T) { // what a stream of an earlier epoch still had under way
			r := draw(t)
			if len(r.late) == 0 {
				return
			}
			l := rapid.SampledFrom(r.late).Draw(t, "append")
			if _, epoch, _ := r.p.Leader(); l.epoch == epoch {
				return // a stream does not repeat itself
			}
			if l.deliver(r.p) == nil {
				t.Fatalf("broker %d took offset %d of a stream in epoch %d\n%s", r.id, l.from, l.epoch, c.writings)
			}
		},
		"fence": func(t *rapid.T) { c.fence(draw(t).id) },
		"prefer": func(t *rapid.T) {
			r := draw(t)
			if slices.Contains(c.meta.ISR, r.id) && c.meta.Leader != r.id {
				c.change("preferred", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch = r.id, p.LeaderEpoch+1 })
			}
		},
		"restart":  func(t *rapid.T) { c.restart(draw(t).id, minInsync) },
		"answers":  func(t *rapid.T) { c.drawAnswers(t) },
		"logStart": func(t *rapid.T) { c.raiseLogStart(t) },
		"":         func(*rapid.T) { c.check() },
	}
	if unclean {
		actions["unclean"] = func(t *rapid.T) {
			c.unclean = true
			r := draw(t)
			c.change("unclean", func(p *metadata.Partition) {
				p.Leader, p.LeaderEpoch, p.ISR = r.id, p.LeaderEpoch+1, []kafka.BrokerID{r.id}
			})
		}
	}
	if compacted {
		actions["compact"] = func(t *rapid.T) { draw(t).compact(rapid.Bool().Draw(t, "deletions")) }
		actions["wipe"] = func(t *rapid.T) { c.wipe(draw(t), minInsync) }
	}
	t.Repeat(actions)
	c.converged()
}

// drawAnswers decides what becomes of proposals from now on.
func (c *testCluster) drawAnswers(t *rapid.T) {
	c.answers = nil
	switch rapid.IntRange(0, 2).Draw(t, "answers") {
	case 0:
		c.answers = func() error { return errBefore }
	case 1:
		c.answers = func() error { return errAfter }
	}
}

// raiseLogStart deletes records where the partition is led.
func (c *testCluster) raiseLogStart(t *rapid.T) {
	for _, r := range c.nodes {
		if _, _, led := r.p.Leader(); led && r.p.HighWatermark() > 0 {
			to := kafka.Offset(rapid.Int64Range(0, int64(r.p.HighWatermark())).Draw(t, "log start"))
			if err := r.disk.SetLogStart(t.Context(), to); err != nil {
				t.Fatalf("log start %d: %v", to, err)
			}
			c.note("broker %d begins at %d", r.id, r.disk.LogStart())
		}
	}
}

// wipe has a replica come back with an empty disk, unless it is in sync.
func (c *testCluster) wipe(r *testReplica, minInsync int32) {
	if slices.Contains(c.meta.ISR, r.id) || c.meta.Leader == r.id {
		return
	}
	leader := c.node(c.meta.Leader).p
	leader.mu.Lock()
	proposed := leader.mu.progress.inMaximalISR(r.id) // it may have a proposal under way that takes it in
	leader.mu.Unlock()
	if proposed {
		return
	}
	c.restart(r.id, minInsync)
	r.p.leave(kafka.ErrNotLeaderOrFollower)
	heard := r.disk.heard
	r.disk = newMemDisk()
	r.disk.heard = heard
	r.start(minInsync)
	c.note("broker %d is wiped", r.id)
}
