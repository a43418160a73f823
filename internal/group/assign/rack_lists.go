package assign

// rackLists finds partitions that may change their rack. A partition is noted whenever it comes to a rack; what has gone since is
// dropped when it is met.
type rackLists struct {
	racks *racks
	rack  []int32 // by partition: where it is
	moves [][]int // by rack*n+rack': local partitions of rack that would be local in rack' too
	weak  [][]int // by rack: partitions that are not local there
}

func newRackLists(r *racks, rack []int32) *rackLists {
	return &rackLists{racks: r, rack: rack, moves: make([][]int, r.n*r.n), weak: make([][]int, r.n)}
}

func (l *rackLists) clear() {
	for i := range l.moves {
		l.moves[i] = l.moves[i][:0]
	}
	for i := range l.weak {
		l.weak[i] = l.weak[i][:0]
	}
}

func (l *rackLists) note(partition int) {
	rack := l.rack[partition]
	if !l.racks.local(partition, rack) {
		l.weak[rack] = append(l.weak[rack], partition)
		return
	}
	for _, other := range l.racks.options(partition) {
		if other != rack {
			edge := int(rack)*l.racks.n + int(other)
			l.moves[edge] = append(l.moves[edge], partition)
		}
	}
}

// movable is a local partition of a rack that would be local in the other; -1 if there is none.
func (l *rackLists) movable(rack, other int32) int {
	return l.last(&l.moves[int(rack)*l.racks.n+int(other)], rack)
}

// displaceable is a partition that is not local in the rack where it is; -1 if there is none.
func (l *rackLists) displaceable(rack int32) int { return l.last(&l.weak[rack], rack) }

func (l *rackLists) last(list *[]int, rack int32) int {
	for n := len(*list); n > 0; n = len(*list) {
		if p := (*list)[n-1]; l.rack[p] == rack {
			return p
		}
		*list = (*list)[:n-1]
	}
	return -1
}
