package stream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/peer"
)

func TestThreeReplicasCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3, Options{})
		id := partitionID(0)
		c.elect(id, 1, 0, 1, 2, 3)
		p := c.nodes[1].part(id)
		for range 100 {
			if end := p.produce(3, 100); !p.committed(end) {
				t.Fatal("not committed")
			}
		}
		time.Sleep(100 * time.Millisecond)
		c.equal(id)
		for _, n := range []kafka.BrokerID{2, 3} {
			if hw := c.nodes[n].part(id).hw; hw != 300 {
				t.Errorf("node %d knows a high watermark of %d", n, hw)
			}
		}
		c.close()
	})
}

// An acks=all produce takes max(leader's sync, out + follower's sync + back), exactly.
func TestLatency(t *testing.T) {
	ms := time.Millisecond
	for _, x := range []struct{ leader, out, follower, back, want time.Duration }{
		{10 * ms, 2 * ms, 3 * ms, 1 * ms, 10 * ms},
		{2 * ms, 2 * ms, 3 * ms, 1 * ms, 6 * ms},
		{0, 5 * ms, 0, 7 * ms, 12 * ms},
		{6 * ms, 2 * ms, 3 * ms, 1 * ms, 6 * ms},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newFakeCluster(t, 3, Options{})
			c.net.setDelay(func(from, to string) time.Duration {
				switch {
				case from == address(1):
					return x.out
				case to == address(1):
					return x.back
				}
				return 0
			})
			c.nodes[1].setSync(x.leader)
			c.nodes[2].setSync(x.follower)
			c.nodes[3].setSync(x.follower / 2)
			id := partitionID(0)
			c.elect(id, 1, 0, 1, 2, 3)
			p := c.nodes[1].part(id)
			p.committed(p.produce(1, 100))
			for range 20 {
				time.Sleep(time.Second)
				before := time.Now()
				p.committed(p.produce(1, 100))
				if took := time.Since(before); took != x.want {
					t.Fatalf("%+v: took %v", x, took)
				}
			}
			c.close()
		})
	}
}

// The old leader has what nobody else has; the new one writes something else at the same offsets.
func TestDivergence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3, Options{})
		id := partitionID(0)
		c.elect(id, 1, 0, 1, 2, 3)
		p := c.nodes[1].part(id)
		p.committed(p.produce(5, 50))
		for _, n := range []kafka.BrokerID{2, 3} {
			c.net.setCut(address(1), address(n), true)
		}
		for range 10 {
			p.produce(2, 50) // streamed into nothing
		}
		for _, n := range []kafka.BrokerID{2, 3} {
			c.nodes[n].apply(id, 2, 1, 1, 2, 3)
		}
		q := c.nodes[2].part(id)
		q.produce(7, 30)
		q.produce(1, 30)
		for _, n := range []kafka.BrokerID{2, 3} {
			c.net.setCut(address(1), address(n), false)
		}
		c.nodes[1].apply(id, 2, 1, 1, 2, 3)
		if !q.committed(q.produce(1, 10)) {
			t.Fatal("not committed")
		}
		c.equal(id)
		if p.truncs == 0 {
			t.Error("the old leader cut nothing")
		}
		c.close()
	})
}

// TestDurableWhileFollowing: what becomes durable between the position that a Follow tells and the session that it begins is
// acknowledged all the same, though nothing else comes.
func TestDurableWhileFollowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		id := partitionID(0)
		c.elect(id, 1, 0, 1, 2)
		leader, follower := c.nodes[1].part(id), c.nodes[2].part(id)
		time.Sleep(time.Second)
		c.nodes[2].setSync(time.Second)
		end := leader.produce(1, 100)
		time.Sleep(100 * time.Millisecond) // it is there, and not yet durable
		follower.mu.Lock()
		follower.linger = 2 * time.Second
		follower.mu.Unlock()
		c.elect(id, 1, 1, 1, 2)
		time.Sleep(time.Minute)
		leader.mu.Lock()
		defer leader.mu.Unlock()
		if leader.hw != end {
			t.Fatalf("the watermark is %d, both logs are durable up to %d; acknowledged: %v", leader.hw, end, leader.acked)
		}
	})
}

func TestFollowerRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 3, Options{})
		id := partitionID(0)
		c.elect(id, 1, 0, 1, 2, 3)
		p := c.nodes[1].part(id)
		for i := range 20 {
			p.committed(p.produce(5, 50))
			c.nodes[3].setSync(time.Second) // so that there is something to lose
			for range i {
				p.produce(3, 50)
			}
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			if i%2 == 0 {
				c.nodes[3].crash()
			} else {
				c.nodes[3].stop()
			}
			p.produce(1, 1000)
			c.nodes[3].setSync(0)
			c.nodes[3].start()
			c.nodes[3].apply(id, 1, 0, 1, 2, 3)
			if end := p.produce(1, 10); !p.committed(end) {
				t.Fatal("not committed")
			}
			c.equal(id)
		}
		c.close()
	})
}

// A follower that knows of an election first waits for the leader, that partition alone, and not for ever.
func TestParking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		other, id, unknown := partitionID(0), partitionID(1), partitionID(2)
		c.elect(other, 1, 0, 1, 2)
		c.elect(id, 1, 0, 1, 2)
		c.nodes[2].apply(id, 1, 1, 1, 2)
		c.nodes[2].apply(unknown, 1, 0, 1, 2)
		time.Sleep(500 * time.Millisecond)
		p := c.nodes[1].part(other)
		before := time.Now()
		if !p.committed(p.produce(1, 10)) || time.Since(before) > 0 {
			t.Fatal("another partition waited")
		}
		st := c.nodes[1].streams.Stats()
		if st.Parked != 2 || st.Refusals != 0 {
			t.Fatalf("%+v", st)
		}
		before = time.Now()
		c.nodes[1].apply(id, 1, 1, 1, 2)
		c.nodes[1].apply(unknown, 1, 0, 1, 2)
		for _, id := range []kafka.TopicPartition{id, unknown} {
			p := c.nodes[1].part(id)
			if !p.committed(p.produce(1, 10)) || time.Since(before) > 0 {
				t.Fatal("the parked partition waited after the leader knew")
			}
		}
		// And now the leader never learns.
		c.nodes[2].apply(id, 1, 2, 1, 2)
		time.Sleep(10 * time.Second)
		if st := c.nodes[1].streams.Stats(); st.Refusals == 0 || st.Refusals > 6 {
			t.Errorf("%+v", st)
		}
		c.nodes[1].apply(id, 1, 2, 1, 2)
		p = c.nodes[1].part(id)
		if !p.committed(p.produce(1, 10)) {
			t.Fatal("not committed")
		}
		c.close()
	})
}

func TestParkingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{Limits: Limits{Parked: 10}})
		for i := range 30 {
			c.nodes[2].apply(partitionID(i), 1, 0, 1, 2)
		}
		time.Sleep(20 * time.Millisecond)
		st := c.nodes[1].streams.Stats()
		if st.Parked > 10 || st.Refusals < 20 {
			t.Errorf("%+v", st)
		}
		for i := range 30 {
			c.nodes[1].apply(partitionID(i), 1, 0, 1, 2)
		}
		for i := range 30 {
			p := c.nodes[1].part(partitionID(i))
			if !p.committed(p.produce(1, 10)) {
				t.Fatal("not committed")
			}
		}
		c.close()
	})
}

func TestManyPartitionsOneStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const partitions = 300 // whose frames together fit what a connection reads at once
		c := newFakeCluster(t, 3, Options{})
		for i := range partitions {
			c.elect(partitionID(i), 1, 0, 1, 2, 3)
		}
		time.Sleep(time.Second)
		const sync = 10 * time.Millisecond
		c.nodes[2].setSync(sync)
		c.nodes[3].setSync(sync)
		before := c.nodes[2].streams.Stats()
		start := time.Now()
		for i := range partitions {
			c.nodes[1].part(partitionID(i)).produce(1, 20)
		}
		for i := range partitions {
			p := c.nodes[1].part(partitionID(i))
			p.committed(p.end)
		}
		// All are appended at one instant of the fake clock, and so is all sent that is not held. The first group commit takes what
		// comes first; the second, what had come by its end; the third, what the leader held until the first ack. However the
		// scheduler deals them out: three group commits, and an Ack frame for each.
		if took := time.Since(start); took > 3*sync {
			t.Errorf("took %v: more than three group commits", took)
		}
		st := c.nodes[2].streams.Stats()
		if acks := st.AckFramesSent - before.AckFramesSent; acks > 3 {
			t.Errorf("%d Ack frames for three group commits", acks)
		}
		if st := c.nodes[1].streams.Stats(); st.Inbound != 2 || st.HotFeeds != 2*partitions {
			t.Errorf("%+v", st)
		}
		for i := range partitions {
			c.equal(partitionID(i))
		}
		c.close()
	})
}

