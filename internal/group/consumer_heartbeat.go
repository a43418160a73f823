package group

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group/assign"
	"chronik/internal/group/regex"
	"chronik/internal/kafka"
)

// ConsumerHeartbeatRequest is a ConsumerGroupHeartbeat request (KIP-848) and who sent it. The request's strings are kept.
type ConsumerHeartbeatRequest struct {
	*kmsg.ConsumerGroupHeartbeatRequest
	ClientID   string
	ClientHost string // as Kafka writes it: "/127.0.0.1"
}

// owned are the partitions that the member says it has; false if it does not say.
func (r *ConsumerHeartbeatRequest) owned() (assign.Assignment, bool) {
	if r.Topics == nil {
		return nil, false
	}
	out := make(assign.Assignment, 0, len(r.Topics))
	for i := range r.Topics {
		out = append(out, assign.TopicPartitions{Topic: r.Topics[i].TopicID, Partitions: r.Topics[i].Partitions})
	}
	return normalized(out), true
}

// full says that the request tells everything, as a member's first and those after an error do.
func (r *ConsumerHeartbeatRequest) full() bool {
	return r.RebalanceTimeoutMillis != -1 && (r.SubscribedTopicNames != nil || r.SubscribedTopicRegex != nil) && r.Topics != nil
}

// ConsumerHeartbeat takes a member into a consumer group, keeps it there, moves it towards its target assignment, or takes it
// out. Errors are those of the protocol, with a text for the client's user.
func (m *Machine) ConsumerHeartbeat(tx *coordinator.Tx, r *ConsumerHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	limits := m.limits()
	c := limits.consumer(r.Group)
	if err := validateHeartbeat(r, &c); err != nil {
		return nil, err
	}
	if r.MemberEpoch < 0 {
		return m.consumerLeave(tx, r)
	}
	g, upgrade, err := m.consumerFor(r, &limits, &c)
	if err != nil {
		return nil, err
	}
	j, err := g.joining(r)
	if err != nil {
		return nil, err
	}
	if j.next.id == "" {
		j.next.id = m.newID()
	}
	if j.old == nil && j.replaced == nil && len(g.members) >= c.MaxSize {
		return nil, kafka.ErrGroupMaxSizeReached.With("consumer group %s has its maximum of %d members", g.id, c.MaxSize)
	}
	if j.old != nil && j.old.sameMetadata(j.next) {
		j.next = j.old
	} else if err := m.validateSubscription(g, &limits, j.next); err != nil {
		return nil, err
	}
	// From here on nothing fails: what follows changes the state and is written.
	if upgrade != nil {
		upgrade(tx)
	}
	m.consumers[g.id] = g
	before, after := m.advance(tx, g, j)
	if before.classic != nil { // it has changed its protocol: nobody waits for its JoinGroup any more
		tx.Cancel(rejoinKey(g.id, after.id))
		tx.Cancel(resyncKey(g.id, after.id))
	}
	m.consumerSession(tx, g, after.id, c.SessionTimeout)
	m.watchRevocation(tx, g, before, after)
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	resp.MemberID, resp.MemberEpoch = &after.id, after.epoch
	resp.HeartbeatIntervalMillis = int32(c.HeartbeatInterval.Milliseconds())
	if r.MemberEpoch == epochJoin || r.full() || !before.assigned.samePartitions(after.assigned) {
		resp.Assignment = assignmentResponse(after.assigned)
	}
	return resp, nil
}

func assignmentResponse(h held) *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	a.Topics = make([]kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic, 0, len(h))
	for i := range h {
		t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		t.TopicID, t.Partitions = h[i].topic, h[i].partitions
		a.Topics = append(a.Topics, t)
	}
	return &a
}

// memberIDRequired is the version from which on members make their own IDs (KIP-1082).
const memberIDRequired = 1

