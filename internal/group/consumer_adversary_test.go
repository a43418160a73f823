package group

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// arena has honest members of one group, which do what KIP-848 asks of clients, among liars, which do anything. It knows nothing
// of the machine but its answers.
type arena struct {
	t      *testing.T
	rng    *rand.Rand
	m      *Machine
	timers *coordinator.Timers
	now    time.Time
	ids    int
	topics *fakeTopics
	honest []*honestMember
	liars  []string // member IDs, which they make up
	log    []string // what happened, for failures
	commit map[kafka.TopicPartition]int64
}

// honestMember is a client that works.
type honestMember struct {
	id       string
	instance *string
	topics   []string
	regex    string
	epoch    int32
	owned    map[kafka.TopicPartition]bool // what it consumes
	told     map[kafka.TopicPartition]bool // what it is to have; nil if it has all of that
	full     bool                          // it must say everything: its last request failed
	fenced   int
}

const honestName = "honest"

// sorted is what it consumes, in order.
func (h *honestMember) sorted() []kafka.TopicPartition {
	return slices.SortedFunc(maps.Keys(h.owned), func(a, b kafka.TopicPartition) int { return strings.Compare(a.String(), b.String()) })
}

func newArena(t *testing.T, seed uint64) *arena {
	a := &arena{t: t, rng: rand.New(rand.NewPCG(seed, 848)), timers: coordinator.NewTimers(), now: time.UnixMilli(1_000_000), commit: map[kafka.TopicPartition]int64{}}
	a.m = New(func() Limits { return Limits{MaxSize: 100, OffsetMetadataMax: 100, RecordMaxBytes: 1 << 20} },
		func() string { a.ids++; return fmt.Sprint("made", a.ids) }, slog.New(slog.DiscardHandler))
	a.topics = (&fakeTopics{topics: map[string]fakeTopic{}}).with("t", kafka.TopicID{1}, 1+a.rng.IntN(9)).with("u", kafka.TopicID{2}, 1+a.rng.IntN(5))
	a.m.SetTopics(func() Topics { return a.topics })
	for i := range 1 + a.rng.IntN(4) {
		h := &honestMember{id: fmt.Sprint(honestName, i), owned: map[kafka.TopicPartition]bool{}}
		if i%2 == 1 {
			instance := fmt.Sprint("instance", i)
			h.instance = &instance
		}
		if h.topics = []string{"t", "u"}; a.rng.IntN(4) == 0 {
			h.topics, h.regex = nil, "[tu]"
		}
		a.honest = append(a.honest, h)
	}
	return a
}

func (a *arena) do(op func(tx *coordinator.Tx)) {
	tx := coordinator.NewTx(a.now, a.timers)
	op(tx)
	tx.Take()
}

func (a *arena) pass(d time.Duration) {
	end := a.now.Add(d)
	for next, ok := a.timers.Next(); ok && !next.After(end); next, ok = a.timers.Next() {
		a.now = next
		a.do(a.timers.Due(a.now))
	}
	a.now = end
}

func (a *arena) heartbeat(r *kmsg.ConsumerGroupHeartbeatRequest) (resp *kmsg.ConsumerGroupHeartbeatResponse, err error) {
	r.Version, r.Group = 1, "g"
	a.do(func(tx *coordinator.Tx) {
		resp, err = a.m.ConsumerHeartbeat(tx, &ConsumerHeartbeatRequest{ConsumerGroupHeartbeatRequest: r, ClientID: "c", ClientHost: "/h"})
	})
	what := fmt.Sprintf("%s epoch %d owns %v: ", r.MemberID, r.MemberEpoch, r.Topics)
	if err != nil {
		what += err.Error()
	} else {
		what += fmt.Sprintf("epoch %d, %v", resp.MemberEpoch, resp.Assignment)
	}
	a.log = append(a.log, what)
	return resp, err
}

func (a *arena) fail(format string, args ...any) {
	a.t.Helper()
	a.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(a.log[max(0, len(a.log)-40):], "\n"))
}

