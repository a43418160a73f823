package group

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// testdata is for scripts only: a history that fails is told by its seed.
func init() { _ = flag.Set("rapid.nofailfile", "true") }

// fakeTopics is a view of topics that a test changes by putting another in its place.
type fakeTopics struct {
	offset kafka.Offset
	topics map[string]fakeTopic
}

type fakeTopic struct {
	id         kafka.TopicID
	partitions int
}

func (t *fakeTopics) Topic(name string) (kafka.TopicID, int, [][]string, bool) {
	topic, ok := t.topics[name]
	return topic.id, topic.partitions, nil, ok
}

func (t *fakeTopics) ID(name string) (kafka.TopicID, bool) {
	topic, ok := t.topics[name]
	return topic.id, ok
}

func (t *fakeTopics) ByID(id kafka.TopicID) (string, bool) {
	for name, topic := range t.topics {
		if topic.id == id {
			return name, true
		}
	}
	return "", false
}

func (t *fakeTopics) Names() []string      { return slices.Sorted(maps.Keys(t.topics)) }
func (t *fakeTopics) Offset() kafka.Offset { return t.offset }

// with is the view after a change; no partitions delete the topic.
func (t *fakeTopics) with(name string, id kafka.TopicID, partitions int) *fakeTopics {
	next := &fakeTopics{offset: t.offset + 1, topics: maps.Clone(t.topics)}
	if partitions == 0 {
		delete(next.topics, name)
	} else {
		next.topics[name] = fakeTopic{id, partitions}
	}
	return next
}

type parts map[kafka.TopicPartition]bool

// actor is a consumer, of either protocol: it has partitions, gives them up when it is told to, and may lose answers.
type actor struct {
	name     string
	instance *string
	classic  bool
	topics   []string
	regex    *string
	memberID string
	epoch    int32 // or generation; 0 while it is no member
	owned    parts
	wanted   parts // what it was last told to have; nil if nothing
	told     parts // what it last said that it has; nil if it must say everything
	silent   bool
	stuck    bool // it does not give up anything
	join     *JoinPromise
	sync     *SyncPromise
	seen     kafka.Offset // of the topics when it joined
}

type model struct {
	t       *rapid.T
	m       *Machine
	timers  *coordinator.Timers
	now     time.Time
	ids     int
	topics  *fakeTopics
	log     []coordinator.Record
	ends    []int // of the log, after each operation
	sure    int   // of the log: somebody has seen an answer that depends on it
	actors  []*actor
	limits  Limits
	revoked int
	byName  bool           // classic members know topics by name: none is deleted and made again
	kinds   map[string]int // how often the group was of a kind in a state
}

func (w *model) fresh() {
	w.timers = coordinator.NewTimers()
	w.m = New(func() Limits { return w.limits }, func() string { w.ids++; return fmt.Sprint("id", w.ids) }, slog.New(slog.DiscardHandler))
	w.m.SetTopics(func() Topics { return w.topics })
}

// do runs an operation and checks what must always be.
func (w *model) do(op func(tx *coordinator.Tx)) {
	before := map[string]*consumerMember{}
	if g := w.m.consumers["g"]; g != nil {
		before = maps.Clone(g.members)
	}
	tx := coordinator.NewTx(w.now, w.timers)
	op(tx)
	w.log = append(w.log, tx.Take()...)
	w.ends = append(w.ends, len(w.log))
	w.check(before)
}

// check: nobody has what another has, each member has at most what the coordinator knows of, and nobody must give up what is meant for
// it.
func (w *model) check(before map[string]*consumerMember) {
	g := w.m.consumers["g"]
	if g == nil {
		w.checkClassic()
		return
	}
	w.kinds["consumer "+g.state()]++
	owners := map[kafka.TopicPartition]string{}
	for _, id := range g.order {
		mb := g.members[id]
		for _, h := range []held{mb.assigned, mb.pending} {
			for tp := range h.all {
				if o, taken := owners[tp]; taken {
					w.t.Fatalf("%v belongs to %s and to %s", tp, o, id)
				}
				owners[tp] = id
			}
		}
		for tp := range mb.pending.all {
			old := before[id]
			if (old == nil || !old.pending.has(tp.Topic, tp.Partition)) && g.targets[id].Has(tp.Topic, tp.Partition) {
				w.t.Fatalf("%s must give up %v, which is meant for it", id, tp)
			}
			if old == nil || !old.pending.has(tp.Topic, tp.Partition) {
				w.revoked++
			}
		}
	}
	if !maps.Equal(owners, g.owners) {
		w.t.Fatalf("the index of owners is %v, the members have %v", g.owners, owners)
	}
	if !slices.IsSorted(g.order) || len(g.order) != len(g.members) {
		w.t.Fatalf("order %v of %d members", g.order, len(g.members))
	}
	for _, a := range w.actors {
		mb := g.members[a.memberID]
		if mb == nil || a.classic && a.epoch != mb.epoch {
			continue // it is out, and its commits are refused; it will learn of it
		}
		for tp := range a.owned {
			if !mb.assigned.has(tp.Topic, tp.Partition) && !mb.pending.has(tp.Topic, tp.Partition) {
				w.t.Fatalf("%s has %v, which the coordinator has taken from it: %v, pending %v", a.name, tp, mb.assigned, mb.pending)
			}
		}
	}
}

