package api

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/kafka"
)

const (
	topicResource  = kmsg.ConfigResourceTypeTopic
	brokerResource = kmsg.ConfigResourceTypeBroker
)

func (c *cluster) describe(v int16, kind kmsg.ConfigResourceType, name string, keys ...string) kmsg.DescribeConfigsResponseResource {
	c.t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms, req.IncludeDocumentation = true, true
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, keys
	req.Resources = append(req.Resources, r)
	return call[*kmsg.DescribeConfigsResponse](c, v, req).Resources[0]
}

func (c *cluster) entry(v int16, kind kmsg.ConfigResourceType, name, key string) kmsg.DescribeConfigsResponseResourceConfig {
	c.t.Helper()
	r := c.describe(v, kind, name, key)
	if r.ErrorCode != 0 || len(r.Configs) != 1 {
		c.t.Fatalf("describe %s of %q: %s %s, %d entries", key, name, codeName(r.ErrorCode), deref(r.ErrorMessage), len(r.Configs))
	}
	return r.Configs[0]
}

// alter is IncrementalAlterConfigs of operations like "+key=value" (append), "-key=value" (subtract), "!key" (delete).
func (c *cluster) alter(v int16, validateOnly bool, kind kmsg.ConfigResourceType, name string, operations ...string) (int16, string) {
	c.t.Helper()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = validateOnly
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	for _, o := range operations {
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		key, value, ok := strings.Cut(o, "=")
		if ok {
			rc.Value = &value
		}
		switch key[0] {
		case '+':
			rc.Op = kmsg.IncrementalAlterConfigOpAppend
		case '-':
			rc.Op = kmsg.IncrementalAlterConfigOpSubtract
		case '!':
			rc.Op = kmsg.IncrementalAlterConfigOpDelete
		case '?':
			rc.Op = 9
		}
		rc.Name = strings.TrimLeft(key, "+-!?")
		r.Configs = append(r.Configs, rc)
	}
	req.Resources = append(req.Resources, r)
	got := call[*kmsg.IncrementalAlterConfigsResponse](c, v, req).Resources[0]
	if got.ResourceName != name || got.ResourceType != kind {
		c.t.Errorf("answer for %v %q: %+v", kind, name, got)
	}
	return got.ErrorCode, deref(got.ErrorMessage)
}

func TestDescribeTopicConfigs(t *testing.T) {
	c := newCluster(t, "log.retention.hours=2", "log.segment.bytes=2097152")
	c.create("t", 1, "segment.ms", "77")
	every(c, 32, func(v int16) {
		r := c.describe(v, topicResource, "t")
		if len(r.Configs) != len(config.TopicKeys()) {
			t.Fatalf("v%d: %d entries", v, len(r.Configs))
		}
		for _, e := range r.Configs {
			if e.ReadOnly || e.IsSensitive || e.Value == nil || v >= 3 && (deref(e.Documentation) == "" || e.ConfigType == 0) {
				t.Errorf("v%d: %+v", v, e)
			}
		}
	})
	for _, tc := range []struct {
		key, value string
		source     kmsg.ConfigSource
		synonyms   string
	}{
		{"segment.ms", "77", kmsg.ConfigSourceDynamicTopicConfig, "segment.ms=77@1 log.roll.hours=168@5"},
		{"retention.ms", "7200000", kmsg.ConfigSourceStaticBrokerConfig, "log.retention.hours=2@4 log.retention.hours=168@5"},
		{"segment.bytes", "2097152", kmsg.ConfigSourceStaticBrokerConfig, "log.segment.bytes=2097152@4 log.segment.bytes=1073741824@5"},
		{"cleanup.policy", "delete", kmsg.ConfigSourceDefaultConfig, "log.cleanup.policy=delete@5"},
	} {
		e := c.entry(4, topicResource, "t", tc.key)
		var synonyms []string
		for _, s := range e.ConfigSynonyms {
			synonyms = append(synonyms, s.Name+"="+*s.Value+"@"+string(rune('0'+s.Source)))
		}
		if deref(e.Value) != tc.value || e.Source != tc.source || strings.Join(synonyms, " ") != tc.synonyms {
			t.Errorf("%s: %s from %d, synonyms %v", tc.key, deref(e.Value), e.Source, synonyms)
		}
	}
	c.wantCode("unknown topic", c.describe(4, topicResource, "none").ErrorCode, kafka.ErrUnknownTopicOrPartition)
	c.wantCode("invalid topic", c.describe(4, topicResource, "no good").ErrorCode, kafka.ErrInvalidTopic)
	c.wantCode("unknown type", c.describe(4, 77, "t").ErrorCode, kafka.ErrInvalidRequest)
	c.wantCode("loggers", c.describe(4, kmsg.ConfigResourceTypeBrokerLogger, "1").ErrorCode, kafka.ErrInvalidRequest)
}

