package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	topicIndex  = index(topicKeys)
	brokerIndex = index(brokerKeys)
)

func index(keys []Key) map[string]*Key {
	m := make(map[string]*Key, len(keys))
	for i := range keys {
		m[keys[i].Name] = &keys[i]
	}
	return m
}

// TopicKeys is the table of topic keys, BrokerKeys that of a node's keys.
func TopicKeys() []Key { return topicKeys }

// BrokerKeys is the table of a node's keys.
func BrokerKeys() []Key { return brokerKeys }

// TopicKey is a row of the table, nil if there is no such key.
func TopicKey(name string) *Key { return topicIndex[name] }

// BrokerKey is a row of the table, nil if there is no such key.
func BrokerKey(name string) *Key { return brokerIndex[name] }

// forTopic is the broker key that gives a topic key its default; a value times unit is the topic key's value.
func forTopic(name, topicKey string, unit int64) Key {
	t := *index(topicKeys)[topicKey]
	k := Key{Name: name, Type: t.Type, Default: t.Default, Valid: t.Valid, Topic: topicKey, Own: t.Own,
		Doc: "The default of the topic key " + topicKey + "."}
	k.set = t.set
	if unit != 1 {
		k.Type, k.Valid = Int, "at least -1"
		if n, err := strconv.ParseInt(t.Default, 10, 64); err == nil {
			k.Default = strconv.FormatInt(n/unit, 10)
		}
		k.Doc += fmt.Sprintf(" In %s.", map[int64]string{hour: "hours", minute: "minutes"}[unit])
		k.set = func(c *Config, value string) error {
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return fmt.Errorf("%q is not a number of type int", value)
			}
			if n > 0 {
				n *= unit
			}
			return t.set(c, strconv.FormatInt(n, 10))
		}
	}
	return k
}

func (k Key) after(stronger ...string) Key { k.Before = stronger; return k }
func (k Key) unset() Key                   { k.Default = ""; return k }

// Default is the configuration of a node that was given nothing.
func Default() *Config {
	c := &Config{set: map[string]Setting{}}
	for i := range brokerKeys {
		if k := &brokerKeys[i]; k.HasDefault() {
			if err := k.set(c, k.Default); err != nil {
				panic(fmt.Sprintf("default of %s: %v", k.Name, err))
			}
		}
	}
	return c
}

