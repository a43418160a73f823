package controller

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// TestISRHistories draws random lives of brokers, among them such as lose their disks, and proposals of in-sync sets that
// arrive late. A model knows which process of a broker has what is committed; the checker looks at the images only: whoever
// enters an in-sync set is the process that had caught up (invariant 7), and every leader has what is committed (invariants
// 1 and 8).
func TestISRHistories(t *testing.T) {
	for seed := range uint64(300) {
		h := newISRHistory(t, seed)
		for range 120 {
			h.step()
			if t.Failed() {
				t.Fatalf("seed %d:\n%s", seed, h.log)
			}
		}
	}
}

// brokerLife is a broker between two registrations.
type brokerLife struct {
	broker kafka.BrokerID
	epoch  kafka.BrokerEpoch
	whole  bool // it has all that is committed
}

type isrHistory struct {
	t        *testing.T
	rng      *rand.Rand
	s        state
	now      map[kafka.BrokerID]*brokerLife
	disks    map[kafka.BrokerID]byte // which disk the broker has
	proposed []proposedISR
	log      string
}

// proposedISR is on its way, with the processes that its leader had seen catch up.
type proposedISR struct {
	command metadata.UpdateISR
	members []*brokerLife
}

var isrPartition = kafka.TopicPartition{Topic: topicID(1)}

func newISRHistory(t *testing.T, seed uint64) *isrHistory {
	h := &isrHistory{t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: map[kafka.BrokerID]*brokerLife{}, disks: map[kafka.BrokerID]byte{},
		s: state{image: metadata.Empty(), limits: Limits{PartitionsPerRequest: 100, Partitions: 100}}}
	for id := kafka.BrokerID(1); id <= 4; id++ {
		h.register(id)
		h.do(fenceBroker{id: id, fenced: false})
	}
	h.do(createTopics{topics: []metadata.CreateTopic{{Name: "t", ID: topicID(1), Partitions: -1, ReplicationFactor: -1,
		Assignment: [][]kafka.BrokerID{{1, 2, 3}}, Config: map[string]string{"min.insync.replicas": "2"}}}})
	for _, p := range h.now {
		p.whole = true // of a topic without records
	}
	return h
}

// do decides and applies a command, and checks the change.
func (h *isrHistory) do(command any) error {
	before := h.s.image
	d, err := decide(h.s, command)
	h.log += fmt.Sprintf("%+v: %v\n", command, err)
	if err != nil || len(d.records) == 0 {
		return err
	}
	h.s.image, _ = before.Apply(before.Offset()+1, &pb.Entry{Records: d.records})
	return nil
}

func (h *isrHistory) partition() *metadata.Partition { return h.s.image.Partition(isrPartition) }

func (h *isrHistory) register(id kafka.BrokerID) {
	c := metadata.RegisterBroker{ID: id, Directory: [16]byte{byte(id), h.disks[id]}}
	c.Incarnation = [16]byte{byte(h.rng.Uint64()), byte(h.rng.Uint64()), byte(h.rng.Uint64()), 1}
	h.do(fenceBroker{id: id, fenced: true, reason: "it is dead"}) // a refusal is of a broker that is not there
	if h.do(c) == nil {
		old := h.now[id]
		h.now[id] = &brokerLife{broker: id, epoch: h.s.image.Broker(id).Epoch, whole: old != nil && old.whole}
	}
}

func (h *isrHistory) step() {
	id := kafka.BrokerID(1 + h.rng.IntN(4))
	switch h.rng.IntN(10) {
	case 0:
		h.register(id) // killed, and back with its disk
	case 1:
		h.disks[id]++
		h.now[id].whole = false
		h.register(id)
	case 2, 3:
		h.do(fenceBroker{id: id, fenced: h.rng.IntN(2) == 0})
	case 4, 5, 6:
		h.propose()
	case 7, 8:
		h.arrive()
	case 9:
		h.commit()
	}
	h.check()
}

// commit is a record that the in-sync set has and nobody else.
func (h *isrHistory) commit() {
	p := h.partition()
	if p.Leader == kafka.NoLeader || len(p.ISR) < 2 {
		return
	}
	maximal := slices.Clone(p.ISR)
	for _, o := range h.proposed { // a leader with a proposal under way waits for its members too
		if o.command.LeaderEpoch == p.LeaderEpoch && o.command.Base == p.PartitionEpoch {
			for _, m := range o.members {
				if h.now[m.broker] != m {
					return // the process is gone: the leader waits for it until the proposal is answered
				}
				maximal = append(maximal, m.broker)
			}
		}
	}
	for id, process := range h.now {
		process.whole = slices.Contains(maximal, id)
	}
}

// propose has the leader propose what it saw catch up.
func (h *isrHistory) propose() {
	p := h.partition()
	if p.Leader == kafka.NoLeader {
		return
	}
	o := proposedISR{command: metadata.UpdateISR{Partition: isrPartition, LeaderEpoch: p.LeaderEpoch, Base: p.PartitionEpoch}}
	for _, id := range p.Replicas {
		in := slices.Contains(p.ISR, id)
		if id == p.Leader || in && h.rng.IntN(4) > 0 || !in && h.rng.IntN(2) == 0 {
			process := h.now[id]
			process.whole = true // it has caught up with the leader, which knows that
			o.members = append(o.members, process)
			o.command.ISR = append(o.command.ISR, metadata.ISRMember{Broker: id, Epoch: process.epoch})
		}
	}
	h.proposed = append(h.proposed, o)
}

// arrive has one of the proposals under way reach the controller.
func (h *isrHistory) arrive() {
	if len(h.proposed) == 0 {
		return
	}
	i := h.rng.IntN(len(h.proposed))
	o := h.proposed[i]
	h.proposed = slices.Delete(h.proposed, i, i+1)
	before := h.partition().ISR
	if h.do(o.command) != nil {
		return
	}
	for _, id := range h.partition().ISR {
		if slices.Contains(before, id) {
			continue
		}
		for _, m := range o.members {
			if m.broker == id && m != h.now[id] {
				h.t.Errorf("invariant 7: broker %d entered the in-sync set for what its process of epoch %d had; it is at epoch %d", id, m.epoch, h.now[id].epoch)
			}
		}
	}
}

// check looks at the image: whoever may be elected has what is committed.
func (h *isrHistory) check() {
	p := h.partition()
	for _, id := range p.ISR {
		if len(p.ISR) > 1 && !h.now[id].whole || id == p.Leader && !h.now[id].whole {
			h.t.Errorf("invariant 1: broker %d is in the in-sync set %v (leader %d) and lacks what is committed", id, p.ISR, p.Leader)
		}
	}
}
