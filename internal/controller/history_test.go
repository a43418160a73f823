package controller

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// TestHistories runs commands at all nodes of a cluster while nodes are killed, lose power, lose a disk, stop in order and
// are cut off in one direction or both, over a network that loses, delays and reorders. What was acknowledged is there, what
// was refused is not, what is not known is there once or not at all, and all images of one offset are equal.
func TestHistories(t *testing.T) {
	for seed := range histories(t, 10) {
		synctest.Test(t, func(t *testing.T) {
			h := &history{t: t, f: newFleet(t, seed, 3+2*int(seed%2)), images: map[metadata.Offset]imageOf{}}
			h.run(rand.New(rand.NewPCG(seed, 5)))
		})
	}
}

type history struct {
	t *testing.T
	f *fleet

	mu      sync.Mutex // also guards which process a machine has
	images  map[metadata.Offset]imageOf
	topics  []*asked
	blocks  map[kafka.ProducerID]bool
	written map[int][2]int // by client: the last value acknowledged, the last one asked for
	acked   int
}

// imageOf is what a node's image of an offset was.
type imageOf struct {
	node kafka.BrokerID
	sum  [32]byte
}

// asked is a topic that a client asked for.
type asked struct {
	name    string
	id      kafka.TopicID
	outcome error
	ended   bool
}

func (h *history) run(rng *rand.Rand) {
	t, f := h.t, h.f
	defer f.close()
	f.net.delay = time.Duration(1+rng.Int64N(20)) * time.Millisecond
	f.net.loss = rng.Float64() * 0.05
	f.snapshot = 4 << 10
	f.sync = time.Duration(rng.Int64N(20)) * time.Millisecond
	h.blocks, h.written = map[kafka.ProducerID]bool{}, map[int][2]int{}
	f.startAll()
	f.formed()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for client := range 4 {
		own := rand.New(rand.NewPCG(rng.Uint64(), 6))
		work.Go(func() { h.client(ctx, client, own) })
	}
	work.Go(func() { h.sample(ctx) })
	for range 12 + rng.IntN(12) {
		time.Sleep(time.Duration(rng.Int64N(int64(1500 * time.Millisecond))))
		h.nemesis(rng)
		if t.Failed() {
			break
		}
	}
	h.heal()
	time.Sleep(2 * time.Second)
	cancel()
	work.Wait()
	f.formed()
	f.converged()
	h.check()
}

// nemesis does one thing; never to more nodes at a time than a quorum can spare, but for cuts.
func (h *history) nemesis(rng *rand.Rand) {
	f := h.f
	off := 0
	for _, m := range f.machines {
		if m.p == nil {
			off++
		}
	}
	m := f.machines[rng.IntN(len(f.machines))]
	spare := off < (len(f.machines)-1)/2
	switch what := rng.IntN(11); {
	case what == 10: // the power goes for all at once
		for _, m := range f.machines {
			if m.p != nil {
				h.kill(m, rng)
			}
		}
		h.heal()
	case what == 9:
		f.net.set(func() { clear(f.net.cut); clear(f.net.oneWay) })
	case m.p == nil:
		h.set(func() { m.start() })
	case what == 0:
		f.net.set(func() { f.net.cut[m.id] = true })
	case what == 1:
		other := f.machines[rng.IntN(len(f.machines))]
		f.net.set(func() { f.net.oneWay[[2]kafka.BrokerID{m.id, other.id}] = true })
	case what == 2:
		if c := m.controller(); c != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_ = c.TransferLeadership(ctx, "the test")
			cancel()
		}
	case !spare:
	case what == 3:
		p := h.take(m)
		p.stopped(h)
	case what == 4 && off == 0:
		h.wipe(m)
	default:
		var power *rand.Rand
		if what%2 == 0 {
			power = rng
		}
		h.kill(m, power)
	}
}