// New is the configuration of a node that was given these settings, by key. The error names every wrong one with its
// place.
func New(settings map[string]Setting) (*Config, error) {
	c := Default()
	c.set = maps.Clone(settings)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if err := CheckBroker(name, settings[name].Value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", settings[name].Place, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i := range brokerKeys {
		if s, ok := settings[brokerKeys[i].Name]; ok {
			_ = brokerKeys[i].set(c, strings.TrimSpace(s.Value)) // checked above
		}
	}
	if c.HTTP == "none" {
		c.HTTP = ""
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// check is for what no key can tell by itself.
func (c *Config) check() error {
	switch {
	case c.WALMaxBytes < 2*c.WALFileBytes:
		return fmt.Errorf("wal.max.bytes=%d is less than two files of wal.file.bytes=%d", c.WALMaxBytes, c.WALFileBytes)
	case c.GroupMinSessionTimeout > c.GroupMaxSessionTimeout:
		return fmt.Errorf("group.min.session.timeout.ms=%d is more than group.max.session.timeout.ms=%d",
			c.GroupMinSessionTimeout.Milliseconds(), c.GroupMaxSessionTimeout.Milliseconds())
	case len(c.Advertise) > 1 && len(c.Advertise) != len(c.Kafka):
		return fmt.Errorf("advertise has %d addresses for %d listeners of kafka: give one, or one for each",
			len(c.Advertise), len(c.Kafka))
	case c.DefaultReplicationFactor == 0 || c.OffsetsTopicReplicationFactor == 0:
		return errors.New("a replication factor of 0 is not possible: give -1 for the default, or at least 1")
	case c.OffsetsTopicPartitions == 0:
		return errors.New("offsets.topic.num.partitions=0 is not possible: give -1 for a number that suits the cluster, or at least 1")
	}
	for _, l := range c.Kafka {
		if l.TLS && (c.TLSCert == "" || c.TLSKey == "") {
			return fmt.Errorf("the listener %s needs tls.cert and tls.key (--tls-cert, --tls-key)", l.Given)
		}
	}
	if err := c.ConsumerGroups.check("group.consumer.session.timeout.ms", "group.consumer.heartbeat.interval.ms"); err != nil {
		return err
	}
	return c.checkCluster()
}

// Given is what was set at start, by key.
func (c *Config) Given() map[string]Setting { return c.set }

// CheckBroker tells what is wrong with a broker key and a value for it: unknown, refused, or the value.
func CheckBroker(name, value string) error {
	k := brokerIndex[name]
	if k == nil {
		return unknown("key", name, brokerIndex, refusedBrokerKeys, topicIndex)
	}
	if err := k.Check(value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// WithDynamic is c, which holds what was given at start, under the values that clients have set for all brokers and for
// this one. A key that cannot change at run time is ignored; the error tells of values that do not hold.
func (c *Config) WithDynamic(allBrokers, thisBroker map[string]string) (*Config, error) {
	if len(allBrokers)+len(thisBroker) == 0 {
		return c, nil
	}
	now := *c
	now.Topic = c.Topic
	for i := range brokerKeys {
		k := &brokerKeys[i]
		value, ok := thisBroker[k.Name]
		if !ok {
			value, ok = allBrokers[k.Name]
		}
		if !ok || !k.Dynamic {
			continue
		}
		if err := k.set(&now, strings.TrimSpace(value)); err != nil {
			return nil, fmt.Errorf("%s: %w", k.Name, err)
		}
	}
	if err := now.check(); err != nil {
		return nil, err
	}
	return &now, nil
}

// ResolveTopic is the configuration of a topic with these overrides; c is the configuration in force. The overrides
// were checked when they were set, see CheckTopic.
func (c *Config) ResolveTopic(overrides map[string]string) (Topic, error) {
	if len(overrides) == 0 {
		return c.Topic, nil
	}
	scratch := Config{Topic: c.Topic}
	for name, value := range overrides {
		k := topicIndex[name]
		if k == nil {
			return Topic{}, CheckTopicKey(name)
		}
		if err := k.set(&scratch, strings.TrimSpace(value)); err != nil {
			return Topic{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return scratch.Topic, nil
}

// CheckTopicKey tells whether a topic has such a key.
func CheckTopicKey(name string) error {
	if topicIndex[name] == nil {
		return unknown("topic key", name, topicIndex, refusedTopicKeys, brokerIndex)
	}
	return nil
}

// CheckTopic tells what is wrong with a topic's overrides. internal is true for topics that brokers make for
// themselves.
func (c *Config) CheckTopic(overrides map[string]string, internal bool) error {
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		if err := CheckTopicKey(name); err != nil {
			return err
		}
		if err := topicIndex[name].Check(overrides[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	t, err := c.ResolveTopic(overrides)
	if err != nil {
		return err
	}
	if t.MinCompactionLagMillis > t.MaxCompactionLagMillis {
		return fmt.Errorf("min.compaction.lag.ms=%d is more than max.compaction.lag.ms=%d", t.MinCompactionLagMillis, t.MaxCompactionLagMillis)
	}
	if _, given := overrides["cleanup.policy"]; internal && given && !t.CleanupPolicy.Compact {
		return fmt.Errorf("cleanup.policy=%s: the broker's own topics need compact, or what they hold would be deleted with time", overrides["cleanup.policy"])
	}
	return nil
}

// Retention is a topic's retention.ms as a duration; ok is false for no limit.
func (t *Topic) Retention() (d time.Duration, ok bool) {
	if t.RetentionMillis < 0 || t.RetentionMillis > math.MaxInt64/int64(time.Millisecond) {
		return 0, false
	}
	return time.Duration(t.RetentionMillis) * time.Millisecond, true
}
