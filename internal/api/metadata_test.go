package api

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

func metadataRequest(version int16, names ...string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &name
		req.Topics = append(req.Topics, t)
	}
	return req
}

func TestMetadataAllAndNone(t *testing.T) {
	c := newCluster(t)
	one, two := c.create("one", 3), c.create("two", 1)
	every(c, 3, func(v int16) {
		empty := call[*kmsg.MetadataResponse](c, v, metadataRequest(v))
		want := 0
		if v == 0 {
			want = 2
		}
		if len(empty.Topics) != want {
			t.Errorf("v%d: an empty list gave %d topics, want %d", v, len(empty.Topics), want)
		}
		if v == 0 {
			return
		}
		req := metadataRequest(v)
		req.Topics = nil
		all := call[*kmsg.MetadataResponse](c, v, req)
		if len(all.Topics) != 2 || *all.Topics[0].Topic != "one" || len(all.Topics[0].Partitions) != 3 {
			t.Fatalf("v%d: all topics: %+v", v, all.Topics)
		}
		if v >= 10 && (all.Topics[0].TopicID != one.ID || all.Topics[1].TopicID != two.ID) {
			t.Errorf("v%d: topic IDs: %+v", v, all.Topics)
		}
		p := all.Topics[0].Partitions[2]
		if p.ErrorCode != 0 || p.Partition != 2 || p.Leader != 1 || len(p.Replicas) != 1 || len(p.ISR) != 1 || len(p.OfflineReplicas) != 0 {
			t.Errorf("v%d: partition: %+v", v, p)
		}
		if v >= 7 && p.LeaderEpoch != int32(one.Partitions.At(2).LeaderEpoch) {
			t.Errorf("v%d: leader epoch: %+v", v, p)
		}
		if len(all.Brokers) != 1 || all.Brokers[0].NodeID != 1 || all.Brokers[0].Host != "10.1.2.3" || all.Brokers[0].Port != 19092 {
			t.Errorf("v%d: brokers: %+v", v, all.Brokers)
		}
		if all.ControllerID != 1 || v >= 2 && deref(all.ClusterID) != c.Store.Image().ClusterID() || deref(all.Brokers[0].Rack) != "r1" {
			t.Errorf("v%d: controller %d, cluster %s, rack %s", v, all.ControllerID, deref(all.ClusterID), deref(all.Brokers[0].Rack))
		}
	})
}

func TestMetadataAdvertisedPerListener(t *testing.T) {
	c := newCluster(t, "kafka=127.0.0.1:9092,tls://0.0.0.0:9093", "tls.cert=c", "tls.key=k")
	c.create("t", 1)
	c.conn.Listener = "tls://0.0.0.0:9093"
	resp := call[*kmsg.MetadataResponse](c, 9, metadataRequest(9, "t"))
	if len(resp.Brokers) != 1 || resp.Brokers[0].Host != "tls.example.org" || resp.Brokers[0].Port != 9093 {
		t.Errorf("brokers: %+v", resp.Brokers)
	}
}

func TestMetadataAutoCreation(t *testing.T) {
	for _, tc := range []struct {
		what    string
		set     string
		version int16
		allow   bool
		want    *kafka.Error
	}{
		{"allowed", "num.partitions=3", 12, true, nil},
		{"allowed, first version with the flag", "num.partitions=3", 4, true, nil},
		{"a client that cannot say no", "num.partitions=3", 1, false, nil},
		{"the client says no", "num.partitions=3", 4, false, kafka.ErrUnknownTopicOrPartition},
		{"the broker says no", "auto.create.topics.enable=false", 12, true, kafka.ErrUnknownTopicOrPartition},
	} {
		c := newCluster(t, tc.set)
		req := metadataRequest(tc.version, "made", "no good", "made")
		req.AllowAutoTopicCreation = tc.allow
		resp := call[*kmsg.MetadataResponse](c, tc.version, req)
		if len(resp.Topics) != 2 {
			t.Fatalf("%s: %+v", tc.what, resp.Topics)
		}
		c.wantCode(tc.what, resp.Topics[0].ErrorCode, tc.want)
		c.wantCode(tc.what+": invalid name", resp.Topics[1].ErrorCode, kafka.ErrInvalidTopic)
		if tc.want == nil && (len(resp.Topics[0].Partitions) != 3 || resp.Topics[0].Partitions[0].Leader != 1) {
			t.Errorf("%s: answered before the leader is known: %+v", tc.what, resp.Topics[0])
		}
		if exists := c.Store.Image().Topic("made") != nil; exists != (tc.want == nil) {
			t.Errorf("%s: exists is %v", tc.what, exists)
		}
	}
}

