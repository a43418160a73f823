package config

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// ConsumerGroups is what consumer groups of the protocol of KIP-848 get.
type ConsumerGroups struct {
	SessionTimeout       time.Duration
	MinSessionTimeout    time.Duration
	MaxSessionTimeout    time.Duration
	HeartbeatInterval    time.Duration
	MinHeartbeatInterval time.Duration
	MaxHeartbeatInterval time.Duration
	MaxSize              int      // members of one group
	Assignors            []string // the first is for members that name none
	MigrationPolicy      string   // bidirectional, upgrade, downgrade or disabled
}

// consumerGroupKeys are of consumer groups of the new protocol, with Kafka's names and defaults.
var consumerGroupKeys = []Key{
	protocols("group.coordinator.rebalance.protocols",
		"The protocols that groups may use: classic, and consumer for that of KIP-848."),
	duration("group.consumer.session.timeout.ms", Int, 45_000, 1, func(c *Config) *time.Duration { return &c.ConsumerGroups.SessionTimeout },
		"How long a member of a consumer group (KIP-848) may be silent before it is taken out of it, in milliseconds. A group's own consumer.session.timeout.ms wins."),
	duration("group.consumer.min.session.timeout.ms", Int, 45_000, 1, func(c *Config) *time.Duration { return &c.ConsumerGroups.MinSessionTimeout },
		"The shortest session timeout that a group may be given, in milliseconds."),
	duration("group.consumer.max.session.timeout.ms", Int, 60_000, 1, func(c *Config) *time.Duration { return &c.ConsumerGroups.MaxSessionTimeout },
		"The longest session timeout that a group may be given, in milliseconds."),
	duration("group.consumer.heartbeat.interval.ms", Int, 5_000, 1, func(c *Config) *time.Duration { return &c.ConsumerGroups.HeartbeatInterval },
		"How often members of a consumer group (KIP-848) are told to send heartbeats, in milliseconds. A group's own consumer.heartbeat.interval.ms wins."),
	duration("group.consumer.min.heartbeat.interval.ms", Int, 5_000, 1, func(c *Config) *time.Duration { return &c.ConsumerGroups.MinHeartbeatInterval },
		"The shortest heartbeat interval that a group may be given, in milliseconds."),
	duration("group.consumer.max.heartbeat.interval.ms", Int, 15_000, 1, func(c *Config) *time.Duration { return &c.ConsumerGroups.MaxHeartbeatInterval },
		"The longest heartbeat interval that a group may be given, in milliseconds."),
	number("group.consumer.max.size", Int, math.MaxInt32, 1, math.MaxInt32, func(c *Config) *int { return &c.ConsumerGroups.MaxSize },
		"The number of members of a consumer group (KIP-848)."),
	assignors("group.consumer.assignors",
		"The assignors that members of a consumer group (KIP-848) may ask for; the first is for those who name none. Kafka's class names of the two are taken too."),
	migration("group.consumer.migration.policy",
		"Whether a group with members may change its protocol: from classic to consumer (upgrade), back with its last member of the new protocol (downgrade), both or neither."),
}

// The protocols of groups.
const (
	ClassicProtocol  = "classic"
	ConsumerProtocol = "consumer"
)

func protocols(name, doc string) Key {
	return Key{Name: name, Type: List, Default: "classic,consumer", Valid: "classic, consumer; classic is a must", Doc: doc,
		set: func(c *Config, value string) error {
			list := SplitList(value)
			for _, e := range list {
				if e != ClassicProtocol && e != ConsumerProtocol {
					return fmt.Errorf("%q is none of %s, %s", e, ClassicProtocol, ConsumerProtocol)
				}
			}
			if !slices.Contains(list, ClassicProtocol) {
				return fmt.Errorf("%s is missing: it cannot be switched off", ClassicProtocol)
			}
			c.GroupProtocols = list
			return nil
		}}
}

// assignorNames are the assignors that there are, by Kafka's class names.
var assignorNames = map[string]string{
	"org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
	"org.apache.kafka.coordinator.group.assignor.RangeAssignor":   "range",
}

func assignors(name, doc string) Key {
	return Key{Name: name, Type: List, Default: "uniform,range", Valid: "uniform, range", Doc: doc,
		set: func(c *Config, value string) error {
			var list []string
			for _, e := range SplitList(value) {
				if short, ok := assignorNames[e]; ok {
					e = short
				}
				switch {
				case e != "uniform" && e != "range":
					return fmt.Errorf("%q is none of uniform, range", e)
				case slices.Contains(list, e):
					return fmt.Errorf("%s is there twice", e)
				}
				list = append(list, e)
			}
			if len(list) == 0 {
				return fmt.Errorf("at least one assignor is needed")
			}
			c.ConsumerGroups.Assignors = list
			return nil
		}}
}

