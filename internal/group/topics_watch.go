package group

import (
	"maps"
	"slices"
	"sync"

	"chronik/internal/coordinator"
	"chronik/internal/metadata"
)

// changedTopics gathers what a batch of events means for consumer groups (KIP-848): topics that came, went, grew, or have
// replicas elsewhere. A broker may have come back in another rack, which concerns every topic.
type changedTopics struct {
	names   map[string]struct{}
	all     bool
	deleted []*metadata.Topic
}

// empty says that nothing happened that matters to groups.
func (c *changedTopics) empty() bool { return !c.all && len(c.names) == 0 }

// join takes in what happened later.
func (c *changedTopics) join(o *changedTopics) {
	if c.all = c.all || o.all; c.all {
		c.names = nil // nobody looks at them any more
	} else if c.names == nil {
		c.names = maps.Clone(o.names)
	} else {
		maps.Copy(c.names, o.names)
	}
	c.deleted = append(c.deleted, o.deleted...)
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
		c.deleted = append(c.deleted, e.Topic)
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

// unheard is what the machines of this node's partitions are still to be told of topics: one operation is on its way to each that has an entry,
// so that a shard whose log stands still costs no more than what has changed.
type unheard struct {
	sync.Mutex
	of map[int32]*changedTopics
}

// topicsChanged has the groups that this node coordinates look at the topics again, and forgets what was committed for those that are gone.
// A shard that is still to load does so anyway.
func (s *Service) topicsChanged(c *changedTopics) {
	if c.empty() {
		return
	}
	for _, p := range s.rt.Led() {
		s.unheard.Lock()
		news, onTheWay := s.unheard.of[p]
		if !onTheWay {
			news = &changedTopics{}
			s.unheard.of[p] = news
		}
		news.join(c)
		s.unheard.Unlock()
		if !onTheWay {
			s.rt.Tell(p, func(m *Machine, tx *coordinator.Tx) { m.hear(tx, s.takeUnheard(p)) }, func() { s.takeUnheard(p) })
		}
	}
}

func (s *Service) takeUnheard(partition int32) *changedTopics {
	s.unheard.Lock()
	defer s.unheard.Unlock()
	news := s.unheard.of[partition]
	delete(s.unheard.of, partition)
	return news
}

// hear takes in what became of topics.
func (m *Machine) hear(tx *coordinator.Tx, c *changedTopics) {
	if c == nil {
		return
	}
	for _, topic := range c.deleted {
		m.TopicDeleted(tx, topic.Name, topic.ID)
	}
	if c.all {
		m.TopicsChanged(nil)
	} else {
		m.TopicsChanged(slices.Sorted(maps.Keys(c.names)))
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
