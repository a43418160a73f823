package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Requests of one connection are stored in their order, though the first ones come before this node has heard of the topic
// and the later ones after.
func TestProduceKeepsItsOrderBehindALatePartition(t *testing.T) {
	c := newData(t)
	old := c.Store.Image()
	topic := c.create("orders", 1)
	store := &lagging{Store: c.Store, old: old}
	c.Store = store
	var replies []Reply
	send := func(acks int16, value string) {
		replies = append(replies, c.dispatch(9, produceOf(topic, acks, batchOf(nil, value))))
	}
	send(-1, "first")
	send(0, "second")
	store.fresh.Store(true) // heard of meanwhile, by itself
	send(-1, "third")
	other := c.conn
	c.conn = &Conn{Listener: other.Listener, Local: other.Local}
	if resp := c.dispatch(9, produceOf(topic, -1, batchOf(nil, "of another connection")))(t.Context()); resp.Message == nil {
		t.Fatal("another connection waits for this one")
	}
	c.conn = other
	for i, reply := range replies {
		resp := reply(t.Context())
		if m, ok := resp.Message.(*kmsg.ProduceResponse); ok {
			wantError(t, "produce", m.Topics[0].Partitions[0].ErrorCode, nil)
		} else if i != 1 || resp.Close {
			t.Errorf("reply %d: %+v", i, resp)
		}
	}
	if n := c.conn.late.Load(); n != 0 {
		t.Errorf("%d requests still count as late", n)
	}
	c.mustProduce(topic, "fourth")
	got := values(t, c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0].RecordBatches)
	want := []string{"of another connection", "first", "second", "third", "fourth"}
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

// alone is a metadata store that reaches no controller.
type alone struct{ metadata.Store }

func (alone) Barrier(context.Context) error { return kafka.ErrRequestTimedOut.With("no controller") }

func (alone) Controller() kafka.BrokerID { return kafka.NoLeader }

func (a alone) CreateTopics(_ context.Context, topics []metadata.CreateTopic, _ bool) []metadata.CreateTopicResult {
	results := make([]metadata.CreateTopicResult, len(topics))
	for i := range results {
		results[i].Err = kafka.ErrNotController
	}
	return results
}

func (alone) SetConfig(context.Context, metadata.SetConfig, bool) error {
	return kafka.ErrNotController
}

// Without a controller nothing is said to be unknown: every client gets the error on which it asks again, soon.
func TestWithoutAControllerNothingIsUnknown(t *testing.T) {
	synctest.Test(t, withoutAController)
}

func withoutAController(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1)
	c.deleteTopic(topic)
	c.Store = alone{c.Store}
	describe := kmsg.NewPtrDescribeTopicPartitionsRequest()
	describe.ResponsePartitionLimit = 10
	describe.Topics = append(describe.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: "orders"})
	configs := kmsg.NewPtrDescribeConfigsRequest()
	configs.Resources = append(configs.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "orders"})
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	alter.Resources = append(alter.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "orders"})
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.Topics = append(remove.Topics, kmsg.DeleteTopicsRequestTopic{Topic: kmsg.StringPtr("orders")})
	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = 1000
	create.Topics = append(create.Topics, kmsg.CreateTopicsRequestTopic{Topic: "new", NumPartitions: 1, ReplicationFactor: 1})
	auto := metadataRequest(12, "new")
	auto.AllowAutoTopicCreation = true
	byID := metadataRequest(12)
	byID.Topics = append(byID.Topics, kmsg.MetadataRequestTopic{TopicID: topic.ID})
	began := time.Now()
	for _, tc := range []struct {
		name string
		want *kafka.Error
		got  func() int16
	}{
		{"fetch by name", kafka.ErrNotLeaderOrFollower, func() int16 { return c.fetchCall(12, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode }},
		{"fetch by ID", kafka.ErrNotLeaderOrFollower, func() int16 { return c.fetchCall(18, fetchOf(topic, 0)).Topics[0].Partitions[0].ErrorCode }},
		{"produce", kafka.ErrNotLeaderOrFollower, func() int16 {
			return call[*kmsg.ProduceResponse](c.cluster, 13, produceOf(topic, -1, batchOf(nil, "v"))).Topics[0].Partitions[0].ErrorCode
		}},
		{"list offsets", kafka.ErrNotLeaderOrFollower, func() int16 { return c.list(5, listOf(topic, -1)).ErrorCode }},
		{"metadata", kafka.ErrLeaderNotAvailable, func() int16 {
			return call[*kmsg.MetadataResponse](c.cluster, 12, metadataRequest(12, "orders")).Topics[0].ErrorCode
		}},
		{"metadata by ID", kafka.ErrLeaderNotAvailable, func() int16 { return call[*kmsg.MetadataResponse](c.cluster, 12, byID).Topics[0].ErrorCode }},
		{"an invalid name", kafka.ErrInvalidTopic, func() int16 {
			return call[*kmsg.MetadataResponse](c.cluster, 12, metadataRequest(12, "no good")).Topics[0].ErrorCode
		}},
		{"auto-creation", kafka.ErrLeaderNotAvailable, func() int16 { return call[*kmsg.MetadataResponse](c.cluster, 12, auto).Topics[0].ErrorCode }},
		{"describe topic partitions", kafka.ErrLeaderNotAvailable, func() int16 {
			return call[*kmsg.DescribeTopicPartitionsResponse](c.cluster, 0, describe).Topics[0].ErrorCode
		}},
		{"describe configs", kafka.ErrRequestTimedOut, func() int16 { return call[*kmsg.DescribeConfigsResponse](c.cluster, 4, configs).Resources[0].ErrorCode }},
		{"alter configs", kafka.ErrRequestTimedOut, func() int16 {
			return call[*kmsg.IncrementalAlterConfigsResponse](c.cluster, 1, alter).Resources[0].ErrorCode
		}},
		{"delete topics", kafka.ErrRequestTimedOut, func() int16 { return call[*kmsg.DeleteTopicsResponse](c.cluster, 6, remove).Topics[0].ErrorCode }},
		{"create topics", kafka.ErrRequestTimedOut, func() int16 { return call[*kmsg.CreateTopicsResponse](c.cluster, 7, create).Topics[0].ErrorCode }},
	} {
		wantError(t, tc.name, tc.got(), tc.want)
	}
	// The waits of 1 s for the creation and 5 s for the auto-creation are all that there is.
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("took %v", took)
	}
}

