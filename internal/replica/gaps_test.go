package replica

import (
	"context"
	"errors"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/metadata"
	"chronik/internal/record"
)

// away takes a replica out: it hears nothing any more.
func (c *testCluster) away(id kafka.BrokerID) *testReplica {
	r := c.node(id)
	r.leader = kafka.NoLeader
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
	c.fence(id)
	return r
}

// back lets a replica follow the leader again.
func (c *testCluster) back(r *testReplica) {
	r.deliver()
	r.leader, r.follows, r.session = c.meta.Leader, c.meta.LeaderEpoch, nil
}

// others lets all but one replica work until nothing happens.
func (c *testCluster) others(but *testReplica) {
	for range 50 {
		for _, r := range c.nodes {
			if r == but {
				continue
			}
			r.deliver()
			for r.stream(1 << 20) {
			}
			r.disk.sync()
			r.ack()
			r.jobs()
		}
	}
}

func (c *testCluster) appendAll(n int) {
	for range n {
		c.node(c.meta.Leader).append()
	}
}

// follow is what the leader answers to a replica that follows now.
func (r *testReplica) follow() FollowDecision {
	at, err := r.p.FollowPosition(r.follows)
	if err != nil {
		r.c.t.Fatalf("%v", err)
	}
	return r.c.node(r.leader).p.Follow(FollowRequest{Follower: r.id, BrokerEpoch: r.epoch, LeaderEpoch: r.follows, LogEnd: at.LogEnd, LastEpoch: at.LastEpoch})
}

// A follower that was away while deletions were removed begins anew, whoever leads when it comes back, and is not made to
// begin again in the middle of it.
func TestMissedDeletions(t *testing.T) {
	for _, elected := range []kafka.BrokerID{1, 2} {
		c := newTestCluster(t, 1)
		c.keys = 1000
		c.settle()
		c.appendAll(10)
		c.settle()
		late := c.away(3)
		c.appendAll(20)
		c.others(late)
		c.node(1).compact(true)
		if elected == 2 { // it was filled by the first one after that, and knows of deletions only what that one told
			c.away(2)
			c.node(1).deliver()
			c.wipe(c.node(2), 1)
			c.others(late)
			c.now = c.now.Add(1)
			c.node(1).p.look(c.now)
			c.others(late)
			c.change("elected", func(p *metadata.Partition) {
				p.Leader, p.LeaderEpoch, p.ISR = 2, p.LeaderEpoch+1, []kafka.BrokerID{1, 2}
			})
			c.others(late)
		}
		c.back(late)
		if d := late.follow(); d.Action != FollowReset {
			t.Fatalf("broker %d leads: a follower that ends at %d gets action %d, %v", elected, late.disk.LogEnd(), d.Action, d.Err)
		}
		late.stream(1) // the reset
		late.stream(1) // follows
		late.stream(1)
		if end := late.disk.LogEnd(); end == 0 || end >= 20 {
			t.Fatalf("after one batch the log ends at %d", end)
		}
		late.session.Close()
		late.session = nil
		if d := late.follow(); d.Action != FollowStream {
			t.Fatalf("in the middle of it, at %d, it gets action %d, %v", late.disk.LogEnd(), d.Action, d.Err)
		}
		c.appendAll(20) // keys are deleted that it has got
		c.others(late)
		c.node(c.meta.Leader).compact(true)
		if d := late.follow(); d.Action != FollowReset {
			t.Fatalf("more deletions were removed since, and at %d it gets action %d, %v", late.disk.LogEnd(), d.Action, d.Err)
		}
		c.settle()
		c.converged()
	}
}

// Deletions that are removed while a follower is streamed to end its stream, unless it has got them.
func TestDeletionsRemovedUnderAStream(t *testing.T) {
	c := newTestCluster(t, 1)
	c.settle()
	c.appendAll(10)
	c.settle()
	late := c.away(3)
	c.appendAll(20)
	c.others(late)
	c.back(late)
	late.stream(1) // follows
	late.stream(1)
	session := late.session
	c.node(1).compact(true)
	if _, err := c.node(1).p.ReadForFollower(session, nil, late.next, 1); !errors.Is(err, kafka.ErrOffsetOutOfRange) {
		t.Errorf("the stream goes on from %d: %v", late.next, err)
	}
	deletes, _ := c.node(1).disk.DeletesRemovedBelow()
	if _, err := c.node(1).p.ReadForFollower(session, nil, deletes, 1); err != nil {
		t.Errorf("from %d, where nothing is missing: %v", deletes, err)
	}
	c.converged()
}