// take takes the process off its machine, so that clients ask others.
func (h *history) take(m *machine) *process {
	var p *process
	h.set(func() { p, m.p = m.p, nil })
	return p
}

func (p *process) stopped(h *history) {
	p.cancel()
	p.ended.Wait()
	if err := p.close(); err != nil && !p.m.died() {
		h.t.Errorf("node %d: close: %v", p.m.id, err)
	}
	p.mu.Lock()
	node := p.node
	p.mu.Unlock()
	if node != nil {
		node.die()
	}
}

func (h *history) kill(m *machine, power *rand.Rand) {
	p := h.take(m) // clients ask others from now on
	m.crash(p, power)
}

// wipe takes the disk of a node of a whole cluster, and waits until another has taken its place.
func (h *history) wipe(m *machine) {
	f := h.f
	h.heal()
	f.formed()
	old := m.p.directory
	h.kill(m, nil)
	m.wipe()
	h.set(func() { m.start() })
	f.formed()
	f.replaced(m, old)
}

func (h *history) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

// heal ends all faults.
func (h *history) heal() {
	f := h.f
	f.net.set(func() { clear(f.net.cut); clear(f.net.oneWay) })
	for _, m := range f.machines {
		if m.p == nil {
			h.set(func() { m.start() })
		}
	}
}

// client runs commands at random nodes.
func (h *history) client(ctx context.Context, number int, rng *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(time.Duration(rng.Int64N(int64(250 * time.Millisecond))))
		var c *Controller
		h.set(func() { c = h.f.machines[rng.IntN(len(h.f.machines))].controller() })
		if c == nil {
			continue
		}
		within, cancel := context.WithTimeout(context.Background(), time.Duration(1+rng.Int64N(int64(3*time.Second))))
		began := time.Now()
		deadline, _ := within.Deadline()
		switch rng.IntN(4) {
		case 0, 1:
			h.createTopic(within, c, fmt.Sprintf("t-%d-%d", number, i), rng)
		case 2:
			h.allocate(within, c)
		case 3:
			h.setConfig(within, c, number)
		}
		cancel()
		if late := time.Since(deadline); late > 10*time.Millisecond {
			h.t.Errorf("seed %d: a command took %v, %v more than its time", h.f.seed, time.Since(began), late)
		}
	}
}

func (h *history) createTopic(ctx context.Context, c *Controller, name string, rng *rand.Rand) {
	a := &asked{name: name, id: kafka.NewTopicID()}
	h.set(func() { h.topics = append(h.topics, a) })
	r := c.CreateTopics(ctx, []metadata.CreateTopic{{Name: name, ID: a.id, Partitions: 1 + rng.Int32N(3), ReplicationFactor: 1}}, false)[0]
	h.set(func() { a.ended, a.outcome = true, r.Err })
	switch {
	case r.Err == nil:
		h.set(func() { h.acked++ })
		if topic := c.Image().Topic(name); topic == nil || topic.ID != a.id || r.Topic == nil || r.Topic.ID != a.id {
			h.t.Errorf("seed %d: topic %s is acknowledged, and the node that was asked has %+v", h.f.seed, name, topic)
		}
		var other *Controller
		h.set(func() { other = h.f.machines[rng.IntN(len(h.f.machines))].controller() })
		if other == nil || rng.IntN(3) > 0 {
			return
		}
		if err := other.Barrier(ctx); err == nil && other.Image().Topic(name) == nil {
			h.t.Errorf("seed %d: topic %s is acknowledged, and not seen elsewhere after a barrier", h.f.seed, name)
		}
	case errors.Is(r.Err, kafka.ErrRequestTimedOut), errors.Is(r.Err, kafka.ErrInvalidReplicationFactor), errors.Is(r.Err, kafka.ErrKafkaStorageError):
	default:
		h.t.Errorf("seed %d: topic %s: %v", h.f.seed, name, r.Err)
	}
}

