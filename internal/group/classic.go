package group

import (
	"fmt"
	"slices"

	"chronik/internal/kafka"
)

// State is the state of a classic group.
type State int8

// The states; their names are on the wire.
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	Dead // only as the answer about a group that does not exist
)

func (s State) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}[s]
}

// from are the states that a state may follow.
var from = map[State][]State{
	Empty:               {PreparingRebalance},
	PreparingRebalance:  {Stable, CompletingRebalance, Empty},
	CompletingRebalance: {PreparingRebalance},
	Stable:              {CompletingRebalance},
}

// consumerProtocol is the protocol type of consumers, whose subscriptions the coordinator can read.
const consumerProtocol = "consumer"

// classic is one group of the classic protocol. A group that only holds offsets is one without members and protocol type.
type classic struct {
	id           string
	state        State
	previous     State
	stateSince   int64 // milliseconds; -1 if not known
	protocolType string
	protocol     *string // chosen for this generation
	generation   int32
	leader       string // "" for none

	members     []*member // in the order in which they joined
	byID        map[string]*member
	static      map[string]string   // group.instance.id -> member ID
	pendingJoin map[string]struct{} // given a member ID, not heard of again (KIP-394)
	pendingSync map[string]struct{}
	supported   map[string]int // protocol -> members that support it
	awaiting    int            // members that wait for a JoinGroup answer
	newMember   bool           // one came since the initial delay was last extended

	subscribed map[string]struct{} // topics of all members; nil if they are not known
	implied    bool                // by offsets in the log, not by a record of its own
	unled      bool                // the log says that it is to rebalance: see Machine.downgraded
}

func newClassic(id string, now int64) *classic {
	return &classic{
		id: id, state: Empty, previous: Dead, stateSince: now,
		byID: map[string]*member{}, static: map[string]string{},
		pendingJoin: map[string]struct{}{}, pendingSync: map[string]struct{}{}, supported: map[string]int{},
	}
}

func (g *classic) transition(to State, now int64) {
	if !slices.Contains(from[to], g.state) {
		panic(fmt.Sprintf("group %s: from %v to %v", g.id, g.state, to))
	}
	g.previous, g.state, g.stateSince = g.state, to, now
}

func (g *classic) isConsumer() bool { return g.protocolType == consumerProtocol }

func (g *classic) add(mb *member) {
	if mb.instance != nil {
		g.static[*mb.instance] = mb.id
	}
	if len(g.members) == 0 {
		g.protocolType = mb.protocolType
	}
	if g.leader == "" {
		g.leader = mb.id
	}
	g.members = append(g.members, mb)
	g.byID[mb.id] = mb
	g.countProtocols(mb, 1)
	if mb.join != nil {
		g.awaiting++
	}
	delete(g.pendingJoin, mb.id)
}

// remove takes a member out, pending or not, that waits for no answer (any more): see Machine.drop.
func (g *classic) remove(id string) {
	if mb := g.byID[id]; mb != nil {
		delete(g.byID, id)
		g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == mb })
		g.countProtocols(mb, -1)
		if mb.instance != nil {
			delete(g.static, *mb.instance)
		}
	}
	if g.leader == id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
	delete(g.pendingJoin, id)
	delete(g.pendingSync, id)
}

func (g *classic) countProtocols(mb *member, by int) {
	for i := range mb.protocols {
		name := mb.protocols[i].name
		if g.supported[name] += by; g.supported[name] == 0 {
			delete(g.supported, name)
		}
	}
}

func (g *classic) allJoined() bool { return len(g.members) == g.awaiting && len(g.pendingJoin) == 0 }

// electJoined makes sure that the leader is somebody who takes part in the next generation; false if there is nobody.
func (g *classic) electJoined() bool {
	if g.leader == "" {
		return false
	}
	if mb := g.byID[g.leader]; mb != nil && mb.join != nil {
		return true
	}
	for _, mb := range g.members {
		if mb.join != nil {
			g.leader = mb.id
			return true
		}
	}
	return false
}

// rebalanceTimeout is the longest that a member asked for, in milliseconds.
func (g *classic) rebalanceTimeout() int32 {
	var longest int32
	for _, mb := range g.members {
		longest = max(longest, mb.rebalanceTimeout)
	}
	return longest
}

// validate checks that a request comes from a current member (KIP-345: and not from one that another process with its
// group.instance.id has replaced).
func (g *classic) validate(memberID string, instance *string) *kafka.Error {
	if instance != nil {
		current, ok := g.static[*instance]
		if !ok {
			return kafka.ErrUnknownMemberID.With("group %s has no member with group.instance.id %s", g.id, *instance)
		}
		if current != memberID {
			return kafka.ErrFencedInstanceID.With("group.instance.id %s of group %s belongs to a newer member", *instance, g.id)
		}
	}
	if g.byID[memberID] == nil {
		return kafka.ErrUnknownMemberID.With("group %s has no member %s", g.id, memberID)
	}
	return nil
}

// supports tells whether a member with this protocol type and these protocols can be in the group.
func (g *classic) supports(protocolType string, protocols []protocol) bool {
	if g.state == Empty {
		return protocolType != "" && len(protocols) > 0
	}
	return g.protocolType == protocolType && slices.ContainsFunc(protocols, func(p protocol) bool {
		return g.supported[p.name] == len(g.members)
	})
}

// selectProtocol takes the protocol that all members support and most prefer; among equals the one that an earlier
// member votes for.
func (g *classic) selectProtocol() string {
	votes := map[string]int{}
	best := ""
	for _, mb := range g.members {
		for i := range mb.protocols {
			if name := mb.protocols[i].name; g.supported[name] == len(g.members) {
				votes[name]++
				break
			}
		}
	}
	for _, mb := range g.members {
		for i := range mb.protocols {
			if name := mb.protocols[i].name; votes[name] > votes[best] {
				best = name
			}
		}
	}
	return best
}

// nextGeneration begins a generation of those who are members now.
func (g *classic) nextGeneration(now int64) {
	g.generation++
	clear(g.pendingSync)
	if len(g.members) == 0 {
		g.protocol = nil
		g.subscribed = g.subscriptions()
		g.transition(Empty, now)
		return
	}
	chosen := g.selectProtocol()
	g.protocol = &chosen
	g.subscribed = g.subscriptions()
	g.transition(CompletingRebalance, now)
}

// subscriptions are the topics that members subscribe to; nil where the coordinator cannot know.
func (g *classic) subscriptions() map[string]struct{} {
	if !g.isConsumer() {
		return nil
	}
	topics := map[string]struct{}{}
	if len(g.members) == 0 {
		return topics
	}
	if g.protocol == nil {
		return nil
	}
	for _, mb := range g.members {
		if !subscribedTopics(mb.metadata(*g.protocol), topics) {
			return nil
		}
	}
	return topics
}

// subscribesTo tells whether offsets of the topic are in use.
func (g *classic) subscribesTo(topic string) bool {
	if g.subscribed == nil {
		return g.isConsumer()
	}
	_, ok := g.subscribed[topic]
	return ok
}
