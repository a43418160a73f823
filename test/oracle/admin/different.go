package admin

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// Different asks what chronik answers otherwise on purpose.
func Different(s *pair.Side) {
	auto := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr("auto-made")
	auto.Topics, auto.AllowAutoTopicCreation = append(auto.Topics, t), true
	pair.Call[*kmsg.MetadataResponse](s, 9, auto)

	create(s, 7, false, newTopic("one.name", 1, 1), newTopic("one_name", 1, 1))
	create(s, 7, false, newTopic("compacted", 1, 1, "cleanup.policy", "compact"))
	create(s, 7, false, newTopic("compacted-not", 1, 1))

	more := kmsg.NewPtrCreatePartitionsRequest()
	p := kmsg.NewCreatePartitionsRequestTopic()
	p.Topic, p.Count = "compacted-not", 10_010
	more.Topics, more.TimeoutMillis = append(more.Topics, p), 20_000
	pair.Call[*kmsg.CreatePartitionsResponse](s, 3, more)

	alter(s, 1, true, resource(brokerKind, "", change{key: "no.such.broker.key", op: set, value: "1"}))
	describe(s, topicKind, "compacted-not", "retention.ms")
	for _, kind := range []kmsg.ConfigResourceType{kmsg.ConfigResourceTypeClientMetrics} {
		describe(s, kind, "x")
	}
}