// checkClassic: one owner in a generation.
func (w *model) checkClassic() {
	g := w.m.groups["g"]
	if g == nil {
		return
	}
	w.kinds["classic "+g.state.String()]++
	owners := map[kafka.TopicPartition]string{}
	for _, a := range w.actors {
		if g.byID[a.memberID] == nil || a.epoch != g.generation {
			continue
		}
		for tp := range a.owned {
			if o, taken := owners[tp]; taken {
				w.t.Fatalf("in generation %d %v belongs to %s and to %s", g.generation, tp, o, a.name)
			}
			owners[tp] = a.name
		}
	}
}

// print tells all of the state that the log must give back.
func (m *Machine) print() string {
	var b strings.Builder
	for _, id := range m.consumerIDs() {
		g := m.consumers[id]
		fmt.Fprintf(&b, "consumer %s epoch %d target %d hash %x\n", id, g.epoch, g.targetEpoch, g.hash)
		for _, member := range g.order {
			mb := *g.members[member]
			fmt.Fprintf(&b, "  %s %s\n  target %v\n", member, printConsumer(&mb), g.targets[member])
		}
		for _, pattern := range slices.Sorted(maps.Keys(g.regexes)) {
			fmt.Fprintf(&b, "  regex %s %v\n", pattern, g.regexes[pattern].topics)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		if g.state == Stable || g.state == Empty {
			fmt.Fprintf(&b, "classic %s %v %d members\n", id, g.state, len(g.members))
		}
	}
	return b.String()
}

func printConsumer(mb *consumerMember) string {
	out := fmt.Sprintf("instance=%s rack=%s client=%s%s topics=%v regex=%q rebalance=%d assignor=%s epoch=%d previous=%d state=%d assigned=%s pending=%s",
		str(mb.instance), str(mb.rack), mb.clientID, mb.clientHost, mb.topics, mb.regex, mb.rebalanceTimeout, str(mb.assignor), mb.epoch,
		mb.previousEpoch, mb.state, printHeld(mb.assigned), printHeld(mb.pending))
	if mb.classic != nil {
		out += fmt.Sprintf(" classic %d %d protocols", mb.classic.sessionTimeout, len(mb.classic.protocols))
	}
	return out
}

func printHeld(h held) string {
	var rows []string
	for tp, epoch := range h.all {
		rows = append(rows, fmt.Sprintf("%d-%d@%d", tp.Topic[0], tp.Partition, epoch))
	}
	return fmt.Sprint(rows)
}

// compacted is the log as the cleaner may leave it: up to a place, only the last record of each key, some tombstones gone.
func (w *model) compacted(log []coordinator.Record) []coordinator.Record {
	to := rapid.IntRange(0, len(log)).Draw(w.t, "compacted to")
	dropTombstones := rapid.Bool().Draw(w.t, "tombstones go")
	last := map[string]int{}
	for i, rec := range log[:to] {
		last[string(rec.Key)] = i
	}
	var out []coordinator.Record
	for i, rec := range log {
		if i < to && (last[string(rec.Key)] != i || rec.Value == nil && dropTombstones) {
			continue
		}
		out = append(out, rec)
	}
	return out
}

func (w *model) replay(log []coordinator.Record) *Machine {
	w.fresh()
	for i, rec := range log {
		if err := w.m.Replay(coordinator.Replayed{Record: rec, Offset: kafka.Offset(i), ProducerID: kafka.NoProducerID}); err != nil {
			w.t.Fatalf("replay of %x: %v", rec.Key, err)
		}
	}
	return w.m
}

// restart is a failover: operations that nobody has seen an answer of may be lost, and the log may have been compacted.
func (w *model) restart() {
	before := w.m
	before.Unloaded(kafka.ErrNotCoordinator)
	cut := len(w.log)
	if rapid.Bool().Draw(w.t, "tail is lost") {
		at := rapid.IntRange(0, len(w.ends)).Draw(w.t, "operations kept")
		if at < len(w.ends) {
			cut = max(w.ends[at], w.sure)
		}
	}
	lost := cut < len(w.log)
	w.log = w.log[:cut]
	w.ends = slices.DeleteFunc(w.ends, func(end int) bool { return end > cut })
	w.replay(w.log)
	tx := coordinator.NewTx(w.now, w.timers)
	w.m.Loaded(tx)
	whole := w.m.print()
	if b := before.groups["g"]; !lost && (b == nil || b.state == Stable) && whole != before.print() {
		w.t.Fatalf("after the replay:\n%s\nbefore:\n%s", whole, before.print())
	}
	w.replay(w.compacted(w.log))
	w.do(w.m.Loaded)
	if got := w.m.print(); got != whole {
		w.t.Fatalf("after the replay of a compacted log:\n%s\nof the whole one:\n%s", got, whole)
	}
}

// prefixes: wherever the log ends, in the middle of an operation too, and whatever compaction has left of it, it can be loaded, and no
// partition has two owners.
func (w *model) prefixes() {
	for range 5 {
		cut := rapid.IntRange(0, len(w.log)).Draw(w.t, "prefix")
		w.replay(w.compacted(w.log[:cut]))
		for _, id := range w.m.consumerIDs() {
			if twice := w.m.consumers[id].settleOwners(); len(twice) > 0 {
				w.t.Fatalf("after %d records of %d: %v have two owners\n%s", cut, len(w.log), twice, w.m.print())
			}
		}
		w.m.Loaded(coordinator.NewTx(w.now, w.timers))
		for range 3 { // whoever is left goes, and the group with it
			for next, ok := w.timers.Next(); ok && next.Before(w.now.Add(time.Minute)); next, ok = w.timers.Next() {
				w.timers.Due(next)(coordinator.NewTx(next, w.timers))
			}
		}
		if g := w.m.consumers["g"]; g != nil && len(g.members) > 0 {
			w.t.Fatalf("members without heartbeats are left:\n%s", w.m.print())
		}
	}
}

func (w *model) advance(d time.Duration) {
	end := w.now.Add(d)
	for next, ok := w.timers.Next(); ok && !next.After(end); next, ok = w.timers.Next() {
		w.now = next
		w.do(w.timers.Due(w.now))
	}
	w.now = end
}

// step lets an actor do what it would do next; lost says that the answer does not reach it.
func (w *model) step(a *actor, lost bool) {
	a.reconcile()
	switch {
	case a.classic:
		w.stepClassic(a, lost)
	default:
		w.heartbeat(a, lost)
	}
}

// reconcile gives up at once what it must, and takes what it was given.
func (a *actor) reconcile() {
	if a.wanted == nil || a.stuck {
		return
	}
	a.owned = maps.Clone(a.wanted)
}

func (w *model) heartbeat(a *actor, lost bool) {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberEpoch, r.InstanceID = 1, "g", a.epoch, a.instance
	if a.memberID == "" {
		w.ids++
		a.memberID = fmt.Sprint(a.name, "-", w.ids)
	}
	r.MemberID = a.memberID
	if a.told == nil {
		r.RebalanceTimeoutMillis, r.SubscribedTopicNames, r.SubscribedTopicRegex = 20_000, a.topics, a.regex
	}
	if a.told == nil || !maps.Equal(a.told, a.owned) {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for tp := range a.owned {
			t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			t.TopicID, t.Partitions = tp.Topic, []int32{tp.Partition}
			r.Topics = append(r.Topics, t)
		}
	}
	told := maps.Clone(a.owned)
	if told == nil {
		told = parts{}
	}
	var resp *kmsg.ConsumerGroupHeartbeatResponse
	var err error
	w.do(func(tx *coordinator.Tx) {
		resp, err = w.m.ConsumerHeartbeat(tx, &ConsumerHeartbeatRequest{ConsumerGroupHeartbeatRequest: r, ClientID: a.name, ClientHost: "/h"})
	})
	w.t.Logf("%v %s epoch %d owned %v, told it: %v; answer %+v %v, lost: %v", w.now.UnixMilli(), a.memberID, r.MemberEpoch, a.owned, r.Topics != nil, resp, err, lost)
	if lost {
		// What an answer before this one gave it, and it has not taken yet, it must not take now: it has just said that it has not got
		// it, which is as good as giving it up. (The protocol leaves that to its clients.) It will be told again.
		a.told, a.wanted = nil, nil
		return
	}
	w.sure = len(w.log)
	switch kafka.CodeOf(err) {
	case 0:
		a.told, a.epoch = told, resp.MemberEpoch
		if resp.Assignment != nil {
			a.wanted = parts{}
			for _, t := range resp.Assignment.Topics {
				for _, p := range t.Partitions {
					a.wanted[kafka.TopicPartition{Topic: t.TopicID, Partition: p}] = true
				}
			}
		}
	case kafka.ErrFencedMemberEpoch.Code, kafka.ErrUnknownMemberID.Code:
		a.abandon()
	case kafka.ErrFencedInstanceID.Code, kafka.ErrUnreleasedInstanceID.Code, kafka.ErrGroupIDNotFound.Code:
		a.abandon()
		a.memberID = ""
	default:
		w.t.Fatalf("%s: heartbeat: %v", a.name, err)
	}
}

// abandon gives up everything and begins again.
func (a *actor) abandon() {
	a.owned, a.wanted, a.told, a.epoch, a.join, a.sync = nil, nil, nil, 0, nil, nil
}

func (w *model) leave(a *actor, epoch int32) {
	defer func() {
		a.abandon()
		a.memberID = ""
	}()
	if a.memberID == "" {
		return
	}
	a.owned = nil
	if a.classic {
		r := kmsg.NewPtrLeaveGroupRequest()
		r.Version, r.Group = 5, "g"
		row := kmsg.NewLeaveGroupRequestMember()
		row.MemberID, row.InstanceID = a.memberID, a.instance
		r.Members = append(r.Members, row)
		w.do(func(tx *coordinator.Tx) { _, _ = w.m.Leave(tx, r) })
		return
	}
	if a.instance == nil {
		epoch = epochLeave
	}
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.Version, r.Group, r.MemberID, r.MemberEpoch, r.InstanceID = 1, "g", a.memberID, epoch, a.instance
	w.do(func(tx *coordinator.Tx) {
		_, _ = w.m.ConsumerHeartbeat(tx, &ConsumerHeartbeatRequest{ConsumerGroupHeartbeatRequest: r, ClientID: a.name, ClientHost: "/h"})
	})
}

// changeTopics makes, deletes or extends a topic, and tells the machine as the service does.
func (w *model) changeTopics() {
	name := rapid.SampledFrom([]string{"a", "b", "other"}).Draw(w.t, "topic")
	topic, ok := w.topics.topics[name]
	switch {
	case !ok:
		w.ids++
		w.topics = w.topics.with(name, kafka.TopicID{byte(w.ids), byte(w.ids >> 8), name[0]}, 1+rapid.IntRange(0, 4).Draw(w.t, "partitions"))
	case !w.byName && rapid.IntRange(0, 2).Draw(w.t, "delete") == 0:
		w.topics = w.topics.with(name, topic.id, 0)
	default:
		w.topics = w.topics.with(name, topic.id, topic.partitions+1)
	}
	w.m.TopicsChanged([]string{name})
}

func (w *model) subscription(a *actor) {
	w.drawSubscription(a)
	a.told, a.seen = nil, -1 // it says so with everything else, or joins again
}

func (w *model) drawSubscription(a *actor) {
	empty := ""
	a.regex = nil
	if !a.classic {
		a.regex = &empty
	}
	switch n := rapid.IntRange(0, 5).Draw(w.t, "subscription"); {
	case n == 0:
		a.topics = []string{"b"}
	case n == 1 && !a.classic:
		pattern := rapid.SampledFrom([]string{"a|b", ".*"}).Draw(w.t, "regex")
		a.topics, a.regex = []string{}, &pattern
	case n == 2:
		a.topics = []string{"b", "a"}
	default:
		a.topics = []string{"a"}
	}
}

func newModel(t *rapid.T, classic bool) *model {
	w := &model{t: t, byName: classic, now: time.UnixMilli(1_000_000), kinds: map[string]int{}, limits: Limits{
		MinSessionTimeout: time.Second, MaxSessionTimeout: time.Hour, MaxSize: 100, InitialRebalanceDelay: time.Second,
		OffsetMetadataMax: 100, RecordMaxBytes: 1 << 20,
	}}
	w.topics = (&fakeTopics{}).with("a", kafka.TopicID{1}, 0)
	w.topics.topics = map[string]fakeTopic{"a": {kafka.TopicID{1}, 4}, "b": {kafka.TopicID{2}, 3}}
	w.fresh()
	for i := range rapid.IntRange(2, 6).Draw(t, "actors") {
		a := &actor{name: fmt.Sprint("actor", i), classic: classic && rapid.Bool().Draw(t, "classic")}
		if rapid.IntRange(0, 2).Draw(t, "static") == 0 {
			a.instance = kmsg.StringPtr(fmt.Sprint("i", i))
		}
		w.drawSubscription(a)
		w.actors = append(w.actors, a)
	}
	return w
}

func (w *model) run(steps int) {
	for range steps {
		a := w.actors[rapid.IntRange(0, len(w.actors)-1).Draw(w.t, "actor")]
		switch rapid.IntRange(0, 60).Draw(w.t, "action") {
		case 0:
			w.restart()
		case 1, 2:
			a.silent = !a.silent
		case 3:
			w.leave(a, rapid.SampledFrom([]int32{epochLeave, epochStaticLeave}).Draw(w.t, "epoch"))
		case 4: // its process dies and starts anew
			a.abandon()
			a.memberID = ""
		case 5:
			w.changeTopics()
		case 6:
			w.subscription(a)
		case 7:
			a.stuck = !a.stuck
		case 8, 9, 10, 11, 12, 13:
			w.advance(time.Duration(rapid.IntRange(1, 9000).Draw(w.t, "ms")) * time.Millisecond)
		case 14, 15, 16:
			if !a.silent {
				w.step(a, true)
			}
		default:
			if !a.silent {
				w.step(a, false)
			}
		}
	}
}

// heal: everybody takes part and nothing is lost. The group comes to rest, and every partition has an owner.
func (w *model) heal() {
	for _, a := range w.actors {
		a.silent, a.stuck = false, false
	}
	for round := range 150 {
		for _, a := range w.actors {
			if round == 50 { // a static leader that has replaced another may have missed what happened to topics before
				a.seen = -1
			}
			w.step(a, false)
		}
		w.advance(time.Second)
	}
	owners := map[kafka.TopicPartition]string{}
	for _, a := range w.actors {
		for tp := range a.owned {
			if o, taken := owners[tp]; taken {
				w.t.Fatalf("%v belongs to %s and to %s", tp, o, a.name)
			}
			owners[tp] = a.name
		}
	}
	for name, topic := range w.topics.topics {
		for p := range topic.partitions {
			tp := kafka.TopicPartition{Topic: topic.id, Partition: int32(p)}
			if subscribed := slices.ContainsFunc(w.actors, func(a *actor) bool { return a.subscribes(name) }); subscribed != (owners[tp] != "") {
				w.t.Fatalf("%s-%d belongs to %q, subscribed: %v\n%s", name, p, owners[tp], subscribed, w.m.print())
			}
			delete(owners, tp)
		}
	}
	if len(owners) > 0 {
		w.t.Fatalf("partitions that do not exist have owners: %v", owners)
	}
	if g := w.m.consumers["g"]; g != nil && g.state() != stateStable {
		w.t.Fatalf("the group is %s:\n%s", g.state(), w.m.print())
	}
}

func (a *actor) subscribes(topic string) bool {
	if slices.Contains(a.topics, topic) {
		return true
	}
	return a.regex != nil && (*a.regex == ".*" || *a.regex == "a|b" && topic != "other")
}

// Random histories of a consumer group: losses, silence, restarts with a lost tail and compacted logs, static members, topics that
// come and go. Nobody has what another has, nobody gives up what is meant for it, replay gives what was there, and all converges.
func TestConsumerGroupModel(t *testing.T) {
	kinds, revoked := map[string]int{}, 0
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t, false)
		w.run(250)
		w.heal()
		w.restart()
		w.prefixes()
		revoked += w.revoked
		for k, n := range w.kinds {
			kinds[k] += n
		}
	})
	if revoked == 0 || kinds["consumer Reconciling"] == 0 || kinds["consumer Assigning"] == 0 || kinds["consumer Stable"] == 0 {
		t.Errorf("the histories show too little: %d revocations, %v", revoked, kinds)
	}
}

// The same with members of both protocols: the group changes its kind, both ways, and nobody has what another has in one generation.
func TestMigrationModel(t *testing.T) {
	kinds := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newModel(t, true)
		w.run(250)
		w.heal()
		w.restart()
		w.prefixes()
		for k, n := range w.kinds {
			kinds[k] += n
		}
	})
	if kinds["consumer Stable"] == 0 || kinds["classic Stable"] == 0 || kinds["classic CompletingRebalance"] == 0 {
		t.Errorf("the histories show too little: %v", kinds)
	}
}