func (h *history) allocate(ctx context.Context, c *Controller) {
	first, _, err := c.AllocateProducerIDs(ctx)
	if err != nil {
		return
	}
	h.set(func() {
		if h.blocks[first] {
			h.t.Errorf("seed %d: producer IDs from %d are given twice", h.f.seed, first)
		}
		h.blocks[first] = true
	})
}

// setConfig writes ascending numbers under a key of its own, each based on what was seen.
func (h *history) setConfig(ctx context.Context, c *Controller, number int) {
	resource := metadata.Resource{Type: metadata.GroupResource, Name: fmt.Sprint("group-", number)}
	img := c.Image()
	seen, _ := strconv.Atoi(img.Config(resource)["n"])
	var value int
	h.set(func() {
		w := h.written[number]
		value = max(w[1], seen) + 1
		h.written[number] = [2]int{w[0], value}
	})
	text := strconv.Itoa(value)
	err := c.SetConfig(ctx, metadata.SetConfig{Resource: resource, Values: map[string]*string{"n": &text}, Base: max(1, img.ConfigChangedAt(resource))}, false)
	if err == nil {
		h.set(func() { h.written[number] = [2]int{value, value} })
	}
}

// sample compares the images that the nodes have at one offset.
func (h *history) sample(ctx context.Context) {
	last := map[kafka.BrokerID]metadata.Offset{}
	for ctx.Err() == nil {
		time.Sleep(211 * time.Millisecond)
		for _, m := range h.f.machines {
			var c *Controller
			h.set(func() { c = m.controller() })
			if c == nil {
				continue
			}
			img := c.Image()
			if last[m.id] == img.Offset() {
				continue
			}
			last[m.id] = img.Offset()
			mine := imageOf{m.id, sha256.Sum256(img.EncodeSnapshot())}
			h.set(func() {
				first, ok := h.images[img.Offset()]
				if !ok {
					h.images[img.Offset()] = mine
				} else if first.sum != mine.sum {
					h.t.Errorf("seed %d: the images of offset %d differ on nodes %d and %d", h.f.seed, img.Offset(), first.node, m.id)
				}
			})
		}
	}
}

func (h *history) check() {
	img := h.f.machines[0].controller().Image()
	known := map[string]bool{}
	for _, a := range h.topics {
		known[a.name] = true
		topic := img.Topic(a.name)
		there := topic != nil && topic.ID == a.id
		switch {
		case topic != nil && !there:
			h.t.Errorf("seed %d: topic %s has an ID that nobody drew", h.f.seed, a.name)
		case !a.ended || errors.Is(a.outcome, kafka.ErrRequestTimedOut):
		case a.outcome == nil && !there:
			h.t.Errorf("seed %d: topic %s was acknowledged and is gone", h.f.seed, a.name)
		case a.outcome != nil && !errors.Is(a.outcome, kafka.ErrKafkaStorageError) && there:
			h.t.Errorf("seed %d: topic %s was refused (%v) and is there", h.f.seed, a.name, a.outcome)
		}
	}
	for topic := range img.Topics() {
		if !known[topic.Name] {
			h.t.Errorf("seed %d: topic %s appeared by itself", h.f.seed, topic.Name)
		}
	}
	for number, w := range h.written {
		got, _ := strconv.Atoi(img.Config(metadata.Resource{Type: metadata.GroupResource, Name: fmt.Sprint("group-", number)})["n"])
		if got < w[0] || got > w[1] {
			h.t.Errorf("seed %d: the configuration of client %d is %d; %d was acknowledged last and %d asked for last", h.f.seed, number, got, w[0], w[1])
		}
	}
	if h.acked == 0 {
		h.t.Errorf("seed %d: nothing was acknowledged", h.f.seed)
	}
	for _, m := range h.f.machines {
		m.p.mu.Lock()
		if m.p.fatal != nil {
			h.t.Errorf("seed %d: node %d: %v", h.f.seed, m.id, m.p.fatal)
		}
		m.p.mu.Unlock()
	}
}
