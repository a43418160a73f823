package controller

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/peer"
)

// memNet joins nodes in one process. It delays, reorders, loses and repeats what they say; what becomes of a message is drawn
// from the seed, the link and the message's number.
type memNet struct {
	mu     sync.Mutex
	seed   uint64
	nodes  map[string]*memNode // by address
	sent   map[string]uint64   // by link
	delay  time.Duration       // at most, of one message
	loss   float64
	repeat float64 // calls that are delivered again, up to repeatAfter later
	later  time.Duration
	cut    map[kafka.BrokerID]bool
	oneWay map[[2]kafka.BrokerID]bool
	drop   raftpb.MessageType // not delivered; 0 for none
	silent bool               // nobody is told that a process died
	under  sync.WaitGroup
	// hold keeps a call from being delivered; again delivers it later.
	hold     func(from, to kafka.BrokerID, m peer.Method, again func() error) bool
	observer func(from, to kafka.BrokerID, m *raftpb.Message)
}

func newMemNet(seed uint64) *memNet {
	return &memNet{seed: seed, nodes: map[string]*memNode{}, sent: map[string]uint64{}, cut: map[kafka.BrokerID]bool{},
		oneWay: map[[2]kafka.BrokerID]bool{}, delay: time.Millisecond, later: 3 * time.Second}
}

func (n *memNet) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// memNode is one process on the net; it is the Peers of a Links.
type memNode struct {
	net    *memNet
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	self     peer.Identity
	handlers map[peer.Method]peer.Handler
	notified map[peer.Method]func(peer.Identity, []byte)
	watchers []func(peer.Event)
	peers    map[kafka.BrokerID]string
	last     map[kafka.BrokerID]peer.Identity
	heard    map[kafka.BrokerID]time.Time
}

// join puts a process on the net.
func (n *memNet) join(self peer.Identity) *memNode {
	node := &memNode{net: n, self: self, handlers: map[peer.Method]peer.Handler{}, notified: map[peer.Method]func(peer.Identity, []byte){},
		peers: map[kafka.BrokerID]string{}, last: map[kafka.BrokerID]peer.Identity{}, heard: map[kafka.BrokerID]time.Time{}}
	node.ctx, node.cancel = context.WithCancel(context.Background())
	return node
}

// listen makes it reachable.
func (p *memNode) listen() {
	p.net.mu.Lock()
	p.net.nodes[p.self.Address] = p
	others := p.net.others(p)
	p.net.mu.Unlock()
	for _, o := range others {
		o.event(p, peer.Event{Kind: peer.Up, Broker: p.self.Broker, Identity: p.Self()})
	}
}

// die takes the process off the net. What it has sent may yet arrive.
func (p *memNode) die() {
	p.net.mu.Lock()
	if p.net.nodes[p.self.Address] == p {
		delete(p.net.nodes, p.self.Address)
	}
	others, silent := p.net.others(p), p.net.silent
	p.net.mu.Unlock()
	p.cancel()
	if silent {
		return
	}
	for _, o := range others {
		o.event(p, peer.Event{Kind: peer.Down, Broker: p.self.Broker, Identity: p.Self(), Refused: true})
	}
}

func (n *memNet) others(p *memNode) []*memNode {
	var list []*memNode
	for _, o := range n.nodes {
		if o != p && !n.cut[o.self.Broker] && !n.cut[p.self.Broker] {
			list = append(list, o)
		}
	}
	return list
}

func (p *memNode) event(about *memNode, e peer.Event) {
	p.mu.Lock()
	known := p.peers[about.self.Broker] == about.self.Address
	watchers := p.watchers
	p.mu.Unlock()
	if !known {
		return
	}
	p.net.after(time.Millisecond, func() {
		if p.ctx.Err() == nil {
			for _, f := range watchers {
				f(e)
			}
		}
	})
}

// after runs f later, in a goroutine of its own.
func (n *memNet) after(d time.Duration, f func()) {
	n.under.Add(1)
	time.AfterFunc(d, func() {
		defer n.under.Done()
		f()
	})
}

// draw is what happens to the next message of a link.
func (n *memNet) draw(from, to string) (rng *rand.Rand) {
	link := from + ">" + to
	n.sent[link]++
	h := fnv.New64a()
	fmt.Fprint(h, link, n.sent[link])
	return rand.New(rand.NewPCG(n.seed, h.Sum64()))
}

// fate of a message from p to a node, which is nil if it cannot be reached.
func (p *memNode) fate(address string) (to *memNode, delay time.Duration, lost, again bool) {
	n := p.net
	n.mu.Lock()
	defer n.mu.Unlock()
	to = n.nodes[address]
	if to == nil || p.ctx.Err() != nil || n.cut[p.self.Broker] || n.cut[to.self.Broker] || n.oneWay[[2]kafka.BrokerID{p.self.Broker, to.self.Broker}] {
		return nil, 0, true, false
	}
	a, b := p.Self().ClusterID, to.Self().ClusterID
	if a != "" && b != "" && a != b {
		return nil, 0, true, false
	}
	rng := n.draw(p.self.Address, address)
	delay = time.Duration(rng.Int64N(int64(n.delay) + 1))
	return to, delay, rng.Float64() < n.loss, rng.Float64() < n.repeat
}

func (p *memNode) Self() peer.Identity {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.self
}

// LastHeard is when anything last came from that broker's node.
func (p *memNode) LastHeard(id kafka.BrokerID) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[id]
}

