package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"chronik/test/clients/go/steps"
)

var strategies = map[string]func() sarama.BalanceStrategy{
	"range":              sarama.NewBalanceStrategyRange,
	"round-robin":        sarama.NewBalanceStrategyRoundRobin,
	"sticky":             sarama.NewBalanceStrategySticky,
	"cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky,
}

// member is a group's member that keeps what it got.
type member struct {
	group  sarama.ConsumerGroup
	cancel context.CancelFunc
	ended  chan error

	mu     sync.Mutex
	got    [][]byte
	claims map[int32]bool
}

func join(c *sarama.Config, group, topic string) (*member, error) {
	g, err := sarama.NewConsumerGroup([]string{bootstrap}, group, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{group: g, cancel: cancel, ended: make(chan error, 1), claims: map[int32]bool{}}
	go func() {
		for range g.Errors() { // They end a session; Consume returns those that matter.
		}
	}()
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			err = g.Consume(ctx, []string{topic}, m)
		}
		m.ended <- err
	}()
	return m, nil
}

func (m *member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	m.mu.Lock()
	m.claims[claim.Partition()] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.claims, claim.Partition())
		m.mu.Unlock()
	}()
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			m.mu.Lock()
			m.got = append(m.got, message.Value)
			m.mu.Unlock()
			s.MarkMessage(message, "")
		case <-s.Context().Done():
			return nil
		}
	}
}

func (m *member) state() (records, claims int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.got), len(m.claims)
}

func (m *member) leave() error {
	m.cancel()
	err := <-m.ended
	if closed := m.group.Close(); err == nil {
		err = closed
	}
	return err
}

// everything does what a program of an old sarama does: it is told the broker's version and does not ask.
func everything(v sarama.KafkaVersion) error {
	old := func() *sarama.Config {
		c := config()
		c.Version, c.ApiVersionsRequest = v, false
		return c
	}
	name, group := topic("v"+v.String()), topic("group-v"+v.String())
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, old())
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }()
	retention := "3600000"
	if err := admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}, false); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	values := steps.Values(50)
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4}
	if v.IsAtLeast(sarama.V2_1_0_0) {
		codecs = append(codecs, sarama.CompressionZSTD)
	}
	var want [][]byte
	for _, codec := range codecs {
		c := old()
		c.Producer.Compression = codec
		c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
		if err := send(c, name, values); err != nil {
			return fmt.Errorf("produce %s: %w", codec, err)
		}
		want = append(want, values...)
	}
	m, err := join(old(), group, name)
	if err != nil {
		return err
	}
	err = steps.Until("all records in the group", func() (bool, error) { n, _ := m.state(); return n >= len(want), nil })
	if left := m.leave(); err == nil {
		err = left
	}
	if err == nil {
		err = steps.Same(m.got, want)
	}
	if err != nil {
		return err
	}
	return asked(admin, v, name, group, int64(len(want)))
}

// asked asks what an administrator asks.
func asked(admin sarama.ClusterAdmin, v sarama.KafkaVersion, name, group string, end int64) error {
	offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})
	if err != nil {
		return err
	}
	if b := offsets.GetBlock(name, 0); b == nil || b.Offset != end || b.Err != sarama.ErrNoError {
		return fmt.Errorf("committed: %+v, want %d", b, end)
	}
	groups, err := admin.DescribeConsumerGroups([]string{group})
	if err != nil || len(groups) != 1 || groups[0].State != "Empty" || groups[0].ProtocolType != "consumer" {
		return fmt.Errorf("described: %+v, %v", groups, err)
	}
	if listed, err := admin.ListConsumerGroups(); err != nil || listed[group] != "consumer" {
		return fmt.Errorf("listed: %v, %v", listed, err)
	}
	if v.IsAtLeast(sarama.V1_1_0_0) { // Kafka 4 has no DescribeConfigs version 0.
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name, ConfigNames: []string{"retention.ms"}})
		if err != nil || len(entries) != 1 || entries[0].Value != "3600000" || entries[0].Source != sarama.SourceTopic {
			return fmt.Errorf("configuration: %+v, %v", entries, err)
		}
	}
	if err := admin.DeleteRecords(name, map[int32]int64{0: 10}); err != nil {
		return fmt.Errorf("delete records: %w", err)
	}
	if v.IsAtLeast(sarama.V1_0_0_0) {
		if err := admin.CreatePartitions(name, 3, nil, false); err != nil {
			return fmt.Errorf("create partitions: %w", err)
		}
	}
	if v.IsAtLeast(sarama.V1_1_0_0) {
		if err := admin.DeleteConsumerGroup(group); err != nil {
			return fmt.Errorf("delete group: %w", err)
		}
	}
	topics, err := admin.DescribeTopics([]string{name})
	if partitions := 3; err != nil || len(topics) != 1 || topics[0].Err != sarama.ErrNoError || v.IsAtLeast(sarama.V1_0_0_0) && len(topics[0].Partitions) != partitions {
		return fmt.Errorf("topic: %+v, %v", topics, err)
	}
	return admin.DeleteTopic(name)
}

