package broker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// ask sends one request to one node, and does not try again.
func ask[R kmsg.Response](t *testing.T, client *kgo.Client, node int, req kmsg.Request) R {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	resp, err := client.Broker(node).Request(ctx, req)
	if err != nil {
		t.Fatalf("%T at node %d: %v", req, node, err)
	}
	return resp.(R)
}

func wantOK(t *testing.T, what string, code int16) {
	t.Helper()
	if err := kerr.ErrorForCode(code); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func createRequest(topic string, partitions int32) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = topic, partitions, -1
	req.Topics = append(req.Topics, one)
	return req
}

func metadataOf(topic string, create bool) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	one := kmsg.NewMetadataRequestTopic()
	one.Topic = &topic
	req.Topics = append(req.Topics, one)
	req.AllowAutoTopicCreation = create
	return req
}

func produceOnce(topic string, id [16]byte, value string) *kmsg.ProduceRequest {
	b := record.NewBuilder()
	b.Add(time.Now().UnixMilli(), nil, []byte(value))
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	one := kmsg.NewProduceRequestTopic()
	one.Topic, one.TopicID = topic, id
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = b.Build()
	one.Partitions = append(one.Partitions, p)
	req.Topics = append(req.Topics, one)
	return req
}

// What is created at one node can be used at any other at once: nobody is told that it does not exist, or to come again.
func TestClusterCreateAtOneUseAtAnother(t *testing.T) {
	c := newCluster(t, 3)
	client := c.client()
	var slowest time.Duration
	for i := range 30 {
		a, topic := i%3+1, fmt.Sprintf("made-%d", i)
		var leader int32
		began := time.Now()
		if i%2 == 0 {
			created := ask[*kmsg.CreateTopicsResponse](t, client, a, createRequest(topic, 1)).Topics[0]
			wantOK(t, "create at "+fmt.Sprint(a), created.ErrorCode)
			if created.ReplicationFactor != 3 {
				t.Errorf("replication factor %d", created.ReplicationFactor)
			}
		}
		described := ask[*kmsg.MetadataResponse](t, client, a, metadataOf(topic, true)).Topics[0]
		wantOK(t, "metadata", described.ErrorCode)
		wantOK(t, "partition", described.Partitions[0].ErrorCode)
		leader = described.Partitions[0].Leader
		for node := 1; node <= 3 && i%3 == 0; node++ { // else the leader hears of it with the first record
			elsewhere := ask[*kmsg.MetadataResponse](t, client, node, metadataOf(topic, false)).Topics[0]
			wantOK(t, fmt.Sprintf("metadata at %d", node), elsewhere.ErrorCode)
			if elsewhere.Partitions[0].Leader != leader {
				t.Errorf("node %d names %d, node %d named %d", node, elsewhere.Partitions[0].Leader, a, leader)
			}
		}
		produced := ask[*kmsg.ProduceResponse](t, client, int(leader), produceOnce(topic, described.TopicID, "v")).Topics[0].Partitions[0]
		wantOK(t, fmt.Sprintf("first produce to %s, made at %d, at %d", topic, a, leader), produced.ErrorCode)
		slowest = max(slowest, time.Since(began))
		remove := kmsg.NewPtrDeleteTopicsRequest()
		one := kmsg.NewDeleteTopicsRequestTopic()
		one.Topic = &topic
		remove.Topics = append(remove.Topics, one)
		remove.TopicNames = []string{topic}
		wantOK(t, "delete", ask[*kmsg.DeleteTopicsResponse](t, client, (a+1)%3+1, remove).Topics[0].ErrorCode)
		again := ask[*kmsg.CreateTopicsResponse](t, client, a, createRequest(topic, 1)).Topics[0]
		wantOK(t, "create again where the deletion may not have been heard of", again.ErrorCode)
	}
	t.Logf("slowest from creation to the first acknowledged record: %v", slowest)
}

