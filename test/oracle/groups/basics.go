package groups

import (
	"fmt"

	"chronik/test/oracle/pair"
)

// Basics is the part of Talk that a fake can follow: the life of a group with one member, simple offsets, and what most often
// goes wrong, at every version.
func Basics(p *pair.Side) {
	s := &side{Side: p}
	s.groupTopics()
	for version := int16(0); version <= 6; version++ {
		s.findCoordinator(version, "g")
	}
	for version := int16(1); version <= 9; version++ {
		s.basicLife(version) // from 1: kfake takes a JoinGroup v0, which has no rebalance timeout, for one of 0 ms
	}
	for version := int16(2); version <= 10; version++ {
		g := fmt.Sprint("plain", version)
		s.commit(version, g, "", -1, "", "t-0", "t-1")
		s.commit(version, g, "x", 5, "", "t-0")
		s.fetch(min(version, 10), false, g)
		s.fetch(max(version, 2), true, g)
		s.deleteOffsets(g, "t")
		s.deleteGroups(min(version, 2), g, "none")
	}
	for version := int16(0); version <= 5; version++ {
		s.list(version, nil, nil)
	}
}

func (s *side) basicLife(version int16) {
	g := fmt.Sprint("basic", version)
	sync, beat, leave, describe, commit := min(version, 5), min(version, 4), min(version, 5), min(version, 6), min(version+2, 10)
	id := s.join(version, g, "")
	if version >= 4 {
		s.join(version, g, id)
	}
	s.sync(sync, g, id, 1, map[string]string{id: "mine"})
	s.heartbeat(beat, g, id, 1, nil)
	s.heartbeat(beat, g, id, 2, nil)
	s.heartbeat(beat, g, "x", 1, nil)
	s.heartbeat(beat, "none", "x", 1, nil)
	s.sync(sync, g, id, 2, nil)
	s.sync(sync, g, "x", 1, nil)
	s.sync(sync, g, id, 1, nil)
	s.describe(describe, g)
	s.describe(describe, "none")
	s.commit(commit, g, id, 1, "m", "t-0")
	s.commit(commit, g, id, 2, "", "t-0")
	s.commit(commit, g, "x", 1, "", "t-0")
	s.fetch(min(version+1, 10), false, g)
	s.deleteGroups(min(version, 2), g)
	s.join(version, g, "x")
	s.join(version, g, "", ofType("other"))
	s.leave(leave, g, leaving("x", ""))
	s.leave(leave, g, leaving(id, ""))
	s.describe(describe, g)
	s.heartbeat(beat, g, id, 1, nil)
	s.deleteGroups(min(version, 2), g)
	s.describe(describe, g)
}
