package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"chronik/internal/kafka"
)

// Groups is what /v1/groups asks the node; package broker connects it.
type Groups interface {
	// Groups are those that the node coordinates, sorted.
	Groups(ctx context.Context) []GroupRow
	// Group is one of them. Where another node coordinates it, ok is false and coordinator names that node, NoLeader if
	// nobody does; where there is no such group, ok is false and coordinator is this node.
	Group(ctx context.Context, id string) (g GroupView, coordinator kafka.BrokerID, ok bool)
}

// GroupList is the answer of GET /v1/groups.
type GroupList struct {
	Node   kafka.BrokerID `json:"node"` // whose groups they are: each node knows those that it coordinates
	Groups []GroupRow     `json:"groups"`
}

// GroupRow is one group of a list.
type GroupRow struct {
	Group   string `json:"group"`
	Type    string `json:"type"` // classic or consumer
	State   string `json:"state"`
	Epoch   int32  `json:"epoch"` // the generation, or the group epoch
	Members int    `json:"members"`
	Lag     int64  `json:"lag"` // records, of partitions that have a replica on the node
}

// GroupView is the answer of GET /v1/groups/GROUP: how a group is, why it rebalanced, and what it waits for.
type GroupView struct {
	Node kafka.BrokerID `json:"node"` // its coordinator, who answers
	GroupRow
	Protocol   string          `json:"protocol"`    // the assignor
	StateSince *time.Time      `json:"state_since"` // null if not known
	WaitsFor   []string        `json:"waits_for"`   // sentences; empty if the group lacks nothing
	MemberRows []GroupMember   `json:"member_list"`
	Offsets    []GroupOffset   `json:"offsets"`
	History    []RebalanceView `json:"history"` // the last rebalances that this coordinator saw, oldest first
}

// GroupMember is one member.
type GroupMember struct {
	ID       string         `json:"id"`
	Instance string         `json:"instance,omitempty"`
	Client   string         `json:"client"`
	Host     string         `json:"host"`
	Epoch    int32          `json:"epoch"`
	Assigned map[string]int `json:"assigned"` // partitions by topic
	Waits    string         `json:"awaited,omitempty"`
}

// GroupOffset is one committed offset.
type GroupOffset struct {
	Topic     string       `json:"topic"`
	Partition int32        `json:"partition"`
	Offset    kafka.Offset `json:"committed"`
	Time      time.Time    `json:"committed_at"`
	End       kafka.Offset `json:"end"` // the high watermark as the node has it; -1 if it has no replica
	Lag       int64        `json:"lag"` // -1 if End is not known
}

// RebalanceView is one rebalance.
type RebalanceView struct {
	Time   time.Time `json:"time"`
	Epoch  int32     `json:"epoch"`
	Cause  string    `json:"cause"`
	Member string    `json:"member,omitempty"`
	Client string    `json:"client,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Took   float64   `json:"took_seconds"` // 0 while it goes on
}

// groupsMax bounds how long a question about groups may wait for their coordinator.
const groupsMax = 3 * time.Second

func (s *Server) groupRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/groups", s.asked(func(c Cluster, r *http.Request) (any, int, error) {
		groups, err := s.groups()
		if err != nil {
			return nil, http.StatusServiceUnavailable, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), groupsMax)
		defer cancel()
		list := groups.Groups(ctx)
		if list == nil {
			list = []GroupRow{}
		}
		return GroupList{c.Self(), list}, 0, nil
	}))
	mux.HandleFunc("GET /v1/groups/{group...}", s.asked(func(c Cluster, r *http.Request) (any, int, error) {
		groups, err := s.groups()
		if err != nil {
			return nil, http.StatusServiceUnavailable, err
		}
		id := strings.TrimSuffix(r.PathValue("group"), "/")
		ctx, cancel := context.WithTimeout(r.Context(), groupsMax)
		defer cancel()
		view, coordinator, ok := groups.Group(ctx, id)
		switch {
		case ok:
			return view, 0, nil
		case coordinator == kafka.NoLeader:
			return nil, http.StatusServiceUnavailable, fmt.Errorf("group %s has no coordinator at the moment", id)
		case coordinator != c.Self():
			return nil, http.StatusMisdirectedRequest, fmt.Errorf("group %s is coordinated by node %d: ask that one", id, coordinator)
		}
		return nil, http.StatusNotFound, fmt.Errorf("there is no group %s", id)
	}))
}

func (s *Server) groups() (Groups, error) {
	if s.opts.Groups != nil {
		if g := s.opts.Groups(); g != nil {
			return g, nil
		}
	}
	return nil, fmt.Errorf("the node is starting")
}
