package cluster

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/sim/grouplog"
)

var rounds = flag.Int("rounds", 1, "how often members and coordinators of the groups of real clients are killed and stopped, in turn")

// lifetime bounds how long a group's clients live.
func lifetime() time.Duration { return time.Duration(5+5**rounds) * time.Minute }

// Clients of four libraries are one classic group, with the assignor that all have. They join, are killed, are stopped for longer
// than their session and go on, and lose their coordinator: nothing is lost, nobody skips a record, the coordinator's log has
// one owner for each partition in a generation, and only owners' commits.
func TestGroupOfAllClients(t *testing.T) {
	c := started(t, "group.min.session.timeout.ms=1000")
	g := newClientGroup(t, c, "all-clients", "classic")
	g.live("kafka-python", "java", "confluent", "franz-go")
	g.refuseStale()
	g.end()
}

// Java and franz-go are one group under KIP-848, through the same. And one member's coming and going costs the others nothing
// but what the newcomer gets: what they keep they keep without an interruption.
func TestConsumerGroupOfClients(t *testing.T) {
	c := started(t, "group.consumer.min.session.timeout.ms=1000", "group.consumer.session.timeout.ms=4000",
		"group.consumer.min.heartbeat.interval.ms=100", "group.consumer.heartbeat.interval.ms=500")
	g := newClientGroup(t, c, "new-protocol", "consumer")
	g.live("java", "franz-go", "java")
	g.refuseStale()
	g.comeAndGo("franz-go")
	g.comeAndGo("java")
	g.end()
}

// comeAndGo has one more member join and leave, and looks at the others.
func (g *clientGroup) comeAndGo(kind string) {
	g.t.Helper()
	g.progress("what was before")
	others := g.alive()
	before := make([]map[int32]*spell, len(others))
	for i, m := range others {
		before[i] = m.begin()
	}
	kept := func(what string, all bool) {
		g.t.Helper()
		var longest time.Duration
		for i, m := range others {
			m.mu.Lock()
			for p, s := range before[i] {
				switch {
				case m.owned[p] == s:
					longest = max(longest, s.pause)
				case m.owned[p] != nil:
					g.t.Errorf("%s: partition %d was taken from %s and given back", what, p, m.name)
				case all:
					g.t.Errorf("%s: partition %d was taken from %s", what, p, m.name)
				}
			}
			m.mu.Unlock()
			before[i] = m.begin()
		}
		g.t.Logf("%s: the longest pause between two records of a partition that a member kept: %v", what, longest.Round(time.Millisecond))
	}
	m := g.join(kind)
	if m == nil { // not installed, as join says
		return
	}
	g.progress(m.name + " came")
	kept(m.name+" came", false)
	m.stop(g.t)
	g.progress(m.name + " went")
	kept(m.name+" went", true)
}

// live puts the members through what befalls members and coordinators.
func (g *clientGroup) live(kinds ...string) {
	g.t.Helper()
	for _, kind := range kinds {
		g.join(kind)
	}
	g.progress("all have joined")
	g.join("franz-go")
	g.progress("one more has joined")
	for round := range *rounds * 2 {
		living := g.alive()
		g.t.Logf("kill %s", living[round%len(living)].name)
		dead := living[round%len(living)]
		dead.kill()
		g.progress("a member was killed")
		g.join(dead.kind)
		g.progress("another has taken its place")

		living = g.alive()
		stopped := living[(round+1)%len(living)]
		id := int(coordinator(g.t, g.cluster, g.name))
		g.t.Logf("stop %s, and kill the coordinator, node %d: %v", stopped.name, id, round%2 == 1)
		stopped.freeze(g.t, true)
		if round%2 == 1 {
			g.cluster.Member(id).Kill()
		}
		g.progress("a member was stopped")
		stopped.freeze(g.t, false)
		if round%2 == 1 {
			g.cluster.Member(id).Start()
		}
		g.progress("it goes on")

		id = int(coordinator(g.t, g.cluster, g.name))
		g.t.Logf("kill the coordinator, node %d", id)
		g.cluster.Member(id).Kill()
		g.progress("the coordinator was killed")
		g.cluster.Member(id).Start()
		g.progress("it is back")
	}
}

