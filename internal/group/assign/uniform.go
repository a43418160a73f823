package assign

// Uniform spreads all partitions evenly over the members that subscribe to them. Balance comes first: where all subscribe to
// the same topics, no member owns more than one partition more than another. Then racks: a partition goes to a member
// in the rack of one of its replicas, where racks are known. Then stickiness: no partition moves without such a reason.
//
// Kafka's assignor of the same name gives the larger shares to whichever members come first; here those keep theirs who have
// them, so that less moves. Kafka's does not look at racks (its first versions did, KIP-848 asks for it).
type Uniform struct{}

// Name is "uniform".
func (Uniform) Name() string { return UniformName }

// Assign implements Assignor.
func (Uniform) Assign(in Input) []Assignment {
	p := newProblem(in)
	switch {
	case len(in.Members) == 0 || p.partitions == 0:
		return make([]Assignment, len(in.Members))
	case p.homogeneous:
		return p.assignments(newHomogeneous(p).assign())
	default:
		return p.assignments(newHeterogeneous(p).assign())
	}
}
