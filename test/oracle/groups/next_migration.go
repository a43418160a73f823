package groups

import "github.com/twmb/franz-go/pkg/kmsg"

// nextEmpty: a group without members is of whichever protocol comes next.
func (s *side) nextEmpty() {
	const g = "nextempty"
	s.beat(1, g, "a", 0)
	s.commit(9, g, "a", 1, "", "t-0")
	s.beat(1, g, "a", -1)
	s.heartbeat(4, g, "x", 1, nil)
	s.join(9, g, "x", consuming(-1))
	base := s.EpochBase
	s.EpochBase = 0 // of a classic group's generation
	id := s.join(9, g, "", consuming(-1))
	s.describe(6, g)
	s.describeNext(g)
	s.join(9, g, id, consuming(-1))
	s.describe(5, g)
	s.Without("ProtocolMetadata")
	s.EpochBase = base
	s.describeNext(g)
	s.list(5, nil, []string{"classic"})
	s.fetch(9, false, g)
	s.leave(5, g, leaving(id, ""))
	s.beat(1, g, "a", 0)
	s.describeNext(g)
	s.fetchAs(9, g, "a", 1)
	s.beat(1, g, "a", -1)
}

// first is the ID of a member that comes before all random ones.
const first = "!"

// nextJoinedByClassic: a member of the classic protocol in a consumer group, and the group when the last other has left.
func (s *side) nextJoinedByClassic() {
	const g = "nextmixed"
	s.beat(1, g, first, 0)
	s.join(9, g, "", ofType("other"))
	s.join(9, g, "", consuming(-1), protocols("x"))
	id := s.join(9, g, "", consuming(-1))
	s.join(9, g, id, consuming(-1))
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.sync(5, g, id, 2, nil)
	s.beat(1, g, first, 1)
	s.heartbeat(4, g, id, 2, nil)
	s.beat(1, g, first, 1, s.owning("t-0"))
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.heartbeat(4, g, id, 1, nil)
	s.commit(9, g, id, 2, "", "t-0")
	s.commit(8, g, id, 2, "", "t-0")
	s.commit(8, g, id, 1, "", "t-0")
	s.commit(9, g, first, 2, "", "t-0")
	s.join(9, g, id, consuming(2))
	s.heartbeat(4, g, id, 2, nil)
	s.sync(5, g, id, 2, nil)
	s.sync(5, g, id, 1, nil)
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.beat(1, g, id, 2)
	s.beat(1, g, first, 2, subscribing("u"))
	s.heartbeat(4, g, id, 2, nil)
	s.join(9, g, id, consuming(2, 1))
	s.sync(5, g, id, 3, nil)
	s.beat(1, g, first, 2, s.owning())
	s.heartbeat(4, g, id, 3, nil)
	s.join(9, g, id, consuming(3, 1))
	s.sync(5, g, id, 3, nil)
	s.describeNext(g)
	s.leave(5, g, leaving(id, ""))
	s.describeNext(g)
	s.heartbeat(4, g, id, 3, nil)
	s.beat(1, g, first, -1)
	s.describeNext(g)
}

// nextUpgrade: a member of the new protocol joins a classic group; the group goes back with the last of them.
func (s *side) nextUpgrade() {
	const g = "nextup"
	id := s.join(9, g, "", consuming(-1))
	s.join(9, g, id, consuming(-1))
	s.sync(5, g, id, 1, map[string]string{id: string(assignment("t", 0, 1))})
	s.heartbeat(4, g, id, 1, nil)
	s.beat(1, g, first, 1)
	s.beat(1, g, first, 0)
	s.describeNext(g)
	s.describe(6, g)
	s.heartbeat(4, g, id, 1, nil)
	s.commit(9, g, id, 1, "", "t-0")
	s.fetch(9, false, g)
	s.join(9, g, id, consuming(1, 0, 1))
	s.sync(5, g, id, 2, nil)
	s.describeNext(g)
	s.heartbeat(4, g, id, 2, nil)
	s.join(9, g, id, consuming(2, 0))
	s.sync(5, g, id, 2, nil)
	s.describeNext(g)
	s.beat(1, g, first, 2)
	s.heartbeat(4, g, id, 2, nil)
	s.describeNext(g)
	s.beat(1, g, first, -1)
	s.list(5, nil, nil)
	s.describeNext(g)
	s.describe(6, g)
	s.heartbeat(4, g, id, 2, nil)
	s.heartbeat(4, g, id, 3, nil)
	s.fetch(9, false, g)
	other := s.join(9, "nextother", "", ofType("other")) // not consumers
	s.join(9, "nextother", other, ofType("other"))
	s.sync(5, "nextother", other, 1, nil)
	s.beat(1, "nextother", first, 0)
}

// assignment is a ConsumerProtocolAssignment of partitions of one topic.
func assignment(topic string, partitions ...int32) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	row := kmsg.NewConsumerMemberAssignmentTopic()
	row.Topic, row.Partitions = topic, partitions
	a.Topics = append(a.Topics, row)
	return a.AppendTo(nil)
}
