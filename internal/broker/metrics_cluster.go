package broker

import (
	"maps"
	"slices"
	"strconv"
	"sync/atomic"

	"chronik/internal/admin"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// eventCounts counts what the metadata's events tell, since the start.
type eventCounts struct {
	shrinks, expands, leaders, fences, snapshots atomic.Int64
}

// countEvents follows the bus until the node closes.
func (b *Broker) countEvents() {
	cursor := b.controller.Subscribe("metrics", b.controller.Image().Offset())
	b.done.Go(func() {
		defer cursor.Close()
		for {
			batch, err := cursor.Next(b.ctx)
			if err != nil {
				return
			}
			for _, event := range batch.Events {
				b.events.count(event)
			}
		}
	})
}

func (c *eventCounts) count(event metadata.Event) {
	switch e := event.(type) {
	case metadata.ISRUpdated:
		// The history's last entry is this change; what it was before stands in front of it.
		h := e.Partition.History
		if len(h) < 2 {
			return
		}
		switch before, after := h[len(h)-2].ISR, h[len(h)-1].ISR; {
		case len(after) < len(before):
			c.shrinks.Add(1)
		case len(after) > len(before):
			c.expands.Add(1)
		}
	case metadata.PartitionLeaderChanged:
		c.leaders.Add(1)
	case metadata.BrokerFenced:
		c.fences.Add(1)
	case metadata.SnapshotInstalled:
		c.snapshots.Add(1)
	}
}

// clusterSamples are the metrics of the cluster as this node sees it.
func (b *Broker) clusterSamples(add func(admin.Sample)) {
	img, status := b.controller.Image(), b.controller.Status()
	gauge(add, "chronik_metadata_offset", "The offset of the last metadata record applied.", int64(img.Offset()))
	gauge(add, "chronik_topics", "Topics of the cluster.", int64(img.TopicCount()))
	gauge(add, "chronik_partitions", "Partitions of the cluster.", int64(img.PartitionCount()))
	health := admin.HealthOf(img)
	gauge(add, "chronik_partitions_offline", "Partitions of the cluster without a leader.", int64(health.Offline))
	gauge(add, "chronik_partitions_under_replicated", "Partitions of the cluster with replicas that are not in sync.", int64(health.UnderReplicated))
	gauge(add, "chronik_partitions_under_min_insync", "Partitions of the cluster that take no acks=all, for lack of in-sync replicas.", int64(health.UnderMinISR))
	fenced := int64(0)
	for broker := range img.Brokers() {
		if broker.Fenced {
			fenced++
		}
	}
	gauge(add, "chronik_brokers", "Registered brokers.", int64(img.BrokerCount()))
	gauge(add, "chronik_brokers_fenced", "Registered brokers that are fenced: down, cut off, or not ready yet.", fenced)
	gauge(add, "chronik_controller_is_self", "1 on the node that is the controller.", truth(status.Leader == kafka.BrokerID(b.cfg.NodeID)))
	gauge(add, "chronik_controller_known", "1 while this node knows a controller.", truth(status.Leader != kafka.NoLeader))
	counter(add, "chronik_controller_elections_total", "Terms in which a controller became known here since the start.", status.Elections)
	gauge(add, "chronik_lease_held", "1 while this node may answer as a leader: the controller has answered it lately.", truth(b.leaseHeld()))
	counter(add, "chronik_isr_shrinks_total", "Changes that made an in-sync set of the cluster smaller, seen here since the start.", b.events.shrinks.Load())
	counter(add, "chronik_isr_expands_total", "Changes that made an in-sync set of the cluster larger, seen here since the start.", b.events.expands.Load())
	counter(add, "chronik_leader_changes_total", "Changes of a partition's leader or its epoch in the cluster, seen here since the start.", b.events.leaders.Load())
	counter(add, "chronik_broker_fencings_total", "Fencings of brokers in the cluster, seen here since the start.", b.events.fences.Load())
	b.followerSamples(add)
}

func truth(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// followerLag is of one follower, over the partitions led here.
type followerLag struct {
	most, sum int64
	absent    int64
}

func (b *Broker) followerSamples(add func(admin.Sample)) {
	lags := map[kafka.BrokerID]*followerLag{}
	for _, p := range b.replicas.Partitions() {
		v := p.Status()
		for _, f := range v.Followers {
			lag := lags[f.Broker]
			if lag == nil {
				lag = &followerLag{}
				lags[f.Broker] = lag
			}
			if !f.Connected {
				lag.absent++
			}
			if f.Durable >= 0 {
				behind := max(0, int64(v.LogEnd-f.Durable))
				lag.most, lag.sum = max(lag.most, behind), lag.sum+behind
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(lags)) {
		labels := []string{"follower", strconv.Itoa(int(id))}
		gauge(add, "chronik_follower_lag_records", "Records of all partitions led here that the follower has not acknowledged as durable.", lags[id].sum, labels...)
		gauge(add, "chronik_follower_lag_records_max", "The same of the partition where it is most behind.", lags[id].most, labels...)
		gauge(add, "chronik_follower_partitions_absent", "Partitions led here that the follower has a replica of and does not follow.", lags[id].absent, labels...)
	}
}
