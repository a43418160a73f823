package api

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

func creation(name string, partitions int32, replication int16, configs ...string) kmsg.CreateTopicsRequestTopic {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, replication
	for i := 0; i < len(configs); i += 2 {
		cfg := kmsg.NewCreateTopicsRequestTopicConfig()
		cfg.Name, cfg.Value = configs[i], &configs[i+1]
		topic.Configs = append(topic.Configs, cfg)
	}
	return topic
}

func assigned(name string, partitions ...int32) kmsg.CreateTopicsRequestTopic {
	topic := creation(name, -1, -1)
	for _, p := range partitions {
		a := kmsg.NewCreateTopicsRequestTopicReplicaAssignment()
		a.Partition, a.Replicas = p, []int32{1}
		topic.ReplicaAssignment = append(topic.ReplicaAssignment, a)
	}
	return topic
}

func TestCreateTopicsErrors(t *testing.T) {
	c := newCluster(t, "partitions.max=1000")
	c.create("exists", 1)
	c.create("dotted.name", 1)
	nullConfig := creation("t", 1, 1, "retention.ms", "1")
	nullConfig.Configs[0].Value = nil
	wrongBroker := assigned("t", 0)
	wrongBroker.ReplicaAssignment[0].Replicas = []int32{5}
	twice := assigned("t", 0)
	twice.NumPartitions = 1
	for _, tc := range []struct {
		topic kmsg.CreateTopicsRequestTopic
		want  *kafka.Error
		text  string
	}{
		{creation("exists", 1, 1), kafka.ErrTopicAlreadyExists, "exists"},
		{creation("exists", 1, 1, "bogus", "1"), kafka.ErrTopicAlreadyExists, "exists"},
		{creation("", 1, 1), kafka.ErrInvalidTopic, "empty"},
		{creation("no good", 1, 1), kafka.ErrInvalidTopic, "no good"},
		{creation(strings.Repeat("x", 250), 1, 1), kafka.ErrInvalidTopic, "250"},
		{creation("dotted_name", 1, 1), kafka.ErrInvalidTopic, "dotted.name"},
		{creation(kafka.ClusterMetadataTopic, 1, 1), kafka.ErrInvalidRequest, ""},
		{creation("t", 0, 1), kafka.ErrInvalidPartitions, ""},
		{creation("t", -2, 1), kafka.ErrInvalidPartitions, ""},
		{creation("t", 1, 0), kafka.ErrInvalidReplicationFactor, ""},
		{creation("t", 1, 2), kafka.ErrInvalidReplicationFactor, ""},
		{creation("t", 1001, 1), kafka.ErrInvalidPartitions, "partitions.max"},
		{creation("t", 1<<31-1, 1), kafka.ErrInvalidPartitions, "partitions.max"},
		{creation("t", 1, 1, "retention.ms", "x"), kafka.ErrInvalidConfig, "retention.ms"},
		{creation("t", 1, 1, "flush.messages", "1"), kafka.ErrInvalidConfig, "sync"},
		{creation("t", 1, 1, "cleanup.policy", "shred"), kafka.ErrInvalidConfig, "none of delete, compact"},
		{creation("t", 1, 1, "retention.msec", "1"), kafka.ErrInvalidConfig, "did you mean retention.ms?"},
		{nullConfig, kafka.ErrInvalidConfig, "retention.ms"},
		{twice, kafka.ErrInvalidRequest, "-1"},
		{assigned("t", 0, 0), kafka.ErrInvalidReplicaAssignment, "twice"},
		{assigned("t", 1, 2), kafka.ErrInvalidReplicaAssignment, ""},
		{assigned("t", -1), kafka.ErrInvalidReplicaAssignment, ""},
		{wrongBroker, kafka.ErrInvalidReplicaAssignment, "5"},
	} {
		every(c, 19, func(v int16) {
			req := kmsg.NewPtrCreateTopicsRequest()
			req.Topics = append(req.Topics, tc.topic)
			resp := call[*kmsg.CreateTopicsResponse](c, v, req)
			got := resp.Topics[0]
			c.wantCode(tc.topic.Topic, got.ErrorCode, tc.want)
			if !strings.Contains(deref(got.ErrorMessage), tc.text) {
				t.Errorf("%s: message %q, want %q", tc.topic.Topic, deref(got.ErrorMessage), tc.text)
			}
		})
		if c.Store.Image().Topic("t") != nil {
			t.Fatalf("%+v was created", tc.topic)
		}
	}
}