func TestDescribeBrokerConfigs(t *testing.T) {
	c := newCluster(t, "num.partitions=3")
	every(c, 32, func(v int16) {
		r := c.describe(v, brokerResource, "1")
		if len(r.Configs) != len(config.BrokerKeys())+4 { // and those that only tell
			t.Fatalf("v%d: %d entries", v, len(r.Configs))
		}
	})
	if e := c.entry(4, brokerResource, "1", "num.partitions"); deref(e.Value) != "3" || e.Source != kmsg.ConfigSourceStaticBrokerConfig || !e.ReadOnly {
		t.Errorf("num.partitions: %+v", e)
	}
	if e := c.entry(4, brokerResource, "1", "log.retention.ms"); e.Value != nil || e.ReadOnly || e.Source != kmsg.ConfigSourceDefaultConfig || len(e.ConfigSynonyms) != 0 {
		t.Errorf("log.retention.ms: %+v", e)
	}
	if r := c.describe(4, brokerResource, ""); r.ErrorCode != 0 || len(r.Configs) != 0 {
		t.Errorf("defaults of all brokers: %+v", r)
	}
	c.wantCode("other broker", c.describe(4, brokerResource, "2").ErrorCode, kafka.ErrInvalidRequest)
	c.wantCode("no number", c.describe(4, brokerResource, "x").ErrorCode, kafka.ErrInvalidRequest)
}

func TestIncrementalAlterTopicConfigs(t *testing.T) {
	c := newCluster(t)
	topic := func() map[string]string { return c.Store.Image().Topic("t").Config }
	c.create("t", 1, "segment.ms", "5")
	every(c, 44, func(v int16) {
		for _, tc := range []struct {
			operations []string
			want       *kafka.Error
			text       string
		}{
			{[]string{"retention.ms=1", "retention.ms=2"}, kafka.ErrInvalidRequest, "twice"},
			{[]string{"retention.ms"}, kafka.ErrInvalidRequest, "no value"},
			{[]string{"?retention.ms=1"}, kafka.ErrInvalidRequest, "operation"},
			{[]string{"retention.ms=x"}, kafka.ErrInvalidConfig, "retention.ms"},
			{[]string{"retention.msec=1"}, kafka.ErrInvalidConfig, "did you mean retention.ms?"},
			{[]string{"max.compaction.lag.ms=1", "min.compaction.lag.ms=2"}, kafka.ErrInvalidConfig, "more than max.compaction.lag.ms=1"},
			{[]string{"+retention.ms=1"}, kafka.ErrInvalidConfig, "not a list"},
			{[]string{"+cleanup.policy=shred"}, kafka.ErrInvalidConfig, "none of delete, compact"},
			{[]string{"!never.was"}, nil, ""},
			{nil, nil, ""},
		} {
			code, text := c.alter(v, false, topicResource, "t", tc.operations...)
			c.wantCode(strings.Join(tc.operations, " "), code, tc.want)
			if !strings.Contains(text, tc.text) && tc.want != nil {
				t.Errorf("%v: %q", tc.operations, text)
			}
		}
		if got := topic(); len(got) != 1 {
			t.Fatalf("v%d: changed by refused requests: %v", v, got)
		}
		if code, text := c.alter(v, true, topicResource, "t", "retention.ms=9"); code != 0 || len(topic()) != 1 {
			t.Errorf("validate only: %s %s, %v", codeName(code), text, topic())
		}
		if code, text := c.alter(v, false, topicResource, "t", "retention.ms=9", "!segment.ms", "-cleanup.policy=delete"); code != 0 {
			t.Errorf("%s %s", codeName(code), text)
		}
		if got := topic(); got["retention.ms"] != "9" || got["segment.ms"] != "" || len(got) != 2 {
			t.Errorf("v%d: %v", v, got)
		}
		if got, set := topic()["cleanup.policy"]; got != "" || !set {
			t.Errorf("v%d: cleanup.policy %q", v, got)
		}
		if code, text := c.alter(v, false, topicResource, "t", "+cleanup.policy=delete", "!retention.ms", "segment.ms=5"); code != 0 {
			t.Errorf("%s %s", codeName(code), text)
		}
		if got := topic(); got["cleanup.policy"] != "delete" {
			t.Errorf("v%d: %v", v, got)
		}
		if code, text := c.alter(v, false, topicResource, "t", "!cleanup.policy"); code != 0 {
			t.Errorf("%s %s", codeName(code), text)
		}
	})
	code, _ := c.alter(1, false, topicResource, "none", "retention.ms=1")
	c.wantCode("no such topic", code, kafka.ErrUnknownTopicOrPartition)
	code, _ = c.alter(1, false, topicResource, "none", "retention.ms=x")
	c.wantCode("no such topic, bad value", code, kafka.ErrInvalidConfig)
	code, _ = c.alter(1, false, topicResource, "", "retention.ms=1")
	c.wantCode("default of topics", code, kafka.ErrInvalidRequest)
	code, _ = c.alter(1, false, 16, "g", "x=1")
	c.wantCode("client metrics", code, kafka.ErrInvalidRequest)
}

