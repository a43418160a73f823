package assign

// racks are those of members and partitions, by index. Racks in which there is no member do not count.
type racks struct {
	n           int       // racks, one more than members name: the last is that of members that did not say
	ofMember    []int32   // by member
	ofPartition [][]int32 // by partition; nil if nothing is known, so that nothing is local
}

func newRacks(p *problem) racks {
	index := map[string]int32{}
	r := racks{ofMember: make([]int32, len(p.in.Members))}
	for m := range p.in.Members {
		name := p.in.Members[m].Rack
		if _, ok := index[name]; !ok && name != "" {
			index[name] = int32(len(index))
		}
	}
	for m := range p.in.Members {
		if name := p.in.Members[m].Rack; name != "" && len(index) > 0 {
			r.ofMember[m] = index[name]
		} else {
			r.ofMember[m] = int32(len(index))
		}
	}
	r.n = len(index) + 1
	if len(index) > 0 {
		r.partitions(p, index)
	}
	if r.ofPartition == nil { // one class of members
		r.n = 1
		clear(r.ofMember)
	}
	return r
}

func (r *racks) partitions(p *problem, index map[string]int32) {
	var known bool
	of := make([][]int32, p.partitions)
	for t := range p.topics {
		row := &p.topics[t]
		for n := range min(len(row.Racks), row.Partitions) {
			var list []int32
			for _, name := range row.Racks[n] {
				if i, ok := index[name]; ok && !has(list, i) {
					list = append(list, i)
				}
			}
			known = known || len(list) > 0
			of[row.first+n] = list
		}
	}
	if known {
		r.ofPartition = of
	}
}

// local tells whether the partition has a replica in the rack.
func (r *racks) local(partition int, rack int32) bool {
	return r.ofPartition != nil && has(r.ofPartition[partition], rack)
}

// options are the racks with a replica and a member.
func (r *racks) options(partition int) []int32 {
	if r.ofPartition == nil {
		return nil
	}
	return r.ofPartition[partition]
}

func has(list []int32, v int32) bool {
	for _, o := range list {
		if o == v {
			return true
		}
	}
	return false
}
