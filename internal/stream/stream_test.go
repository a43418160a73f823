package stream

import (
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
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