func TestMetadataAutoCreatesOffsetsTopicAsConfigured(t *testing.T) {
	c := newCluster(t, "offsets.topic.num.partitions=7")
	req := metadataRequest(12, kafka.OffsetsTopic)
	req.AllowAutoTopicCreation = true
	resp := call[*kmsg.MetadataResponse](c, 12, req)
	if got := resp.Topics[0]; got.ErrorCode != 0 || len(got.Partitions) != 7 || !got.IsInternal {
		t.Errorf("got %+v", got)
	}
	if topic := c.Store.Image().Topic(kafka.OffsetsTopic); topic.Config["cleanup.policy"] != "compact" {
		t.Errorf("config: %v", topic.Config)
	}
}

func TestMetadataByID(t *testing.T) {
	c := newCluster(t)
	topic := c.create("t", 1)
	for _, v := range []int16{12, 13} {
		req := metadataRequest(v)
		for _, id := range [][16]byte{topic.ID, {7}, {7}} {
			rt := kmsg.NewMetadataRequestTopic()
			rt.TopicID = id
			req.Topics = append(req.Topics, rt)
		}
		named := kmsg.NewMetadataRequestTopic()
		named.Topic = kmsg.StringPtr("ignored-beside-ids")
		req.Topics = append(req.Topics, named)
		req.AllowAutoTopicCreation = true
		resp := call[*kmsg.MetadataResponse](c, v, req)
		if len(resp.Topics) != 2 {
			t.Fatalf("v%d: %+v", v, resp.Topics)
		}
		c.wantCode("unknown ID", resp.Topics[0].ErrorCode, kafka.ErrUnknownTopicID)
		if resp.Topics[0].Topic != nil || resp.Topics[0].TopicID != [16]byte{7} {
			t.Errorf("v%d: unknown ID: %+v", v, resp.Topics[0])
		}
		if resp.Topics[1].ErrorCode != 0 || deref(resp.Topics[1].Topic) != "t" {
			t.Errorf("v%d: known ID: %+v", v, resp.Topics[1])
		}
	}
	for _, v := range []int16{10, 11} { // these have the fields, and do not serve them
		req := metadataRequest(v, "t")
		req.Topics[0].TopicID = topic.ID
		resp := call[*kmsg.MetadataResponse](c, v, req)
		c.wantCode("ID too early", resp.Topics[0].ErrorCode, kafka.ErrInvalidRequest)
		req.Topics[0].Topic, req.Topics[0].TopicID = nil, [16]byte{}
		resp = call[*kmsg.MetadataResponse](c, v, req)
		c.wantCode("null name too early", resp.Topics[0].ErrorCode, kafka.ErrInvalidRequest)
	}
}

func TestMetadataAuthorizedOperations(t *testing.T) {
	c := newCluster(t)
	c.create("t", 1)
	every(c, 3, func(v int16) {
		req := metadataRequest(v, "t")
		resp := call[*kmsg.MetadataResponse](c, v, req)
		if resp.AuthorizedOperations != notAsked || v >= 8 && resp.Topics[0].AuthorizedOperations != notAsked {
			t.Errorf("v%d, not asked: %d, %d", v, resp.AuthorizedOperations, resp.Topics[0].AuthorizedOperations)
		}
		req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = true, true
		resp = call[*kmsg.MetadataResponse](c, v, req)
		if v >= 8 && resp.Topics[0].AuthorizedOperations != 3576 {
			t.Errorf("v%d: topic operations %d, want Kafka's 3576", v, resp.Topics[0].AuthorizedOperations)
		}
		if v >= 8 && v <= 10 && resp.AuthorizedOperations != 8096 {
			t.Errorf("v%d: cluster operations %d, want Kafka's 8096", v, resp.AuthorizedOperations)
		}
	})
}

func TestDescribeCluster(t *testing.T) {
	c := newCluster(t)
	every(c, 60, func(v int16) {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.IncludeClusterAuthorizedOperations = true
		resp := call[*kmsg.DescribeClusterResponse](c, v, req)
		if resp.ErrorCode != 0 || resp.ClusterID != c.Store.Image().ClusterID() || resp.ControllerID != 1 || len(resp.Brokers) != 1 ||
			resp.Brokers[0].Host != "10.1.2.3" || resp.Brokers[0].Port != 19092 || resp.ClusterAuthorizedOperations != 8096 {
			t.Errorf("v%d: %+v", v, resp)
		}
		req.IncludeClusterAuthorizedOperations = false
		if resp = call[*kmsg.DescribeClusterResponse](c, v, req); resp.ClusterAuthorizedOperations != notAsked {
			t.Errorf("v%d: operations that were not asked for: %d", v, resp.ClusterAuthorizedOperations)
		}
		if v == 0 {
			return
		}
		req.EndpointType = 2
		c.wantCode("controllers", call[*kmsg.DescribeClusterResponse](c, v, req).ErrorCode, kafka.ErrMismatchedEndpointType)
		req.EndpointType = 3
		c.wantCode("nothing known", call[*kmsg.DescribeClusterResponse](c, v, req).ErrorCode, kafka.ErrUnsupportedEndpointType)
	})
}