// A follower knows in which leader epoch each offset was written, also where nothing is left of an epoch's beginning: as a
// leader it has an old one cut what was never committed.
func TestEpochsInGaps(t *testing.T) {
	c := newTestCluster(t, 1)
	c.settle()
	c.appendAll(3)
	c.settle()
	old := c.node(1)
	old.append() // offset 3 in epoch 0: nobody else has it
	old.disk.sync()
	c.away(3)
	old.leader = kafka.NoLeader
	c.change("broker 1 is cut off", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 2, 1, []kafka.BrokerID{2} })
	c.node(2).deliver()
	c.appendAll(12)
	c.node(2).disk.sync()
	// Of epoch 1 the beginning goes.
	c.node(2).disk.compact(14, func(b record.Batch) (bool, bool) { c.gone[b.BaseOffset()] = true; return true, false })
	c.wipe(c.node(3), 1)
	c.others(old)
	c.change("elected", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 3, 2, []kafka.BrokerID{2, 3} })
	c.others(old)
	old.deliver()
	if at := c.node(3).disk.EndOffsetForEpoch(0); at.Epoch != 0 || at.Offset != 3 {
		t.Fatalf("broker 3 has the end of epoch 0 at %+v", at)
	}
	if d := old.follow(); d.Action != FollowTruncate || d.Truncate != (EpochEnd{0, 3}) {
		t.Fatalf("broker 1, which ends at %d: %+v", old.disk.LogEnd(), d)
	}
	c.settle()
	if b := old.disk.at(3); b != nil {
		t.Errorf("what was never committed is still there: %v", b)
	}
}

// What does not begin at the log's end is no gap, whatever it holds.
func TestLostFrameIsNoGap(t *testing.T) {
	c := newTestCluster(t, 1)
	c.settle()
	c.appendAll(10)
	c.settle()
	r := c.node(2)
	b := record.Batch(batch(1))
	b.SetBaseOffset(14)
	for _, from := range []kafka.Offset{9, 11, 14} {
		s := log.Stretch{From: from, Next: 15, Batches: b}
		if err := r.p.AppendStretch(0, &s, 0, 0); !errors.Is(err, kafka.ErrOffsetOutOfRange) || r.disk.LogEnd() != 10 {
			t.Errorf("a stretch from %d was taken, the log ends at %d: %v", from, r.disk.LogEnd(), err)
		}
	}
	if err := r.p.AppendFollower(0, 14, b, 0, 0, false); err == nil {
		t.Error("a batch behind the end was taken")
	}
	s := log.Stretch{From: 10, Next: 15, Epochs: []log.EpochOffset{{Epoch: 1, Offset: 12}}, Batches: b}
	if err := r.p.AppendStretch(0, &s, 0, 0); !errors.Is(err, kafka.ErrCorruptMessage) {
		t.Errorf("a stretch of a later epoch was taken: %v", err)
	}
}

// After an unclean election a cut into what was compacted is no cut: older values that are gone would be missed.
func TestCutBelowCompaction(t *testing.T) {
	c := newTestCluster(t, 1)
	c.settle()
	c.appendAll(5)
	c.settle()
	short := c.away(3)
	c.appendAll(20)
	c.others(short)
	c.node(1).compact(false)
	c.unclean = true
	c.change("unclean", func(p *metadata.Partition) { p.Leader, p.LeaderEpoch, p.ISR = 3, p.LeaderEpoch+1, []kafka.BrokerID{3} })
	c.node(3).deliver()
	c.node(1).deliver()
	epoch := c.meta.LeaderEpoch
	if err := c.node(1).p.TruncateFollower(context.Background(), epoch, EpochEnd{0, 5}); err != nil {
		t.Fatal(err)
	}
	if end := c.node(1).disk.LogEnd(); end != 0 {
		t.Errorf("it ends at %d, with what is left of older values", end)
	}
	c.converged()
}
