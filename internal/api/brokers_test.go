package api

import (
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// addBroker registers another broker, that serves.
func (c *cluster) addBroker(id kafka.BrokerID, rack string, endpoints ...metadata.Endpoint) {
	c.t.Helper()
	if endpoints == nil {
		endpoints = []metadata.Endpoint{{Listener: "tcp", Host: fmt.Sprintf("b%d.example.org", id), Port: 9092}}
	}
	ctrl := c.Store.(*controller.Controller)
	if _, err := ctrl.RegisterBroker(c.t.Context(), metadata.RegisterBroker{ID: id, Incarnation: [16]byte{9, byte(id)}, Directory: [16]byte{byte(id)},
		Rack: rack, Endpoints: endpoints}); err != nil {
		c.t.Fatal(err)
	}
	c.fence(id, false)
}

func (c *cluster) fence(id kafka.BrokerID, fenced bool) {
	c.t.Helper()
	if err := c.Store.(*controller.Controller).FenceBroker(c.t.Context(), id, fenced, "test"); err != nil {
		c.t.Fatal(err)
	}
}

// assign makes a topic with these replicas.
func (c *cluster) assign(name string, assignment ...[]kafka.BrokerID) *metadata.Topic {
	c.t.Helper()
	result := c.Store.CreateTopics(c.t.Context(), []metadata.CreateTopic{{Name: name, ID: kafka.NewTopicID(), Partitions: -1, ReplicationFactor: -1,
		Assignment: assignment}}, false)[0]
	if result.Err != nil {
		c.t.Fatal(result.Err)
	}
	if err := c.settle(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	return result.Topic
}

// fixed is a metadata store that stands still at an image.
type fixed struct {
	metadata.Store
	image *metadata.Image
}

func (f *fixed) Image() *metadata.Image { return f.image }

func ids(brokers []kmsg.MetadataResponseBroker) (out []int32) {
	for _, b := range brokers {
		out = append(out, b.NodeID)
	}
	return out
}

// Metadata, DescribeTopicPartitions and DescribeCluster tell of leaders, in-sync sets and who is missing, as it is.
func TestClusterMetadata(t *testing.T) {
	c := newCluster(t)
	c.addBroker(2, "r2")
	c.addBroker(3, "r3")
	c.assign("t", []kafka.BrokerID{2, 3, 1}, []kafka.BrokerID{3, 1, 2})
	c.assign("u", []kafka.BrokerID{2})
	c.fence(2, true)
	all := metadataRequest(12)
	all.Topics = nil
	resp := call[*kmsg.MetadataResponse](c, 12, all)
	if got := ids(resp.Brokers); !slices.Equal(got, []int32{1, 3}) {
		t.Errorf("brokers %v: the fenced one is not for clients", got)
	}
	if b := resp.Brokers[1]; b.Host != "b3.example.org" || b.Port != 9092 || deref(b.Rack) != "r3" || resp.ControllerID != 1 {
		t.Errorf("broker %+v, controller %d", b, resp.ControllerID)
	}
	for i, want := range []struct {
		leader       int32
		isr, offline []int32
		code         int16
	}{
		{3, []int32{1, 3}, []int32{2}, 0},
		{3, []int32{1, 3}, []int32{2}, 0},
		{-1, []int32{2}, []int32{2}, kafka.ErrLeaderNotAvailable.Code},
	} {
		topic, n := i/2, i%2
		p, img := resp.Topics[topic].Partitions[n], c.Store.Image().Topic(*resp.Topics[topic].Topic)
		if p.Leader != want.leader || !slices.Equal(p.ISR, want.isr) || !slices.Equal(p.OfflineReplicas, want.offline) || p.ErrorCode != want.code ||
			p.LeaderEpoch != int32(img.Partitions.At(int32(n)).LeaderEpoch) {
			t.Errorf("partition %d: %+v", i, p)
		}
	}
	if p := resp.Topics[0].Partitions[0]; !slices.Equal(p.Replicas, []int32{2, 3, 1}) || p.LeaderEpoch == 0 {
		t.Errorf("replicas and epoch: %+v", p)
	}
	v0 := call[*kmsg.MetadataResponse](c, 0, metadataRequest(0)).Topics[0].Partitions[0]
	if !slices.Equal(v0.Replicas, []int32{3, 1}) || v0.ErrorCode != kafka.ErrReplicaNotAvailable.Code {
		t.Errorf("v0: %+v", v0)
	}
	c.fence(1, true) // the controller itself: another live broker does as well
	resp = call[*kmsg.MetadataResponse](c, 12, all)
	if resp.ControllerID != 3 {
		t.Errorf("controller %d", resp.ControllerID)
	}
	if got := ids(resp.Brokers); !slices.Equal(got, []int32{1, 3}) {
		t.Errorf("brokers %v: a client is to know at least the one that answers", got)
	}

	describe := kmsg.NewPtrDescribeTopicPartitionsRequest()
	describe.ResponsePartitionLimit = 100
	d := call[*kmsg.DescribeTopicPartitionsResponse](c, 0, describe).Topics
	if p := d[0].Partitions[0]; p.LeaderID != 3 || !slices.Equal(p.ISR, []int32{3}) || !slices.Equal(p.OfflineReplicas, []int32{2, 1}) ||
		!slices.Equal(p.EligibleLeaderReplicas, []int32{1}) {
		t.Errorf("partition with an eligible leader: %+v", p)
	}
	if p := d[1].Partitions[0]; p.LeaderID != -1 || !slices.Equal(p.ISR, []int32{2}) {
		t.Errorf("partition without a leader: %+v", p)
	}

	for _, tc := range []struct {
		version int16
		fenced  bool
		want    []int32
	}{{1, false, []int32{3}}, {2, false, []int32{3}}, {2, true, []int32{1, 2, 3}}} {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.EndpointType, req.IncludeFencedBrokers = 1, tc.fenced
		resp := call[*kmsg.DescribeClusterResponse](c, tc.version, req)
		var got []int32
		for _, b := range resp.Brokers {
			got = append(got, b.NodeID)
			if b.IsFenced != (b.NodeID != 3) {
				t.Errorf("v%d: %+v", tc.version, b)
			}
		}
		if !slices.Equal(got, tc.want) || resp.ControllerID != 3 {
			t.Errorf("v%d: brokers %v, controller %d", tc.version, got, resp.ControllerID)
		}
	}
}

// A broker that does not listen where the client does is not there for it.
func TestClusterListeners(t *testing.T) {
	c := newCluster(t)
	c.addBroker(2, "", metadata.Endpoint{Listener: "tls", Host: "b2.example.org", Port: 9093, TLS: true})
	c.assign("t", []kafka.BrokerID{2, 1})
	for version, want := range map[int16]*kafka.Error{5: kafka.ErrLeaderNotAvailable, 12: kafka.ErrListenerNotFound} {
		resp := call[*kmsg.MetadataResponse](c, version, metadataRequest(version, "t"))
		p := resp.Topics[0].Partitions[0]
		wantError(t, "metadata", p.ErrorCode, want)
		if p.Leader != -1 || !slices.Equal(p.OfflineReplicas, []int32{2}) || !slices.Equal(ids(resp.Brokers), []int32{1}) {
			t.Errorf("v%d: %+v, brokers %+v", version, p, resp.Brokers)
		}
	}
}

// Whoever asks the wrong node is told the right one, where that is certain (KIP-951).
func TestHintsAtAnotherLeader(t *testing.T) {
	c := newData(t)
	c.addBroker(2, "r2")
	topic := c.assign("t", []kafka.BrokerID{2, 1})
	epoch := int32(topic.Partitions.At(0).LeaderEpoch)
	produce := func(version int16) (kmsg.ProduceResponseTopicPartition, []kmsg.ProduceResponseBroker) {
		resp := call[*kmsg.ProduceResponse](c.cluster, version, produceOf(topic, -1, batchOf(nil, "v")))
		return resp.Topics[0].Partitions[0], resp.Brokers
	}
	fetch := func(version int16) (kmsg.FetchResponseTopicPartition, []kmsg.FetchResponseBroker) {
		req := fetchOf(topic, 0)
		resp := c.fetchCall(version, req)
		return resp.Topics[0].Partitions[0], resp.Brokers
	}
	for _, version := range []int16{9, 10, 12, 13} {
		p, brokers := produce(version)
		wantError(t, "produce", p.ErrorCode, kafka.ErrNotLeaderOrFollower)
		if version < 10 {
			if len(brokers) != 0 {
				t.Errorf("v%d hints", version)
			}
			continue
		}
		if p.CurrentLeader.LeaderID != 2 || p.CurrentLeader.LeaderEpoch != epoch || len(brokers) != 1 || brokers[0].Host != "b2.example.org" ||
			brokers[0].Port != 9092 || deref(brokers[0].Rack) != "r2" {
			t.Errorf("v%d: %+v, %+v", version, p.CurrentLeader, brokers)
		}
	}
	// Fetch: the follower answers from version 11 on, the leader is named from version 16 on.
	p, brokers := fetch(10)
	wantError(t, "fetch", p.ErrorCode, kafka.ErrNotLeaderOrFollower)
	if len(brokers) != 0 {
		t.Error("v10 hints")
	}
	elsewhere := c.assign("elsewhere", []kafka.BrokerID{2})
	for _, version := range []int16{12, 15, 16, 18} {
		resp := c.fetchCall(version, fetchOf(elsewhere, 0))
		p := resp.Topics[0].Partitions[0]
		wantError(t, "fetch", p.ErrorCode, kafka.ErrNotLeaderOrFollower)
		if hinted := p.CurrentLeader.LeaderID == 2 && len(resp.Brokers) == 1; hinted != (version >= 16) {
			t.Errorf("v%d: %+v, %+v", version, p.CurrentLeader, resp.Brokers)
		}
	}
	hidden := c.Store
	img, _ := hidden.Image().Apply(hidden.Image().Offset()+1, &pb.Entry{Records: []*pb.Record{
		{Kind: &pb.Record_BrokerFencing{BrokerFencing: &pb.BrokerFencing{Id: 2, Fenced: true}}}}})
	c.Store = &fixed{hidden, img}
	if p, brokers := produce(12); p.CurrentLeader.LeaderID != -1 || len(brokers) != 0 {
		t.Errorf("a leader that is not to be reached: %+v, %+v", p.CurrentLeader, brokers)
	}
	c.Store = hidden
}
