package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/replica"
	"chronik/internal/vfs"
)

// A compacted topic under the faults of TestRealHistories, with every node compacting all the time and deletions that are
// removed soon, and with nodes that come back with an empty disk or after a long time: in the end all replicas mean the
// same, which is the last value of each key that was acknowledged or a later one, and no record has changed its offset.
func TestCompactedHistories(t *testing.T) {
	eachSeed(t, 20, 4, func(t *testing.T, seed uint64) { newCompactedHistory(t, seed).run() })
}

// write is what somebody tried to append: a value of a key, or its deletion.
type write struct {
	key, value string // no value: a deletion
	offset     kafka.Offset
}

type compactedHistory struct {
	realHistory
	writes  map[string]write // by text, acknowledged or not
	acked   map[string]write // by key, the last one
	perhaps map[string]int   // deletions by key that may have been appended, or not
}

func newCompactedHistory(t *testing.T, seed uint64) *compactedHistory {
	h := &compactedHistory{realHistory: *newRealHistory(t, seed), writes: map[string]write{}, acked: map[string]write{}, perhaps: map[string]int{}}
	h.parts = 1
	h.c.compacted = true
	h.c.set = func(c *config.Config) {
		c.Topic.SegmentBytes = int32(4<<10 + h.rng.IntN(60<<10))
		c.Topic.IndexIntervalBytes = 1000
		c.WALReferenceMinBytes, c.CheckpointBytes = 20_000, 64<<10
		c.CleanerBackoff = 50 * time.Millisecond
		c.Topic.CleanupPolicy = config.CleanupPolicy{Compact: true}
		c.Topic.MinCleanableDirtyRatio = 0.01
		c.Topic.DeleteRetentionMillis = int64(h.rng.IntN(2) * h.rng.IntN(3000))
		c.Topic.MaxCompactionLagMillis = int64(1 + h.rng.IntN(2000))
	}
	return h
}

