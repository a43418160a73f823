package log

import (
	"math/rand/v2"

	"pgregory.net/rapid"

	"chronik/internal/record"
)

// cleanAndDie compacts, and the process dies at one of its operations on files, or the power goes; the next start may die, too.
// What was compacted until then counts, all the rest is as it was.
func (c *compactor) cleanAndDie(rt *rapid.T) {
	c.hw = c.l.LogEnd()
	o := cleanUpTo(c.l, c.now, c.hw)
	o.DeleteRetention = rapid.SampledFrom([]int64{0, 1000, 100_000}).Draw(rt, "delete retention")
	o.MapBytes = int64(rapid.SampledFrom([]int{2, 4, 1000}).Draw(rt, "keys")) * offsetMapEntryBytes
	before, left := everythingRaw(rt, c.l), c.left()
	producers, dirty := c.l.mu.producers, c.l.FirstDirty()
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
	c.fs.KillAfter(int64(rapid.IntRange(1, 40).Draw(rt, "operations")), rng)
	_, _ = c.l.Clean(o)
	_ = c.l.Close()
	c.o.Checkpoint, c.o.Unclean = &o.Durable, true
	if rapid.Bool().Draw(rt, "killed first") {
		c.fs = c.fs.Kill()
		c.fs.KillAfter(int64(rapid.IntRange(1, 15).Draw(rt, "operations of the next start")), rng)
		c.o.FS = c.fs
		if l, err := Open(c.o); err == nil {
			_ = l.FinishRecovery()
			_ = l.Close()
		}
	}
	c.fs = c.fs.PowerLoss(rng)
	c.o.FS = c.fs
	c.open()
	c.l.OnHighWatermark(c.hw)
	c.o.Unclean = false
	for id, p := range producers.byID {
		if q := c.l.mu.producers.byID[id]; q == nil || q.epoch != p.epoch || q.lastSequence() != p.lastSequence() || q.txnFirst != p.txnFirst {
			rt.Fatalf("producer %d was %+v and is %+v", id, p, q)
		}
	}
	after := everythingRaw(rt, c.l)
	for offset := range before {
		if !after[offset] {
			c.mayGo(offset, c.hw)
		}
	}
	for offset := range after {
		if !before[offset] {
			rt.Fatalf("offset %d was not there before", offset)
		}
	}
	if f := c.l.FirstDirty(); f > dirty && f > c.hw {
		rt.Fatalf("it counts as compacted to offset %d, was to %d", f, dirty)
	}
	c.clean = c.l.FirstDirty()
	c.readHorizons(left)
	noneLeftOver(rt, c.fs, c.o.Dir)
}

// readHorizons notes which horizons a compaction came to set.
func (c *compactor) readHorizons(left map[*modelTxn]bool) {
	for rest := readAll(c.rt, c.l, c.l.LogStart(), 4000); len(rest) > 0; {
		b, more, _ := record.Next(rest)
		rest = more
		horizon, has := b.DeleteHorizon()
		if !has {
			continue
		}
		for o := b.BaseOffset(); o <= b.LastOffset(); o++ {
			if w := c.records[o]; w != nil && w.tombstone && w.horizon == 0 {
				w.horizon = max(horizon, 1)
			}
			if txn := c.markers[o]; txn != nil && txn.horizon == 0 {
				if left[txn] && c.l.LogStart() == 0 {
					c.rt.Fatalf("the marker at %d has a horizon, and there are batches of its transaction", o)
				}
				txn.horizon = max(horizon, 1)
			}
		}
	}
}