// progress waits until the group has got all that was acknowledged until now, and a second's worth on top.
func (g *clientGroup) progress(after string) {
	g.t.Helper()
	began := time.Now()
	target := g.work.ends()
	for p := range target {
		target[p] += 50
	}
	g.cluster.Eventually("the group goes on after "+after, func(context.Context) error {
		at := make([]int64, groupPartitions)
		for _, m := range g.members {
			m.mu.Lock()
			for _, s := range m.spells {
				at[s.partition] = max(at[s.partition], s.next)
			}
			m.mu.Unlock()
		}
		for p := range at {
			if at[p] < target[p] {
				return fmt.Errorf("partition %d was consumed up to offset %d of %d; %s", p, at[p], target[p], g.owners())
			}
		}
		if why := g.unassigned(); why != "" {
			return fmt.Errorf("%s; %s", why, g.owners())
		}
		return g.work.failed()
	})
	g.check()
	g.t.Logf("%s: all went on within %v; %s", after, time.Since(began).Round(100*time.Millisecond), g.owners())
}

// check demands that no member saw anything wrong.
func (g *clientGroup) check() {
	g.t.Helper()
	for _, m := range g.members {
		m.mu.Lock()
		if len(m.broken) > 0 {
			g.t.Errorf("%s: %d violations, the first: %s", m.name, len(m.broken), m.broken[0])
		}
		if !m.killed {
			m.check(g.t)
		}
		m.mu.Unlock()
	}
	if g.t.Failed() {
		g.t.FailNow()
	}
}

// unassigned tells which partition has no owner or several, or which member owns nothing.
func (g *clientGroup) unassigned() string {
	owners := map[int32]string{}
	for _, m := range g.alive() {
		has := m.has()
		if len(has) == 0 {
			return m.name + " owns nothing"
		}
		for _, p := range has {
			if owners[p] != "" {
				return fmt.Sprintf("partition %d has the owners %s and %s", p, owners[p], m.name)
			}
			owners[p] = m.name
		}
	}
	if len(owners) < groupPartitions {
		return fmt.Sprintf("%d of %d partitions have an owner", len(owners), groupPartitions)
	}
	return ""
}

func (g *clientGroup) owners() string {
	var all []string
	for _, m := range g.alive() {
		all = append(all, fmt.Sprintf("%s has %v", m.name, m.has()))
	}
	return strings.Join(all, ", ")
}

// refuseStale sends commits of members of an earlier generation or epoch, and of those that are none any more.
func (g *clientGroup) refuseStale() {
	g.t.Helper()
	state := g.readLog().Groups[g.name]
	admin := client(g.t, g.cluster.Bootstrap())
	gone, stale := 0, 0
	try := func(member string, epoch, partition int32, want *kerr.Error) {
		g.t.Helper()
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.MemberID, req.Generation = g.name, member, epoch
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic, topic.TopicID = g.topic, g.work.topicID(g.t)
		row := kmsg.NewOffsetCommitRequestTopicPartition() // back to offset 0
		row.Partition = partition
		topic.Partitions = append(topic.Partitions, row)
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(within(g.t, time.Minute), admin)
		if err != nil {
			g.t.Fatal(err)
		}
		if code := resp.Topics[0].Partitions[0].ErrorCode; code != want.Code {
			g.t.Errorf("a commit of member %s in generation %d is answered with %v, not %v; %s", member, epoch, kerr.ErrorForCode(code), want, describe(state))
		}
		if want == kerr.UnknownMemberID {
			gone++
		} else {
			stale++
		}
	}
	for generation, members := range state.Given {
		for id := range members {
			if _, ok := state.Members[id]; !ok {
				try(id, generation, 0, kerr.UnknownMemberID)
			} else if generation < state.Generation {
				try(id, generation, 0, kerr.IllegalGeneration)
			}
		}
	}
	for id := range state.Clients { // KIP-848
		a := state.Owned[id]
		if a == nil {
			try(id, 1, 0, kerr.UnknownMemberID)
			continue
		}
		for p := range int32(groupPartitions) {
			if !slices.Contains(a.Partitions, p) {
				try(id, a.Epoch-1, p, kerr.StaleMemberEpoch)
			}
		}
	}
	if gone == 0 || stale == 0 {
		g.t.Errorf("there were %d members that are gone, and %d stale ones", gone, stale)
	}
	g.t.Logf("%d classic generations; %d commits of earlier generations and epochs were refused, and %d of members that are gone", len(state.Given), stale, gone)
}

