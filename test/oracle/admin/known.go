package admin

import "chronik/test/oracle/pair"

// Known is where chronik differs from Apache Kafka on purpose; docs/compatibility.md is made of it. What is asked for these
// rows alone is in different.go.
var Known = []pair.Difference{
	{Asked: `^Metadata .*"auto-made"`, Field: `Topics.(ErrorCode: 3, not 0|Partitions: .*|TopicID: .*|.*)`,
		Why: "**Metadata** that creates a topic answers with it and its leader; Apache Kafka answers UNKNOWN_TOPIC_OR_PARTITION, and the client asks again."},
	{Asked: `^CreateTopics .*"one.name"`, Field: `Topics.(ErrorCode: 0, not 17|NumPartitions: 1, not -1|ReplicationFactor: 1, not -1|TopicID: .*)`,
		Why: "**CreateTopics** refuses two names in one request that differ only in '.' and '_' (INVALID_TOPIC_EXCEPTION), as it does in two requests; Apache Kafka makes both."},
	{Asked: `^CreatePartitions .*"Count":10010`, Field: `Topics.ErrorCode: -1, not .*`,
		Why: "**CreatePartitions** of more than 10,000 partitions in one request is POLICY_VIOLATION, as CreateTopics is; Apache Kafka fails with UNKNOWN_SERVER_ERROR."},
	{Asked: `^IncrementalAlterConfigs .*"no.such.broker.key"`, Field: `Resources.ErrorCode: 0, not 40`,
		Why: "**Configuration** keys that chronik does not act on are INVALID_CONFIG by name, not stored (configuration.md lists those that there are); Apache Kafka keeps unknown broker keys for plugins."},
	{Asked: `^DescribeConfigs .*"ResourceName":"compacted-not".*"retention.ms".*"IncludeSynonyms":true`, Field: `Resources.Configs.ConfigSynonyms: .*`,
		Why: "**DescribeConfigs** names the second-choice broker key among a topic key's synonyms too (retention.ms from log.retention.hours); Apache Kafka leaves it out."},
	{Asked: `^DescribeConfigs .*"ConfigNames":\["advertised.listeners"`, Field: `Resources.Configs.ReadOnly: false, not true`,
		Why: "**DescribeConfigs** tells a broker's `listeners`, `advertised.listeners`, `log.dirs` and `broker.id`, which follow from chronik's own keys; all are read-only, while Apache Kafka lets clients change the listeners."},
	{Asked: `^DescribeConfigs .*"CLIENT_METRICS`, Field: `Resources(.*)?: .*`,
		Why: "**Configuration** is that of topics, brokers and groups; loggers and client metrics are INVALID_REQUEST."},
}
