package stream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/record"
	"chronik/internal/replica"
	"chronik/internal/vfs"
)

// Real stores and replicas while leaders move, processes die with and without the power, connections break in the middle of
// frames, disks are slow and metadata late: what was acknowledged is on every replica in the end, at its offset, and all
// replicas are the same to the byte.
func TestRealHistories(t *testing.T) {
	eachSeed(t, 25, 5, func(t *testing.T, seed uint64) { newRealHistory(t, seed).run() })
}

// eachSeed runs a history for each seed, on a fake clock: many, or few with -short; those of CHRONIK_SEEDS or STREAM_SEEDS;
// or the one of STREAM_SEED, and what follows it.
func eachSeed(t *testing.T, many, few int, run func(t *testing.T, seed uint64)) {
	first, seeds := 0, many
	if testing.Short() {
		seeds = few
	}
	if s := os.Getenv("STREAM_SEED"); s != "" {
		first, _ = strconv.Atoi(s)
		seeds = 1
	}
	for _, name := range []string{"CHRONIK_SEEDS", "STREAM_SEEDS"} {
		if s := os.Getenv(name); s != "" {
			seeds, _ = strconv.Atoi(s)
		}
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { run(t, uint64(seed)) })
		})
	}
}

type realHistory struct {
	t     *testing.T
	rng   *rand.Rand
	c     *realCluster
	parts int
	down  kafka.BrokerID

	mu     sync.Mutex
	serial int
	acked  map[kafka.TopicPartition]map[kafka.Offset]string // by first offset
	over   bool
	done   sync.WaitGroup
}

func newRealHistory(t *testing.T, seed uint64) *realHistory {
	rng := rand.New(rand.NewPCG(seed, 11))
	h := &realHistory{t: t, rng: rng, parts: 1 + rng.IntN(4), acked: map[kafka.TopicPartition]map[kafka.Offset]string{}}
	h.c = newRealCluster(t, 3, newMemnet(), Options{Limits: Limits{
		CatchUpBytes: int64(rng.IntN(100_000) + 1000), PartitionWindow: int64(rng.IntN(50_000) + 5000), StreamWindow: int64(rng.IntN(100_000) + 10_000),
		FrameBytes: rng.IntN(20_000) + 500,
	}})
	h.c.lag = time.Duration(1+rng.IntN(5)) * time.Second
	h.c.set = func(c *config.Config) {
		c.Topic.SegmentBytes = 64 << 10
		c.Topic.IndexIntervalBytes = 1000
		c.WALReferenceMinBytes = 20_000
	}
	return h
}

func (h *realHistory) run() {
	h.c.meta.createTopic(realID(0).Topic, "orders", h.parts, []int32{1, 2, 3}, map[string]string{"min.insync.replicas": "2"})
	for i := range h.parts {
		h.acked[realID(i)] = map[kafka.Offset]string{}
	}
	h.c.start()
	for i := range h.parts {
		for range 1 + h.rng.IntN(2) {
			rng := rand.New(rand.NewPCG(h.rng.Uint64(), 3))
			h.done.Go(func() { h.producer(realID(i), rng) })
		}
	}
	for range 60 {
		h.step()
		time.Sleep(time.Duration(h.rng.IntN(200)) * time.Millisecond)
	}
	h.heal()
	time.Sleep(2 * time.Second)
	h.mu.Lock()
	h.over = true
	h.mu.Unlock()
	h.done.Wait()
	for i := range h.parts {
		h.c.converge(realID(i))
		h.check(realID(i))
	}
	h.c.stop()
}

func (h *realHistory) step() {
	id := realID(h.rng.IntN(h.parts))
	node := kafka.BrokerID(h.rng.IntN(3) + 1)
	switch h.rng.IntN(14) {
	case 0, 1:
		if node != h.down {
			h.c.meta.elect(id, node)
		}
	case 2:
		for _, conn := range h.c.net.touching(address(node)) {
			if h.rng.IntN(2) == 0 {
				conn.resetAfter(h.rng.IntN(5000))
			}
		}
	case 3:
		h.c.net.resetAll(address(node))
	case 4, 5:
		if h.down != 0 {
			return
		}
		h.down = node
		var power *rand.Rand
		if h.rng.IntN(2) == 0 {
			power = rand.New(rand.NewPCG(h.rng.Uint64(), 5))
		}
		h.c.nodes[node].crash(power)
		h.c.meta.fence(node)
	case 6, 7:
		h.restart()
	case 8:
		n := h.c.nodes[node]
		if node != h.down {
			n.faults.Add(vfs.Rule{Path: "/wal/", Op: vfs.OpSync, Delay: time.Duration(h.rng.IntN(100)) * time.Millisecond, Times: 1 + h.rng.IntN(50)})
			n.faults.Add(vfs.Rule{Op: vfs.OpRead | vfs.OpWrite, Delay: time.Duration(h.rng.IntN(20)) * time.Millisecond, Times: 1 + h.rng.IntN(300)})
		}
	case 9:
		n := h.c.nodes[node]
		n.view.mu.Lock()
		n.view.delay = time.Duration(h.rng.IntN(2)*h.rng.IntN(300)) * time.Millisecond
		n.view.mu.Unlock()
	case 10:
		other := node%3 + 1
		h.c.net.setCut(address(node), address(other), true)
		time.Sleep(time.Duration(h.rng.IntN(5000)) * time.Millisecond)
		h.c.net.setCut(address(node), address(other), false)
		h.c.net.resetAll(address(node)) // what was written into the cut is lost here, which no TCP connection outlives
	case 11:
		if node != h.down {
			h.again(h.c.nodes[node])
		}
	case 12: // a disk that hangs
		if n := h.c.nodes[node]; node != h.down {
			n.faults.Add(vfs.Rule{Path: "/wal/", Op: vfs.OpSync, Delay: time.Duration(h.rng.IntN(10_000)) * time.Millisecond, Times: 1})
		}
	}
}

