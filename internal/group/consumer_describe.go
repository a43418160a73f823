package group

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

const consumerType = "consumer"

// ConsumerDescribe tells about one consumer group: GROUP_ID_NOT_FOUND if there is none or it is a classic one.
func (m *Machine) ConsumerDescribe(id string) kmsg.ConsumerGroupDescribeResponseGroup {
	row := kmsg.NewConsumerGroupDescribeResponseGroup()
	row.Group = id
	g := m.consumers[id]
	if g == nil {
		err := m.notConsumer(id)
		row.ErrorCode, row.ErrorMessage = err.Code, kafka.Message(err)
		return row
	}
	limits := m.limits()
	row.State, row.Epoch, row.AssignmentEpoch = g.state(), g.epoch, g.targetEpoch
	row.AssignorName = g.assignor(limits.consumer(id).Assignors[0])
	for _, member := range g.order {
		mb := g.members[member]
		r := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		r.MemberID, r.InstanceID, r.RackID, r.MemberEpoch, r.ClientID, r.ClientHost = mb.id, mb.instance, mb.rack, mb.epoch, mb.clientID, mb.clientHost
		r.SubscribedTopics, r.SubscribedTopicRegex = append([]string{}, mb.topics...), &mb.regex
		r.Assignment = m.describeAssignment(mb.assigned.union(mb.pending).assignment()) // all that it may still have, as Kafka 4.3 tells
		r.TargetAssignment = m.describeAssignment(g.targets[member])
		r.MemberType = 1
		if mb.classic != nil {
			r.MemberType = 0
		}
		row.Members = append(row.Members, r)
	}
	return row
}

func (m *Machine) describeAssignment(a assign.Assignment) kmsg.Assignment {
	out := kmsg.NewAssignment()
	topics := m.topics()
	for i := range a {
		name, ok := topics.ByID(a[i].Topic)
		if !ok {
			continue
		}
		t := kmsg.NewAssignmentTopicPartition()
		t.TopicID, t.Topic, t.Partitions = a[i].Topic, name, a[i].Partitions
		out.TopicPartitions = append(out.TopicPartitions, t)
	}
	return out
}

// deleteConsumer removes a consumer group without members.
func (m *Machine) deleteConsumer(tx *coordinator.Tx, g *consumerGroup) error {
	if len(g.members) > 0 {
		return kafka.ErrNonEmptyGroup.With("group %s has %d members", g.id, len(g.members))
	}
	m.dropOffsets(tx, g.id, func(string, *committed) bool { return true })
	m.removeConsumer(tx, g)
	m.logger.Debug("consumer group is deleted", "group", g.id)
	return nil
}

// removeConsumer forgets a consumer group without members, with its tombstones.
func (m *Machine) removeConsumer(tx *coordinator.Tx, g *consumerGroup) {
	g.tombstones(tx)
	delete(m.consumers, g.id)
	delete(m.history, g.id)
}

// expiryBase: committed offsets of what nobody subscribes to are unused since the commit.
func (g *consumerGroup) expiryBase(c *committed) (since int64, ok bool) { return c.commitTime, true }

func (g *consumerGroup) removable() bool { return len(g.members) == 0 }

// view is a consumer group as people want to see it.
func (g *consumerGroup) view(topics Topics, fallback string) View {
	v := View{Group: g.id, Type: consumerType, State: g.state(), Epoch: g.epoch, Protocol: g.assignor(fallback)}
	for _, id := range g.order {
		mb := g.members[id]
		row := MemberView{ID: id, Client: mb.clientID, Host: mb.clientHost, Epoch: mb.epoch, Assigned: map[string]int{}}
		if mb.instance != nil {
			row.Instance = *mb.instance
		}
		for i := range mb.assigned {
			row.Assigned[topicName(topics, mb.assigned[i].topic)] += len(mb.assigned[i].partitions)
		}
		row.Waits = g.awaited(mb, topics)
		if row.Waits != "" {
			v.WaitsFor = append(v.WaitsFor, row.name()+": "+row.Waits)
		}
		v.Members = append(v.Members, row)
	}
	if g.epoch > g.targetEpoch && len(g.members) > 0 {
		v.WaitsFor = append(v.WaitsFor, fmt.Sprintf("the next heartbeat of a member, with which the target assignment of epoch %d is computed", g.epoch))
	}
	return v
}

// awaited says what the group waits for from a member.
func (g *consumerGroup) awaited(mb *consumerMember, topics Topics) string {
	switch {
	case mb.away():
		return "its return: it is a static member that has left for a while"
	case mb.state == memberUnrevoked:
		return "to give up " + partitionNames(mb.pending, topics)
	case mb.classic != nil && (mb.epoch < g.epoch || mb.state == memberUnreleased && !g.waits(mb)):
		return "its JoinGroup"
	case !mb.reconciledTo(g.targetEpoch):
		return "its heartbeat"
	}
	return ""
}

// namesMax bounds the partitions that a sentence names.
const namesMax = 10

func partitionNames(h held, topics Topics) string {
	var names []string
	for tp := range h.all {
		if len(names) == namesMax {
			return fmt.Sprintf("%s and %d more partitions", strings.Join(names, ", "), h.len()-namesMax)
		}
		names = append(names, fmt.Sprintf("%s-%d", topicName(topics, tp.Topic), tp.Partition))
	}
	return strings.Join(names, ", ")
}

func topicName(topics Topics, id kafka.TopicID) string {
	if name, ok := topics.ByID(id); ok {
		return name
	}
	return "a deleted topic (" + id.String() + ")"
}
