package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/peer"
)

// Peers is what the controller uses of [peer.Node].
type Peers interface {
	Self() peer.Identity
	SetClusterID(id string)
	Handle(m peer.Method, h peer.Handler)
	OnNotify(m peer.Method, f func(from peer.Identity, body []byte))
	Watch(f func(peer.Event))
	SetPeer(id kafka.BrokerID, address string)
	RemovePeer(id kafka.BrokerID)
	Notify(to kafka.BrokerID, m peer.Method, body []byte) bool
	Call(ctx context.Context, to kafka.BrokerID, m peer.Method, body []byte) ([]byte, error)
	CallAddress(ctx context.Context, address string, m peer.Method, body []byte) (peer.Identity, []byte, error)
}

// LinksOptions of [Links].
type LinksOptions struct {
	Peers  Peers
	Logger *slog.Logger
}

// Links is the Transport over a peer.Node. It also answers, from the first moment on, what other nodes ask this one about
// the cluster (Bootstrap). It is in one of three states: nothing is known; Bootstrap is under way; a controller is attached.
type Links struct {
	o    LinksOptions
	self peer.Identity

	mu struct {
		sync.Mutex
		controller *Controller
		bootstrap  *bootstrap // while it is under way
		voters     string     // as configured
		routes     routes
		receiving  map[kafka.BrokerID]*parts
		sending    map[kafka.BrokerID]bool // a large message is
		transfers  uint64
		begun      uint64 // messages that came in parts
	}
	ctx    context.Context // of large messages under way
	cancel context.CancelFunc
	under  sync.WaitGroup
}

var _ Transport = (*Links)(nil)

// routes tell whom to reach where.
type routes struct {
	broker   map[uint64]kafka.BrokerID // by Raft ID
	member   map[kafka.BrokerID]route
	override map[kafka.BrokerID]string // addresses that the configuration gave
	learned  []learned                 // members that the image does not know, oldest first
	asked    int                       // how often any member was
}

// learned is a member of Raft that introduced itself: this node's image does not know it yet, and never will if its answers do
// not get there.
type learned struct {
	raftID  uint64
	broker  kafka.BrokerID
	address string
}

// learnedMax bounds them: whoever was removed without having heard of it takes itself for a member.
const learnedMax = 8

// route is a broker's address, and the one of the image that it followed from.
type route struct {
	address, image string
}

