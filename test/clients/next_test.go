package clients

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/node"
)

// nextSettings make heartbeats quick; a session is long enough for a JVM to start again on a busy machine.
var nextSettings = []string{
	"group.consumer.min.session.timeout.ms=3000", "group.consumer.session.timeout.ms=30000",
	"group.consumer.min.heartbeat.interval.ms=200", "group.consumer.heartbeat.interval.ms=300",
}

func newNextGroup(t *testing.T, name string) *nextGroup {
	t.Helper()
	var args []string
	for _, s := range nextSettings {
		args = append(args, "--set", s)
	}
	n := node.New(t, t.TempDir(), args...)
	n.Start()
	return &nextGroup{t: t, addr: n.Kafka, prefix: prefix(t, name), ends: map[string]int64{}}
}

func (g *nextGroup) create(ctx context.Context, topic string, partitions int32) {
	g.t.Helper()
	admin := kadm.NewClient(client(g.t, g.addr))
	if _, err := admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		g.t.Fatal(err)
	}
	g.feed(topic, partitions)
}

func (g *nextGroup) grow(ctx context.Context, topic string, partitions int) {
	g.t.Helper()
	if _, err := kadm.NewClient(client(g.t, g.addr)).UpdatePartitions(ctx, partitions, topic); err != nil {
		g.t.Fatal(err)
	}
}

// describe is what the coordinator says of the group once it is stable.
func (g *nextGroup) describe(ctx context.Context, group string) kmsg.ConsumerGroupDescribeResponseGroup {
	g.t.Helper()
	var row kmsg.ConsumerGroupDescribeResponseGroup
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = []string{group}
		resp, err := req.RequestWith(ctx, client(g.t, g.addr))
		if err != nil {
			g.t.Fatal(err)
		}
		if row = resp.Groups[0]; row.State == "Stable" || row.ErrorCode != 0 {
			return row
		}
	}
	g.t.Errorf("%s is not stable: %+v", group, row)
	return row
}

// groupType is what ListGroups says: classic or consumer.
func (g *nextGroup) groupType(ctx context.Context, group string) string {
	g.t.Helper()
	resp, err := kmsg.NewPtrListGroupsRequest().RequestWith(ctx, client(g.t, g.addr))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, row := range resp.Groups {
		if row.Group == group {
			return row.GroupType
		}
	}
	return ""
}

// calm demands that what is done takes no partition away from these members.
func calm(t *testing.T, what string, do func(), members ...*nextMember) {
	t.Helper()
	before := map[*nextMember]int{}
	for _, m := range members {
		_, before[m] = m.owns()
	}
	do()
	for _, m := range members {
		if _, now := m.owns(); now != before[m] {
			t.Errorf("%s: %s had to give up %d partitions", what, m.name, now-before[m])
		}
	}
}

// Java, librdkafka and franz-go in one group of the new protocol (KIP-848), subscribed by a regular expression: they join, topics
// come and grow, a member leaves, a static one returns. Records come all the time, and each is consumed.
func TestConsumerProtocol(t *testing.T) {
	t.Parallel()
	g := newNextGroup(t, "next")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	group, pattern := g.prefix+"-group", "^"+g.prefix+"-orders-.*"
	g.create(ctx, g.prefix+"-orders-1", 6)

	java := g.join("java", group, "static", "consumer", pattern)
	g.await("one has joined", map[*nextMember]int{java: 6})
	franz := g.join("franz-go", group, "-", "consumer", pattern)
	g.await("two have joined", map[*nextMember]int{java: 3, franz: 3})
	confluent := g.join("confluent", group, "-", "consumer", pattern)
	g.await("three have joined", map[*nextMember]int{java: 2, franz: 2, confluent: 2})
	if d := g.describe(ctx, group); d.State != "Stable" || len(d.Members) != 3 || d.AssignorName != "uniform" {
		t.Errorf("described as %+v", d)
	}
	g.consumed()

	calm(t, "a topic comes", func() {
		g.create(ctx, g.prefix+"-orders-2", 3)
		g.await("a topic has come", map[*nextMember]int{java: 3, franz: 3, confluent: 3})
	}, java, franz, confluent)
	calm(t, "a topic grows", func() {
		g.grow(ctx, g.prefix+"-orders-1", 9)
		g.await("a topic has grown", map[*nextMember]int{java: 4, franz: 4, confluent: 4})
	}, java, franz, confluent)
	g.consumed()

	had, _ := java.owns()
	calm(t, "a static member returns", func() { // franz-go 1.22 cannot leave so: it does not send its instance ID then
		java.leave()
		java = g.join("java", group, "static", "consumer", pattern)
		g.await("a static member has returned", map[*nextMember]int{java: 4, franz: 4, confluent: 4})
	}, franz, confluent)
	if has, _ := java.owns(); !slices.Equal(has, had) {
		t.Errorf("the static member had %v, and got %v when it returned", had, has)
	}
	calm(t, "a member leaves", func() {
		confluent.leave()
		g.await("a member has left", map[*nextMember]int{java: 6, franz: 6})
	}, java, franz)
	g.consumed()
	franz.leave()
	g.await("another has left", map[*nextMember]int{java: 12})
	g.consumed()
}