func (h *compactedHistory) run() {
	id := realID(0)
	h.c.meta.createTopic(id.Topic, "table", 1, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
	h.c.start()
	for range 1 + h.rng.IntN(3) {
		rng := rand.New(rand.NewPCG(h.rng.Uint64(), 3))
		h.done.Go(func() { h.producer(rng) })
	}
	for range 60 {
		if h.rng.IntN(8) == 0 {
			h.wipe()
		} else {
			h.step()
		}
		time.Sleep(time.Duration(h.rng.IntN(400)) * time.Millisecond)
	}
	h.heal()
	time.Sleep(2 * time.Second)
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	h.done.Wait()
	h.c.converge(id)
	time.Sleep(time.Second) // once more with everybody's compaction
	h.c.converge(id)
	h.compare(id)
	var runs, stretches int64
	for _, n := range h.c.ordered() {
		runs += n.store.Stats().Cleaner.Runs
		stretches += n.streams.Stats().StretchesReceived
	}
	t := h.t
	t.Logf("%d compactions, %d stretches since the last restarts", runs, stretches)
	h.c.stop()
}

// wipe has a node that is down, and in no in-sync set, come back with an empty disk.
func (h *compactedHistory) wipe() {
	meta := h.c.meta.partition(realID(0))
	if h.down == 0 || slices.Contains(meta.ISR, h.down) {
		return
	}
	h.c.nodes[h.down].fs = vfs.NewMem(0)
	h.restart()
}

func (h *compactedHistory) producer(rng *rand.Rand) {
	id := realID(0)
	for {
		b := record.NewBuilder()
		var batch []write
		h.mu.Lock()
		over := h.over
		for range 1 + rng.IntN(5) {
			h.serial++
			// Keys come and go: what becomes of one that is not written again shows what was missed.
			w := write{key: fmt.Sprintf("key %d", rng.IntN(12)+h.serial/100), value: fmt.Sprintf("value %d", h.serial)}
			if rng.IntN(4) == 0 {
				w.value = ""
				b.Add(time.Now().UnixMilli(), []byte(w.key), nil)
			} else {
				w.value += fmt.Sprintf(" %0*d", rng.IntN(300), 0)
				b.Add(time.Now().UnixMilli(), []byte(w.key), []byte(w.value))
			}
			batch = append(batch, w)
		}
		h.mu.Unlock()
		if over {
			return
		}
		meta := h.c.meta.partition(id)
		n := h.c.nodes[max(meta.Leader, 1)]
		manager := n.serves.Load()
		if manager == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		h.mu.Lock()
		for _, w := range batch { // whatever the answer is, it may be there
			w.offset = kafka.NoOffset
			h.writes[w.key+w.value] = w
			if w.value == "" {
				h.perhaps[w.key]++
			}
		}
		h.mu.Unlock()
		p, err := manager.Partition(id)
		if err == nil {
			var a replica.Appended
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			a, err = produce(ctx, p, b.Build())
			cancel()
			if err == nil {
				h.acknowledge(batch, a.BaseOffset)
			}
		}
		var protocol *kafka.Error
		if err != nil && !errors.As(err, &protocol) && !errors.Is(err, context.DeadlineExceeded) && n.serves.Load() == manager {
			h.t.Errorf("%v", err)
		}
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
}

func (h *compactedHistory) acknowledge(batch []write, base kafka.Offset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, w := range batch {
		w.offset = base + kafka.Offset(i)
		if w.value != "" {
			h.writes[w.key+w.value] = w
		} else {
			h.perhaps[w.key]--
		}
		if last, ok := h.acked[w.key]; !ok || last.offset < w.offset {
			h.acked[w.key] = w
		}
	}
}

// table is what a replica's log means, and checks what is in it.
func (h *compactedHistory) table(n *realNode, id kafka.TopicPartition) map[string]write {
	content, start, err := n.content(id)
	if err != nil {
		h.t.Fatal(err)
	}
	if start != 0 {
		h.t.Errorf("node %d: the log starts at %d", n.id, start)
	}
	var codecs record.Codecs
	table := map[string]write{}
	for len(content) > 0 {
		b, rest, err := record.Next(content)
		if err != nil {
			h.t.Fatal(err)
		}
		for r, err := range codecs.Records(b, 1<<20) {
			if err != nil {
				h.t.Fatal(err)
			}
			w := write{string(r.Key), string(r.Value), r.Offset}
			sent, ok := h.writes[w.key+w.value]
			if !ok || sent.offset != kafka.NoOffset && sent.offset != w.offset && w.value != "" {
				h.t.Errorf("node %d has %q at offset %d: sent %v, acknowledged at %d", n.id, w.key+" "+w.value, w.offset, ok, sent.offset)
			}
			delete(table, w.key)
			if w.value != "" {
				table[w.key] = w
			}
		}
		content = rest
	}
	return table
}

func (h *compactedHistory) compare(id kafka.TopicPartition) {
	var first map[string]write
	var epochs []kafka.LeaderEpoch
	for _, n := range h.c.ordered() {
		table := h.table(n, id)
		if first == nil {
			first = table
		}
		if !maps.Equal(first, table) {
			h.t.Errorf("node %d does not mean the same as node 1:\n%v\n%v", n.id, table, first)
		}
		// Where the leader epochs begin decides what a follower has to cut: all know the same, of what is gone too.
		p := n.store.Partition(id)
		var known []kafka.LeaderEpoch
		for o := range p.LogEnd() {
			known = append(known, p.EpochForOffset(o))
		}
		if epochs == nil {
			epochs = known
		} else if !slices.Equal(known, epochs) {
			h.t.Errorf("node %d does not have the offsets in the same leader epochs as node 1:\n%v\n%v", n.id, known, epochs)
		}
	}
	for key, w := range h.acked {
		have, ok := first[key]
		if ok && (have.offset < w.offset || have.offset == w.offset && have.value != w.value) {
			h.t.Errorf("%s: %q was acknowledged at offset %d, the last value is %q at %d", key, w.value, w.offset, have.value, have.offset)
		}
		if !ok && w.value != "" && h.perhaps[key] == 0 {
			h.t.Errorf("%s: %q was acknowledged at offset %d, and there is none", key, w.value, w.offset)
		}
	}
	if len(h.acked) == 0 {
		h.t.Error("nothing was acknowledged")
	}
}
