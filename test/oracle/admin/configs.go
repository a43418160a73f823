package admin

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

const (
	topicKind  = kmsg.ConfigResourceTypeTopic
	brokerKind = kmsg.ConfigResourceTypeBroker
)

func configs(s *pair.Side) {
	describe(s, topicKind, "made-7", "segment.bytes", "cleanup.policy", "max.message.bytes", "compression.type", "no.such.key")
	versions(0, 1, func(v int16) { incremental(s, v) })
	versions(0, 2, func(v int16) { replacing(s, v) })
	brokers(s)
}

// describe asks for keys whose synonyms are told alike (docs/decisions/2026-11-22-refused-configuration.md).
func describe(s *pair.Side, kind kmsg.ConfigResourceType, name string, keys ...string) {
	versions(1, 4, func(v int16) {
		for _, synonyms := range []bool{false, true} {
			req := kmsg.NewPtrDescribeConfigsRequest()
			req.IncludeSynonyms = synonyms
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, keys
			req.Resources = append(req.Resources, r)
			pair.Call[*kmsg.DescribeConfigsResponse](s, v, req)
			s.Without("IsDefault", "Documentation")
		}
	})
}

// whereABrokerIs asks for what clients look up under Kafka's names alone; the values are each side's own.
func whereABrokerIs(s *pair.Side) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = brokerKind, fmt.Sprint(s.Broker), []string{"advertised.listeners", "broker.id", "listeners", "log.dirs"}
	req.Resources = append(req.Resources, r)
	pair.Call[*kmsg.DescribeConfigsResponse](s, 4, req)
	s.Without("Value", "IsDefault", "Documentation")
}

type change struct {
	key   string
	op    kmsg.IncrementalAlterConfigOp
	value string
	null  bool
}

const (
	set      = kmsg.IncrementalAlterConfigOpSet
	remove   = kmsg.IncrementalAlterConfigOpDelete
	appendTo = kmsg.IncrementalAlterConfigOpAppend
	subtract = kmsg.IncrementalAlterConfigOpSubtract
)

func resource(kind kmsg.ConfigResourceType, name string, changes ...change) kmsg.IncrementalAlterConfigsRequestResource {
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	for _, c := range changes {
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Op = c.key, c.op
		if !c.null {
			rc.Value = &c.value
		}
		r.Configs = append(r.Configs, rc)
	}
	return r
}

func alter(s *pair.Side, v int16, validateOnly bool, resources ...kmsg.IncrementalAlterConfigsRequestResource) {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.Resources, req.ValidateOnly = resources, validateOnly
	pair.Call[*kmsg.IncrementalAlterConfigsResponse](s, v, req)
	time.Sleep(s.Eventually / 5)
}

func incremental(s *pair.Side, v int16) {
	for _, changes := range [][]change{
		{}, {{key: "retention.ms", op: set, value: "1"}, {key: "retention.ms", op: set, value: "2"}},
		{{key: "retention.ms", op: set, null: true}}, {{key: "retention.ms", op: set, value: "x"}}, {{key: "retention.ms", op: set, value: ""}},
		{{key: "no.such.key", op: set, value: "1"}}, {{key: "no.such.key", op: remove, null: true}},
		{{key: "retention.ms", op: appendTo, value: "1"}}, {{key: "retention.ms", op: subtract, value: "1"}},
		{{key: "cleanup.policy", op: appendTo, value: "delete"}}, {{key: "cleanup.policy", op: remove, null: true}},
		{{key: "segment.ms", op: set, value: " 5 "}}, {{key: "segment.ms", op: remove, value: "5"}},
		{{key: "retention.ms", op: remove, null: true}, {key: "segment.bytes", op: set, value: "3145728"}},
		{{key: "retention.ms", op: set, value: "777"}}, {{key: "min.insync.replicas", op: set, value: "2"}},
		{{key: "min.insync.replicas", op: remove, null: true}},
	} {
		alter(s, v, true, resource(topicKind, "made-7", changes...))
		alter(s, v, false, resource(topicKind, "made-7", changes...))
		describe(s, topicKind, "made-7", "segment.bytes", "cleanup.policy", "max.message.bytes")
	}
	one := change{key: "retention.ms", op: set, value: "777"}
	for _, r := range []kmsg.IncrementalAlterConfigsRequestResource{
		resource(topicKind, "nowhere", one), resource(topicKind, "", one), resource(topicKind, "no good", one), resource(3, "x", one),
		resource(topicKind, "nowhere", change{key: "retention.ms", op: set, value: "x"}),
	} {
		alter(s, v, true, r)
		alter(s, v, false, r)
	}
	alter(s, v, false)
	alter(s, v, false, resource(topicKind, "made-7", one), resource(topicKind, "made-7", one), resource(topicKind, "made-6", one))
}