func TestDescribeTopicPartitionsPages(t *testing.T) {
	c := newCluster(t, "max.request.partition.size.limit=3")
	for _, name := range []string{"a", "b", "c", "d"} {
		c.create(name, 2)
	}
	var seen []string
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = 2000
	for pages := 0; ; pages++ {
		resp := call[*kmsg.DescribeTopicPartitionsResponse](c, 0, req)
		count := 0
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				seen = append(seen, *topic.Topic+string(rune('0'+p.Partition)))
				count++
			}
			if topic.AuthorizedOperations != 3576 {
				t.Errorf("operations: %d", topic.AuthorizedOperations)
			}
		}
		if count > 3 {
			t.Errorf("page %d has %d partitions", pages, count)
		}
		if resp.NextCursor == nil {
			break
		}
		cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
		cursor.Topic, cursor.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
		req.Cursor = &cursor
	}
	if got := strings.Join(seen, " "); got != "a0 a1 b0 b1 c0 c1 d0 d1" {
		t.Errorf("got %s", got)
	}
}

func TestDescribeTopicPartitionsNamed(t *testing.T) {
	c := newCluster(t)
	topic := c.create("b", 2)
	ask := func(cursor *kmsg.DescribeTopicPartitionsRequestCursor, limit int32, names ...string) *kmsg.DescribeTopicPartitionsResponse {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit, req.Cursor = limit, cursor
		for _, name := range names {
			rt := kmsg.NewDescribeTopicPartitionsRequestTopic()
			rt.Topic = name
			req.Topics = append(req.Topics, rt)
		}
		return call[*kmsg.DescribeTopicPartitionsResponse](c, 0, req)
	}
	resp := ask(nil, 2000, "c", "b", "not good", "b")
	if len(resp.Topics) != 3 || *resp.Topics[0].Topic != "b" || resp.Topics[0].TopicID != topic.ID || len(resp.Topics[0].Partitions) != 2 {
		t.Fatalf("got %+v", resp.Topics)
	}
	c.wantCode("c", resp.Topics[1].ErrorCode, kafka.ErrUnknownTopicOrPartition)
	c.wantCode("bad name", resp.Topics[2].ErrorCode, kafka.ErrInvalidTopic)
	if resp = ask(nil, -5, "b"); len(resp.Topics[0].Partitions) != 1 || resp.NextCursor == nil || resp.NextCursor.Partition != 1 {
		t.Errorf("a limit below 1 counts as 1: %+v", resp)
	}
	cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
	cursor.Topic = "x"
	c.wantCode("cursor elsewhere", ask(&cursor, 10, "b").Topics[0].ErrorCode, kafka.ErrInvalidRequest)
	cursor.Topic, cursor.Partition = "b", -1
	c.wantCode("cursor below 0", ask(&cursor, 10, "b").Topics[0].ErrorCode, kafka.ErrInvalidRequest)
}

func TestAPIVersions(t *testing.T) {
	c := newCluster(t)
	every(c, 18, func(v int16) {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "test-client", "1.0"
		resp := call[*kmsg.ApiVersionsResponse](c, v, req)
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(Table()) {
			t.Errorf("v%d: %+v", v, resp)
		}
		if v >= 3 && (c.conn.SoftwareName != "test-client" || resp.FinalizedFeaturesEpoch < 0 || len(resp.FinalizedFeatures) != 1 ||
			resp.FinalizedFeatures[0].Name != "group.version" || resp.FinalizedFeatures[0].MaxVersionLevel != 1) {
			t.Errorf("v%d: %q, %+v", v, c.conn.SoftwareName, resp)
		}
		if features := len(resp.SupportedFeatures); (features > 0) != (v >= 4) {
			t.Errorf("v%d: %d features", v, features)
		}
		if v < 3 {
			return
		}
		for _, bad := range []string{"", "-x", "x-", "a b", "é"} {
			req.ClientSoftwareName = bad
			c.wantCode("name "+bad, call[*kmsg.ApiVersionsResponse](c, v, req).ErrorCode, kafka.ErrInvalidRequest)
		}
	})
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "x", "1"
	id := c.Store.Image().ClusterID()
	for _, tc := range []struct {
		cluster *string
		node    int32
		want    *kafka.Error
	}{
		{nil, -1, nil}, {&id, 1, nil}, {&id, 2, kafka.ErrRebootstrapRequired}, {kmsg.StringPtr("other"), 1, kafka.ErrRebootstrapRequired},
	} {
		req.ClusterID, req.NodeID = tc.cluster, tc.node
		c.wantCode("misrouted", call[*kmsg.ApiVersionsResponse](c, 5, req).ErrorCode, tc.want)
	}
}

// The table is in order, within what kmsg can encode, and has no key twice.
func TestTable(t *testing.T) {
	last := int16(-1)
	for _, k := range Table() {
		if k.Key <= last || k.MinVersion > k.MaxVersion || k.handle == nil || k.MaxVersion > kmsg.RequestForKey(k.Key).MaxVersion() {
			t.Errorf("row %+v", k)
		}
		last = k.Key
	}
}