// step is what an honest client does next: it finishes what it was told, and says so.
func (a *arena) step(h *honestMember) {
	if h.told != nil {
		h.owned, h.told = h.told, nil
	}
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.MemberID, r.MemberEpoch, r.InstanceID = h.id, h.epoch, h.instance
	if h.epoch == 0 || h.full {
		r.RebalanceTimeoutMillis, r.SubscribedTopicNames = 30_000, append([]string{}, h.topics...)
		if h.regex != "" {
			r.SubscribedTopicRegex = &h.regex
		}
	}
	r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for _, tp := range h.sorted() {
		row := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		row.TopicID, row.Partitions = tp.Topic, []int32{tp.Partition}
		r.Topics = append(r.Topics, row)
	}
	resp, err := a.heartbeat(r)
	switch {
	case errors.Is(err, kafka.ErrFencedMemberEpoch), errors.Is(err, kafka.ErrUnknownMemberID), errors.Is(err, kafka.ErrGroupIDNotFound):
		h.epoch, h.owned, h.fenced = 0, map[kafka.TopicPartition]bool{}, h.fenced+1
		return
	case err != nil:
		a.fail("%s, which is honest, got %v", h.id, err)
	}
	h.full = a.rng.IntN(8) == 0
	if a.rng.IntN(10) == 0 && resp.MemberEpoch == h.epoch && resp.Assignment == nil {
		return
	}
	h.epoch = resp.MemberEpoch
	if resp.Assignment == nil {
		return
	}
	// It stops at once to consume what it is to give up, and tells with a later heartbeat; it starts with the rest.
	next := map[kafka.TopicPartition]bool{}
	for _, topic := range resp.Assignment.Topics {
		for _, p := range topic.Partitions {
			next[kafka.TopicPartition{Topic: topic.TopicID, Partition: p}] = true
		}
	}
	lost := false
	for tp := range h.owned {
		lost = lost || !next[tp]
	}
	if lost && a.rng.IntN(2) == 0 { // it takes some time to give up
		h.told = next
		for tp := range next {
			h.owned[tp] = true
		}
		return
	}
	h.owned = next
}

// exclusive: no two honest members consume one partition.
func (a *arena) exclusive() {
	owner := map[kafka.TopicPartition]string{}
	for _, h := range a.honest {
		for tp := range h.owned {
			if o := owner[tp]; o != "" {
				a.fail("%v belongs to %s and %s", tp, o, h.id)
			}
			owner[tp] = h.id
		}
	}
}

// commits: an honest member's commit of what it owns is taken, and nobody else's.
func (a *arena) commits() {
	h := a.honest[a.rng.IntN(len(a.honest))]
	if h.epoch == 0 || len(h.owned) == 0 {
		return
	}
	tp := h.sorted()[0]
	name, ok := a.topics.ByID(tp.Topic)
	if !ok {
		return
	}
	try := func(member string, instance *string, epoch int32, offset int64) error {
		row := kmsg.NewOffsetCommitRequestTopicPartition()
		row.Partition, row.Offset = tp.Partition, offset
		var err error
		a.do(func(tx *coordinator.Tx) {
			_, err = a.m.Commit(tx, &Commit{Group: "g", Version: 9, Generation: epoch, MemberID: member, InstanceID: instance, RetentionMillis: -1,
				Topics: []CommitTopic{{Name: name, ID: tp.Topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{row}}}})
		})
		a.log = append(a.log, fmt.Sprintf("%s epoch %d commits %d of %v: %v", member, epoch, offset, tp, err))
		return err
	}
	mine := int64(len(a.log))
	switch err := try(h.id, h.instance, h.epoch, mine); {
	case err == nil:
		a.commit[tp] = mine
	case !errors.Is(err, kafka.ErrUnknownMemberID) && !errors.Is(err, kafka.ErrStaleMemberEpoch): // fenced, and does not know it yet
		a.fail("%s may not commit what it owns: %v", h.id, err)
	}
	if try("nobody", nil, h.epoch, -7) == nil || try(h.id, h.instance, h.epoch+1+int32(a.rng.IntN(5)), -8) == nil || try("", nil, -1, -9) == nil {
		a.fail("somebody committed who may not")
	}
	if want, ok := a.commit[tp]; ok {
		for _, topic := range a.m.Fetch("g", []FetchTopic{{Name: name, ID: tp.Topic, Partitions: []int32{tp.Partition}}}) {
			for _, p := range topic.Partitions {
				if int64(p.Offset) != want {
					a.fail("%v is committed at %d, not %d", tp, p.Offset, want)
				}
			}
		}
	}
}

