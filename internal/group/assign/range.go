package assign

import (
	"cmp"
	"slices"
)

// Range gives each member a contiguous range of every topic that it subscribes to, members ordered by group.instance.id, then
// those without one by ID. Members that subscribe to the same topics get the same partition numbers of topics with equally
// many partitions, which joins of streams rely on. It is not sticky, as in Kafka: who comes before others moves their ranges.
//
// Where racks are known and more partitions can be local than in such ranges, the shares stay as large, but each member is first
// given what is local to it, the same numbers of all topics that are assigned together (KIP-881's rule for the client's assignor).
type Range struct{}

// Name is "range".
func (Range) Name() string { return RangeName }

// Assign implements Assignor.
func (Range) Assign(in Input) []Assignment {
	p := newProblem(in)
	order := make([]int32, len(in.Members))
	for m := range order {
		order[m] = int32(m)
	}
	slices.SortFunc(order, func(a, b int32) int { return staticFirst(&in.Members[a], &in.Members[b]) })
	position := make([]int32, len(order))
	for i, m := range order {
		position[m] = int32(i)
	}
	owner := make([]int32, p.partitions)
	for _, together := range p.together() {
		subscribers := p.topics[together[0]].subscribers
		slices.SortFunc(subscribers, func(a, b int32) int { return cmp.Compare(position[a], position[b]) })
		numbers := p.ranges(together, subscribers)
		for _, t := range together {
			copy(owner[p.topics[t].first:], numbers)
		}
	}
	for t := range p.topics {
		slices.Sort(p.topics[t].subscribers)
	}
	return p.assignments(owner)
}

func staticFirst(a, b *Member) int {
	switch {
	case a.Instance != nil && b.Instance != nil:
		return cmp.Compare(*a.Instance, *b.Instance)
	case a.Instance != nil:
		return -1
	case b.Instance != nil:
		return 1
	}
	return cmp.Compare(a.ID, b.ID)
}

// together groups the topics that get the same numbers: equally many partitions and the same subscribers.
func (p *problem) together() [][]int {
	var sets [][]int
	byCount := map[int][]int{} // partitions -> indexes of sets; looked up only
next:
	for t := range p.topics {
		n := p.topics[t].Partitions
		for _, s := range byCount[n] {
			if slices.Equal(p.topics[sets[s][0]].subscribers, p.topics[t].subscribers) {
				sets[s] = append(sets[s], t)
				continue next
			}
		}
		byCount[n] = append(byCount[n], len(sets))
		sets = append(sets, []int{t})
	}
	return sets
}

// ranges is the owner of each partition number of topics that are assigned together.
func (p *problem) ranges(topics []int, subscribers []int32) []int32 {
	n := p.topics[topics[0]].Partitions
	share := func(i int) int {
		if i < n%len(subscribers) {
			return n/len(subscribers) + 1
		}
		return n / len(subscribers)
	}
	plain := make([]int32, 0, n)
	for i, m := range subscribers {
		for range share(i) {
			plain = append(plain, m)
		}
	}
	if p.racks.ofPartition == nil {
		return plain
	}
	local := make([]int32, n)
	left := make([]int, len(subscribers))
	for i := range left {
		left[i] = share(i)
	}
	for number := range local {
		local[number] = nobody
		for i, m := range subscribers {
			if left[i] > 0 && p.localIn(topics, number, m) {
				local[number] = m
				left[i]--
				break
			}
		}
	}
	i := 0
	for number, m := range local {
		if m == nobody {
			for left[i] == 0 {
				i++
			}
			local[number] = subscribers[i]
			left[i]--
		}
	}
	if p.localities(topics, local) > p.localities(topics, plain) {
		return local
	}
	return plain
}

// localIn tells whether the partitions with the number of all the topics are local to the member.
func (p *problem) localIn(topics []int, number int, m int32) bool {
	for _, t := range topics {
		if !p.racks.local(p.topics[t].first+number, p.racks.ofMember[m]) {
			return false
		}
	}
	return true
}

func (p *problem) localities(topics []int, owner []int32) int {
	n := 0
	for number, m := range owner {
		for _, t := range topics {
			if p.racks.local(p.topics[t].first+number, p.racks.ofMember[m]) {
				n++
			}
		}
	}
	return n
}
