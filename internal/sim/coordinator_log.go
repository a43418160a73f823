package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/kafka"
	"chronik/internal/sim/grouplog"
)

// coordinatorLog follows __consumer_offsets from its first record on and judges each record by those before it: generations
// and epochs grow, a partition has one owner, a commit is one of a current member (15, 16). What it has seen it compares with
// what is left in the end: the last value of each key (18).
type coordinatorLog struct {
	*groups
	reader *reader
	states []*loggedPartition
	read   chan struct{} // closed once follow has ended
	target chan []int64  // where follow may end
}

// loggedPartition is what a partition of __consumer_offsets has told.
type loggedPartition struct {
	number  int32
	log     *grouplog.Log
	last    map[string]string // by key: the last value; none if that was a tombstone
	commits map[string]map[int]int64
}

func newCoordinatorLog(g *groups) *coordinatorLog {
	return &coordinatorLog{groups: g, read: make(chan struct{}), target: make(chan []int64, 1)}
}

// follow reads until ctx ends, or up to what catchUp says.
func (l *coordinatorLog) follow(ctx context.Context) {
	defer close(l.read)
	n := 0
	for n == 0 && ctx.Err() == nil {
		if image := l.nodes[0].image(); image != nil && image.Topic(kafka.OffsetsTopic) != nil {
			n = image.Topic(kafka.OffsetsTopic).Partitions.Len()
		}
		l.sleep(100 * time.Millisecond)
	}
	for p := range int32(n) {
		judged := func(id string) bool { return l.history(id) != nil }
		log := grouplog.New(judged, l.fail)
		log.Topic, log.Name = l.topicID, topic
		l.states = append(l.states, &loggedPartition{number: p, log: log, last: map[string]string{}, commits: map[string]map[int]int64{}})
	}
	l.reader = l.open("the coordinators' log", func(p partition, r *kgo.Record) { l.record(l.states[p.number], r) })
	if l.reader == nil {
		return
	}
	defer l.reader.client.Close()
	var until []int64
	for ctx.Err() == nil && !l.reader.has(until) {
		select {
		case until = <-l.target:
		default:
		}
		l.poll(ctx, l.reader)
	}
}

func (l *coordinatorLog) poll(ctx context.Context, r *reader) {
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	r.take(r.client.PollFetches(ctx))
}

// open makes a reader of all partitions, from their first record on.
func (l *coordinatorLog) open(name string, seen func(partition, *kgo.Record)) *reader {
	starts := map[int32]kgo.Offset{}
	r := &reader{workload: l.workload, name: name, next: map[partition]int64{}, seen: seen, compacted: true}
	for _, s := range l.states {
		starts[s.number] = kgo.NewOffset().At(0)
		r.next[partition{kafka.OffsetsTopic, s.number}] = 0
	}
	client, err := l.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{kafka.OffsetsTopic: starts}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500*time.Millisecond), kgo.KeepRetryableFetchErrors())
	if err != nil {
		l.fail("%s: %v", name, err)
		return nil
	}
	r.client = client
	return r
}

// catchUp waits until follow has read all that is there.
func (l *coordinatorLog) catchUp() {
	ends := l.ends(kafka.OffsetsTopic, len(l.states))
	if ends == nil {
		return
	}
	l.target <- ends
	select {
	case <-l.read:
	case <-time.After(settleLimit):
		l.fail("invariant 23: %s is readable up to %v of %v only", kafka.OffsetsTopic, l.reader.next, ends)
	}
}

// record judges one record.
func (l *coordinatorLog) record(s *loggedPartition, r *kgo.Record) {
	if r.Value == nil {
		delete(s.last, string(r.Key))
	} else {
		s.last[string(r.Key)] = string(r.Value)
	}
	if c := s.log.Record(r.Offset, r.Key, r.Value); c != nil {
		l.commit(s, l.history(c.Group), c)
	}
}

// history is that of a group with members; nil for another.
func (l *coordinatorLog) history(id string) *groupHistory {
	for _, h := range l.all {
		if h.name == id {
			return h
		}
	}
	return nil
}

// commit judges a commit: it is one of a current member, and goes on from where the group was (15).
func (l *coordinatorLog) commit(s *loggedPartition, h *groupHistory, c *grouplog.Commit) {
	if c.Offset < 0 {
		l.fail("invariant 15: the committed offset of group %s for %s-%d is gone at offset %d of the coordinator's log, and nobody asked for that", c.Group, c.Topic, c.Partition, c.At)
		return
	}
	a := h.attempt(c.Metadata)
	if a == nil || a.partition != c.Partition || a.offset != c.Offset {
		l.fail("invariant 15: offset %d of %s-%d was committed for group %s with metadata %q, which nobody sent", c.Offset, c.Topic, c.Partition, c.Group, c.Metadata)
		return
	}
	if s.commits[c.Group] == nil {
		s.commits[c.Group] = map[int]int64{}
	}
	if _, twice := s.commits[c.Group][a.number]; !twice {
		s.commits[c.Group][a.number] = c.At
	}
	if code := h.refused(a); code != 0 {
		l.fail("invariant 15: %v was refused with code %d, and stands at offset %d of the coordinator's log", a, code, c.At)
	}
	if c.Offset < c.Before {
		l.fail("invariant 15: group %s goes back from offset %d of %s-%d: %v stands at offset %d of the coordinator's log", c.Group, c.Before, c.Topic, c.Partition, a, c.At)
	}
	l.committer(c.State, a, c.At)
}

