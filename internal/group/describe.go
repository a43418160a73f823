package group

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// Describe tells about one group; of one that does not exist it says Dead, and from version 6 on (KIP-1043)
// GROUP_ID_NOT_FOUND.
func (m *Machine) Describe(id string, version int16) kmsg.DescribeGroupsResponseGroup {
	row := kmsg.NewDescribeGroupsResponseGroup()
	row.Group = id
	g := m.groups[id]
	if g == nil {
		row.State = Dead.String()
		if version >= 6 {
			msg := "Group " + id + " not found."
			if m.consumers[id] != nil {
				msg = "Group " + id + " is not a classic group."
			}
			row.ErrorCode, row.ErrorMessage = kafka.ErrGroupIDNotFound.Code, &msg
		}
		return row
	}
	row.State, row.ProtocolType = g.state.String(), g.protocolType
	if g.state == Stable && g.protocol != nil {
		row.Protocol = *g.protocol
	}
	for _, mb := range g.members {
		r := kmsg.NewDescribeGroupsResponseGroupMember()
		r.MemberID, r.InstanceID, r.ClientID, r.ClientHost = mb.id, mb.instance, mb.clientID, mb.clientHost
		r.MemberAssignment, r.ProtocolMetadata = mb.assignment, []byte{}
		if r.MemberAssignment == nil {
			r.MemberAssignment = []byte{}
		}
		if g.state == Stable {
			r.ProtocolMetadata = mb.metadata(row.Protocol)
		}
		row.Members = append(row.Members, r)
	}
	return row
}

// groupType is the type of groups of the classic protocol (KIP-848).
const groupType = "classic"

// List tells of the groups whose state and type are among those asked for, in any case; empty asks for all.
func (m *Machine) List(states, types []string) []kmsg.ListGroupsResponseGroup {
	among := func(list []string, s string) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(o string) bool { return strings.EqualFold(o, s) })
	}
	var out []kmsg.ListGroupsResponseGroup
	for _, id := range m.groupIDs() {
		row := kmsg.NewListGroupsResponseGroup()
		row.Group = id
		if g := m.groups[id]; g != nil {
			row.ProtocolType, row.GroupState, row.GroupType = g.protocolType, g.state.String(), groupType
		} else {
			row.ProtocolType, row.GroupState, row.GroupType = consumerProtocol, m.consumers[id].state(), consumerType
		}
		if among(types, row.GroupType) && among(states, row.GroupState) {
			out = append(out, row)
		}
	}
	return out
}

// Delete removes a group without members, and its offsets.
func (m *Machine) Delete(tx *coordinator.Tx, id string) error {
	if g := m.consumers[id]; g != nil {
		return m.deleteConsumer(tx, g)
	}
	g := m.groups[id]
	switch {
	case g == nil:
		return kafka.ErrGroupIDNotFound.With("group %s not found", id)
	case g.state != Empty:
		return kafka.ErrNonEmptyGroup.With("group %s has %d members", id, len(g.members))
	}
	m.dropOffsets(tx, id, func(string, *committed) bool { return true })
	for member := range g.pendingJoin { // order does not matter: only timers go
		tx.Cancel(sessionKey(id, member))
	}
	delete(m.groups, id)
	delete(m.history, id)
	tx.Append(groupTombstone(id))
	m.debug(g, "group is deleted")
	return nil
}