// Whoever asks is told the same coordinator, offsets survive its end, and producer IDs are given once.
func TestClusterGroupsAndProducerIDs(t *testing.T) {
	c := newCluster(t, 3, "offsets.topic.num.partitions=6")
	client := c.client()
	adm := kadm.NewClient(client)
	createTopic3(t, adm, "jobs")
	coordinator := int32(-1)
	find := func(node int) int32 {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKeys = []string{"workers"}
		resp := ask[*kmsg.FindCoordinatorResponse](t, client, node, req).Coordinators[0]
		wantOK(t, fmt.Sprintf("find coordinator at %d", node), resp.ErrorCode)
		return resp.NodeID
	}
	for node := 1; node <= 3; node++ {
		id := find(node)
		if coordinator >= 0 && id != coordinator {
			t.Errorf("node %d names %d, others %d", node, id, coordinator)
		}
		coordinator = id
	}
	offsetsTopic := c.nodes[0].controller.Image().Topic(kafka.OffsetsTopic)
	if p := offsetsTopic.Partitions.At(0); len(p.Replicas) != 3 {
		t.Errorf("groups are kept by %v", p.Replicas)
	}
	for i := range 20 {
		offsets := kadm.Offsets{}
		offsets.AddOffset("jobs", 0, int64(i), -1)
		if err := adm.CommitAllOffsets(t.Context(), "workers", offsets); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
	c.awaitFullISR(kafka.OffsetsTopic)
	c.stop(int(coordinator) - 1)
	survivors := c.client()
	adm = kadm.NewClient(survivors)
	fetched, err := adm.FetchOffsets(within(t), "workers")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := fetched.Lookup("jobs", 0); !ok || o.At != 19 {
		t.Errorf("after the coordinator's end: %+v", fetched)
	}
	seen := map[int64]int{}
	for node := 1; node <= 3; node++ {
		if node == int(coordinator) {
			continue
		}
		for range 3 {
			resp := ask[*kmsg.InitProducerIDResponse](t, survivors, node, kmsg.NewPtrInitProducerIDRequest())
			wantOK(t, "producer ID", resp.ErrorCode)
			if other := seen[resp.ProducerID]; other != 0 {
				t.Errorf("producer ID %d was given by %d and by %d", resp.ProducerID, other, node)
			}
			seen[resp.ProducerID] = node
		}
	}
	c.start(int(coordinator) - 1)
	c.awaitFullISR(kafka.OffsetsTopic)
}

func createTopic3(t *testing.T, adm *kadm.Client, topic string) {
	t.Helper()
	if _, err := adm.CreateTopic(within(t), 3, 3, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// Administration works at every node, the controller or not.
func TestClusterAdministrationAnywhere(t *testing.T) {
	c := newCluster(t, 3)
	client := c.client()
	adm := kadm.NewClient(client)
	createTopic3(t, adm, "events")
	c.awaitFullISR("events")
	for node := 1; node <= 3; node++ {
		configs := kmsg.NewPtrDescribeConfigsRequest()
		configs.Resources = append(configs.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic,
			ResourceName: "events", ConfigNames: []string{"min.insync.replicas"}})
		got := ask[*kmsg.DescribeConfigsResponse](t, client, node, configs).Resources[0]
		wantOK(t, "describe configs", got.ErrorCode)
		if *got.Configs[0].Value != "2" {
			t.Errorf("min.insync.replicas of three brokers is %s", *got.Configs[0].Value)
		}
		alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
		value := fmt.Sprint(1000 + node)
		alter.Resources = append(alter.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "events",
			Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "retention.ms", Value: &value}}})
		wantOK(t, "alter configs", ask[*kmsg.IncrementalAlterConfigsResponse](t, client, node, alter).Resources[0].ErrorCode)

		partitions := kmsg.NewPtrCreatePartitionsRequest()
		partitions.Topics = append(partitions.Topics, kmsg.CreatePartitionsRequestTopic{Topic: "events", Count: int32(3 + node)})
		wantOK(t, "create partitions", ask[*kmsg.CreatePartitionsResponse](t, client, node, partitions).Topics[0].ErrorCode)

		p := c.nodes[0].controller.Image().Topic("events").Partitions.At(0)
		elect := kmsg.NewPtrElectLeadersRequest()
		elect.Topics = append(elect.Topics, kmsg.ElectLeadersRequestTopic{Topic: "events", Partitions: []int32{0}})
		if got := ask[*kmsg.ElectLeadersResponse](t, client, node, elect).Topics[0].Partitions[0]; got.ErrorCode != kerr.ElectionNotNeeded.Code {
			t.Errorf("elect: %v, leader %d of %v", kerr.ErrorForCode(got.ErrorCode), p.Leader, p.Replicas)
		}
		other := kmsg.NewPtrDescribeConfigsRequest()
		other.Resources = append(other.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: fmt.Sprint(node%3 + 1)})
		if got := ask[*kmsg.DescribeConfigsResponse](t, client, node, other).Resources[0]; got.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("configuration of another broker: %v", kerr.ErrorForCode(got.ErrorCode))
		}
	}
	value, all := "123456", kmsg.NewPtrIncrementalAlterConfigsRequest()
	all.Resources = append(all.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "",
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "log.retention.ms", Value: &value}}})
	wantOK(t, "alter configs of all brokers", ask[*kmsg.IncrementalAlterConfigsResponse](t, client, 2, all).Resources[0].ErrorCode)
	for _, n := range c.nodes {
		await(t, "the configuration of all brokers is in force everywhere", func() bool {
			return n.live.Load().Topic.RetentionMillis == 123456
		})
	}
	imagesEqual(t, c)
}

// fetches counts the Fetch requests that a client sends to each node.
type fetches struct {
	mu sync.Mutex
	to map[int32]int
}

func (f *fetches) OnBrokerWrite(meta kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if key == 1 {
		f.mu.Lock()
		f.to[meta.NodeID]++
		f.mu.Unlock()
	}
}

// A consumer reads all from the replica of its rack, which is told of new records and of the watermark as they come (KIP-392).
func TestClusterFetchFromTheRack(t *testing.T) {
	c := newCluster(t, 3, "rack=rNODE")
	client := c.client()
	adm := kadm.NewClient(client)
	if _, err := adm.CreateTopic(within(t), 1, 3, nil, "events"); err != nil {
		t.Fatal(err)
	}
	c.awaitFullISR("events")
	leader := int32(c.nodes[0].controller.Image().Topic("events").Partitions.At(0).Leader)
	near := leader%3 + 1
	produceAll(t, client, "events", 0, 50)
	seen := &fetches{to: map[int32]int{}}
	consumer := c.client(kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Rack(fmt.Sprintf("r%d", near)),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.WithHooks(seen))
	consumeSet(t, consumer, 50)
	for i := range 5 {
		produceAll(t, client, "events", 50+20*i, 70+20*i)
		consumeSet(t, consumer, 20)
	}
	seen.mu.Lock()
	if seen.to[near] < 5 || seen.to[leader] > seen.to[near] {
		t.Errorf("fetches by node: %v; the leader is %d, the consumer's rack that of %d", seen.to, leader, near)
	}
	seen.mu.Unlock()
	c.stop(int(near) - 1)
	produceAll(t, client, "events", 150, 160)
	c.start(int(near) - 1) // franz-go waits for it; the Java client goes back to the leader
	consumeSet(t, consumer, 10)
}