// lie sends something that no client should.
func (a *arena) lie() {
	r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	r.MemberID = fmt.Sprint("liar", a.rng.IntN(4))
	if !slices.Contains(a.liars, r.MemberID) {
		a.liars = append(a.liars, r.MemberID)
	}
	r.MemberEpoch = int32(a.rng.IntN(14)) - 3
	if a.rng.IntN(3) == 0 {
		r.MemberEpoch = 0
	}
	if a.rng.IntN(2) == 0 {
		r.RebalanceTimeoutMillis = int32(a.rng.IntN(20_000)) - 1
	}
	if a.rng.IntN(2) == 0 {
		r.SubscribedTopicNames = [][]string{{}, {"t"}, {"t", "u", "none", "t"}}[a.rng.IntN(3)]
	}
	if a.rng.IntN(3) == 0 {
		pattern := []string{"", ".*", "(", "t|none"}[a.rng.IntN(4)]
		r.SubscribedTopicRegex = &pattern
	}
	if a.rng.IntN(3) == 0 {
		assignor := []string{"uniform", "range", "sticky", ""}[a.rng.IntN(4)]
		r.ServerAssignor = &assignor
	}
	if a.rng.IntN(2) == 0 {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for range a.rng.IntN(3) {
			row := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			row.TopicID = kafka.TopicID{byte(a.rng.IntN(4))}
			row.Partitions = []int32{int32(a.rng.IntN(12)) - 2, int32(a.rng.IntN(9))}
			r.Topics = append(r.Topics, row)
		}
	}
	if a.rng.IntN(4) == 0 { // somebody else's, while that one is there
		instance := []string{"instance1", "instance3", "other"}[a.rng.IntN(3)]
		r.InstanceID = &instance
		for _, h := range a.honest {
			if h.epoch == 0 && h.instance != nil && *h.instance == instance {
				return // it would not be a lie
			}
		}
	}
	_, _ = a.heartbeat(r)
}

// silence takes the liars out and lets the honest ones come to rest.
func (a *arena) silence() {
	for range 30 { // beyond every session and rebalance timeout, with heartbeats all along
		a.pass(3 * time.Second)
		for _, h := range a.honest {
			a.step(h)
			a.exclusive()
		}
	}
	before := fmt.Sprint(a.shares())
	fenced := 0
	for _, h := range a.honest {
		fenced -= h.fenced
	}
	for range 10 {
		a.pass(3 * time.Second)
		for _, h := range a.honest {
			a.step(h)
		}
	}
	for _, h := range a.honest {
		fenced += h.fenced
	}
	if now := fmt.Sprint(a.shares()); now != before || fenced != 0 {
		a.fail("without liars the group does not rest: %s, then %s; %d were fenced", before, now, fenced)
	}
	total, least, most := 0, 1<<30, 0
	for _, n := range a.shares() {
		total, least, most = total+n, min(least, n), max(most, n)
	}
	want := a.topics.topics["t"].partitions + a.topics.topics["u"].partitions
	if total != want || most-least > 1 {
		a.fail("%d partitions of %d have an owner; shares are %v", total, want, a.shares())
	}
}

func (a *arena) shares() []int {
	var n []int
	for _, h := range a.honest {
		n = append(n, len(h.owned))
	}
	return n
}

// TestConsumerGroupAmongLiars: members that lie about what they have, where they stand and who they are, that never give up
// anything, and that fall silent, cost honest members nothing but partitions for a while.
func TestConsumerGroupAmongLiars(t *testing.T) {
	for seed := range uint64(80) {
		a := newArena(t, seed)
		for range 300 {
			switch a.rng.IntN(12) {
			case 0, 1, 2, 3:
				a.lie()
			case 4:
				a.pass(time.Duration(a.rng.IntN(2000)) * time.Millisecond)
			case 5:
				a.commits()
			case 6:
				if a.rng.IntN(10) == 0 {
					a.topics = a.topics.with("t", kafka.TopicID{1}, min(20, a.topics.topics["t"].partitions+1+a.rng.IntN(3)))
					a.m.TopicsChanged([]string{"t"})
				}
			default:
				a.step(a.honest[a.rng.IntN(len(a.honest))])
			}
			a.exclusive()
		}
		a.silence()
	}
}
