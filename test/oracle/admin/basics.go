package admin

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// Basics is the part of Talk that a fake can follow: topics and configuration from birth to death, and what most often goes
// wrong, at every version.
func Basics(s *pair.Side) {
	req := kmsg.NewPtrDescribeClusterRequest()
	if resp := pair.Call[*kmsg.DescribeClusterResponse](s, 0, req); resp != nil {
		s.ID(resp.ClusterID)
	}
	versions(0, 2, func(v int16) { pair.Call[*kmsg.DescribeClusterResponse](s, v, kmsg.NewPtrDescribeClusterRequest()) })
	versions(2, 7, func(v int16) { basicTopics(s, v) })
	for v := range int16(8) {
		if v >= 2 {
			s.Know(fmt.Sprintf("made-%d", v))
		}
	}
	versions(0, 13, func(v int16) { basicMetadata(s, v) })
	basicConfigs(s)
	versions(0, 3, func(v int16) { basicPartitions(s, v) })
	versions(1, 5, func(v int16) {
		for _, name := range []string{"nowhere", fmt.Sprintf("made-%d", v+1), fmt.Sprintf("made-%d", v+1)} {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TopicNames, req.TimeoutMillis = []string{name}, 20_000
			pair.Call[*kmsg.DeleteTopicsResponse](s, v, req)
		}
	})
	for _, id := range [][16]byte{{9}, s.Topics["made-7"], s.Topics["made-7"]} {
		req := kmsg.NewPtrDeleteTopicsRequest()
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.TopicID = id
		req.Topics, req.TimeoutMillis = append(req.Topics, t), 20_000
		pair.Call[*kmsg.DeleteTopicsResponse](s, 6, req)
	}
}

func basicTopics(s *pair.Side, v int16) {
	name := fmt.Sprintf("made-%d", v)
	create(s, v, true, newTopic(name, 2, 1))
	create(s, v, false, newTopic(name, 2, 1, "retention.ms", "777"))
	create(s, v, false, newTopic(name, 2, 1))
	create(s, v, true, newTopic("no good", 1, 1))
	create(s, v, true, newTopic("t", 0, 1))
	create(s, v, true, newTopic("t", 1, 2))
	create(s, v, true, assignedTopic("t", 1, -1, []int32{0, s.Broker}))
	if v >= 4 {
		create(s, v, false, newTopic(name+"-default", -1, -1))
	}
}

func basicMetadata(s *pair.Side, v int16) {
	ask := func(names []string, ids ...[16]byte) {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{}
		for _, name := range names {
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = &name
			req.Topics = append(req.Topics, t)
		}
		for _, id := range ids {
			t := kmsg.NewMetadataRequestTopic()
			t.TopicID = id
			req.Topics = append(req.Topics, t)
		}
		pair.Call[*kmsg.MetadataResponse](s, v, req)
	}
	ask([]string{"made-2"})
	ask([]string{"made-2", "made-3"})
	if v > 0 {
		ask(nil)
	}
	if v >= 4 {
		ask([]string{"nowhere"})
		ask([]string{"no good"})
	}
	if v >= 12 {
		ask(nil, s.Topics["made-2"])
		ask(nil, [16]byte{9})
	}
}

func basicPartitions(s *pair.Side, v int16) {
	for _, one := range []struct {
		name  string
		count int32
	}{{fmt.Sprintf("made-%d", v+2), 3}, {fmt.Sprintf("made-%d", v+2), 3}, {fmt.Sprintf("made-%d", v+2), 2}, {"nowhere", 3}} {
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = one.name, one.count
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Topics, req.TimeoutMillis = append(req.Topics, t), 20_000
		pair.Call[*kmsg.CreatePartitionsResponse](s, v, req)
	}
}

func basicConfigs(s *pair.Side) {
	for _, key := range []string{"retention.ms", "max.message.bytes", "cleanup.policy"} {
		describe(s, topicKind, "made-7", key)
	}
	describe(s, topicKind, "nowhere", "retention.ms")
	versions(0, 1, func(v int16) {
		for _, c := range []change{
			{key: "retention.ms", op: set, value: "888"}, {key: "retention.ms", op: remove, null: true}, {key: "retention.ms", op: set, value: "x"},
			{key: "no.such.key", op: set, value: "1"}, {key: "retention.ms", op: appendTo, value: "1"},
		} {
			alter(s, v, false, resource(topicKind, "made-7", c))
			describe(s, topicKind, "made-7", "retention.ms")
		}
		alter(s, v, false, resource(topicKind, "nowhere", change{key: "retention.ms", op: set, value: "1"}))
	})
	versions(0, 2, func(v int16) {
		for _, name := range []string{"made-7", "nowhere"} {
			value := "999"
			req := kmsg.NewPtrAlterConfigsRequest()
			r := kmsg.NewAlterConfigsRequestResource()
			r.ResourceType, r.ResourceName = topicKind, name
			c := kmsg.NewAlterConfigsRequestResourceConfig()
			c.Name, c.Value = "retention.ms", &value
			r.Configs = append(r.Configs, c)
			req.Resources = append(req.Resources, r)
			pair.Call[*kmsg.AlterConfigsResponse](s, v, req)
		}
		describe(s, topicKind, "made-7", "retention.ms")
	})
}
