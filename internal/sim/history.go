package sim

import (
	"fmt"
	"sync"
)

// partition names one of the workload's.
type partition struct {
	topic  string
	number int32
}

func (p partition) String() string { return fmt.Sprintf("%s-%d", p.topic, p.number) }

// sent is what a producer knows of a record.
type sent struct {
	value    string
	producer int
	number   int
	acked    bool // else the outcome is unknown
	offset   int64
}

func (s *sent) by() string { return fmt.Sprintf("the acknowledgement to producer %d", s.producer) }

// seen is a record that somebody read at an offset.
type seen struct {
	value string
	epoch int32
	by    string
}

// history is what clients were told.
type history struct {
	cluster *cluster
	ends    ends
	mu      struct {
		sync.Mutex
		sent    map[partition][]*sent
		at      map[partition]map[int64]seen // what stands at each offset, as first told
		created map[string]bool              // topics whose creation was acknowledged
		unknown map[string]bool              // topics of unknown state: a creation or deletion without answer
		deleted map[string]bool
		digest  uint64
	}
}

func newHistory(c *cluster) *history {
	h := &history{cluster: c}
	h.mu.sent = map[partition][]*sent{}
	h.mu.at = map[partition]map[int64]seen{}
	h.mu.created, h.mu.unknown, h.mu.deleted = map[string]bool{}, map[string]bool{}, map[string]bool{}
	return h
}

// sending notes a record before it is sent: if there is never an answer, it may be there or not.
func (h *history) sending(p partition, s *sent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.sent[p] = append(h.mu.sent[p], s)
}

// acked notes that a record was acknowledged with acks=all.
func (h *history) acked(p partition, s *sent, offset int64) {
	h.mu.Lock()
	s.acked, s.offset = true, offset
	h.mu.Unlock()
	h.at(p, offset, seen{value: s.value, epoch: -1, by: s.by()})
	h.ends.tell(p, offset+1, s.by())
}

// at notes what was told of an offset, and compares it with what was told before: an offset is one record for ever, in
// one leader epoch (invariants 2 and 24).
func (h *history) at(p partition, offset int64, s seen) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.at[p] == nil {
		h.mu.at[p] = map[int64]seen{}
	}
	before, ok := h.mu.at[p][offset]
	if !ok {
		h.mu.at[p][offset] = s
		return
	}
	if before.value != s.value || before.epoch >= 0 && s.epoch >= 0 && before.epoch != s.epoch {
		h.cluster.fail("invariant 2/24: offset %d of %s is %.40q in leader epoch %d for %s, and %.40q in leader epoch %d for %s",
			offset, p, before.value, before.epoch, before.by, s.value, s.epoch, s.by)
	}
	if before.epoch < 0 {
		before.epoch = s.epoch
		h.mu.at[p][offset] = before
	}
}

// partitions are those that were produced to.
func (h *history) allSent(p partition) []*sent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.sent[p]
}
