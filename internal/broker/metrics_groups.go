package broker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"chronik/internal/admin"
)

// lagSeriesMax bounds the time series of committed offsets that one scrape tells; more are counted, and left out.
const lagSeriesMax = 20_000

// scrapeGroupsMax bounds how long a scrape waits for the groups' coordinators.
const scrapeGroupsMax = 2 * time.Second

// groupSamples are the metrics of the groups that this node coordinates.
func (b *Broker) groupSamples(add func(admin.Sample)) {
	ctx, cancel := context.WithTimeout(b.ctx, scrapeGroupsMax)
	defer cancel()
	groups := adminGroups{b}
	views := b.groups.Views(ctx)
	type kind struct{ typ, state string }
	states := map[kind]int64{}
	members, omitted := int64(0), int64(0)
	series := 0
	for i := range views {
		v := &views[i]
		states[kind{v.Type, v.State}]++
		members += int64(len(v.Members))
		name := strings.ToValidUTF8(v.Group, "\uFFFD") // group IDs may be any bytes, labels may not
		if len(v.Members) > 0 {
			gauge(add, "chronik_group_members", "Members of a group, of groups that have any.", int64(len(v.Members)), "group", name, "type", v.Type)
		}
		if series+len(v.Offsets) > lagSeriesMax {
			omitted += int64(len(v.Offsets))
			continue
		}
		series += len(v.Offsets)
		for _, o := range groups.offsets(v) {
			labels := []string{"group", name, "topic", o.Topic, "partition", strconv.Itoa(int(o.Partition))}
			gauge(add, "chronik_group_committed_offset", "Committed offset of a group, by partition.", int64(o.Offset), labels...)
			if o.Lag >= 0 {
				gauge(add, "chronik_group_lag", "Records below the high watermark that a group has not committed yet, by partition; of partitions that have a replica on the node.", o.Lag, labels...)
			}
		}
	}
	for k, n := range states {
		gauge(add, "chronik_groups", "Groups coordinated here, by type and state.", n, "type", k.typ, "state", k.state)
	}
	gauge(add, "chronik_group_members_all", "Members of all groups coordinated here.", members)
	gauge(add, "chronik_group_lag_omitted", "Committed offsets left out of chronik_group_lag, since there are more than a scrape tells.", omitted)
	r := b.groups.Rebalances()
	counter(add, "chronik_group_rebalances_total", "Rebalances of groups that ended here since the start: a new generation or epoch that is stable.", r.Count)
	add(admin.Sample{Name: "chronik_group_rebalance_seconds", Help: "How long rebalances took, from their cause until the group was stable.", Kind: admin.Histogram,
		Bounds: r.Bounds, Buckets: r.Buckets, Sum: r.Seconds})
}