// again has a node registered again that was removed from the cluster while it ran.
func (h *realHistory) again(n *realNode) {
	h.c.meta.fence(n.id)
	h.c.meta.mu.Lock()
	h.c.meta.commitLocked(&pb.Record{Kind: &pb.Record_BrokerRemoved{BrokerRemoved: &pb.BrokerRemoved{Id: int32(n.id)}}})
	h.c.meta.mu.Unlock()
	time.Sleep(time.Duration(h.rng.IntN(2000)) * time.Millisecond)
	h.c.meta.register(n.id, n.life)
	time.Sleep(time.Duration(h.rng.IntN(100)) * time.Millisecond)
	h.c.meta.mu.Lock()
	n.epoch.Store(int64(h.c.meta.image.Broker(n.id).Epoch))
	h.c.meta.mu.Unlock()
}

func (h *realHistory) restart() {
	if h.down == 0 {
		return
	}
	n := h.c.nodes[h.down]
	h.down = 0
	n.start()
	n.meet()
}

func (h *realHistory) heal() {
	h.restart()
	for _, n := range h.c.ordered() {
		n.faults.Clear()
		n.view.mu.Lock()
		n.view.delay = 0
		n.view.mu.Unlock()
		n.view.deliver()
	}
}

// producer sends to whoever leads, as far as this process can see it.
func (h *realHistory) producer(id kafka.TopicPartition, rng *rand.Rand) {
	for {
		h.mu.Lock()
		over := h.over
		h.serial++
		text := fmt.Sprintf("%d/%d;", id.Partition, h.serial)
		h.mu.Unlock()
		if over {
			return
		}
		n := h.c.nodes[kafka.BrokerID(rng.IntN(3)+1)]
		if meta := h.c.meta.partition(id); rng.IntN(10) > 0 && meta.Leader > 0 {
			n = h.c.nodes[meta.Leader]
		}
		manager := n.serves.Load()
		if manager == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p, err := manager.Partition(id)
		if err == nil {
			var a replica.Appended
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			a, err = produce(ctx, p, payload(1+rng.IntN(3), rng.IntN(1500), text))
			cancel()
			if err == nil {
				h.mu.Lock()
				if before, ok := h.acked[id][a.BaseOffset]; ok {
					h.t.Errorf("offset %d was acknowledged twice: %s and %s", a.BaseOffset, before, text)
				}
				h.acked[id][a.BaseOffset] = text
				h.mu.Unlock()
			}
		}
		var protocol *kafka.Error
		if err != nil && !errors.As(err, &protocol) && !errors.Is(err, context.DeadlineExceeded) && n.serves.Load() == manager {
			h.t.Errorf("%v", err)
		}
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
}

// check looks for everything that was acknowledged.
func (h *realHistory) check(id kafka.TopicPartition) {
	content, _, err := h.c.nodes[1].content(id)
	if err != nil {
		h.t.Fatal(err)
	}
	var codecs record.Codecs
	have := map[kafka.Offset]string{}
	for len(content) > 0 {
		b, rest, err := record.Next(content)
		if err != nil {
			h.t.Fatal(err)
		}
		for r, err := range codecs.Records(b, 1<<20) {
			if err != nil {
				h.t.Fatal(err)
			}
			text, _, _ := strings.Cut(string(r.Value), ";")
			have[b.BaseOffset()] = text + ";"
			break
		}
		content = rest
	}
	for offset, text := range h.acked[id] {
		if have[offset] != text {
			h.t.Errorf("%s: %q was acknowledged at offset %d, there is %q", id, text, offset, have[offset])
		}
	}
	if len(h.acked[id]) == 0 {
		h.t.Errorf("%s: nothing was acknowledged", id)
	}
}
