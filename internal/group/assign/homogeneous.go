package assign

import "slices"

// homogeneous assigns where all members subscribe to the same topics: everyone gets the minimum share, and as many as there
// are partitions left get one more. Two steps: who keeps what, and in which rack the other partitions go (spread.go);
// then, within each rack, to which member.
type homogeneous struct {
	*problem
	minimum int     // partitions that every member gets
	extra   int     // members that get one more
	kept    []int   // by member: partitions that it keeps
	keeper  []int32 // by partition
}

func newHomogeneous(p *problem) *homogeneous {
	h := &homogeneous{problem: p, minimum: p.partitions / len(p.in.Members), extra: p.partitions % len(p.in.Members)}
	h.kept = make([]int, len(p.in.Members))
	h.keeper = make([]int32, p.partitions)
	for i := range h.keeper {
		h.keeper[i] = nobody
	}
	return h
}

func (h *homogeneous) assign() []int32 {
	s := newSpread(h)
	h.keep(s)
	s.place()
	return h.fill(s)
}

// allowances are how many partitions each member may keep: those that have more than the minimum may keep one more, as many
// as there are larger shares, members with local partitions beyond the minimum first.
func (h *homogeneous) allowances() (allowed []int, local []int) {
	members := len(h.in.Members)
	held, local := make([]int, members), make([]int, members)
	for i, m := range h.owner {
		if m != nobody {
			held[m]++
			if h.racks.local(i, h.racks.ofMember[m]) {
				local[m]++
			}
		}
	}
	allowed = make([]int, members)
	left := h.extra
	for m := range allowed {
		allowed[m] = h.minimum
		if local[m] > h.minimum && left > 0 {
			allowed[m]++
			left--
		}
	}
	for m := range allowed {
		if allowed[m] == h.minimum && held[m] > h.minimum && left > 0 {
			allowed[m]++
			left--
		}
	}
	return allowed, local
}

// keep leaves members what they have within their allowance, local partitions first.
func (h *homogeneous) keep(s *spread) {
	allowed, local := h.allowances()
	others := make([]int, len(allowed)) // partitions that are not local, and may stay
	for m := range others {
		local[m] = min(local[m], allowed[m])
		others[m] = allowed[m] - local[m]
	}
	for i, m := range h.owner {
		if m == nobody {
			continue
		}
		left := others
		if h.racks.local(i, h.racks.ofMember[m]) {
			left = local
		}
		if left[m] > 0 {
			left[m]--
			h.keeper[i] = m
			h.kept[m]++
			s.put(i, h.racks.ofMember[m])
		}
	}
	for m := range h.kept {
		if h.kept[m] > h.minimum {
			s.reserve(h.racks.ofMember[m])
		}
	}
}

// fill gives the partitions that came to a rack to its members, in turn, so that a topic's partitions do not end up with one.
func (h *homogeneous) fill(s *spread) []int32 {
	for i, m := range h.keeper {
		if m != nobody && s.rack[i] != h.racks.ofMember[m] { // it made place for another
			h.kept[m]--
			h.keeper[i] = nobody
		}
	}
	rings := make([]ring, s.racks.n)
	for m := range h.kept { // the larger shares that are taken
		if h.kept[m] > h.minimum {
			s.reserved[h.racks.ofMember[m]]--
		}
	}
	for m := range h.kept {
		rack := h.racks.ofMember[m]
		share := h.minimum
		if h.kept[m] > h.minimum {
			share++
		} else if s.reserved[rack] > 0 {
			s.reserved[rack]--
			share++
		}
		if share > h.kept[m] {
			rings[rack].members = append(rings[rack].members, int32(m))
			rings[rack].left = append(rings[rack].left, share-h.kept[m])
		}
	}
	owner := slices.Clone(h.keeper)
	for i := range owner {
		if owner[i] == nobody {
			owner[i] = rings[s.rack[i]].next()
		}
	}
	return owner
}

// ring deals partitions to members in turn.
type ring struct {
	members []int32
	left    []int
	at      int
}

func (r *ring) next() int32 {
	if r.at >= len(r.members) {
		r.at = 0
	}
	m := r.members[r.at]
	if r.left[r.at]--; r.left[r.at] == 0 {
		r.members = slices.Delete(r.members, r.at, r.at+1)
		r.left = slices.Delete(r.left, r.at, r.at+1)
	} else {
		r.at++
	}
	return m
}