func replacing(s *pair.Side, v int16) {
	ask := func(validateOnly bool, name string, pairs ...string) {
		req := kmsg.NewPtrAlterConfigsRequest()
		req.ValidateOnly = validateOnly
		r := kmsg.NewAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = topicKind, name
		for i := 0; i < len(pairs); i += 2 {
			c := kmsg.NewAlterConfigsRequestResourceConfig()
			c.Name = pairs[i]
			if pairs[i+1] != "null" {
				c.Value = &pairs[i+1]
			}
			r.Configs = append(r.Configs, c)
		}
		req.Resources = append(req.Resources, r)
		pair.Call[*kmsg.AlterConfigsResponse](s, v, req)
		time.Sleep(s.Eventually / 5)
	}
	for _, pairs := range [][]string{
		{"retention.ms", "x"}, {"retention.ms", "null"}, {"no.such.key", "1"}, {"retention.ms", "1", "retention.ms", "2"},
		{"max.message.bytes", "1000"}, {}, {"retention.ms", "777", "segment.bytes", "2097152"},
	} {
		ask(true, "made-7", pairs...)
		ask(false, "made-7", pairs...)
		describe(s, topicKind, "made-7", "segment.bytes", "cleanup.policy", "max.message.bytes")
	}
	ask(false, "nowhere", "retention.ms", "1")
	ask(false, "", "retention.ms", "1")
}

func brokers(s *pair.Side) {
	describe(s, brokerKind, "", "message.max.bytes")
	describe(s, brokerKind, fmt.Sprint(s.Broker), "message.max.bytes", "num.partitions", "log.retention.hours", "log.retention.ms", "log.segment.bytes",
		"auto.create.topics.enable", "group.max.session.timeout.ms", "fetch.max.bytes")
	whereABrokerIs(s)
	describe(s, brokerKind, "7", "message.max.bytes")
	describe(s, brokerKind, "x", "message.max.bytes")
	describe(s, 99, "x", "message.max.bytes")
	describe(s, topicKind, "nowhere", "retention.ms")
	describe(s, topicKind, "", "retention.ms")
	describe(s, topicKind, "no good", "retention.ms")
	for _, step := range []struct {
		name string
		change
	}{
		{"", change{key: "message.max.bytes", op: set, value: "x"}},
		{"", change{key: "message.max.bytes", op: set, value: "-1"}},
		{"", change{key: "message.max.bytes", op: appendTo, value: "1"}},
		{"", change{key: "num.partitions", op: set, value: "3"}},
		{"7", change{key: "message.max.bytes", op: set, value: "1"}},
		{"x", change{key: "message.max.bytes", op: set, value: "1"}},
		{"", change{key: "message.max.bytes", op: set, value: "1111111"}},
		{fmt.Sprint(s.Broker), change{key: "message.max.bytes", op: set, value: "1222222"}},
		{"", change{key: "message.max.bytes", op: remove, null: true}},
		{fmt.Sprint(s.Broker), change{key: "message.max.bytes", op: remove, null: true}},
		{"", change{key: "log.segment.bytes", op: set, value: "4194304"}},
		{"", change{key: "log.segment.bytes", op: remove, null: true}},
		{fmt.Sprint(s.Broker), change{key: "log.cleaner.backoff.ms", op: set, value: "16000"}},
		{fmt.Sprint(s.Broker), change{key: "log.cleaner.backoff.ms", op: remove, null: true}},
		{"", change{key: "log.cleaner.io.max.bytes.per.second", op: set, value: "1000000.5"}},
		{"", change{key: "log.cleaner.io.max.bytes.per.second", op: remove, null: true}},
		{"", change{key: "log.cleaner.io.buffer.load.factor", op: set, value: "0.8"}},
		{"", change{key: "log.cleaner.io.buffer.load.factor", op: remove, null: true}},
		{"", change{key: "log.cleaner.io.buffer.size", op: set, value: "1048576"}},
		{"", change{key: "log.cleaner.io.buffer.size", op: remove, null: true}},
		{"", change{key: "log.cleaner.dedupe.buffer.size", op: set, value: "67108864"}},
		{"", change{key: "log.cleaner.dedupe.buffer.size", op: remove, null: true}},
	} {
		alter(s, 1, true, resource(brokerKind, step.name, step.change))
		alter(s, 1, false, resource(brokerKind, step.name, step.change))
		time.Sleep(s.Eventually) // Apache Kafka answers before it acts on what it was told
		describe(s, brokerKind, "", "message.max.bytes", "log.segment.bytes")
		describe(s, brokerKind, fmt.Sprint(s.Broker), "log.cleaner.backoff.ms", "log.cleaner.io.max.bytes.per.second", "log.cleaner.io.buffer.load.factor")
	}
}