// A follower whose disk hangs holds up neither the leader nor the other follower, and the leader holds no more for it
// than the window.
func TestSlowFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Limits{PartitionWindow: 64 << 10, StreamWindow: 96 << 10, CatchUpBytes: 1 << 30}
		c := newFakeCluster(t, 3, Options{Limits: l})
		ids := []kafka.TopicPartition{partitionID(0), partitionID(1)}
		for _, id := range ids {
			c.elect(id, 1, 0, 1, 2, 3)
			p := c.nodes[1].part(id)
			p.committed(p.produce(1, 10))
		}
		c.nodes[3].setSync(time.Hour)
		for range 500 {
			for _, id := range ids {
				p := c.nodes[1].part(id)
				end := p.produce(1, 1000)
				if f := c.nodes[2].part(id); !reaches(f, end, time.Second) {
					t.Fatalf("the other follower has %d of %d", f.end, end)
				}
			}
		}
		for _, lag := range c.nodes[1].streams.Lags() {
			if lag.Follower == 3 && lag.InFlight > l.PartitionWindow+2000 {
				t.Errorf("%d bytes are under way to %d, the window is %d", lag.InFlight, lag.Follower, l.PartitionWindow)
			}
		}
		if st := c.nodes[1].streams.Stats(); st.InFlightBytes > l.StreamWindow+2000 {
			t.Errorf("%d bytes are under way, the window is %d", st.InFlightBytes, l.StreamWindow)
		}
		c.close()
	})
}

func reaches(p *fakePart, end kafka.Offset, within time.Duration) bool {
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Microsecond) {
		p.mu.Lock()
		at := p.durable
		p.mu.Unlock()
		if at >= end {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// A follower that is far behind catches up over the other connection, while hot traffic of its other partition flows, and
// goes back to the hot one without a gap.
func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{Limits: Limits{CatchUpBytes: 256 << 10, PartitionWindow: 128 << 10, FrameBytes: 32 << 10, CatchUpRate: 1 << 20}})
		hot, far := partitionID(0), partitionID(1)
		c.nodes[1].apply(hot, 1, 0, 1, 2)
		c.nodes[1].apply(far, 1, 0, 1, 2)
		q := c.nodes[1].part(far)
		for range 5000 {
			q.produce(1, 1000)
		}
		c.nodes[2].setSync(time.Millisecond)
		c.nodes[2].apply(hot, 1, 0, 1, 2)
		p := c.nodes[1].part(hot)
		p.committed(p.produce(1, 10))
		c.nodes[2].apply(far, 1, 0, 1, 2)
		sawCatchUp := false
		var worst time.Duration
		began := time.Now()
		for !reaches(c.nodes[2].part(far), q.end, 0) {
			before := time.Now()
			p.committed(p.produce(1, 100))
			worst = max(worst, time.Since(before))
			q.produce(1, 100)
			time.Sleep(time.Millisecond)
			sawCatchUp = sawCatchUp || c.nodes[1].streams.Stats().CatchUpFeeds > 0
			if time.Since(began) > time.Minute {
				t.Fatal("it never catches up")
			}
		}
		if took := time.Since(began); took < 3*time.Second {
			t.Errorf("5 MB were caught up with in %v, at 1 MB a second", took)
		}
		if !sawCatchUp || worst > 5*time.Millisecond {
			t.Errorf("caught up over the other connection: %v; slowest hot produce %v", sawCatchUp, worst)
		}
		time.Sleep(10 * time.Millisecond)
		if st := c.nodes[1].streams.Stats(); st.CatchUpFeeds != 0 || st.HotFeeds != 2 {
			t.Errorf("%+v", st)
		}
		if p := c.nodes[2].part(far); p.truncs+p.resets > 0 {
			t.Error("catching up cut the log")
		}
		if st := c.nodes[2].streams.Stats(); st.FollowRetries > 0 {
			t.Errorf("%+v", st)
		}
		c.equal(hot)
		c.equal(far)
		time.Sleep(10 * time.Second)
		if st := c.nodes[1].streams.Stats(); st.Inbound != 1 {
			t.Errorf("%d connections, although the catch-up connection has nothing to do", st.Inbound)
		}
		c.close()
	})
}

func TestBelowTheLogStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		id := partitionID(0)
		p := c.nodes[1].apply(id, 1, 0, 1, 2)
		for range 10 {
			p.produce(1, 10)
		}
		p.mu.Lock()
		p.batches, p.logStart = p.batches[5:], 5
		p.mu.Unlock()
		q := c.nodes[2].apply(id, 1, 0, 1, 2)
		if !p.committed(p.produce(1, 10)) {
			t.Fatal("not committed")
		}
		if q.resets != 1 || q.logStart != 5 {
			t.Errorf("%d resets, log start %d", q.resets, q.logStart)
		}
		c.equal(id)
		c.close()
	})
}