func validateHeartbeat(r *ConsumerHeartbeatRequest, c *ConsumerLimits) error {
	empty := func(s *string) bool { return s != nil && strings.TrimSpace(*s) == "" }
	invalid := func(text string) error { return kafka.ErrInvalidRequest.With("%s", text) }
	switch {
	case r.Group == "":
		return invalid("GroupId can't be empty.")
	case empty(r.InstanceID):
		return invalid("InstanceId can't be empty.")
	case empty(r.RackID):
		return invalid("RackId can't be empty.")
	case r.MemberEpoch < epochStaticLeave:
		return invalid("MemberEpoch is invalid.")
	case r.MemberID == "" && (r.MemberEpoch != epochJoin || r.Version >= memberIDRequired):
		return invalid("MemberId can't be empty.")
	case r.MemberEpoch == epochStaticLeave && r.InstanceID == nil:
		return invalid("InstanceId can't be null.")
	case r.MemberEpoch == epochJoin && r.RebalanceTimeoutMillis == -1:
		return invalid("RebalanceTimeoutMs must be provided in first request.")
	case r.MemberEpoch == epochJoin && (r.Topics == nil || len(r.Topics) > 0):
		return invalid("TopicPartitions must be empty when (re-)joining.")
	case r.MemberEpoch == epochJoin && r.SubscribedTopicNames == nil && r.SubscribedTopicRegex == nil:
		return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case r.ServerAssignor != nil && !slices.Contains(c.Assignors, *r.ServerAssignor):
		return kafka.ErrUnsupportedAssignor.With("ServerAssignor %s is not supported. Supported assignors: %s.", *r.ServerAssignor,
			strings.Join(c.Assignors, ", "))
	}
	return nil
}

// consumerFor finds the group of a heartbeat, or makes it for a member that joins. upgrade, unless nil, is what turns a classic
// group into it, and must be called before anything else changes.
func (m *Machine) consumerFor(r *ConsumerHeartbeatRequest, limits *Limits, c *ConsumerLimits) (g *consumerGroup, upgrade func(*coordinator.Tx), err error) {
	if g := m.consumers[r.Group]; g != nil {
		return g, nil, nil
	}
	old := m.groups[r.Group]
	switch {
	case old == nil && r.MemberEpoch != epochJoin:
		return nil, nil, kafka.ErrGroupIDNotFound.With("Consumer group %s not found.", r.Group)
	case old == nil:
		return newConsumerGroup(r.Group), nil, nil
	case r.MemberEpoch != epochJoin:
		return nil, nil, kafka.ErrGroupIDNotFound.With("Group %s is not a consumer group.", r.Group)
	}
	return m.upgraded(old, limits, c)
}

// joining is what a heartbeat makes of a member, before it is moved.
type joining struct {
	old      *consumerMember // nil for a new one
	replaced *consumerMember // the static member whose place it takes
	next     *consumerMember
	owned    assign.Assignment
	known    bool // owned is
	reason   string
}

// joining finds the member of a heartbeat and what it says of itself now. Nothing is changed.
func (g *consumerGroup) joining(r *ConsumerHeartbeatRequest) (j joining, err error) {
	j.owned, j.known = r.owned()
	if r.InstanceID == nil {
		j.old, err = g.dynamic(r)
	} else {
		j.old, j.replaced, err = g.staticFor(r)
	}
	if err != nil {
		return joining{}, err
	}
	next := consumerMember{id: r.MemberID, rebalanceTimeout: -1}
	switch {
	case j.old != nil:
		if err := g.validateEpoch(j.old, r.MemberEpoch, j.owned, j.known); err != nil {
			return joining{}, err
		}
		next = *j.old
	case j.replaced != nil:
		next = *j.replaced
		next.id, next.epoch, next.previousEpoch = r.MemberID, 0, 0
	}
	if r.InstanceID != nil {
		next.instance = r.InstanceID
	}
	if r.RackID != nil {
		next.rack = r.RackID
	}
	if r.RebalanceTimeoutMillis != -1 {
		next.rebalanceTimeout = r.RebalanceTimeoutMillis
	}
	if r.ServerAssignor != nil {
		next.assignor = r.ServerAssignor
	}
	if r.SubscribedTopicNames != nil {
		next.topics = g.share(sortedStrings(r.SubscribedTopicNames))
	}
	if r.SubscribedTopicRegex != nil {
		next.regex = *r.SubscribedTopicRegex
	}
	next.clientID, next.clientHost, next.classic = r.ClientID, r.ClientHost, nil
	j.next = &next
	return j, nil
}

