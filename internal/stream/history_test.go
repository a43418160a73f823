package stream

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/kafka"
)

// Leaders and followers change, nodes crash, connections are reset in the middle of a frame, links are slow: in the end all
// logs are the same, and nothing that was committed is lost.
func TestHistories(t *testing.T) {
	eachSeed(t, 60, 10, history)
}

func history(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := newFakeCluster(t, 3, Options{Limits: Limits{
		CatchUpBytes: int64(rng.IntN(100_000) + 1000), PartitionWindow: int64(rng.IntN(50_000) + 5000), StreamWindow: int64(rng.IntN(100_000) + 10_000),
		FrameBytes: rng.IntN(20_000) + 500,
	}})
	partitions := rng.IntN(5) + 1
	type state struct {
		leader kafka.BrokerID
		epoch  kafka.LeaderEpoch
		end    kafka.Offset
	}
	states := make([]*state, partitions)
	for i := range states {
		states[i] = &state{leader: kafka.BrokerID(rng.IntN(3) + 1)}
		c.elect(partitionID(i), states[i].leader, 0, 1, 2, 3)
	}
	c.net.setDelay(func(from, to string) time.Duration { return time.Duration(len(from)%3) * time.Millisecond })
	elect := func(i int, leader kafka.BrokerID) {
		st := states[i]
		st.leader, st.epoch = leader, st.epoch+1
		for _, n := range rng.Perm(3) { // they learn of it in any order
			if node := c.nodes[kafka.BrokerID(n+1)]; !node.isDown() {
				node.apply(partitionID(i), leader, st.epoch, 1, 2, 3)
			}
			time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
		}
	}
	down := kafka.BrokerID(0)
	for range 300 {
		i := rng.IntN(partitions)
		st := states[i]
		switch rng.IntN(20) {
		case 0: // a new leader, among those that have all that is committed: any of these, as all replicas are in sync
			if leader := kafka.BrokerID(rng.IntN(3) + 1); leader != down {
				elect(i, leader)
			}
		case 1:
			for _, conn := range c.net.touching(address(kafka.BrokerID(rng.IntN(3) + 1))) {
				if rng.IntN(2) == 0 {
					conn.resetAfter(rng.IntN(3000))
				}
			}
		case 2:
			c.net.resetAll(address(kafka.BrokerID(rng.IntN(3) + 1)))
		case 3:
			if down == 0 {
				down = kafka.BrokerID(rng.IntN(3) + 1)
				if rng.IntN(2) == 0 {
					c.nodes[down].crash()
				} else {
					c.nodes[down].stop()
				}
				for j := range states {
					if states[j].leader == down {
						elect(j, down%3+1)
					}
				}
			}
		case 4:
			if down != 0 {
				c.nodes[down].start()
				for j, st := range states {
					c.nodes[down].apply(partitionID(j), st.leader, st.epoch, 1, 2, 3)
				}
				down = 0
			}
		case 5:
			c.nodes[kafka.BrokerID(rng.IntN(3)+1)].setSync(time.Duration(rng.IntN(20)) * time.Millisecond)
			c.nodes[kafka.BrokerID(rng.IntN(3)+1)].dawdle(func() time.Duration { return time.Duration(rng.IntN(2)*rng.IntN(5000)) * time.Microsecond })
		case 6:
			time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		default:
			p := c.nodes[st.leader].part(partitionID(i))
			for range rng.IntN(20) {
				p.produce(rng.IntN(5)+1, rng.IntN(2000))
			}
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond)
		}
		for j, st := range states {
			for _, n := range c.ordered() {
				p := n.part(partitionID(j))
				p.mu.Lock()
				if p.led && p.hw > st.end {
					st.end = p.hw
				}
				p.mu.Unlock()
			}
			for _, n := range c.ordered() {
				if _, durable, _ := n.part(partitionID(j)).ends(); durable < st.end {
					t.Fatalf("partition %d: %d is committed, and not on the disk of node %d: %s", j, st.end, n.id, c.describe(partitionID(j)))
				}
			}
		}
	}
	for _, n := range c.ordered() {
		n.setSync(0)
		n.dawdle(func() time.Duration { return 0 })
	}
	if down != 0 {
		c.nodes[down].start()
		for j, st := range states {
			c.nodes[down].apply(partitionID(j), st.leader, st.epoch, 1, 2, 3)
		}
		down = 0
	}
	// Nothing happens any more that could make good what was missed before.
	time.Sleep(time.Minute)
	for j, st := range states {
		want, _, _ := c.nodes[st.leader].part(partitionID(j)).ends()
		for _, n := range c.ordered() {
			if end, durable, hw := n.part(partitionID(j)).ends(); end != want || durable != want || hw != want {
				t.Errorf("partition %d has not converged on node %d: %s", j, n.id, c.describe(partitionID(j)))
			}
		}
	}
	for j := range states {
		elect(j, states[j].leader)
		p := c.nodes[states[j].leader].part(partitionID(j))
		end := p.produce(1, 10)
		if end < states[j].end {
			t.Errorf("%d was committed, the log ends at %d", states[j].end, end)
		}
		done := make(chan bool, 1)
		go func() { done <- p.committed(end) }()
		select {
		case ok := <-done:
			if !ok {
				t.Error("not committed")
			}
		case <-time.After(time.Minute):
			t.Errorf("partition %d does not converge: %s", j, c.describe(partitionID(j)))
			p.mu.Lock()
			p.led = false
			p.change.Broadcast()
			p.mu.Unlock()
		}
		c.equal(partitionID(j))
	}
	c.close()
}

func (p *fakePart) ends() (end, durable, hw kafka.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end, p.durable, p.hw
}

func (c *fakeCluster) describe(id kafka.TopicPartition) string {
	s := ""
	for _, n := range c.ordered() {
		p := n.part(id)
		p.mu.Lock()
		s += fmt.Sprintf("\nnode %d: leader %d epoch %d led %v end %d durable %d hw %d acked %v epochs %v last epoch %d", n.id, p.leader, p.epoch, p.led, p.end, p.durable, p.hw, p.acked, p.epochs, p.lastEpochLocked())
		p.mu.Unlock()
		s += fmt.Sprintf(" %+v", n.streams.Stats())
	}
	return s
}
