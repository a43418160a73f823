package sim

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// groupHistory is what the members of one group did and were told.
type groupHistory struct {
	cluster *cluster
	name    string
	kind    groupKind
	mu      struct {
		sync.Mutex
		attempts []*attempt
		events   []offsetEvent
		owners   map[ownership]string // classic: whom SyncGroup gave a partition to
		synced   []synced
		holders  map[place]*membership // KIP-848: who was given a partition and has not let go of it
		done     map[int32][]bool      // offsets that some member processed, by partition
	}
}

func newGroupHistory(c *cluster, name string, kind groupKind) *groupHistory {
	h := &groupHistory{cluster: c, name: name, kind: kind}
	h.mu.owners, h.mu.holders, h.mu.done = map[ownership]string{}, map[place]*membership{}, map[int32][]bool{}
	return h
}

// attempt is a commit of one partition's offset. Its number travels as the offset's metadata, so that who reads the offset
// knows whose it is.
type attempt struct {
	number    int
	member    string // ID
	epoch     int32  // generation, or member epoch
	partition int32
	offset    int64
	outcome   outcome
	code      int16
}

type outcome int8

const (
	unknownOutcome outcome = iota
	ackedOutcome
	refusedOutcome
)

func (a *attempt) String() string {
	return fmt.Sprintf("commit %d (offset %d of %s-%d by %s in generation %d)", a.number, a.offset, topic, a.partition, a.member, a.epoch)
}

// offsetEvent is that somebody was told where the group is: by the acknowledgement of a commit, or by a fetch.
type offsetEvent struct {
	begin, end time.Time
	partition  int32
	attempt    int // -1: no offset is committed
	fetched    bool
}

type ownership struct {
	generation int32
	partition  int32
}

// synced is an answer to SyncGroup.
type synced struct {
	generation int32
	member     string
	partitions []int32
}

// committing notes an attempt before it is sent.
func (h *groupHistory) committing(member string, epoch, partition int32, offset int64) *attempt {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &attempt{number: len(h.mu.attempts), member: member, epoch: epoch, partition: partition, offset: offset}
	h.mu.attempts = append(h.mu.attempts, a)
	return a
}

// refusals are the codes that say that a commit has not been taken, and never will be.
var refusals = []int16{22, 25, 27, 69, 82, 110, 113}

// answered notes what became of an attempt that began at a time.
func (h *groupHistory) answered(a *attempt, code int16, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a.code = code
	switch {
	case code == 0:
		a.outcome = ackedOutcome
		h.mu.events = append(h.mu.events, offsetEvent{begin: began, end: time.Now(), partition: a.partition, attempt: a.number})
	case slices.Contains(refusals, code):
		a.outcome = refusedOutcome
	}
}

// fetched checks a committed offset that a fetch returned: it is what somebody committed, and it was not refused (15).
func (h *groupHistory) fetched(who string, partition int32, offset int64, metadata string, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := offsetEvent{begin: began, end: time.Now(), partition: partition, attempt: -1, fetched: true}
	if offset >= 0 {
		n, err := strconv.Atoi(metadata)
		if err != nil || n < 0 || n >= len(h.mu.attempts) {
			h.cluster.fail("invariant 15: %s is told that group %s committed offset %d of %s-%d with metadata %q, which nobody sent", who, h.name, offset, topic, partition, metadata)
			return
		}
		a := h.mu.attempts[n]
		if a.partition != partition || a.offset != offset || a.outcome == refusedOutcome {
			h.cluster.fail("invariant 15: %s is told that group %s committed offset %d of %s-%d by %v, which was answered with code %d", who, h.name, offset, topic, partition, a, a.code)
		}
		e.attempt = n
	}
	h.mu.events = append(h.mu.events, e)
}

// sync notes an answer to SyncGroup: in one generation a partition has one owner (16). Whoever has the group.instance.id of
// an owner takes its place; so do names stand for owners.
func (h *groupHistory) sync(owner, member string, generation int32, partitions []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.synced = append(h.mu.synced, synced{generation, member, slices.Clone(partitions)})
	if h.kind == migratingGroup { // its generations may begin anew while it has no members: only the log can tell
		return
	}
	for _, p := range partitions {
		key := ownership{generation, p}
		if before, ok := h.mu.owners[key]; ok && before != owner {
			h.cluster.fail("invariant 16: in generation %d of group %s both %s and %s are told that they own %s-%d", generation, h.name, before, owner, topic, p)
		}
		h.mu.owners[key] = owner
	}
}

// given notes that a member under KIP-848 was told that a partition is its own. If another has not let go of it, that one must
// be no member any more: when it turns out to be one, the partition had two owners (16).
func (h *groupHistory) given(to *membership, what place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before := h.mu.holders[what]; before != nil && before != to {
		before.usurped = fmt.Sprintf("%s was given %s", to, what)
		before.usurpedAt = time.Now()
	}
	h.mu.holders[what] = to
}

// released notes that a member lets go of a partition, before it says so.
func (h *groupHistory) released(by *membership, what place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.holders[what] == by {
		delete(h.mu.holders, what)
	}
}

// isMember notes that the coordinator took a request of a member that began at a time, as that of a member.
func (h *groupHistory) isMember(p *membership, began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.usurped != "" && began.After(p.usurpedAt) {
		h.cluster.fail("invariant 16: %s in group %s, while %s owned it, had not released it, and is still a member", p.usurped, h.name, p)
		p.usurped = ""
	}
}

// noLonger notes that a member knows that it is none.
func (h *groupHistory) noLonger(p *membership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.usurped = ""
}

// processed marks a record as seen by the group.
func (h *groupHistory) processed(partition int32, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := h.mu.done[partition]
	for int64(len(done)) <= offset {
		done = append(done, false)
	}
	done[offset] = true
	h.mu.done[partition] = done
}

// missed is the first offset below end that no member saw; -1 if there is none (17).
func (h *groupHistory) missed(partition int32, end int64) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := h.mu.done[partition]
	for offset := range end {
		if offset >= int64(len(done)) || !done[offset] {
			return offset
		}
	}
	return -1
}

// checkEvents compares what was told of committed offsets with the coordinator's log: an acknowledged commit, or what a fetch
// returned, is what a later fetch returns, or something newer (15). position is where in the log a commit stands.
func (h *groupHistory) checkEvents(position func(*attempt) (int64, bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	type told struct {
		at       time.Time
		position int64
		attempt  *attempt
	}
	newest := map[int32][]told{} // by partition, in the order of time; positions grow
	byEnd := slices.Clone(h.mu.events)
	slices.SortStableFunc(byEnd, func(a, b offsetEvent) int { return a.end.Compare(b.end) })
	for _, e := range byEnd {
		list := newest[e.partition]
		if e.fetched {
			for i := len(list) - 1; i >= 0; i-- {
				if list[i].at.After(e.begin) {
					continue
				}
				if e.attempt < 0 {
					h.cluster.fail("invariant 15: group %s is told that nothing is committed for %s-%d, after %v", h.name, topic, e.partition, list[i].attempt)
				} else if now, ok := position(h.mu.attempts[e.attempt]); ok && now < list[i].position {
					h.cluster.fail("invariant 15: group %s is told of %v, at offset %d of the coordinator's log, after %v at offset %d",
						h.name, h.mu.attempts[e.attempt], now, list[i].attempt, list[i].position)
				}
				break
			}
		}
		if e.attempt < 0 {
			continue
		}
		a := h.mu.attempts[e.attempt]
		if at, ok := position(a); ok && (len(list) == 0 || list[len(list)-1].position < at) {
			newest[e.partition] = append(list, told{e.end, at, a})
		}
	}
}