func (g *consumerGroup) dynamic(r *ConsumerHeartbeatRequest) (*consumerMember, error) {
	mb := g.members[r.MemberID]
	if mb == nil && r.MemberEpoch != epochJoin {
		return nil, kafka.ErrUnknownMemberID.With("Member %s is not a member of group %s.", r.MemberID, g.id)
	}
	return mb, nil
}

// staticFor finds the member with the request's group.instance.id: the same one, or one that it replaces.
func (g *consumerGroup) staticFor(r *ConsumerHeartbeatRequest) (same, replaced *consumerMember, err error) {
	current := g.members[g.static[*r.InstanceID]]
	switch {
	case r.MemberEpoch != epochJoin:
		if err := g.validateStatic(current, r.MemberID, *r.InstanceID); err != nil {
			return nil, nil, err
		}
		return current, nil, nil
	case current == nil:
		return g.members[r.MemberID], nil, nil
	case current.id == r.MemberID:
		// Its first answer was lost, or it was fenced and comes again: the ID says that it is the same process. (Kafka up to 4.2
		// refuses it until its session has ended.)
		return current, nil, nil
	case current.classic == nil && !current.away():
		return nil, nil, kafka.ErrUnreleasedInstanceID.With("Static member %s with instance id %s cannot join the group because the instance id "+
			"is owned by %s member.", r.MemberID, *r.InstanceID, current.id)
	}
	return nil, current, nil
}

func (g *consumerGroup) validateStatic(current *consumerMember, member, instance string) error {
	switch {
	case current == nil:
		return kafka.ErrUnknownMemberID.With("Instance id %s is unknown.", instance)
	case current.id != member:
		return kafka.ErrFencedInstanceID.With("Static member %s with instance id %s was fenced by member %s.", member, instance, current.id)
	}
	return nil
}

// validateEpoch refuses a member that does not stand where the group has put it. One epoch behind is fine where it has nothing
// that it should not have: the answer with the new epoch was lost.
func (g *consumerGroup) validateEpoch(mb *consumerMember, epoch int32, owned assign.Assignment, known bool) error {
	const fenced = "The member must abandon all its partitions and rejoin."
	switch {
	case mb.state == memberUnknown && (!known || len(owned) > 0):
		return kafka.ErrFencedMemberEpoch.With("The consumer group member is in an unknown state. %s", fenced)
	case epoch == epochJoin:
		return nil
	case epoch > mb.epoch:
		return kafka.ErrFencedMemberEpoch.With("The consumer group member has a greater member epoch (%d) than the one known by the group "+
			"coordinator (%d). %s", epoch, mb.epoch, fenced)
	case epoch < mb.epoch && (epoch != mb.previousEpoch || !known || !mb.assigned.covers(owned)):
		return kafka.ErrFencedMemberEpoch.With("The consumer group member has a smaller member epoch (%d) than the one known by the group "+
			"coordinator (%d). %s", epoch, mb.epoch, fenced)
	}
	return nil
}

// validateSubscription refuses what cannot be resolved or stored.
func (m *Machine) validateSubscription(g *consumerGroup, limits *Limits, next *consumerMember) error {
	if _, known := g.regexes[next.regex]; next.regex != "" && !known {
		if err := regex.Validate(next.regex); err != nil {
			return err
		}
	}
	if size := memberRecord(g.id, next).Size(); size > limits.RecordMaxBytes {
		return kafka.ErrInvalidRequest.With("the subscription of member %s of group %s takes %d bytes, and a record of %s may have %d: subscribe to "+
			"fewer topics, or by a regular expression", next.id, g.id, size, kafka.OffsetsTopic, limits.RecordMaxBytes)
	}
	return nil
}
