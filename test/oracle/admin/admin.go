package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// Talk is about topics, configuration and the cluster, at every version that both serve.
func Talk(s *pair.Side) {
	cluster(s)
	createTopics(s)
	describeTopics(s)
	describePartitions(s)
	createPartitions(s)
	elections(s)
	logDirs(s)
	configs(s)
	deleteTopics(s)
}

func elections(s *pair.Side) {
	versions(0, 2, func(v int16) {
		for _, kind := range []int8{0, 1, 7} {
			req := kmsg.NewPtrElectLeadersRequest()
			req.ElectionType, req.TimeoutMillis = kind, 20_000
			req.Topics = []kmsg.ElectLeadersRequestTopic{{Topic: "made-2", Partitions: []int32{0, 1, 99}}, {Topic: "nowhere", Partitions: []int32{0}},
				{Topic: "made-3"}}
			pair.Call[*kmsg.ElectLeadersResponse](s, v, req)
		}
		all := kmsg.NewPtrElectLeadersRequest()
		all.TimeoutMillis = 20_000
		pair.Call[*kmsg.ElectLeadersResponse](s, v, all)
	})
}

func logDirs(s *pair.Side) {
	versions(1, 5, func(v int16) {
		for _, topics := range [][]kmsg.DescribeLogDirsRequestTopic{
			{}, {{Topic: "made-2", Partitions: []int32{0, 1, 99}}, {Topic: "nowhere", Partitions: []int32{0}}, {Topic: "made-3"}},
		} {
			req := kmsg.NewPtrDescribeLogDirsRequest()
			req.Topics = topics
			pair.Call[*kmsg.DescribeLogDirsResponse](s, v, req)
			s.Without("Dir", "TotalBytes", "UsableBytes")
		}
	})
}

func versions(lowest, highest int16, each func(v int16)) {
	for v := lowest; v <= highest; v++ {
		each(v)
	}
}

func cluster(s *pair.Side) {
	req := kmsg.NewPtrDescribeClusterRequest()
	if resp := pair.Call[*kmsg.DescribeClusterResponse](s, 0, req); resp != nil {
		s.ID(resp.ClusterID)
	}
	versions(0, 2, func(v int16) {
		for _, endpoints := range []int8{1, 2, 3, 0} {
			for _, operations := range []bool{false, true} {
				req := kmsg.NewPtrDescribeClusterRequest()
				req.EndpointType, req.IncludeClusterAuthorizedOperations, req.IncludeFencedBrokers = endpoints, operations, true
				pair.Call[*kmsg.DescribeClusterResponse](s, v, req)
			}
		}
	})
	versions(3, 4, func(v int16) {
		for _, name := range []string{"", "-", "a b", "x-", "é"} {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = name, "1"
			pair.Call[*kmsg.ApiVersionsResponse](s, v, req)
			s.Without("FinalizedFeaturesEpoch")
			req.ClientSoftwareName, req.ClientSoftwareVersion = "x", name
			pair.Call[*kmsg.ApiVersionsResponse](s, v, req)
			s.Without("FinalizedFeaturesEpoch")
		}
	})
}

func newTopic(name string, partitions int32, replication int16, configs ...string) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, replication
	for i := 0; i < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], &configs[i+1]
		t.Configs = append(t.Configs, c)
	}
	return t
}

func assignedTopic(name string, partitions int32, replication int16, assignments ...[]int32) kmsg.CreateTopicsRequestTopic {
	t := newTopic(name, partitions, replication)
	for _, a := range assignments {
		ra := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		ra.Partition, ra.Replicas = a[0], a[1:]
		t.ReplicaAssignment = append(t.ReplicaAssignment, ra)
	}
	return t
}

func create(s *pair.Side, v int16, validateOnly bool, topics ...kmsg.CreateTopicsRequestTopic) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics, req.TimeoutMillis, req.ValidateOnly = topics, 20_000, validateOnly
	resp := pair.Call[*kmsg.CreateTopicsResponse](s, v, req)
	s.Without("Configs")
	if resp == nil {
		return
	}
	if v >= 7 && slices.ContainsFunc(resp.Topics, func(t kmsg.CreateTopicsResponseTopic) bool { return t.ErrorCode == 0 }) {
		s.Without("TopicID")
	}
}