// A group with members goes from the classic protocol to the new one and back, while it works.
func TestConsumerProtocolMigration(t *testing.T) {
	t.Parallel()
	g := newNextGroup(t, "migration")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	group, topic := g.prefix+"-group", g.prefix+"-orders"
	g.create(ctx, topic, 6)

	type share = map[*nextMember]int
	step := func(what, want string, shares share) {
		t.Helper()
		g.await(what, shares)
		if got := g.groupType(ctx, group); got != want {
			t.Errorf("%s: the group is %s", what, got)
		}
		g.consumed()
	}
	java := g.join("java", group, "-", "classic", topic)
	step("a classic member", "classic", share{java: 6})
	franz := g.join("franz-go", group, "-", "classic", topic)
	step("two classic members", "classic", share{java: 3, franz: 3})
	next := g.join("java", group, "-", "consumer", topic)
	step("one of the new protocol", "consumer", share{java: 2, franz: 2, next: 2})
	if d := g.describe(ctx, group); memberTypes(&d) != [2]int{2, 1} {
		t.Errorf("described as %+v", d)
	}
	java.leave()
	step("a classic one has left", "consumer", share{franz: 3, next: 3})
	other := g.join("confluent", group, "-", "consumer", topic)
	step("another of the new protocol", "consumer", share{franz: 2, next: 2, other: 2})
	franz.leave()
	step("no classic one is left", "consumer", share{next: 3, other: 3})

	back := g.join("franz-go", group, "-", "classic", topic)
	step("a classic one comes back", "consumer", share{next: 2, other: 2, back: 2})
	next.leave()
	step("the first of the new protocol has left", "consumer", share{other: 3, back: 3})
	other.leave()
	step("the last of the new protocol has left", "classic", share{back: 6})
}

// memberTypes counts the classic members and those of the new protocol.
func memberTypes(d *kmsg.ConsumerGroupDescribeResponseGroup) (n [2]int) {
	for _, m := range d.Members {
		if m.MemberType >= 0 && m.MemberType <= 1 {
			n[m.MemberType]++
		}
	}
	return n
}

// Kafka's own tools on a group of the new protocol.
func TestKafkaToolsOnConsumerProtocol(t *testing.T) {
	t.Parallel()
	installed(t, "java")
	g := newNextGroup(t, "nexttools")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	group, topic := g.prefix+"-group", g.prefix+"-topic"
	at := []string{"--bootstrap-server", g.addr}
	g.create(ctx, topic, 2)
	entity := append(slices.Clone(at), "--entity-type", "groups", "--entity-name", group)
	mustTool(t, "", configCommand, append(slices.Clone(entity), "--alter", "--add-config", "consumer.session.timeout.ms=4000,consumer.heartbeat.interval.ms=250")...)
	contains(t, mustTool(t, "", configCommand, append(slices.Clone(entity), "--describe")...), "consumer.session.timeout.ms=4000", "DYNAMIC_GROUP_CONFIG")
	contains(t, mustTool(t, "", configCommand, append(slices.Clone(at), "--entity-type", "groups", "--describe")...), group)
	if out, err := tool(t, "", configCommand, append(slices.Clone(entity), "--alter", "--add-config", "consumer.session.timeout.ms=2999")...); err == nil {
		t.Errorf("a value below the broker's bound was accepted: %s", out)
	}

	m := g.join("franz-go", group, "-", "consumer", topic)
	g.await("joined", map[*nextMember]int{m: 2})
	g.consumed()
	d := g.describe(ctx, group)
	contains(t, mustTool(t, "", groupCommand, append(slices.Clone(at), "--describe", "--group", group, "--members", "--verbose")...), d.Members[0].MemberID, topic)
	contains(t, mustTool(t, "", groupCommand, append(slices.Clone(at), "--describe", "--group", group, "--state")...), "Stable", "uniform")
	contains(t, mustTool(t, "", groupCommand, append(slices.Clone(at), "--describe", "--group", group, "--offsets")...), "CURRENT-OFFSET", topic)
	contains(t, mustTool(t, "", groupCommand, append(slices.Clone(at), "--list", "--type", "consumer", "--state")...), group, "Stable")
	if out := mustTool(t, "", groupCommand, append(slices.Clone(at), "--list", "--type", "classic")...); strings.Contains(out, group) {
		t.Errorf("listed as classic: %s", out)
	}
	m.leave()
	mustTool(t, "", groupCommand, append(slices.Clone(at), "--delete", "--group", group)...)
}