func migration(name, doc string) Key {
	names := []string{"bidirectional", "upgrade", "downgrade", "disabled"}
	k := words(name, names, func(c *Config) *string { return &c.ConsumerGroups.MigrationPolicy }, doc)
	exact := k.set
	k.set = func(c *Config, value string) error { return exact(c, strings.ToLower(value)) } // as Kafka, in any case
	return k
}

// groupKeys is every key of one group.
var groupKeys = []Key{
	forGroup("consumer.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"),
	forGroup("consumer.session.timeout.ms", "group.consumer.session.timeout.ms"),
}

var groupIndex = index(groupKeys)

// forGroup is the key of a group whose default is a broker key.
func forGroup(name, brokerKey string) Key {
	k := *index(consumerGroupKeys)[brokerKey]
	doc, _, _ := strings.Cut(k.Doc, " A group's own ")
	return Key{Name: name, Type: k.Type, Default: k.Default, Valid: k.Valid, Doc: doc, Dynamic: true, Before: []string{brokerKey}, set: k.set}
}

// GroupKeys is the table of a group's keys. Before names the broker key that is the default.
func GroupKeys() []Key { return groupKeys }

// GroupKey is a row of the table, nil if there is no such key.
func GroupKey(name string) *Key { return groupIndex[name] }

// refusedGroupKeys are Kafka's keys of groups that chronik does not act on, with what to know instead.
var refusedGroupKeys = map[string]string{
	"share.":   "there are no share groups yet",
	"streams.": "there are no streams groups yet",
}

// CheckGroup tells what is wrong with a group's configuration: keys, values, or values out of the broker's bounds.
func (c *Config) CheckGroup(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		k := groupIndex[name]
		if k == nil {
			return unknown("group key", name, groupIndex, refusedGroupKeys, brokerIndex)
		}
		if err := k.Check(values[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	g := c.resolveGroup(values)
	return g.check("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms")
}

// ResolveGroup is what a consumer group with these values of its own gets. Values that the broker's bounds do not allow, because
// these were other ones when the values were set, count as the bound.
func (c *Config) ResolveGroup(values map[string]string) ConsumerGroups {
	if len(values) == 0 {
		return c.ConsumerGroups
	}
	g := c.resolveGroup(values)
	g.SessionTimeout = min(max(g.SessionTimeout, g.MinSessionTimeout), g.MaxSessionTimeout)
	g.HeartbeatInterval = min(max(g.HeartbeatInterval, g.MinHeartbeatInterval), g.MaxHeartbeatInterval)
	return g
}

func (c *Config) resolveGroup(values map[string]string) ConsumerGroups {
	scratch := Config{ConsumerGroups: c.ConsumerGroups}
	for name, value := range values { // they set different fields
		if k := groupIndex[name]; k != nil {
			_ = k.set(&scratch, strings.TrimSpace(value)) // a value that does not hold is as none
		}
	}
	return scratch.ConsumerGroups
}

// check is for what no key can tell by itself; the names are those of the keys that were set.
func (g *ConsumerGroups) check(session, heartbeat string) error {
	for _, b := range []struct {
		name, minimum, maximum string
		value, least, most     time.Duration
	}{
		{session, "group.consumer.min.session.timeout.ms", "group.consumer.max.session.timeout.ms",
			g.SessionTimeout, g.MinSessionTimeout, g.MaxSessionTimeout},
		{heartbeat, "group.consumer.min.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms",
			g.HeartbeatInterval, g.MinHeartbeatInterval, g.MaxHeartbeatInterval},
	} {
		switch {
		case b.least > b.most:
			return fmt.Errorf("%s=%d is more than %s=%d", b.minimum, b.least.Milliseconds(), b.maximum, b.most.Milliseconds())
		case b.value < b.least:
			return fmt.Errorf("%s=%d is less than %s=%d", b.name, b.value.Milliseconds(), b.minimum, b.least.Milliseconds())
		case b.value > b.most:
			return fmt.Errorf("%s=%d is more than %s=%d", b.name, b.value.Milliseconds(), b.maximum, b.most.Milliseconds())
		}
	}
	if g.HeartbeatInterval >= g.SessionTimeout {
		return fmt.Errorf("%s=%d is not less than %s=%d", heartbeat, g.HeartbeatInterval.Milliseconds(), session, g.SessionTimeout.Milliseconds())
	}
	return nil
}