// committer judges whether who committed was a member then.
func (l *coordinatorLog) committer(g *grouplog.Group, a *attempt, at int64) {
	if !g.Classic {
		owned, known := g.Owned[a.member]
		if (known || g.Sure) && (!known || !owned.Allows(a.partition, a.epoch)) {
			l.fail("invariant 15: %v stands at offset %d of the coordinator's log, where that member is %s", a, at, owned)
		}
		return
	}
	if _, ok := g.Members[a.member]; g.Sure && (!ok || g.Generation != a.epoch) {
		l.fail("invariant 15: %v stands at offset %d of the coordinator's log, in generation %d of members %v", a, at, g.Generation, slices.Sorted(maps.Keys(g.Members)))
	}
}

// compare holds what the members of a group were told against the log.
func (l *coordinatorLog) compare(h *groupHistory) {
	for _, s := range l.states {
		g := s.log.Groups[h.name]
		if g == nil {
			continue
		}
		h.checkEvents(func(a *attempt) (int64, bool) {
			at, ok := s.commits[h.name][a.number]
			if !ok && a.outcome == ackedOutcome && s.log.Gaps == 0 {
				l.fail("invariant 15: %v was acknowledged, and is not in the coordinator's log", a)
			}
			return at, ok
		})
		for _, told := range h.mu.synced {
			owned, ok := g.Given[told.generation][told.member]
			had := g.Had[told.generation][told.member]
			if slices.ContainsFunc(had, func(p []int32) bool { return slices.Equal(p, told.partitions) }) {
				continue // under KIP-848
			}
			if h.kind == migratingGroup && s.log.Gaps > 0 {
				continue // what it was told stood where nobody has read
			}
			if !ok && s.log.Gaps == 0 || ok && !slices.Equal(owned, told.partitions) {
				l.fail("invariant 16: %s was told that it owns %v in generation %d of group %s, and the coordinator's log says %v (%v)",
					told.member, told.partitions, told.generation, h.name, owned, ok)
			}
		}
		return
	}
	if len(h.mu.synced) > 0 {
		l.fail("invariant 16: group %s has members, and is not in %s", h.name, kafka.OffsetsTopic)
	}
}

// attempt is the commit that an offset's metadata name.
func (h *groupHistory) attempt(metadata string) *attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := strconv.Atoi(metadata)
	if err != nil || n < 0 || n >= len(h.mu.attempts) {
		return nil
	}
	return h.mu.attempts[n]
}

// refused is the code with which an attempt was refused; 0 if it was not.
func (h *groupHistory) refused(a *attempt) int16 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.outcome == refusedOutcome {
		return a.code
	}
	return 0
}

// checkFold reads what is left of the log and compares: the last value of each key is there, and each record where it was (18).
func (l *coordinatorLog) checkFold() {
	left := make([]map[string]string, len(l.states))
	for i := range left {
		left[i] = map[string]string{}
	}
	r := l.open("the coordinators' log, read again", func(p partition, r *kgo.Record) {
		if r.Value == nil {
			delete(left[p.number], string(r.Key))
		} else {
			left[p.number][string(r.Key)] = string(r.Value)
		}
	})
	ends := l.ends(kafka.OffsetsTopic, len(l.states))
	if r == nil || ends == nil {
		return
	}
	defer r.client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), settleLimit)
	defer cancel()
	for !r.has(ends) {
		if ctx.Err() != nil {
			l.fail("invariant 23: %s is readable up to %v of %v only", kafka.OffsetsTopic, r.next, ends)
			return
		}
		l.poll(ctx, r)
	}
	for p, s := range l.states {
		if l.reader.next[partition{kafka.OffsetsTopic, s.number}] < ends[p] {
			continue // more came since
		}
		for _, key := range slices.Sorted(maps.Keys(s.last)) {
			if left[p][key] != s.last[key] && (s.log.Gaps == 0 || left[p][key] != "") { // of a gap may have been a tombstone
				l.fail("invariant 18: the last value of key %q in %s-%d was %q, and is %q after compaction", key, kafka.OffsetsTopic, p, s.last[key], left[p][key])
			}
		}
		for _, key := range slices.Sorted(maps.Keys(left[p])) {
			if _, ok := s.last[key]; !ok {
				l.fail("invariant 18: key %q in %s-%d was deleted, and has the value %q after compaction", key, kafka.OffsetsTopic, p, left[p][key])
			}
		}
	}
}

// contents stands for a record's key and value in the history of offsets.
func contents(r *kgo.Record) string {
	h := fnv.New64a()
	_, _ = h.Write(r.Key)
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(r.Value)
	return fmt.Sprintf("%.40q %016x", r.Key, h.Sum64())
}