// end stops the work, waits until the group has all of it, ends the members and judges the coordinator's log.
func (g *clientGroup) end() {
	g.t.Helper()
	ends := g.work.stop(g.t)
	g.cluster.Eventually("the group has got every record and committed that", func(context.Context) error {
		seen := make([][]bool, groupPartitions)
		for p := range seen {
			seen[p] = make([]bool, ends[p])
		}
		for _, m := range g.members {
			m.mu.Lock()
			for _, s := range m.spells {
				for at := max(s.first, 0); at < s.next && at < ends[s.partition]; at++ {
					seen[s.partition][at] = true
				}
			}
			m.mu.Unlock()
		}
		for p := range seen {
			if at := slices.Index(seen[p], false); at >= 0 {
				return fmt.Errorf("offset %d of partition %d was given to nobody; %s", at, p, g.owners())
			}
		}
		return nil
	})
	g.check()
	for _, m := range g.alive() {
		m.stop(g.t)
	}
	log := g.readLog()
	for p, end := range ends {
		if at := log.Groups[g.name].Offsets[int32(p)]; at != end {
			g.t.Errorf("offset %d of partition %d is committed in the end, which is %d", at, p, end)
		}
	}
	again := int64(0)
	for _, m := range g.members {
		for _, s := range m.spells {
			again += s.next - s.first
		}
		g.t.Logf("%s: %d spells, %d commits, %d refused", m.name, len(m.spells), m.said("committed"), m.said("refused"))
	}
	for _, end := range ends {
		again -= end
	}
	g.t.Logf("%d records, %d of them given again", sum(ends), again)
}

func sum(of []int64) (n int64) {
	for _, v := range of {
		n += v
	}
	return n
}

// readLog reads the coordinator's log of the group, which no compaction has touched, and judges it: one owner for each partition,
// commits of owners alone, which never go back, and members that begin where the group was (invariants 15 to 17).
func (g *clientGroup) readLog() *grouplog.Log {
	g.t.Helper()
	const offsets = "__consumer_offsets"
	log := grouplog.New(func(group string) bool { return group == g.name }, g.t.Errorf)
	committed := map[int32]map[int64]bool{}
	for p := range int32(groupPartitions) {
		committed[p] = map[int64]bool{0: true}
	}
	for _, r := range g.partitionOf(offsets) {
		c := log.Record(r.Offset, r.Key, r.Value)
		if c == nil {
			continue
		}
		c.Metadata = strings.TrimRight(c.Metadata, "\x00") // librdkafka's Python binding sends a C string with its end
		if c.Offset < c.Before {
			g.t.Errorf("invariant 15: record %d commits offset %d of partition %d after %d", c.At, c.Offset, c.Partition, c.Before)
		}
		if !owns(c) {
			g.t.Errorf("invariant 15: record %d commits offset %d of partition %d for %s, who does not own it: %s", c.At, c.Offset, c.Partition, c.Metadata, describe(c.State))
		}
		committed[c.Partition][c.Offset] = true
	}
	if log.Groups[g.name] == nil {
		g.t.Fatalf("group %s is not in %s", g.name, offsets)
	}
	for _, m := range g.members {
		m.mu.Lock()
		before := map[int32]int64{} // kafka-python goes on from where it was, if it is given the same partition again
		for _, s := range m.spells {
			if s.first >= 0 && !committed[s.partition][s.first] && before[s.partition] != s.first {
				g.t.Errorf("invariant 17: %s began with offset %d of partition %d, which nobody committed", m.name, s.first, s.partition)
			}
			if s.next >= 0 {
				before[s.partition] = s.next
			}
		}
		m.mu.Unlock()
	}
	if g.t.Failed() {
		g.t.FailNow()
	}
	return log
}

