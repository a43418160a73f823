package assign

import (
	"cmp"
	"slices"
)

// balanceRounds bounds the rounds over all topics that heterogeneous balancing takes; each about halves what is left, and where
// the subscribers of each topic subscribe to the same topics one is enough. As in Kafka.
const balanceRounds = 16

// heterogeneous assigns where members subscribe to different topics: what has no owner goes to the subscriber with the fewest
// partitions, topics with the most partitions for each subscriber first; then partitions move from the subscriber of a topic with
// the most to the one with the fewest, as long as two or more lie between them.
type heterogeneous struct {
	*problem
	size  []int      // by member: partitions
	order []int      // topics in the order in which they are assigned
	at    [2][]int32 // room for heaps
}

func newHeterogeneous(p *problem) *heterogeneous {
	h := &heterogeneous{problem: p, size: make([]int, len(p.in.Members)), order: make([]int, len(p.topics))}
	for _, m := range p.owner {
		if m != nobody {
			h.size[m]++
		}
	}
	for t := range h.order {
		h.order[t] = t
	}
	h.at = [2][]int32{make([]int32, len(h.size)), make([]int32, len(h.size))}
	slices.SortStableFunc(h.order, func(a, b int) int {
		x, y := &p.topics[a], &p.topics[b] // x.Partitions/x.subscribers descending, without division
		if c := cmp.Compare(y.Partitions*len(x.subscribers), x.Partitions*len(y.subscribers)); c != 0 {
			return c
		}
		return cmp.Compare(len(x.subscribers), len(y.subscribers))
	})
	return h
}

func (h *heterogeneous) assign() []int32 {
	for _, t := range h.order {
		h.deal(&h.topics[t])
	}
	for range balanceRounds {
		moved := 0
		for _, t := range h.order {
			moved += h.balance(&h.topics[t])
		}
		if moved == 0 {
			break
		}
	}
	if h.racks.ofPartition != nil && h.racks.n <= improveRacks {
		h.exchange()
	}
	return h.owner
}

// deal gives a topic's partitions without owner to the least loaded subscribers, of equally loaded ones to one in their rack.
func (h *heterogeneous) deal(t *topic) {
	byRack := make([]*memberHeap, h.racks.n)
	var used []int32
	for _, m := range t.subscribers {
		r := h.racks.ofMember[m]
		if byRack[r] == nil {
			byRack[r] = newMemberHeap(h.at[0], func(a, b int32) bool {
				return h.size[a] < h.size[b] || h.size[a] == h.size[b] && a < b
			})
			used = append(used, r)
		}
		byRack[r].add(m)
	}
	for i := t.first; i < t.first+t.Partitions; i++ {
		if h.owner[i] != nobody {
			continue
		}
		best := used[0]
		for _, r := range used[1:] {
			if h.prefers(i, byRack[r].top(), byRack[best].top()) {
				best = r
			}
		}
		m := byRack[best].top()
		h.owner[i] = m
		h.size[m]++
		byRack[best].fix(m)
	}
}

// prefers tells whether the partition should rather go to a than to b.
func (h *heterogeneous) prefers(partition int, a, b int32) bool {
	if h.size[a] != h.size[b] {
		return h.size[a] < h.size[b]
	}
	x, y := h.racks.local(partition, h.racks.ofMember[a]), h.racks.local(partition, h.racks.ofMember[b])
	return x && !y || x == y && a < b
}

// balance moves a topic's partitions between its subscribers and returns how many.
func (h *heterogeneous) balance(t *topic) (moved int) {
	if len(t.subscribers) < 2 {
		return 0
	}
	least := newMemberHeap(h.at[0], func(a, b int32) bool { return h.size[a] < h.size[b] || h.size[a] == h.size[b] && a < b })
	most := newMemberHeap(h.at[1], func(a, b int32) bool { return h.size[a] > h.size[b] || h.size[a] == h.size[b] && a > b })
	for _, m := range t.subscribers {
		least.add(m)
		most.add(m)
	}
	var own [][]int32 // partitions of this topic, by member
	for !most.empty() {
		from, to := most.top(), least.top()
		if h.size[from]-h.size[to] <= 1 {
			return moved
		}
		if own == nil {
			own = make([][]int32, len(h.size))
			for i := t.first; i < t.first+t.Partitions; i++ {
				own[h.owner[i]] = append(own[h.owner[i]], int32(i))
			}
		}
		if len(own[from]) == 0 { // what makes it large are other topics
			most.remove(from)
			continue
		}
		partition := h.pick(own, from, to)
		own[to] = append(own[to], partition)
		h.owner[partition] = to
		moved++
		h.size[from]--
		least.fix(from)
		most.fix(from)
		h.size[to]++
		least.fix(to)
		most.fix(to)
	}
	return moved
}

// pickAmong is how many of a member's partitions are looked at for the one whose move helps most.
const pickAmong = 64

// pick takes a partition of from that to should have: one that becomes local, at best.
func (h *heterogeneous) pick(own [][]int32, from, to int32) int32 {
	list := own[from]
	best, most := len(list)-1, -2
	for i := len(list) - 1; i >= max(0, len(list)-pickAmong); i-- {
		gain := 0
		if h.racks.local(int(list[i]), h.racks.ofMember[to]) {
			gain++
		}
		if h.racks.local(int(list[i]), h.racks.ofMember[from]) {
			gain--
		}
		if gain > most {
			best, most = i, gain
		}
		if h.racks.ofPartition == nil || most == 1 {
			break
		}
	}
	partition := list[best]
	own[from] = slices.Delete(list, best, best+1)
	return partition
}

// exchange lets two members change two partitions of a topic, where one of these becomes local and the other does not become
// remote.
func (h *heterogeneous) exchange() {
	rack := make([]int32, h.partitions)
	for i, m := range h.owner {
		rack[i] = h.racks.ofMember[m]
	}
	lists := newRackLists(&h.racks, rack)
	for t := range h.topics {
		lists.clear()
		row := &h.topics[t]
		for i := row.first; i < row.first+row.Partitions; i++ {
			lists.note(i)
		}
		for i := row.first; i < row.first+row.Partitions; i++ {
			if h.racks.local(i, rack[i]) {
				continue
			}
			for _, to := range h.racks.options(i) {
				other := lists.movable(to, rack[i])
				if other < 0 {
					other = lists.displaceable(to)
				}
				if other >= 0 {
					h.owner[i], h.owner[other] = h.owner[other], h.owner[i]
					rack[i], rack[other] = rack[other], rack[i]
					lists.note(i)
					lists.note(other)
					break
				}
			}
		}
	}
}
