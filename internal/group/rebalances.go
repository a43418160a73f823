package group

import (
	"sync/atomic"
	"time"
)

// rebalanceBounds are the upper bounds of the buckets of how long rebalances took, in seconds.
var rebalanceBounds = [...]float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

// Rebalances counts the rebalances that ended on this node since the start.
type Rebalances struct {
	Count   int64
	Seconds float64
	Bounds  []float64 // upper bounds of Buckets, in seconds
	Buckets []int64   // not cumulative; the last one has no bound
}

// rebalanceCounters are shared by all machines of a node.
type rebalanceCounters struct {
	count, nanos atomic.Int64
	buckets      [len(rebalanceBounds) + 1]atomic.Int64
}

func (c *rebalanceCounters) add(took time.Duration) {
	i := 0
	for i < len(rebalanceBounds) && took.Seconds() > rebalanceBounds[i] {
		i++
	}
	c.buckets[i].Add(1)
	c.nanos.Add(int64(took))
	c.count.Add(1)
}

// Rebalances counts the rebalances that ended here since the start.
func (s *Service) Rebalances() Rebalances {
	r := Rebalances{Bounds: rebalanceBounds[:], Count: s.rebalances.count.Load(), Seconds: time.Duration(s.rebalances.nanos.Load()).Seconds()}
	for i := range s.rebalances.buckets {
		r.Buckets = append(r.Buckets, s.rebalances.buckets[i].Load())
	}
	return r
}