// mute is a metadata store that waits for a controller for as long as it may.
type mute struct{ alone }

func (mute) SetConfig(ctx context.Context, _ metadata.SetConfig, _ bool) error {
	<-ctx.Done()
	return kafka.ErrRequestTimedOut
}

// Without a controller a request is answered within its time, however many things it is about.
func TestManyConfigurationsTakeNoLongerThanOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.Store = mute{alone{c.Store}}
		incremental, replacing := kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewPtrAlterConfigsRequest()
		for _, group := range []string{"a", "b", "c", "d"} {
			name, value := "consumer.session.timeout.ms", "50000"
			incremental.Resources = append(incremental.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig,
				ResourceName: group, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: name, Value: &value}}})
			replacing.Resources = append(replacing.Resources, kmsg.AlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeGroupConfig,
				ResourceName: group, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: name, Value: &value}}})
		}
		began := time.Now()
		for _, r := range call[*kmsg.IncrementalAlterConfigsResponse](c, 1, incremental).Resources {
			c.wantCode("incremental, group "+r.ResourceName, r.ErrorCode, kafka.ErrRequestTimedOut)
		}
		for _, r := range call[*kmsg.AlterConfigsResponse](c, 2, replacing).Resources {
			c.wantCode("replacing, group "+r.ResourceName, r.ErrorCode, kafka.ErrRequestTimedOut)
		}
		if took := time.Since(began); took > 61*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A leader epoch that this node has not heard of yet is not refused before a barrier.
func TestNewerEpochIsNotRefusedBeforeABarrier(t *testing.T) {
	c := newData(t)
	topic := c.create("orders", 1)
	c.mustProduce(topic, "v")
	real := c.Store
	old := real.Image()
	store := &lagging{Store: real, old: old}
	c.Store = store
	req := fetchOf(topic, 0)
	req.Topics[0].Partitions[0].CurrentLeaderEpoch = int32(topic.Partitions.At(0).LeaderEpoch) + 1
	p := c.fetchCall(12, req).Topics[0].Partitions[0]
	wantError(t, "an epoch that nobody knows", p.ErrorCode, kafka.ErrUnknownLeaderEpoch)
	if !store.fresh.Load() {
		t.Error("refused without a barrier")
	}
}

// A broker that this node has just lost sight of is not named as a leader or coordinator once more, for a moment.
func TestTheDeadAreNotNamed(t *testing.T) {
	synctest.Test(t, theDeadAreNotNamed)
}

func theDeadAreNotNamed(t *testing.T) {
	c := newGroupCluster(t, true)
	c.addBroker(2, "")
	c.assign("led-by-1", []kafka.BrokerID{1, 2})
	c.assign("led-by-2", []kafka.BrokerID{2, 1})
	offsets := c.assign(kafka.OffsetsTopic, []kafka.BrokerID{2, 1})
	lost := false
	c.Lost = func(id kafka.BrokerID) bool { return lost && id == 2 }
	describe := kmsg.NewPtrDescribeTopicPartitionsRequest()
	describe.ResponsePartitionLimit = 10
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"g"}
	ask := map[string]func() int32{
		"metadata": func() int32 {
			return call[*kmsg.MetadataResponse](c, 12, metadataRequest(12, "led-by-2")).Topics[0].Partitions[0].Leader
		},
		"describe topic partitions": func() int32 {
			return call[*kmsg.DescribeTopicPartitionsResponse](c, 0, describe).Topics[2].Partitions[0].LeaderID
		},
		"find coordinator": func() int32 { return call[*kmsg.FindCoordinatorResponse](c, 4, find).Coordinators[0].NodeID },
	}
	within := func(what string, want int32, atLeast, atMost time.Duration) {
		for name, ask := range ask {
			want := want
			if what == "nobody decides" && name == "find coordinator" {
				want = -1 // COORDINATOR_NOT_AVAILABLE: it asks again soon
			}
			began := time.Now()
			if got := ask(); got != want {
				t.Errorf("%s, %s: broker %d, want %d", what, name, got, want)
			}
			if took := time.Since(began); took < atLeast || took > atMost {
				t.Errorf("%s, %s: took %v", what, name, took)
			}
		}
	}
	within("as usual", 2, 0, 0)
	lost = true
	within("nobody decides", 2, time.Second, time.Second)
	began := time.Now()
	call[*kmsg.MetadataResponse](c, 12, metadataRequest(12, "led-by-1"))
	if took := time.Since(began); took != 0 {
		t.Errorf("another leader's topic took %v", took)
	}
	time.AfterFunc(100*time.Millisecond, func() { c.fence(2, true) })
	within("decided", 1, 0, 110*time.Millisecond)
	if p := c.Store.Image().Partition(offsets.TopicPartition(0)); p.Leader != 1 {
		t.Errorf("%+v", p)
	}
}