// pair lets a second member join one that has all partitions, and leave again.
func pair(name string, strategy sarama.BalanceStrategy) error {
	group := topic("pair-" + name)
	c := func() *sarama.Config {
		c := config()
		c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
		c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
		c.Consumer.Offsets.AutoCommit.Interval = 100 * time.Millisecond
		return c
	}
	shared := topic("pair-" + name)
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config())
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }()
	if err := admin.CreateTopic(shared, &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1}, false); err != nil {
		return err
	}
	a, err := join(c(), group, shared)
	if err != nil {
		return err
	}
	if err := steps.Until("one member with four partitions", func() (bool, error) { _, n := a.state(); return n == 4, nil }); err != nil {
		return err
	}
	b, err := join(c(), group, shared)
	if err != nil {
		return err
	}
	if err := steps.Until("two members with two partitions each", func() (bool, error) {
		_, n := a.state()
		_, m := b.state()
		return n == 2 && m == 2, nil
	}); err != nil {
		return err
	}
	p := config()
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, p)
	if err != nil {
		return err
	}
	defer func() { _ = producer.Close() }()
	for _, v := range steps.Values(40) {
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: shared, Value: sarama.ByteEncoder(v)}); err != nil {
			return err
		}
	}
	if err := steps.Until("40 records between them", func() (bool, error) {
		n, _ := a.state()
		m, _ := b.state()
		return n == 20 && m == 20, nil
	}); err != nil {
		return err
	}
	if err := steps.Same(append(a.got, b.got...), steps.Values(40)); err != nil {
		return err
	}
	if err := a.leave(); err != nil {
		return err
	}
	if err := steps.Until("the member that stays takes all", func() (bool, error) { _, n := b.state(); return n == 4, nil }); err != nil {
		return err
	}
	if n, _ := b.state(); n != 20 {
		return fmt.Errorf("the member that stays got %d records, want its 20: what the other committed came again", n)
	}
	return b.leave()
}

// static stops a member with an instance ID and starts it again within its session: nobody else rebalances.
func static() error {
	group, shared := topic("static"), topic("static")
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config())
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }()
	if err := admin.CreateTopic(shared, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false); err != nil {
		return err
	}
	c := func(id string) *sarama.Config {
		c := config()
		c.Consumer.Group.InstanceId = id
		c.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
		return c
	}
	a, err := join(c("a"), group, shared)
	if err != nil {
		return err
	}
	b, err := join(c("b"), group, shared)
	if err != nil {
		return err
	}
	each := func() (bool, error) {
		_, n := a.state()
		_, m := b.state()
		return n == 1 && m == 1, nil
	}
	if err := steps.Until("a partition each", each); err != nil {
		return err
	}
	before, err := admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return err
	}
	if err := b.leave(); err != nil {
		return err
	}
	if b, err = join(c("b"), group, shared); err != nil {
		return err
	}
	if err := steps.Until("a partition each again", each); err != nil {
		return err
	}
	after, err := admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return err
	}
	ids := func(g *sarama.GroupDescription) map[string]string {
		m := map[string]string{}
		for id, d := range g.Members {
			m[*d.GroupInstanceId] = id
		}
		return m
	}
	was, is := ids(before[0]), ids(after[0])
	if len(is) != 2 || was["a"] != is["a"] || was["b"] == is["b"] {
		return fmt.Errorf("members were %v, are %v", was, is)
	}
	removed, err := admin.RemoveMemberFromConsumerGroup(group, []string{"b"})
	if err != nil || removed.Err != sarama.ErrNoError || len(removed.Members) != 1 || removed.Members[0].Err != sarama.ErrNoError {
		return fmt.Errorf("removed: %+v, %v", removed, err)
	}
	_ = b.leave() // It is fenced out.
	if err := steps.Until("the other takes all", func() (bool, error) { _, n := a.state(); return n == 2, nil }); err != nil {
		return err
	}
	return a.leave()
}