// NewLinks makes the Transport and sets the handlers of its methods: call it before the node starts.
func NewLinks(o LinksOptions) *Links {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Links{o: o, self: o.Peers.Self()}
	l.mu.receiving = map[kafka.BrokerID]*parts{}
	l.mu.sending = map[kafka.BrokerID]bool{}
	l.mu.routes.override = map[kafka.BrokerID]string{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	o.Peers.OnNotify(peer.Raft, l.onRaft)
	o.Peers.Handle(peer.RaftPart, l.onPart)
	o.Peers.Handle(peer.Forward, l.onForward)
	o.Peers.Handle(peer.Hello, l.onHello)
	o.Peers.Handle(peer.Form, l.onForm)
	o.Peers.Watch(l.onEvent)
	return l
}

// Attach names the controller that gets what arrives.
func (l *Links) Attach(c *Controller) {
	l.mu.Lock()
	l.mu.controller = c
	l.mu.bootstrap = nil
	l.mu.Unlock()
	if id := c.Image().ClusterID(); id != "" {
		l.o.Peers.SetClusterID(id)
	}
}

// Detach ends that, and returns when no large message is under way any more.
func (l *Links) Detach() {
	l.mu.Lock()
	l.mu.controller = nil
	l.mu.Unlock()
	l.cancel()
	l.under.Wait()
}

func (l *Links) attached() *Controller {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.controller
}

// Follow connects to the brokers and voters of the image, each at the address that it registered. Where the
// configuration gave another address at the start, that one holds until the broker registers a new one.
func (l *Links) Follow(img *metadata.Image) {
	members := map[kafka.BrokerID]string{}
	broker := map[uint64]kafka.BrokerID{}
	for _, v := range img.Voters() {
		members[v.ID] = v.Address
		broker[RaftID(v.Directory)] = v.ID
	}
	for b := range img.Brokers() {
		if b.ClusterAddress != "" || members[b.ID] == "" {
			members[b.ID] = b.ClusterAddress
		}
		broker[RaftID(b.Directory)] = b.ID
	}
	l.route(members, broker)
	if id := img.ClusterID(); id != "" {
		l.o.Peers.SetClusterID(id)
	}
}

func (l *Links) route(members map[kafka.BrokerID]string, broker map[uint64]kafka.BrokerID) {
	set := map[kafka.BrokerID]string{}
	var remove []kafka.BrokerID
	l.mu.Lock()
	r := &l.mu.routes
	l.keepLearnedLocked(broker)
	for _, s := range r.learned {
		if members[s.broker] == "" {
			members[s.broker] = s.address
		}
	}
	next := map[kafka.BrokerID]route{}
	for id, address := range members {
		old, known := r.member[id]
		switch {
		case id == l.self.Broker || address == "":
			continue
		case known && old.image == address:
			next[id] = old
			continue
		case !known && r.override[id] != "":
			next[id] = route{address: r.override[id], image: address}
		default:
			next[id] = route{address: address, image: address}
		}
		set[id] = next[id].address
	}
	for id := range r.member {
		if _, stays := next[id]; !stays {
			remove = append(remove, id)
		}
	}
	r.member, r.broker = next, broker
	l.mu.Unlock()
	slices.Sort(remove)
	for _, id := range remove {
		l.o.Peers.RemovePeer(id)
	}
	for _, id := range sortedKeys(set) {
		l.o.Peers.SetPeer(id, set[id])
	}
}

// keepLearnedLocked keeps the leader among the learned members until the image knows it; others introduce themselves again.
func (l *Links) keepLearnedLocked(known map[uint64]kafka.BrokerID) {
	leader := uint64(0)
	if c := l.mu.controller; c != nil {
		leader = c.leader.Load()
	}
	l.mu.routes.learned = slices.DeleteFunc(l.mu.routes.learned, func(s learned) bool {
		_, is := known[s.raftID]
		return is || s.raftID != leader
	})
}

// heard corrects a broker's address by what its living process says of itself, and learns of members that are not known yet.
func (l *Links) heard(from peer.Identity, as sender) {
	raftID := RaftID(from.Directory)
	if as == senderUnknown || from.Address == "" || from.Broker == l.self.Broker {
		return
	}
	l.mu.Lock()
	known, member := l.mu.routes.member[from.Broker]
	id, ok := l.brokerOfLocked(raftID)
	same := known.address == from.Address
	changed := false
	switch {
	case ok:
		changed = member && !same && id == from.Broker
	case !member || same || as == senderLeader:
		l.learnLocked(learned{raftID, from.Broker, from.Address})
		changed = !same
	}
	if changed {
		l.mu.routes.member[from.Broker] = route{address: from.Address, image: known.image}
	}
	l.mu.Unlock()
	if changed {
		l.o.Logger.Info("a broker has another cluster address than was known", "broker", from.Broker, "address", from.Address, "known", known.address)
		l.o.Peers.SetPeer(from.Broker, from.Address)
	}
}

func (l *Links) learnLocked(s learned) {
	r := &l.mu.routes
	if len(r.learned) >= learnedMax {
		r.learned = slices.Delete(r.learned, 0, 1)
	}
	r.learned = append(r.learned, s)
	if r.member == nil {
		r.member = map[kafka.BrokerID]route{}
	}
}

func (l *Links) brokerOf(raftID uint64) (kafka.BrokerID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.brokerOfLocked(raftID)
}

func (l *Links) brokerOfLocked(raftID uint64) (kafka.BrokerID, bool) {
	if id, ok := l.mu.routes.broker[raftID]; ok {
		return id, true
	}
	for _, s := range l.mu.routes.learned {
		if s.raftID == raftID {
			return s.broker, true
		}
	}
	return kafka.NoLeader, false
}

// Send hands a Raft message over. Large ones go in parts, so that heartbeats need not wait behind them.
func (l *Links) Send(to uint64, message []byte) bool {
	id, ok := l.brokerOf(to)
	if !ok {
		return false
	}
	if len(message) > partBytes {
		return l.sendParts(id, message, func(bool) {})
	}
	return l.o.Peers.Notify(id, peer.Raft, message)
}

// SendSnapshot hands over a message with a snapshot.
func (l *Links) SendSnapshot(to uint64, message []byte, delivered func(ok bool)) {
	if id, ok := l.brokerOf(to); !ok || !l.sendParts(id, message, delivered) {
		delivered(false)
	}
}

// Forward has a node run a command.
func (l *Links) Forward(ctx context.Context, to uint64, command Command) (Answer, error) {
	body, err := encodeCommand(command)
	if err != nil {
		return Answer{Err: kafka.ErrInvalidRequest.With("the command cannot be sent to the controller: %v", err)}, nil
	}
	if to != 0 {
		id, ok := l.brokerOf(to)
		if !ok {
			return Answer{}, fmt.Errorf("%w: no broker is known with the Raft ID %x", errNotSent, to)
		}
		return l.forward(ctx, id, body)
	}
	return l.forwardAny(ctx, body)
}

// forwardAny has the first member run a command that does not say that it knows no more than the asker. Each time another member
// is asked first: one that is silent takes all the time there is.
func (l *Links) forwardAny(ctx context.Context, body []byte) (Answer, error) {
	members, first := l.members()
	var refused *Answer
	last := fmt.Errorf("%w: no member of the cluster is known", errNotSent)
	for i := range members {
		answer, err := l.forward(ctx, members[(first+i)%len(members)], body)
		switch {
		case err == nil && errors.Is(answer.Err, kafka.ErrNotController):
			refused = &answer
		case errors.Is(err, errNotSent):
			last = err
		default:
			return answer, err
		}
	}
	if refused != nil {
		return *refused, nil
	}
	return Answer{}, last
}

func (l *Links) forward(ctx context.Context, id kafka.BrokerID, body []byte) (Answer, error) {
	data, err := l.o.Peers.Call(ctx, id, peer.Forward, body)
	var refused *kafka.Error
	switch {
	case errors.As(err, &refused):
		return Answer{Err: refused}, nil
	case errors.Is(err, peer.ErrNotSent):
		return Answer{}, fmt.Errorf("%w to broker %d: %w", errNotSent, id, err)
	case err != nil:
		return Answer{}, err
	}
	return decodeAnswer(data)
}

func (l *Links) onForward(ctx context.Context, _ peer.Identity, body []byte) ([]byte, error) {
	c := l.attached()
	if c == nil {
		return nil, kafka.ErrNotController.With("this node is starting or closing")
	}
	command, err := decodeCommand(body)
	if err != nil {
		return nil, kafka.ErrInvalidRequest.With("%v", err)
	}
	return encodeAnswer(c.Execute(ctx, command))
}

func (l *Links) onRaft(from peer.Identity, body []byte) {
	l.deliver(from, body)
}

// deliver hands a Raft message to the controller.
func (l *Links) deliver(from peer.Identity, message []byte) {
	c := l.attached()
	if c == nil {
		return
	}
	as, err := c.Receive(from, message)
	if err != nil {
		l.o.Logger.Warn("a Raft message cannot be read and is dropped", "from", from.String(), "error", err)
		return
	}
	l.heard(from, as)
}

func (l *Links) onEvent(e peer.Event) {
	if e.Kind == peer.Down {
		l.forgetParts(e.Identity)
	}
	if c := l.attached(); c != nil {
		c.peerEvent(e)
	}
}

// members are the brokers that are known, in ascending order, and how often this was asked before.
func (l *Links) members() ([]kafka.BrokerID, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.mu.routes.asked
	l.mu.routes.asked = asked%(1<<30) + 1
	return sortedKeys(l.mu.routes.member), asked
}

func sortedKeys[V any](m map[kafka.BrokerID]V) []kafka.BrokerID { return slices.Sorted(maps.Keys(m)) }
