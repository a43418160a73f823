package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGroupDefaultsAreKafkas(t *testing.T) {
	g := Default().ConsumerGroups
	if g.SessionTimeout != 45*time.Second || g.MinSessionTimeout != 45*time.Second || g.MaxSessionTimeout != time.Minute ||
		g.HeartbeatInterval != 5*time.Second || g.MinHeartbeatInterval != 5*time.Second || g.MaxHeartbeatInterval != 15*time.Second ||
		g.MaxSize != 1<<31-1 || strings.Join(g.Assignors, " ") != "uniform range" || g.MigrationPolicy != "bidirectional" {
		t.Errorf("%+v", g)
	}
	if p := Default().GroupProtocols; strings.Join(p, " ") != "classic consumer" {
		t.Errorf("protocols %v", p)
	}
}

func TestGroupKeys(t *testing.T) {
	for i := range groupKeys {
		k := &groupKeys[i]
		if err := k.Check(k.Default); err != nil || len(k.Doc) < 20 || !strings.HasSuffix(k.Doc, ".") || BrokerKey(k.Before[0]).Default != k.Default {
			t.Errorf("%s: %v, %q", k.Name, err, k.Doc)
		}
	}
	if !slices.IsSortedFunc(groupKeys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("group keys are not sorted")
	}
}

func TestCheckGroup(t *testing.T) {
	c, err := New(map[string]Setting{
		"group.consumer.min.session.timeout.ms":    {Value: "10000"},
		"group.consumer.min.heartbeat.interval.ms": {Value: "1000"},
		"group.consumer.max.heartbeat.interval.ms": {Value: "20000"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
	for _, tc := range []struct {
		values map[string]string
		err    string
	}{
		{nil, ""},
		{map[string]string{session: "10000", heartbeat: " 9999 "}, ""},
		{map[string]string{session: "9999"}, "consumer.session.timeout.ms=9999 is less than group.consumer.min.session.timeout.ms=10000"},
		{map[string]string{session: "60001"}, "is more than group.consumer.max.session.timeout.ms=60000"},
		{map[string]string{heartbeat: "999"}, "is less than group.consumer.min.heartbeat.interval.ms=1000"},
		{map[string]string{heartbeat: "20001"}, "is more than"},
		{map[string]string{session: "10000", heartbeat: "10000"}, "is not less than"},
		{map[string]string{session: "ten"}, "not a number"},
		{map[string]string{"share.session.timeout.ms": "10000"}, "no share groups yet"},
		{map[string]string{"consumer.sesion.timeout.ms": "10000"}, "did you mean consumer.session.timeout.ms"},
		{map[string]string{"num.partitions": "1"}, "it is a broker key"},
	} {
		err := c.CheckGroup(tc.values)
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%v: %v, want %q", tc.values, err, tc.err)
		}
	}
	g := c.ResolveGroup(map[string]string{session: "15000"})
	if g.SessionTimeout != 15*time.Second || g.HeartbeatInterval != 5*time.Second || c.ConsumerGroups.SessionTimeout != 45*time.Second {
		t.Errorf("resolved: %+v", g)
	}
	if g := Default().ResolveGroup(map[string]string{session: "15000"}); g.SessionTimeout != 45*time.Second {
		t.Errorf("a value below what the broker allows now: %v", g.SessionTimeout)
	}
}

func TestConsumerGroupValues(t *testing.T) {
	for _, tc := range []struct{ key, value, err string }{
		{"group.consumer.assignors", "range", ""},
		{"group.consumer.assignors", "org.apache.kafka.coordinator.group.assignor.RangeAssignor,uniform", ""},
		{"group.consumer.assignors", "sticky", "none of uniform, range"},
		{"group.consumer.assignors", "", "at least one"},
		{"group.consumer.assignors", "range,range", "twice"},
		{"group.consumer.migration.policy", "UPGRADE", ""},
		{"group.consumer.migration.policy", "sideways", "none of"},
		{"group.coordinator.rebalance.protocols", "classic", ""},
		{"group.coordinator.rebalance.protocols", "consumer", "classic is missing"},
		{"group.coordinator.rebalance.protocols", "classic,share", "none of"},
		{"group.consumer.session.timeout.ms", "44999", "less than group.consumer.min.session.timeout.ms"},
		{"group.consumer.heartbeat.interval.ms", "60000", "more than group.consumer.max.heartbeat.interval.ms"},
		{"group.consumer.regex.refresh.interval.ms", "60000", "follow the topics"},
	} {
		_, err := New(map[string]Setting{tc.key: {Value: tc.value}})
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s=%q: %v, want %q", tc.key, tc.value, err, tc.err)
		}
	}
}
