package group

import (
	"fmt"
	"strings"

	"chronik/internal/coordinator"
)

// cause is why a group rebalances: for its history and the log.
type cause struct {
	what   string // "" for nothing that anybody would ask about
	member string
	client string
	reason string
}

// of is a cause of a member's.
func (mb *member) causes(what, reason string) cause {
	return cause{what, mb.id, clientOf(mb.clientID, mb.clientHost), reason}
}

func clientOf(id, host string) string {
	return strings.TrimSpace(id + " at " + strings.TrimPrefix(host, "/"))
}

// several is a cause of members together; there is at least one.
func several(what string, members []*member) cause {
	c := members[0].causes(what, "")
	if len(members) > 1 {
		c.reason = fmt.Sprintf("and %d other members", len(members)-1)
	}
	return c
}

func (c cause) String() string {
	s := c.what
	if c.member != "" {
		s += ": " + c.member
	}
	if c.reason != "" {
		s += " (" + c.reason + ")"
	}
	return s
}

// note takes a cause into the group's history.
func (m *Machine) note(tx *coordinator.Tx, g *classic, c cause) {
	if c.what != "" {
		m.caused(g.id, Rebalance{Time: tx.Now, Epoch: g.generation, Cause: c.what, Member: c.member, Client: c.client, Reason: c.reason})
	}
}