func (p *memNode) hear(id kafka.BrokerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[id] = time.Now()
}

func (p *memNode) SetClusterID(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.self.ClusterID = id
}

func (p *memNode) Handle(m peer.Method, h peer.Handler) { p.handlers[m] = h }

func (p *memNode) OnNotify(m peer.Method, f func(peer.Identity, []byte)) { p.notified[m] = f }

func (p *memNode) Watch(f func(peer.Event)) { p.watchers = append(p.watchers, f) }

func (p *memNode) SetPeer(id kafka.BrokerID, address string) {
	p.mu.Lock()
	same := p.peers[id] == address
	p.peers[id] = address
	p.mu.Unlock()
	p.net.mu.Lock()
	to := p.net.nodes[address]
	p.net.mu.Unlock()
	if !same && to != nil && to.self.Broker == id {
		p.event(to, peer.Event{Kind: peer.Up, Broker: id, Identity: to.Self()})
	}
}

func (p *memNode) RemovePeer(id kafka.BrokerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.peers, id)
}

func (p *memNode) address(id kafka.BrokerID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peers[id]
}

func (p *memNode) Notify(id kafka.BrokerID, m peer.Method, body []byte) bool {
	to, delay, lost, again := p.fate(p.address(id))
	if to == nil || to.self.Broker != id {
		return false
	}
	if lost {
		return true
	}
	body = append([]byte(nil), body...)
	self := p.Self()
	if m == peer.Raft {
		message := &raftpb.Message{}
		if err := proto.Unmarshal(body, message); err != nil {
			panic(err)
		}
		p.net.mu.Lock()
		dropped, observer := p.net.drop != 0 && message.GetType() == p.net.drop, p.net.observer
		p.net.mu.Unlock()
		if dropped {
			return true
		}
		if observer != nil {
			observer(p.self.Broker, id, message)
		}
	}
	deliver := func() {
		if to.ctx.Err() == nil {
			to.hear(self.Broker)
			to.notified[m](self, body)
		}
	}
	p.net.after(delay, deliver)
	if again {
		p.net.after(delay+p.net.delay, deliver)
	}
	return true
}

func (p *memNode) Call(ctx context.Context, id kafka.BrokerID, m peer.Method, body []byte) ([]byte, error) {
	from, data, err := p.CallAddress(ctx, p.address(id), m, body)
	if err == nil && from.Broker != id {
		return nil, peer.ErrNotSent
	}
	return data, err
}

func (p *memNode) CallAddress(ctx context.Context, address string, m peer.Method, body []byte) (peer.Identity, []byte, error) {
	to, delay, lost, again := p.fate(address)
	if to == nil {
		return peer.Identity{}, nil, fmt.Errorf("%s: connection refused: %w", address, peer.ErrNotSent)
	}
	type answer struct {
		from peer.Identity
		data []byte
		err  error
	}
	answers := make(chan answer, 4)
	body = append([]byte(nil), body...)
	self := p.Self()
	run := func() {
		if to.ctx.Err() != nil {
			return
		}
		to.hear(self.Broker)
		within, cancel := context.WithTimeout(to.ctx, 10*time.Second)
		defer cancel()
		if deadline, ok := ctx.Deadline(); ok {
			within, cancel = context.WithDeadline(within, deadline.Add(p.net.later))
			defer cancel()
		}
		data, err := to.handlers[m](within, self, body)
		var refused *kafka.Error
		if err != nil && !errors.As(err, &refused) {
			err = errors.New(err.Error())
		}
		back, delay, lost, _ := to.fate(p.self.Address)
		if back != p || lost {
			p.net.after(delay, func() { answers <- answer{err: peer.ErrOutcomeUnknown} })
			return
		}
		p.net.after(delay, func() { answers <- answer{to.Self(), data, err} })
	}
	p.net.mu.Lock()
	hold := p.net.hold
	p.net.mu.Unlock()
	held := hold != nil && hold(self.Broker, to.self.Broker, m, func() error {
		_, err := to.handlers[m](to.ctx, self, body)
		return err
	})
	if held {
		lost = true
		p.net.mu.Lock()
		delay = p.net.later // to the caller it is lost, much later
		p.net.mu.Unlock()
	}
	if lost {
		p.net.after(delay, func() { answers <- answer{err: peer.ErrOutcomeUnknown} })
	} else {
		p.net.after(delay, run)
	}
	if again && (m == peer.Hello || m == peer.Form) { // as if it had been under way for long, on a connection that is gone
		p.net.mu.Lock()
		wait := time.Duration(p.net.draw("again "+self.Address, address).Int64N(int64(p.net.later)))
		p.net.mu.Unlock()
		p.net.after(delay+wait, run)
	}
	select {
	case a := <-answers:
		return a.from, a.data, a.err
	case <-ctx.Done():
	case <-to.ctx.Done():
	case <-p.ctx.Done():
	}
	return peer.Identity{}, nil, peer.ErrOutcomeUnknown
}

// directoryOf is a data directory's ID drawn from a seed.
func directoryOf(seed uint64, broker kafka.BrokerID, number int) [16]byte {
	rng := rand.New(rand.NewPCG(seed, uint64(broker)<<32|uint64(number)))
	var d [16]byte
	binary.BigEndian.PutUint64(d[:8], rng.Uint64())
	binary.BigEndian.PutUint64(d[8:], rng.Uint64())
	return d
}