func createTopics(s *pair.Side) {
	versions(2, 7, func(v int16) {
		id, name := s.Broker, fmt.Sprintf("made-%d", v)
		noValue := newTopic(name, 1, 1, "retention.ms", "")
		noValue.Configs[0].Value = nil
		create(s, v, true, newTopic(name, 2, 1), newTopic(name+"-x", 3, 1, "retention.ms", "5"))
		create(s, v, false, newTopic(name, 2, 1, "retention.ms", "777", "segment.bytes", "2097152"))
		create(s, v, false, newTopic(name, 2, 1))
		create(s, v, false, newTopic(strings.ReplaceAll(name, "-", "."), 1, 1))
		create(s, v, false, newTopic(strings.ReplaceAll(name, "-", "."), 1, 1))
		create(s, v, true, newTopic(strings.ReplaceAll(name, "-", "_"), 1, 1))
		create(s, v, false, newTopic("double", 1, 1), newTopic("double", 2, 1), newTopic(name+"-single", 1, 1))
		create(s, v, false)
		for _, t := range []kmsg.CreateTopicsRequestTopic{
			newTopic("", 1, 1), newTopic(".", 1, 1), newTopic("..", 1, 1), newTopic("no good", 1, 1), newTopic("ä", 1, 1),
			newTopic(strings.Repeat("x", 250), 1, 1), newTopic("__cluster_metadata", 1, 1),
			newTopic("t", 0, 1), newTopic("t", -2, 1), newTopic("t", 1, 0), newTopic("t", 1, -2), newTopic("t", 1, 2), newTopic("t", 10_001, 1),
			newTopic("t", 1, 1, "no.such.key", "1"), newTopic("t", 1, 1, "retention.ms", "x"), newTopic("t", 1, 1, "retention.ms", "-2"),
			newTopic("t", 1, 1, "segment.bytes", "1"), newTopic("t", 1, 1, "segment.bytes", "99999999999"), newTopic("t", 1, 1, "cleanup.policy", "shred"),
			newTopic("t", 1, 1, "compression.type", "brotli"), newTopic("t", 1, 1, "message.timestamp.type", "createtime"),
			newTopic("t", 1, 1, "min.insync.replicas", "0"), newTopic("t", 1, 1, "preallocate", "perhaps"), newTopic("t", 1, 1, "max.message.bytes", "-1"),
			noValue,
			assignedTopic("t", 1, -1, []int32{0, id}), assignedTopic("t", -1, 1, []int32{0, id}), assignedTopic("t", -1, -1, []int32{1, id}),
			assignedTopic("t", -1, -1, []int32{0, id}, []int32{0, id}), assignedTopic("t", -1, -1, []int32{0, 9}), assignedTopic("t", -1, -1, []int32{0}),
			assignedTopic("t", -1, -1, []int32{0, id, id}), assignedTopic("t", -1, -1, []int32{0, id}, []int32{2, id}),
			assignedTopic("t", -1, -1, []int32{-1, id}),
		} {
			create(s, v, true, t)
			create(s, v, false, t)
		}
		create(s, v, false, assignedTopic(name+"-assigned", -1, -1, []int32{1, id}, []int32{0, id}))
		if v >= 4 {
			create(s, v, false, newTopic(name+"-default", -1, -1))
		}
	})
	for _, name := range []string{"made-2", "made-3", "made-4", "made-5", "made-6", "made-7", "made-7-assigned", "made-7-default", "made.2"} {
		s.Know(name)
	}
}

func describeTopics(s *pair.Side) {
	operations := []bool{false, true}
	versions(0, 13, func(v int16) {
		for _, with := range operations {
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = []kmsg.MetadataRequestTopic{}
			req.IncludeClusterAuthorizedOperations, req.IncludeTopicAuthorizedOperations = with, with
			for _, name := range []string{"made-2", "made-7-assigned", "no good", "", "made-2"} {
				t := kmsg.NewMetadataRequestTopic()
				t.Topic = &name
				req.Topics = append(req.Topics, t)
			}
			pair.Call[*kmsg.MetadataResponse](s, v, req)
			if v >= 4 {
				t := kmsg.NewMetadataRequestTopic()
				t.Topic = kmsg.StringPtr("nowhere")
				req.Topics = append(req.Topics, t)
				pair.Call[*kmsg.MetadataResponse](s, v, req)
			}
			if v > 0 {
				req.Topics = []kmsg.MetadataRequestTopic{}
				pair.Call[*kmsg.MetadataResponse](s, v, req)
			}
		}
		if v < 10 {
			return
		}
		for _, ids := range [][][16]byte{{s.Topics["made-2"]}, {{9}}, {s.Topics["made-7"], {9}, {9}, s.Topics["made-2"]}} {
			req := kmsg.NewPtrMetadataRequest()
			for _, id := range ids {
				t := kmsg.NewMetadataRequestTopic()
				t.TopicID = id
				if v < 12 {
					t.Topic = kmsg.StringPtr("made-3")
				}
				req.Topics = append(req.Topics, t)
			}
			pair.Call[*kmsg.MetadataResponse](s, v, req)
		}
		if v < 12 {
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = append(req.Topics, kmsg.NewMetadataRequestTopic())
			pair.Call[*kmsg.MetadataResponse](s, v, req)
		}
	})
}

