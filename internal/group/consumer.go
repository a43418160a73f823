package group

import (
	"cmp"
	"maps"
	"slices"

	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// The member epochs that are not epochs.
const (
	epochJoin        = 0  // in a request: join, or join again
	epochLeave       = -1 // in a request: leave for good
	epochStaticLeave = -2 // in a request and in the log: a static member that is away for a while
)

// memberState is how far a member has come on its way to its target assignment; the numbers are in the log.
type memberState int8

const (
	memberStable     memberState = 0
	memberUnrevoked  memberState = 1 // it has been told to give partitions up, and has not said yet that it did
	memberUnreleased memberState = 2 // it waits for partitions that others have not given up
	memberUnknown    memberState = 127
)

// consumerGroup is one group of the consumer protocol (KIP-848); members of the classic protocol may be in it while a group
// migrates. The group epoch counts what calls for another target assignment, the target epoch says which of them the target
// is for, and each member's epoch how far that member has been moved towards it.
type consumerGroup struct {
	id          string
	epoch       int32
	targetEpoch int32 // -1 for none
	hash        int64 // of the metadata of the subscribed topics when the group epoch was last raised
	legacy      bool  // the log has a record of the subscribed topics, as Kafka wrote them before 4.1

	members map[string]*consumerMember // immutable values: a change puts another
	order   []string                   // member IDs, sorted
	static  map[string]string          // group.instance.id -> member ID
	targets map[string]assign.Assignment
	regexes map[string]resolvedRegex
	// owners says who has a partition, those included who have still to give it up; nil while the log is replayed.
	owners map[kafka.TopicPartition]string

	stale bool // the subscribed topics may have changed
}

// consumerMember is a member of a consumer group. It is immutable.
type consumerMember struct {
	id               string
	instance         *string
	rack             *string
	clientID         string
	clientHost       string
	topics           []string // subscribed by name: sorted, no duplicates
	regex            string   // subscribed by regular expression; "" for none
	rebalanceTimeout int32    // milliseconds; -1 if it never said
	assignor         *string
	classic          *classicMember // of one that uses the classic protocol

	epoch         int32
	previousEpoch int32
	state         memberState
	assigned      held
	pending       held // to be given up
}

// classicMember is what a consumer group keeps of a member that uses the classic protocol.
type classicMember struct {
	sessionTimeout int32 // milliseconds
	protocols      []protocol
}

func newConsumerGroup(id string) *consumerGroup {
	return &consumerGroup{
		id: id, targetEpoch: -1, members: map[string]*consumerMember{}, static: map[string]string{},
		targets: map[string]assign.Assignment{}, regexes: map[string]resolvedRegex{}, owners: map[kafka.TopicPartition]string{}, stale: true,
	}
}

// put adds a member or replaces the one with its ID.
func (g *consumerGroup) put(mb *consumerMember) {
	old := g.members[mb.id]
	if old == nil {
		i, _ := slices.BinarySearch(g.order, mb.id)
		g.order = slices.Insert(g.order, i, mb.id)
	}
	if old != nil && old.instance != nil && g.static[*old.instance] == mb.id {
		delete(g.static, *old.instance)
	}
	if mb.instance != nil {
		g.static[*mb.instance] = mb.id
	}
	if old == nil || !old.samePosition(mb) {
		g.release(old)
		g.own(mb)
	}
	g.members[mb.id] = mb
}

// remove takes a member out, with what it has and what was meant for it.
func (g *consumerGroup) remove(id string) {
	mb := g.members[id]
	if mb == nil {
		return
	}
	g.release(mb)
	delete(g.members, id)
	i, _ := slices.BinarySearch(g.order, id)
	g.order = slices.Delete(g.order, i, i+1)
	if mb.instance != nil && g.static[*mb.instance] == id {
		delete(g.static, *mb.instance)
	}
	delete(g.targets, id)
}

func (g *consumerGroup) release(mb *consumerMember) {
	if mb == nil || g.owners == nil {
		return
	}
	for _, h := range [...]held{mb.assigned, mb.pending} {
		for tp := range h.all {
			if g.owners[tp] == mb.id {
				delete(g.owners, tp)
			}
		}
	}
}

func (g *consumerGroup) own(mb *consumerMember) {
	if g.owners == nil {
		return
	}
	for _, h := range [...]held{mb.assigned, mb.pending} {
		for tp := range h.all {
			g.owners[tp] = mb.id
		}
	}
}

// settleOwners finds the owners once the log was replayed: in the middle of it two members may have one partition, since
// compaction takes away what was between. It returns partitions that have two owners all the same, which no log may say.
func (g *consumerGroup) settleOwners() []kafka.TopicPartition {
	var twice []kafka.TopicPartition
	g.owners = map[kafka.TopicPartition]string{}
	for _, id := range g.order {
		for _, h := range [...]held{g.members[id].assigned, g.members[id].pending} {
			for tp := range h.all {
				if o, taken := g.owners[tp]; taken && o != id {
					twice = append(twice, tp)
				}
				g.owners[tp] = id
			}
		}
	}
	return twice
}

// free tells whether nobody but the member itself has the partition.
func (g *consumerGroup) free(tp kafka.TopicPartition, member string) bool {
	o, taken := g.owners[tp]
	return !taken || o == member
}

// reconciledTo says that the member has all that the target of that epoch means for it, and nothing else.
func (mb *consumerMember) reconciledTo(targetEpoch int32) bool {
	return mb.state == memberStable && mb.epoch == targetEpoch
}

// away says that it is a static member that has left for a while.
func (mb *consumerMember) away() bool { return mb.epoch == epochStaticLeave }

// The states of a group, as ListGroups and ConsumerGroupDescribe tell them.
const (
	stateEmpty       = "Empty"
	stateAssigning   = "Assigning"
	stateReconciling = "Reconciling"
	stateStable      = "Stable"
)

func (g *consumerGroup) state() string {
	switch {
	case len(g.members) == 0:
		return stateEmpty
	case g.epoch > g.targetEpoch:
		return stateAssigning
	}
	for _, mb := range g.members { // any order: all must be
		if !mb.reconciledTo(g.targetEpoch) {
			return stateReconciling
		}
	}
	return stateStable
}

// settled says that all members who are there have what they are meant to have.
func (g *consumerGroup) settled() bool {
	if g.epoch > g.targetEpoch {
		return false
	}
	for _, mb := range g.members { // any order: all must be
		if !mb.away() && !mb.reconciledTo(g.targetEpoch) {
			return false
		}
	}
	return true
}

// assignor is the one that most members ask for, among equals the first by name; fallback if nobody asks.
func (g *consumerGroup) assignor(fallback string) string {
	votes := map[string]int{}
	for _, mb := range g.members { // any order: they are counted
		if mb.assignor != nil {
			votes[*mb.assignor]++
		}
	}
	best := fallback
	for _, name := range slices.Sorted(maps.Keys(votes)) {
		if votes[name] > votes[best] || votes[best] == 0 {
			best = name
		}
	}
	return best
}

// subscribesTo tells whether any member subscribes to the topic, by name or by regular expression.
func (g *consumerGroup) subscribesTo(topic string) bool {
	for _, r := range g.regexes { // any order: one is enough
		if _, ok := slices.BinarySearch(r.topics, topic); ok {
			return true
		}
	}
	for _, mb := range g.members { // any order: one is enough
		if _, ok := slices.BinarySearch(mb.topics, topic); ok {
			return true
		}
	}
	return false
}

// classicMembers counts the members of the classic protocol.
func (g *consumerGroup) classicMembers() int {
	n := 0
	for _, mb := range g.members { // any order: they are counted
		if mb.classic != nil {
			n++
		}
	}
	return n
}

// shareWith is with how many members a subscription is compared.
const shareWith = 4

// share is a list of topics, in the place of which another member's stands if it has the same: those of one application mostly do, and
// may be many.
func (g *consumerGroup) share(topics []string) []string {
	for _, id := range g.order[:min(len(g.order), shareWith)] {
		if mb := g.members[id]; slices.Equal(mb.topics, topics) {
			return mb.topics
		}
	}
	return topics
}

// sortedStrings copies, sorts and drops duplicates.
func sortedStrings[S cmp.Ordered](in []S) []S {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}
