package assign

// improveRacks is up to how many racks partitions are moved between racks so that others become local; with more, a partition
// is local where its rack still has room.
const improveRacks = 64

// spread decides in which rack each partition goes: as many as possible to a rack of theirs, with every rack getting what
// is the fair share of its members. It seeks a maximum flow from partitions to racks by augmenting paths over the racks,
// which are few (the larger shares, once a rack has one, stay with it). What members keep is where it starts, so that little moves.
type spread struct {
	*homogeneous
	rack     []int32 // by partition; nobody while it has none
	members  []int   // by rack
	count    []int   // by rack: partitions in it
	reserved []int   // by rack: larger shares of its members; their sum is at most extra
	left     int     // larger shares not yet reserved

	lists *rackLists // nil where nothing is moved between racks
	dead  []bool     // by rack: no path leads from it to a rack with room, and none ever will
	via   []step     // by rack: how the search came here
	queue []int32    // of the search
	seen  []bool     // by rack, of the search
}

// step is one edge of a path: partition leaves rack from.
type step struct {
	from      int32
	partition int
}

func newSpread(h *homogeneous) *spread {
	n := h.racks.n
	s := &spread{
		homogeneous: h, rack: make([]int32, h.partitions), left: h.extra,
		members: make([]int, n), count: make([]int, n), reserved: make([]int, n),
	}
	for i := range s.rack {
		s.rack[i] = nobody
	}
	for _, r := range h.racks.ofMember {
		s.members[r]++
	}
	if h.racks.ofPartition != nil && n <= improveRacks {
		s.lists = newRackLists(&h.racks, s.rack)
		s.dead, s.seen, s.via = make([]bool, n), make([]bool, n), make([]step, n)
	}
	return s
}

// put places a partition in a rack.
func (s *spread) put(partition int, rack int32) {
	s.rack[partition] = rack
	s.count[rack]++
	if s.lists != nil {
		s.lists.note(partition)
	}
}

func (s *spread) take(partition int) {
	s.count[s.rack[partition]]--
	s.rack[partition] = nobody
}

// reserve gives a larger share to the rack.
func (s *spread) reserve(rack int32) {
	s.reserved[rack]++
	s.left--
}

// free is the room in the shares that the rack has already.
func (s *spread) free(rack int32) int {
	return s.members[rack]*s.minimum + s.reserved[rack] - s.count[rack]
}

// room makes room for one partition in a rack, with one more of the larger shares if need be.
func (s *spread) room(rack int32) bool {
	if s.free(rack) > 0 {
		return true
	}
	if s.left > 0 && s.reserved[rack] < s.members[rack] {
		s.reserve(rack)
		return true
	}
	return false
}

// place gives every partition its rack.
func (s *spread) place() {
	if s.racks.ofPartition != nil {
		for i := range s.rack {
			if s.rack[i] == nobody {
				if best := s.roomiest(s.racks.options(i)); best != nobody && s.room(best) {
					s.put(i, best)
				}
			}
		}
		for i := range s.rack {
			if s.lists != nil && (s.rack[i] == nobody || !s.racks.local(i, s.rack[i])) && len(s.racks.options(i)) > 0 {
				s.improve(i)
			}
		}
	}
	all := make([]int32, s.racks.n)
	for r := range all {
		all[r] = int32(r)
	}
	for i := range s.rack {
		if s.rack[i] == nobody {
			best := s.roomiest(all)
			if best == nobody || !s.room(best) {
				panic("assign: the shares of all racks are fewer than the partitions")
			}
			s.put(i, best)
		}
	}
}

// roomiest is the rack with the most room, counted with a larger share that could be had; nobody if all are full.
func (s *spread) roomiest(among []int32) int32 {
	best, most := int32(nobody), 0
	for _, r := range among {
		room := 2 * s.free(r)
		if room == 0 && s.left > 0 && s.reserved[r] < s.members[r] {
			room = 1
		}
		if room > most {
			best, most = r, room
		}
	}
	return best
}

// improve makes the partition local if others can make place and stay as local as they are: a breadth-first search from
// its racks for one that has room, or holds a partition that is not local there.
func (s *spread) improve(partition int) {
	clear(s.seen)
	s.queue = s.queue[:0]
	for _, r := range s.racks.options(partition) {
		s.visit(r, step{from: nobody, partition: partition})
	}
	for i := 0; i < len(s.queue); i++ {
		r := s.queue[i]
		if s.ends(r, partition) {
			return
		}
		for other := range int32(s.racks.n) {
			if !s.seen[other] && !s.dead[other] {
				if p := s.lists.movable(r, other); p >= 0 {
					s.visit(other, step{from: r, partition: p})
				}
			}
		}
	}
	for _, r := range s.queue {
		s.dead[r] = true
	}
}

func (s *spread) visit(rack int32, by step) {
	if !s.seen[rack] && !s.dead[rack] {
		s.seen[rack] = true
		s.via[rack] = by
		s.queue = append(s.queue, rack)
	}
}

// ends tells whether the path to the rack is complete, and then walks it.
func (s *spread) ends(rack int32, partition int) bool {
	from := s.rack[partition]
	switch {
	case rack == from:
	case s.room(rack):
	default:
		displaced := s.lists.displaceable(rack)
		if displaced < 0 {
			return false
		}
		s.take(displaced)
		if from != nobody { // they change places
			defer s.put(displaced, from)
		}
	}
	for to := rack; to != nobody; {
		by := s.via[to]
		if s.rack[by.partition] != nobody {
			s.take(by.partition)
		}
		s.put(by.partition, to)
		to = by.from
	}
	return true
}