func describePartitions(s *pair.Side) {
	ask := func(limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, names ...string) {
		req := kmsg.NewPtrDescribeTopicPartitionsRequest()
		req.ResponsePartitionLimit, req.Cursor = limit, cursor
		for _, name := range names {
			t := kmsg.NewDescribeTopicPartitionsRequestTopic()
			t.Topic = name
			req.Topics = append(req.Topics, t)
		}
		pair.Call[*kmsg.DescribeTopicPartitionsResponse](s, 0, req)
	}
	at := func(topic string, partition int32) *kmsg.DescribeTopicPartitionsRequestCursor {
		c := kmsg.NewDescribeTopicPartitionsRequestCursor()
		c.Topic, c.Partition = topic, partition
		return &c
	}
	ask(2000, nil, "made-2", "made-7-assigned", "nowhere", "no good", "made-2")
	ask(1, nil, "made-2", "made-3", "nowhere")
	ask(2, nil, "made-2", "made-3", "nowhere")
	ask(3, nil, "made-2", "made-3", "nowhere")
	ask(0, nil, "made-2")
	ask(-1, nil, "made-2")
	ask(10, at("made-2", 1), "made-2", "made-3")
	ask(10, at("made-2", 2), "made-2", "made-3")
	ask(10, at("made-2", 9), "made-2", "made-3")
	ask(10, at("made-3", 0), "made-2", "made-3")
	ask(10, at("made-2", -1), "made-2", "made-3")
	ask(10, at("elsewhere", 0), "made-2", "made-3")
}

func createPartitions(s *pair.Side) {
	versions(0, 3, func(v int16) {
		id, name := s.Broker, fmt.Sprintf("made-%d", v+2)
		ask := func(validateOnly bool, topics ...kmsg.CreatePartitionsRequestTopic) {
			req := kmsg.NewPtrCreatePartitionsRequest()
			req.Topics, req.ValidateOnly, req.TimeoutMillis = topics, validateOnly, 20_000
			pair.Call[*kmsg.CreatePartitionsResponse](s, v, req)
		}
		topic := func(name string, count int32, assignments ...[]int32) kmsg.CreatePartitionsRequestTopic {
			t := kmsg.NewCreatePartitionsRequestTopic()
			t.Topic, t.Count = name, count
			for _, a := range assignments {
				ra := kmsg.NewCreatePartitionsRequestTopicAssignment()
				ra.Replicas = a
				t.Assignment = append(t.Assignment, ra)
			}
			return t
		}
		ask(false)
		ask(false, topic(name, 3), topic(name, 3))
		ask(true, topic(name, 3))
		for _, t := range []kmsg.CreatePartitionsRequestTopic{
			topic("nowhere", 3), topic("no good", 3), topic(name, 2), topic(name, 1), topic(name, 0), topic(name, -1),
			topic(name, 4, []int32{id}), topic(name, 3, []int32{id}, []int32{id}), topic(name, 3, []int32{9}), topic(name, 3, []int32{id, id}),
			topic(name, 3, []int32{}),
		} {
			ask(true, t)
			ask(false, t)
		}
		ask(false, topic(name, 3))
		ask(false, topic(name, 4, []int32{id}))
	})
}

func deleteTopics(s *pair.Side) {
	versions(1, 5, func(v int16) {
		name := fmt.Sprintf("made-%d", v+1)
		for _, names := range [][]string{{}, {"nowhere"}, {"no good"}, {name, name, "nowhere"}, {name}, {name}} {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TopicNames, req.TimeoutMillis = names, 20_000
			pair.Call[*kmsg.DeleteTopicsResponse](s, v, req)
		}
	})
	ask := func(topics ...any) {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TimeoutMillis = 20_000
		for _, t := range topics {
			rt := kmsg.NewDeleteTopicsRequestTopic()
			switch t := t.(type) {
			case string:
				rt.Topic = &t
			case [16]byte:
				rt.TopicID = t
			case kmsg.DeleteTopicsRequestTopic:
				rt = t
			}
			req.Topics = append(req.Topics, rt)
		}
		pair.Call[*kmsg.DeleteTopicsResponse](s, 6, req)
	}
	both := kmsg.NewDeleteTopicsRequestTopic()
	both.Topic, both.TopicID = kmsg.StringPtr("made-7"), s.Topics["made-7"]
	ask()
	ask("nowhere", [16]byte{9}, kmsg.NewDeleteTopicsRequestTopic())
	ask(both)
	ask("made-7", "made-7")
	ask(s.Topics["made-7"], s.Topics["made-7"])
	ask("made-7", s.Topics["made-7"])
	ask(s.Topics["made-7"])
	ask(s.Topics["made-7"])
	ask("made-7-default", "made-7")
}