func TestCreateTopics(t *testing.T) {
	c := newCluster(t, "num.partitions=4", "log.retention.hours=1")
	every(c, 19, func(v int16) {
		name := "topic-" + string(rune('0'+v))
		req := kmsg.NewPtrCreateTopicsRequest()
		req.ValidateOnly = true
		req.Topics = append(req.Topics, creation(name, 2, 1, "segment.ms", "5", "sync", "interval"), creation(name+"-default", -1, -1),
			creation("double", 1, 1), creation("double", 1, 1), assigned(name+"-assigned", 1, 0))
		check := func(what string) {
			resp := call[*kmsg.CreateTopicsResponse](c, v, req)
			if len(resp.Topics) != 4 {
				t.Fatalf("v%d, %s: %+v", v, what, resp.Topics)
			}
			c.wantCode("double", resp.Topics[2].ErrorCode, kafka.ErrInvalidRequest)
			for i, partitions := range map[int]int32{0: 2, 1: 4, 3: 2} {
				got := resp.Topics[i]
				c.wantCode(what+" "+got.Topic, got.ErrorCode, nil)
				if v >= 5 && (got.NumPartitions != partitions || got.ReplicationFactor != 1) {
					t.Errorf("v%d, %s: %d partitions with %d replicas", v, what, got.NumPartitions, got.ReplicationFactor)
				}
			}
			if v < 5 {
				return
			}
			values := map[string]kmsg.CreateTopicsResponseTopicConfig{}
			for _, cfg := range resp.Topics[0].Configs {
				values[cfg.Name] = cfg
			}
			for name, want := range map[string]struct {
				value  string
				source int8
			}{"segment.ms": {"5", 1}, "sync": {"interval", 1}, "retention.ms": {"3600000", 4}, "compression.type": {"producer", 5}} {
				if got := values[name]; deref(got.Value) != want.value || got.Source != want.source || got.ReadOnly || got.IsSensitive {
					t.Errorf("v%d, %s: %s is %s from %d", v, what, name, deref(got.Value), got.Source)
				}
			}
		}
		check("validate only")
		if c.Store.Image().Topic(name) != nil {
			t.Fatalf("v%d: created by a request that only validates", v)
		}
		req.ValidateOnly = false
		check("for real")
		topic := c.Store.Image().Topic(name)
		if topic == nil || topic.Partitions.Len() != 2 || topic.Config["segment.ms"] != "5" {
			t.Errorf("v%d: %+v", v, topic)
		}
		if v == 7 {
			req.Topics = []kmsg.CreateTopicsRequestTopic{creation("with-id", 1, 1)}
			if resp := call[*kmsg.CreateTopicsResponse](c, v, req); resp.Topics[0].TopicID != c.Store.Image().Topic("with-id").ID {
				t.Errorf("topic ID %v", resp.Topics[0].TopicID)
			}
		}
	})
}

func TestDeleteTopicsByName(t *testing.T) {
	c := newCluster(t)
	for v := int16(1); v <= 5; v++ {
		c.create("gone", 2)
		c.create("kept", 1)
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TopicNames = []string{"gone", "never", "kept", "kept"}
		resp := call[*kmsg.DeleteTopicsResponse](c, v, req)
		if len(resp.Topics) != 3 {
			t.Fatalf("v%d: %+v", v, resp.Topics)
		}
		c.wantCode("gone", resp.Topics[0].ErrorCode, nil)
		c.wantCode("never", resp.Topics[1].ErrorCode, kafka.ErrUnknownTopicOrPartition)
		c.wantCode("kept", resp.Topics[2].ErrorCode, kafka.ErrInvalidRequest)
		if c.Store.Image().Topic("gone") != nil || c.Store.Image().Topic("kept") == nil {
			t.Errorf("v%d: wrong topics are left", v)
		}
		req.TopicNames = []string{"kept"}
		c.wantCode("kept", call[*kmsg.DeleteTopicsResponse](c, v, req).Topics[0].ErrorCode, nil)
	}
}

