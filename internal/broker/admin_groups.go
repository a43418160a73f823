package broker

import (
	"context"

	"chronik/internal/admin"
	"chronik/internal/group"
	"chronik/internal/kafka"
)

// adminGroups is what the HTTP API asks about groups.
type adminGroups struct{ b *Broker }

// asGroups is nil until the node serves. It may be called at any time.
func (b *Broker) asGroups() admin.Groups {
	if b.Ready() != nil {
		return nil
	}
	return adminGroups{b}
}

func (a adminGroups) Groups(ctx context.Context) []admin.GroupRow {
	var rows []admin.GroupRow
	for _, v := range a.b.groups.Views(ctx) {
		rows = append(rows, a.row(&v, a.offsets(&v)))
	}
	return rows
}

func (a adminGroups) Group(ctx context.Context, id string) (admin.GroupView, kafka.BrokerID, bool) {
	self := kafka.BrokerID(a.b.cfg.NodeID)
	if leader := a.b.groups.LeaderOf(id); leader != self {
		if a.b.controller.Image().Topic(kafka.OffsetsTopic) == nil {
			leader = self // nobody has ever used a group
		}
		return admin.GroupView{}, leader, false
	}
	v, ok, err := a.b.groups.View(ctx, id)
	switch {
	case err != nil:
		return admin.GroupView{}, kafka.NoLeader, false
	case !ok:
		return admin.GroupView{}, self, false
	}
	offsets := a.offsets(&v)
	g := admin.GroupView{
		Node: self, GroupRow: a.row(&v, offsets), Protocol: v.Protocol, WaitsFor: v.WaitsFor, Offsets: offsets,
		MemberRows: []admin.GroupMember{}, History: []admin.RebalanceView{},
	}
	if g.WaitsFor == nil {
		g.WaitsFor = []string{}
	}
	if !v.StateSince.IsZero() {
		g.StateSince = &v.StateSince
	}
	for _, m := range v.Members {
		g.MemberRows = append(g.MemberRows, admin.GroupMember{
			ID: m.ID, Instance: m.Instance, Client: m.Client, Host: m.Host, Epoch: m.Epoch, Assigned: m.Assigned, Waits: m.Waits,
		})
	}
	for _, r := range v.History {
		g.History = append(g.History, admin.RebalanceView{
			Time: r.Time, Epoch: r.Epoch, Cause: r.Cause, Member: r.Member, Client: r.Client, Reason: r.Reason, Took: r.Took.Seconds(),
		})
	}
	return g, self, true
}

func (a adminGroups) row(v *group.View, offsets []admin.GroupOffset) admin.GroupRow {
	r := admin.GroupRow{Group: v.Group, Type: v.Type, State: v.State, Epoch: v.Epoch, Members: len(v.Members)}
	for _, o := range offsets {
		r.Lag += max(o.Lag, 0)
	}
	return r
}

// offsets adds how far each partition goes, where the node has a replica of it.
func (a adminGroups) offsets(v *group.View) []admin.GroupOffset {
	rows := make([]admin.GroupOffset, 0, len(v.Offsets))
	img := a.b.controller.Image()
	for _, o := range v.Offsets {
		row := admin.GroupOffset{Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, Time: o.Committed, End: kafka.NoOffset, Lag: -1}
		if topic := img.Topic(o.Topic); topic != nil {
			if p, err := a.b.replicas.Partition(topic.TopicPartition(o.Partition)); err == nil {
				row.End = p.HighWatermark()
				row.Lag = max(int64(row.End-o.Offset), 0)
			}
		}
		rows = append(rows, row)
	}
	return rows
}
