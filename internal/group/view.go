package group

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// View is a group as people want to see it: the HTTP API, `chronik explain` and the metrics.
type View struct {
	Group      string
	Type       string // classic or consumer
	State      string
	StateSince time.Time // zero if not known
	Epoch      int32     // the generation, or the group epoch
	Protocol   string    // the assignor that counts
	Members    []MemberView
	Offsets    []OffsetView // by topic and partition
	History    []Rebalance  // oldest first
	WaitsFor   []string     // sentences; empty where nothing is awaited
}

// MemberView is one member of a View.
type MemberView struct {
	ID       string
	Instance string // group.instance.id, "" for none
	Client   string
	Host     string
	Epoch    int32          // of a consumer group's member; else the generation
	Assigned map[string]int // partitions by topic; nil if they cannot be read
	Waits    string         // what the group waits for from this member; "" for nothing
}

// OffsetView is one committed offset of a View.
type OffsetView struct {
	Topic     string
	Partition int32
	Offset    kafka.Offset
	Committed time.Time
}

// View tells about a group; ok is false if there is none.
func (m *Machine) View(id string, now time.Time) (v View, ok bool) {
	limits := m.limits()
	if g := m.groups[id]; g != nil {
		v = g.view(now)
	} else if g := m.consumers[id]; g != nil {
		v = g.view(m.topics(), limits.consumer(id).Assignors[0])
	} else {
		return View{}, false
	}
	m.viewOffsets(&v)
	v.History = m.History(id)
	return v, true
}

// Views tells about all groups, sorted; without members, history and what they wait for.
func (m *Machine) Views() []View {
	var all []View
	limits := m.limits()
	for _, id := range m.groupIDs() {
		v := View{Group: id, Type: groupType}
		if g := m.groups[id]; g != nil {
			v.State, v.Epoch, v.Protocol, v.Members = g.state.String(), g.generation, g.protocolName(), make([]MemberView, len(g.members))
		} else {
			g := m.consumers[id]
			v.Type, v.State, v.Epoch, v.Protocol = consumerType, g.state(), g.epoch, g.assignor(limits.consumer(id).Assignors[0])
			v.Members = make([]MemberView, len(g.members))
		}
		m.viewOffsets(&v)
		all = append(all, v)
	}
	return all
}

func (m *Machine) viewOffsets(v *View) {
	for topic, c := range m.offsets[v.Group].all() {
		v.Offsets = append(v.Offsets, OffsetView{topic, c.partition, c.offset, time.UnixMilli(c.commitTime)})
	}
}

func (g *classic) protocolName() string {
	if g.protocol == nil {
		return ""
	}
	return *g.protocol
}

func (g *classic) view(now time.Time) View {
	v := View{Group: g.id, Type: groupType, State: g.state.String(), Epoch: g.generation, Protocol: g.protocolName()}
	if g.stateSince > 0 {
		v.StateSince = time.UnixMilli(g.stateSince)
	}
	var absent, unsynced []string
	for _, mb := range g.members {
		row := MemberView{ID: mb.id, Client: mb.clientID, Host: mb.clientHost, Epoch: g.generation, Assigned: assignedPartitions(mb.assignment)}
		if mb.instance != nil {
			row.Instance = *mb.instance
		}
		_, pending := g.pendingSync[mb.id]
		switch {
		case g.state == PreparingRebalance && mb.join == nil:
			row.Waits = "its JoinGroup"
			absent = append(absent, row.name())
		case g.state == CompletingRebalance && mb.id == g.leader:
			row.Waits = "the assignment, which it makes as the group's leader"
			unsynced = append(unsynced, row.name()+" (the leader, which makes the assignment)")
		case g.state == CompletingRebalance && pending && mb.sync == nil:
			row.Waits = "its SyncGroup"
		}
		v.Members = append(v.Members, row)
	}
	left := time.Duration(g.rebalanceTimeout())*time.Millisecond - now.Sub(v.StateSince)
	within := fmt.Sprintf("for another %v at most (the longest rebalance timeout of its members)", max(left, 0).Round(time.Second))
	switch {
	case len(absent) > 0:
		v.WaitsFor = append(v.WaitsFor, fmt.Sprintf("%s to join again, %s", strings.Join(absent, ", "), within))
	case g.state == PreparingRebalance && len(g.pendingJoin) > 0:
		v.WaitsFor = append(v.WaitsFor, fmt.Sprintf("%d clients that were given a member ID to join with it", len(g.pendingJoin)))
	case g.state == PreparingRebalance:
		v.WaitsFor = append(v.WaitsFor, "more members of a new group (group.initial.rebalance.delay.ms)")
	case len(unsynced) > 0:
		v.WaitsFor = append(v.WaitsFor, fmt.Sprintf("the assignment of %s, %s", unsynced[0], within))
	}
	return v
}

func (mb *MemberView) name() string {
	if mb.Instance != "" {
		return mb.Instance
	}
	return mb.ID
}

// assignedPartitions reads a consumer's assignment (any version); nil if it is none.
func assignedPartitions(assignment []byte) map[string]int {
	if len(assignment) == 0 {
		return nil
	}
	a := kmsg.NewConsumerMemberAssignment()
	if a.ReadFrom(assignment) != nil {
		return nil
	}
	counts := make(map[string]int, len(a.Topics))
	for i := range a.Topics {
		counts[a.Topics[i].Topic] += len(a.Topics[i].Partitions)
	}
	return counts
}

// View tells about one group; ok is false if there is none, an error that this node does not coordinate it.
func (s *Service) View(ctx context.Context, group string) (v View, ok bool, err error) {
	p := do(s, group, func(m *Machine, tx *coordinator.Tx, p *coordinator.Promise[*View]) {
		var answer *View
		if v, ok := m.View(group, tx.Now); ok {
			answer = &v
		}
		coordinator.Answer(tx, p, answer)
	})
	answer, err := p.Wait(ctx)
	if err != nil || answer == nil {
		return View{}, false, err
	}
	return *answer, true, nil
}

// Views tells about the groups that this node coordinates; those of partitions that move meanwhile are left out.
func (s *Service) Views(ctx context.Context) []View {
	var promises []*coordinator.Promise[[]View]
	for _, p := range s.rt.Led() {
		promises = append(promises, coordinator.Do(s.rt, p,
			func(m *Machine, tx *coordinator.Tx, p *coordinator.Promise[[]View]) {
				coordinator.Answer(tx, p, m.Views())
			}))
	}
	var all []View
	for _, p := range promises {
		if rows, err := p.Wait(ctx); err == nil {
			all = append(all, rows...)
		}
	}
	return all
}