func TestDeleteTopicsByID(t *testing.T) {
	c := newCluster(t)
	a, b, d := c.create("a", 1), c.create("b", 1), c.create("d", 1)
	req := kmsg.NewPtrDeleteTopicsRequest()
	for _, tc := range []struct {
		name string
		id   kafka.TopicID
	}{{"", a.ID}, {"b", kafka.TopicID{}}, {"", kafka.TopicID{8}}, {"", kafka.TopicID{}}, {"d", d.ID}} {
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.TopicID = tc.id
		if tc.name != "" {
			rt.Topic = &tc.name
		}
		req.Topics = append(req.Topics, rt)
	}
	resp := call[*kmsg.DeleteTopicsResponse](c, 6, req)
	for i, want := range []*kafka.Error{nil, nil, kafka.ErrUnknownTopicID, kafka.ErrInvalidRequest, kafka.ErrInvalidRequest} {
		c.wantCode("topic "+string(rune('0'+i)), resp.Topics[i].ErrorCode, want)
	}
	if deref(resp.Topics[0].Topic) != "a" || resp.Topics[1].TopicID != b.ID || resp.Topics[2].Topic != nil {
		t.Errorf("%+v", resp.Topics)
	}
	if img := c.Store.Image(); img.Topic("a") != nil || img.Topic("b") != nil || img.Topic("d") == nil {
		t.Error("wrong topics are left")
	}
	// The same topic by name and by ID is not deleted, as in Kafka where the ID comes to be known as a duplicate.
	byBoth := kmsg.NewPtrDeleteTopicsRequest()
	name, id := kmsg.NewDeleteTopicsRequestTopic(), kmsg.NewDeleteTopicsRequestTopic()
	name.Topic, id.TopicID = kmsg.StringPtr("d"), d.ID
	byBoth.Topics = append(byBoth.Topics, name, id)
	resp = call[*kmsg.DeleteTopicsResponse](c, 6, byBoth)
	c.wantCode("d by name", resp.Topics[0].ErrorCode, kafka.ErrInvalidRequest)
	if len(resp.Topics) != 1 || c.Store.Image().Topic("d") == nil {
		t.Errorf("%+v", resp.Topics)
	}
}

func TestDeleteTopicsDisabled(t *testing.T) {
	c := newCluster(t, "delete.topic.enable=false")
	c.create("t", 1)
	every(c, 20, func(v int16) {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TopicNames = []string{"t"}
		rt := kmsg.NewDeleteTopicsRequestTopic()
		rt.Topic = kmsg.StringPtr("t")
		req.Topics = append(req.Topics, rt)
		want := kafka.ErrTopicDeletionDisabled
		if v < 3 {
			want = kafka.ErrInvalidRequest
		}
		c.wantCode("disabled", call[*kmsg.DeleteTopicsResponse](c, v, req).Topics[0].ErrorCode, want)
	})
	if c.Store.Image().Topic("t") == nil {
		t.Error("deleted all the same")
	}
}

func TestCreatePartitions(t *testing.T) {
	c := newCluster(t, "partitions.max=100")
	c.create("t", 2)
	ask := func(v int16, validateOnly bool, topics ...kmsg.CreatePartitionsRequestTopic) *kmsg.CreatePartitionsResponse {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Topics, req.ValidateOnly, req.TimeoutMillis = topics, validateOnly, 5000
		return call[*kmsg.CreatePartitionsResponse](c, v, req)
	}
	topic := func(name string, count int32, assignments ...[]int32) kmsg.CreatePartitionsRequestTopic {
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = name, count
		for _, a := range assignments {
			ra := kmsg.NewCreatePartitionsRequestTopicAssignment()
			ra.Replicas = a
			rt.Assignment = append(rt.Assignment, ra)
		}
		return rt
	}
	count := int32(2)
	every(c, 37, func(v int16) {
		for _, tc := range []struct {
			topic kmsg.CreatePartitionsRequestTopic
			want  *kafka.Error
		}{
			{topic("none", 3), kafka.ErrUnknownTopicOrPartition},
			{topic("t", count), kafka.ErrInvalidPartitions},
			{topic("t", 1), kafka.ErrInvalidPartitions},
			{topic("t", -1), kafka.ErrInvalidPartitions},
			{topic("t", 1000), kafka.ErrInvalidPartitions},
			{topic("t", count+2, []int32{1}), kafka.ErrInvalidReplicaAssignment},
			{topic("t", count+1, []int32{4}), kafka.ErrInvalidReplicaAssignment},
		} {
			got := ask(v, false, tc.topic).Topics[0]
			c.wantCode(tc.topic.Topic, got.ErrorCode, tc.want)
			if got.ErrorMessage == nil {
				t.Error("no message")
			}
		}
		c.wantCode("twice", ask(v, false, topic("t", 9), topic("t", 9)).Topics[0].ErrorCode, kafka.ErrInvalidRequest)
		c.wantCode("validate", ask(v, true, topic("t", count+1)).Topics[0].ErrorCode, nil)
		if n := c.Store.Image().Topic("t").Partitions.Len(); n != int(count) {
			t.Fatalf("v%d: %d partitions after a request that only validates", v, n)
		}
		c.wantCode("raise", ask(v, false, topic("t", count+1)).Topics[0].ErrorCode, nil)
		c.wantCode("raise with assignment", ask(v, false, topic("t", count+2, []int32{1})).Topics[0].ErrorCode, nil)
		count += 2
		if n := c.Store.Image().Topic("t").Partitions.Len(); n != int(count) {
			t.Fatalf("v%d: %d partitions, want %d", v, n, count)
		}
	})
}