// owns tells whether the member that a commit's metadata name owns the partition by the log.
func owns(c *grouplog.Commit) bool {
	for _, m := range c.State.Members {
		if m.ClientID == c.Metadata && slices.Contains(m.Partitions, c.Partition) {
			return true
		}
	}
	for id, a := range c.State.Owned {
		if c.State.Clients[id] == c.Metadata && slices.Contains(a.Partitions, c.Partition) {
			return true
		}
	}
	return false
}

func describe(g *grouplog.Group) string {
	var all []string
	for _, m := range g.Members {
		all = append(all, fmt.Sprintf("%s has %v in generation %d", m.ClientID, m.Partitions, g.Generation))
	}
	for id, a := range g.Owned {
		all = append(all, fmt.Sprintf("%s (%s) is %v", g.Clients[id], id, a))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// partitionOf reads the partition of the offsets topic that has the group.
func (g *clientGroup) partitionOf(topic string) []*kgo.Record {
	g.t.Helper()
	var meta map[int32]kgo.Offset
	g.cluster.Eventually("the offsets topic is there", func(ctx context.Context) error {
		found, err := g.cluster.Alive()[0].Metadata(ctx, topic)
		if err != nil {
			return err
		}
		meta = map[int32]kgo.Offset{partitionFor(g.name, len(found.Topics[topic].Partitions)): kgo.NewOffset().At(0)}
		return found.Topics[topic].Err
	})
	c := client(g.t, g.cluster.Bootstrap(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: meta}))
	defer c.Close()
	ctx := within(g.t, time.Minute)
	var all []*kgo.Record
	for {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			g.t.Fatalf("%s: %d records, and no end: %v", topic, len(all), fetches.Err())
		}
		end := int64(-1)
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { end = max(end, p.HighWatermark) })
		fetches.EachRecord(func(r *kgo.Record) { all = append(all, r) })
		if len(all) > 0 && all[len(all)-1].Offset+1 >= end && end >= 0 {
			return all
		}
	}
}

// partitionFor is Kafka's: the absolute value of Java's hash code of the name, of ASCII letters.
func partitionFor(group string, partitions int) int32 {
	var h int32
	for _, b := range []byte(group) {
		h = 31*h + int32(b)
	}
	if h < 0 {
		h = -h
	}
	return h % int32(max(1, partitions))
}

// steady produces a record to each partition now and then, and knows what was acknowledged.
type steady struct {
	topic   string
	client  *kgo.Client
	stopped chan struct{}
	ended   sync.WaitGroup
	mu      sync.Mutex
	end     []int64 // behind the last acknowledged
	err     error
}

func newSteady(t *testing.T, addrs []string, topic string, partitions int) *steady {
	t.Helper()
	s := &steady{topic: topic, stopped: make(chan struct{}), end: make([]int64, partitions), client: client(t, addrs, kgo.ProducerLinger(0))}
	ctx := within(t, lifetime())
	s.ended.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-s.stopped:
				_ = s.client.Flush(ctx)
				return
			case <-time.After(10 * time.Millisecond):
			}
			for p := range int32(partitions) {
				s.client.Produce(ctx, &kgo.Record{Topic: topic, Partition: p, Value: fmt.Append(nil, n)}, s.acked)
			}
		}
	})
	return s
}

func (s *steady) acked(r *kgo.Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("produce to %s/%d: %w", r.Topic, r.Partition, err)
	}
	if err == nil {
		s.end[r.Partition] = max(s.end[r.Partition], r.Offset+1)
	}
}

func (s *steady) ends() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.end)
}

func (s *steady) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *steady) stop(t *testing.T) []int64 {
	t.Helper()
	close(s.stopped)
	s.ended.Wait()
	if err := s.failed(); err != nil {
		t.Fatal(err)
	}
	return s.ends()
}

func (s *steady) topicID(t *testing.T) [16]byte {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	row := kmsg.NewMetadataRequestTopic()
	row.Topic = &s.topic
	req.Topics = append(req.Topics, row)
	resp, err := req.RequestWith(within(t, time.Minute), s.client)
	if err != nil || len(resp.Topics) != 1 {
		t.Fatalf("metadata of %s: %v", s.topic, err)
	}
	return resp.Topics[0].TopicID
}
