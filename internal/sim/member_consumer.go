package sim

import (
	"cmp"
	"encoding/hex"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// consumerMember speaks ConsumerGroupHeartbeat (KIP-848): the coordinator assigns, and a partition changes hands once who had it
// has said that it let go.
type consumerMember struct {
	*membership
	beat   time.Duration
	full   bool    // the next heartbeat says everything: the answer to the last one was lost
	target []int32 // what the coordinator wants it to own
	wanted []place // the same, of other topics
	told   bool    // the coordinator knows what it owns
}

func newConsumerMember(p *membership) *consumerMember {
	var id [8]byte
	for i := range id {
		id[i] = byte(p.rng.Uint32())
	}
	p.id = p.name + "-" + hex.EncodeToString(id[:])
	return &consumerMember{membership: p, beat: memberHeartbeat}
}

func (m *consumerMember) interval() time.Duration {
	if m.behind() {
		return 50 * time.Millisecond
	}
	return m.beat
}

// behind says that it has to tell the coordinator something, or has partitions to take.
func (m *consumerMember) behind() bool {
	return m.full || !m.told || !m.settled()
}

// settled says that it has what the coordinator wants it to have.
func (m *consumerMember) settled() bool {
	return slices.Equal(m.owned, m.target) && slices.Equal(m.others, m.wanted)
}

// disowns: an epoch that lies behind is good for what the member has had since then (KIP-1251).
func (m *consumerMember) disowns(partition int32) bool {
	return !m.behind() && !slices.Contains(m.owned, partition)
}

func (m *consumerMember) request() *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch = 1, m.group.name, m.id, m.epoch
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	if m.epoch == 0 || m.full {
		req.RebalanceTimeoutMillis = int32(memberRebalance.Milliseconds())
		pattern := "" // what is not said stays as it was, also of the process before with the group.instance.id
		req.SubscribedTopicNames = []string{topic}
		if m.byRegex {
			pattern, req.SubscribedTopicNames = topicPattern, []string{}
		}
		req.SubscribedTopicRegex = &pattern
	}
	if m.epoch == 0 || m.full || !m.told {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if len(m.owned) > 0 {
			row := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			row.TopicID, row.Partitions = m.topicID, m.owned
			req.Topics = append(req.Topics, row)
		}
		for _, o := range m.others {
			row := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			row.TopicID, row.Partitions = o.topic, []int32{o.partition}
			req.Topics = append(req.Topics, row)
		}
	}
	return req
}

func (m *consumerMember) join() bool {
	m.epoch, m.told = 0, false
	m.heartbeat()
	return m.epoch > 0
}

func (m *consumerMember) heartbeat() {
	req := m.request()
	if req.Topics != nil {
		m.renounce()
	}
	began := time.Now()
	resp, err := m.ask(req, callLimit)
	if err != nil {
		m.full = true
		return
	}
	r := resp.(*kmsg.ConsumerGroupHeartbeatResponse)
	if r.ErrorCode != 0 {
		m.refused(r.ErrorCode)
		return
	}
	m.full, m.told = false, m.told || req.Topics != nil
	if req.MemberEpoch > 0 {
		m.group.isMember(m.membership, began)
	}
	m.become(r.MemberEpoch)
	m.beat = time.Duration(r.HeartbeatIntervalMillis) * time.Millisecond
	if r.Assignment != nil {
		m.assigned(r.Assignment)
	} else {
		m.take()
	}
	m.reconcile()
	m.publish(m.settled())
}

func (m *consumerMember) assigned(a *kmsg.ConsumerGroupHeartbeatResponseAssignment) {
	var target []int32
	var wanted []place
	for _, t := range a.Topics {
		switch {
		case t.TopicID == m.topicID:
			target = append(target, t.Partitions...)
		case !m.byRegex:
			m.fail("%s is given partitions of topic %x, to which it does not subscribe", m.membership, t.TopicID)
		default:
			for _, q := range t.Partitions {
				wanted = append(wanted, place{t.TopicID, q})
			}
		}
	}
	slices.Sort(target)
	slices.SortFunc(wanted, func(a, b place) int {
		return cmp.Or(slices.Compare(a.topic[:], b.topic[:]), cmp.Compare(a.partition, b.partition))
	})
	m.trace.note("%s is to own %v and %d of others in epoch %d, and owns %v and %d", m.membership, target, len(wanted), m.epoch, m.owned, len(m.others))
	m.renounce()
	m.target, m.wanted = target, wanted
	m.take()
}

// take notes what the coordinator has given to it.
func (m *consumerMember) take() {
	for _, q := range m.target {
		m.group.given(m.membership, place{m.topicID, q})
	}
	for _, o := range m.wanted {
		m.group.given(m.membership, o)
	}
}

// renounce lets go of what it was given and has not got: when it says what it has, it will not take more because of an answer from
// before.
func (m *consumerMember) renounce() {
	for _, q := range m.target {
		if !slices.Contains(m.owned, q) {
			m.group.released(m.membership, place{m.topicID, q})
		}
	}
	for _, o := range m.wanted {
		if !slices.Contains(m.others, o) {
			m.group.released(m.membership, o)
		}
	}
}

// reconcile lets go of what it is not to own, after a commit, and takes what it is given, as soon as it knows where to begin.
func (m *consumerMember) reconcile() {
	var kept, lost, gained []int32
	for _, q := range m.owned {
		if slices.Contains(m.target, q) {
			kept = append(kept, q)
		} else {
			lost = append(lost, q)
		}
	}
	for _, q := range m.target {
		if !slices.Contains(m.owned, q) {
			gained = append(gained, q)
		}
	}
	lostOthers := slices.DeleteFunc(slices.Clone(m.others), func(o place) bool { return slices.Contains(m.wanted, o) })
	if len(lost) > 0 || len(lostOthers) > 0 {
		m.disownOthers(lostOthers)
		m.commit()
		m.own(kept, nil)
		m.disown(lost)
		m.told = false
		return // what is new is taken once this is told
	}
	if !slices.Equal(m.others, m.wanted) { // nothing is consumed there
		m.others, m.told = slices.Clone(m.wanted), false
	}
	if len(gained) == 0 {
		return
	}
	begin, code := m.positions(gained)
	if code != 0 {
		return // the next heartbeat tells why, or it is tried again
	}
	m.own(m.target, begin)
	m.told = false
}

// refused does what an error of the coordinator asks for.
func (m *consumerMember) refused(code int16) {
	err := kerr.ErrorForCode(code)
	m.judge(code)
	switch code {
	case 25, 69, 110: // UNKNOWN_MEMBER_ID, GROUP_ID_NOT_FOUND (it is a classic one now), FENCED_MEMBER_EPOCH: it joins anew
		m.target, m.wanted = nil, nil
		m.lose(err)
	case 82: // FENCED_INSTANCE_ID
		m.target, m.wanted = nil, nil
		m.lose(err)
		m.fenced = true
	case 111: // UNRELEASED_INSTANCE_ID: until the one before has gone
		m.sleep(memberHeartbeat)
	default:
		m.trace.note("%s: ConsumerGroupHeartbeat: %v", m.membership, err)
		m.full = true
	}
}

func (m *consumerMember) leave() {
	req := m.request()
	req.MemberEpoch = -1
	if m.instance != "" {
		req.MemberEpoch = -2 // it comes back
	}
	_, _ = m.ask(req, callLimit)
}