// Connections are made when the first partition needs one and closed when the last one has gone.
func TestIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		time.Sleep(time.Second)
		if st := c.nodes[2].streams.Stats(); st.Outbound != 0 {
			t.Errorf("%+v", st)
		}
		id := partitionID(0)
		for epoch := range kafka.LeaderEpoch(3) {
			c.elect(id, 1, epoch, 1, 2)
			time.Sleep(time.Second)
			if st := c.nodes[2].streams.Stats(); st.Outbound != 1 {
				t.Errorf("%+v", st)
			}
		}
		if st := c.nodes[2].streams.Stats(); st.Connects != 1 {
			t.Errorf("a new epoch made a new connection: %+v", st)
		}
		c.nodes[2].apply(id, kafka.NoLeader, 9, 1, 2)
		time.Sleep(10 * time.Second)
		if st := c.nodes[2].streams.Stats(); st.Outbound != 0 {
			t.Errorf("%+v", st)
		}
		if st := c.nodes[1].streams.Stats(); st.Inbound != 0 || st.HotFeeds != 0 || len(c.nodes[1].streams.led.feeds) != 0 {
			t.Errorf("%+v", st)
		}
		c.elect(id, 1, 10, 1, 2)
		p := c.nodes[1].part(id)
		if !p.committed(p.produce(1, 10)) {
			t.Error("not committed")
		}
		c.close()
	})
}

// What a follower's disk refuses is tried again, with pauses.
func TestFollowerDiskRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		id := partitionID(0)
		c.elect(id, 1, 0, 1, 2)
		p, q := c.nodes[1].part(id), c.nodes[2].part(id)
		p.committed(p.produce(1, 10))
		q.mu.Lock()
		q.refuse = errors.New("no space left")
		q.mu.Unlock()
		end := p.produce(1, 10)
		time.Sleep(10 * time.Second)
		if st := c.nodes[2].streams.Stats(); st.FollowRetries < 5 || st.FollowRetries > 20 {
			t.Errorf("%+v", st)
		}
		q.mu.Lock()
		q.refuse = nil
		q.mu.Unlock()
		if !p.committed(end) {
			t.Error("not committed")
		}
		c.equal(id)
		c.close()
	})
}

// A catch-up connection that ends while partitions use it goes on where it was.
func TestCatchUpConnectionIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{Limits: Limits{CatchUpBytes: 64 << 10, PartitionWindow: 64 << 10, FrameBytes: 16 << 10}})
		id := partitionID(0)
		p := c.nodes[1].apply(id, 1, 0, 1, 2)
		for range 2000 {
			p.produce(1, 1000)
		}
		c.net.setDelay(func(string, string) time.Duration { return time.Millisecond })
		c.nodes[2].apply(id, 1, 0, 1, 2)
		resets := 0
		for !reaches(c.nodes[2].part(id), p.end, 0) {
			time.Sleep(15 * time.Millisecond)
			for _, o := range c.nodes[1].streams.outbounds() {
				if o.kind == peer.CatchUp && resets < 5 {
					resets++
					_ = o.conn.Close()
				}
			}
		}
		if resets == 0 {
			t.Error("there was no catch-up connection")
		}
		time.Sleep(time.Second)
		c.equal(id)
		c.close()
	})
}

// A log that is to be cut, and is the same after it, is not asked for again and again: such a loop would take all that a
// core and a network can do.
func TestCutThatChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeCluster(t, 2, Options{})
		id := partitionID(0)
		c.nodes[2].apply(id, 2, 0, 1, 2)
		q := c.nodes[2].part(id)
		q.produce(3, 10) // nobody else has these
		q.mu.Lock()
		q.stubborn = true
		q.mu.Unlock()
		c.elect(id, 1, 1, 1, 2)
		p := c.nodes[1].part(id)
		end := p.produce(1, 10)
		time.Sleep(10 * time.Second)
		if st := c.nodes[2].streams.Stats(); st.FollowRetries < 5 || st.FollowRetries > 20 {
			t.Errorf("%+v", st)
		}
		q.mu.Lock()
		q.stubborn = false
		q.mu.Unlock()
		if !p.committed(end) {
			t.Error("not committed")
		}
		c.equal(id)
		c.close()
	})
}