func TestAlterConfigsReplaces(t *testing.T) {
	c := newCluster(t)
	c.create("t", 1, "segment.ms", "5", "retention.ms", "6")
	every(c, 33, func(v int16) {
		req := kmsg.NewPtrAlterConfigsRequest()
		r := kmsg.NewAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = topicResource, "t"
		rc := kmsg.NewAlterConfigsRequestResourceConfig()
		rc.Name, rc.Value = "retention.bytes", kmsg.StringPtr("7")
		r.Configs = append(r.Configs, rc)
		req.Resources = append(req.Resources, r, r)
		resp := call[*kmsg.AlterConfigsResponse](c, v, req)
		c.wantCode("the same resource twice", resp.Resources[0].ErrorCode, kafka.ErrInvalidRequest)
		req.Resources = req.Resources[:1]
		resp = call[*kmsg.AlterConfigsResponse](c, v, req)
		c.wantCode("replace", resp.Resources[0].ErrorCode, nil)
		if got := c.Store.Image().Topic("t").Config; len(got) != 1 || got["retention.bytes"] != "7" {
			t.Errorf("v%d: %v", v, got)
		}
		req.Resources[0].Configs[0].Value = nil
		c.wantCode("no value", call[*kmsg.AlterConfigsResponse](c, v, req).Resources[0].ErrorCode, kafka.ErrInvalidRequest)
	})
}

// What clients set on brokers is in force once the answer is there, and shows where it comes from.
func TestAlterBrokerConfigs(t *testing.T) {
	c := newCluster(t, "message.max.bytes=1000")
	c.create("t", 1)
	for _, tc := range []struct {
		name      string
		operation string
		want      *kafka.Error
		text      string
	}{
		{"", "num.partitions=3", kafka.ErrInvalidRequest, "while the broker runs"},
		{"", "message.max.bytes=x", kafka.ErrInvalidRequest, "message.max.bytes"},
		{"", "message.max.byte=1", kafka.ErrInvalidConfig, "did you mean message.max.bytes?"},
		{"", "log.cleaner.threads=1", kafka.ErrInvalidRequest, "while the broker runs"},
		{"", "log.cleaner.min.cleanable.ratio=2", kafka.ErrInvalidRequest, "0 to 1"},
		{"2", "message.max.bytes=1", kafka.ErrInvalidRequest, "broker 1"},
		{"x", "message.max.bytes=1", kafka.ErrInvalidRequest, "not a number"},
	} {
		code, text := c.alter(1, false, brokerResource, tc.name, tc.operation)
		c.wantCode(tc.operation, code, tc.want)
		if !strings.Contains(text, tc.text) {
			t.Errorf("%s: %q", tc.operation, text)
		}
	}
	limit := func() int32 { return c.Config.Load().Topic.MaxMessageBytes }
	step := func(name, operation string, want int32, source kmsg.ConfigSource) {
		t.Helper()
		if code, text := c.alter(1, false, brokerResource, name, operation); code != 0 {
			t.Fatalf("%s: %s", operation, text)
		}
		if got := limit(); got != want {
			t.Errorf("%s: in force is %d, want %d", operation, got, want)
		}
		for _, e := range []kmsg.DescribeConfigsResponseResourceConfig{
			c.entry(4, brokerResource, "1", "message.max.bytes"), c.entry(4, topicResource, "t", "max.message.bytes"),
		} {
			if e.Source != source {
				t.Errorf("%s: %s comes from %d, want %d", operation, e.Name, e.Source, source)
			}
		}
	}
	step("", "message.max.bytes=2000", 2000, kmsg.ConfigSourceDynamicDefaultBrokerConfig)
	step("1", "message.max.bytes=3000", 3000, kmsg.ConfigSourceDynamicBrokerConfig)
	step("", "message.max.bytes=4000", 3000, kmsg.ConfigSourceDynamicBrokerConfig)
	if r := c.describe(4, brokerResource, ""); len(r.Configs) != 1 || deref(r.Configs[0].Value) != "4000" {
		t.Errorf("defaults of all brokers: %+v", r)
	}
	step("1", "!message.max.bytes", 4000, kmsg.ConfigSourceDynamicDefaultBrokerConfig)
	step("", "!message.max.bytes", 1000, kmsg.ConfigSourceStaticBrokerConfig)
}
