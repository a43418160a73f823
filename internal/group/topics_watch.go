package group

import (
	"maps"
	"slices"

	"chronik/internal/coordinator"
	"chronik/internal/metadata"
)

// changedTopics gathers what a batch of events means for consumer groups (KIP-848): topics that came, went, grew, or have
// replicas elsewhere. A broker may have come back in another rack, which concerns every topic.
type changedTopics struct {
	names map[string]struct{}
	all   bool
}

func (c *changedTopics) note(e metadata.Event) {
	switch e := e.(type) {
	case metadata.SnapshotInstalled:
		for one := range metadata.Difference(e.Old, e.New) {
			c.note(one)
		}
	case metadata.TopicCreated:
		c.add(e.Topic)
	case metadata.TopicDeleted:
		c.add(e.Topic)
	case metadata.PartitionAssigned:
		c.add(e.Topic)
	case metadata.BrokerRegistered:
		c.all = true
	}
}

func (c *changedTopics) add(topic *metadata.Topic) {
	if c.names == nil {
		c.names = make(map[string]struct{})
	}
	c.names[topic.Name] = struct{}{}
}

// topicsChanged has the groups that this node coordinates look at the topics again. A shard that is still to load does so anyway.
func (s *Service) topicsChanged(c *changedTopics) {
	if !c.all && len(c.names) == 0 {
		return
	}
	var names []string // nil for all
	if !c.all {
		names = slices.Sorted(maps.Keys(c.names))
	}
	for _, p := range s.rt.Led() {
		coordinator.Do(s.rt, p, func(m *Machine, _ *coordinator.Tx, _ *coordinator.Promise[struct{}]) { m.TopicsChanged(names) })
	}
}

// consumerLimits are what the configuration says about one consumer group now, its own included.
func (s *Service) consumerLimits(group string) ConsumerLimits {
	own := s.o.Store.Image().Config(metadata.Resource{Type: metadata.GroupResource, Name: group})
	c := s.o.Config.Load().ResolveGroup(own)
	return ConsumerLimits{
		SessionTimeout: c.SessionTimeout, HeartbeatInterval: c.HeartbeatInterval,
		MaxSize: c.MaxSize, Assignors: c.Assignors, MigrationPolicy: c.MigrationPolicy,
	}
}
