package fake

import "chronik/test/oracle/pair"

// The differences below are kfake's from Apache Kafka 4.3.1, whose answers to the same requests are chronik's (`make oracle`).

var adminKnown = []pair.Difference{
	{Asked: `^(Metadata|DescribeCluster) `, Field: `Brokers.Rack: "krack", not null`, Why: "kfake gives its broker a rack"},
	{Asked: `^CreatePartitions .*"Count":3`, Field: `Topics.ErrorCode: 0, not 37`, Why: "kfake lets a topic keep its number of partitions"},
	{Asked: `^CreateTopics .*"no good"`, Field: `Topics.(ErrorCode: 0, not 17|(NumPartitions|ReplicationFactor): 1, not -1|TopicID: null, not .*)`, Why: "kfake takes any name"},
	{Asked: `^Metadata .*"no good"`, Field: `Topics.ErrorCode: 3, not 17`, Why: "kfake takes any name"},
	{Asked: `^DeleteTopics v6 `, Field: `Topics.Topic: "", not null`, Why: "kfake has an empty name where Kafka has none"},
	{Asked: `^DescribeConfigs `, Field: `Resources.Configs.ConfigSynonyms.*`, Why: "kfake makes its synonyms up, and answers them unasked"},
	{Asked: `^IncrementalAlterConfigs .*"Value":"x"`, Field: `Resources.ErrorCode: 0, not 40`, Why: "kfake does not check values"},
	{Asked: `^DescribeConfigs .*"retention.ms"`, Field: `Resources.Configs.(Source: "DYNAMIC_TOPIC_CONFIG", not "DEFAULT_CONFIG"|Value: "x", not "604800000")`, Why: "kfake does not check values"},
	{Asked: `^IncrementalAlterConfigs .*"no.such.key"`, Field: `Resources.ErrorCode: 0, not 40`, Why: "kfake takes any key"},
	{Asked: `^IncrementalAlterConfigs .*"APPEND"`, Field: `Resources.ErrorCode: 42, not 40`, Why: "kfake has another error for an APPEND to what is no list"},
}

var dataKnown = []pair.Difference{
	{Asked: `^DeleteRecords .*"d"`, Field: `Topics.Partitions.(ErrorCode: 1, not 0|LowWatermark: 0, not \d+)`, Why: "an offset below the log's start deletes nothing in Kafka; an error in kfake"},
	{Asked: `^DeleteRecords `, Field: `Topics.Partitions.LowWatermark: 0, not -1`, Why: "kfake leaves fields of errors at 0"},
	{Asked: `^Produce `, Field: `Topics.Partitions.BaseOffset: 0, not -1`, Why: "kfake leaves fields of errors at 0"},
	{Asked: `^Fetch `, Field: `Topics.Partitions.(HighWatermark|LastStableOffset|LogStartOffset): 0, not -1`, Why: "kfake leaves fields of errors at 0"},
	{Asked: `^Fetch `, Field: `Topics.Partitions.(HighWatermark|LastStableOffset|LogStartOffset): \d+, not -1`, Why: "kfake tells where the log is although the offset was out of range"},
	{Asked: `^Fetch .*("Partition":9|"nope"|"IsolationLevel":1)`, Field: `Topics.Partitions.AbortedTransactions: null, not \[\]`, Why: "kfake has no list where Kafka has an empty one"},
	{Asked: `^Fetch .*"MaxBytes":10,`, Field: `Topics.Partitions: .*`, Why: "kfake leaves out partitions that found no room"},
	{Asked: `^InitProducerID .*("ProducerID":4,"ProducerEpoch":-1|"ProducerID":-1,"ProducerEpoch":3)`, Field: `(ErrorCode: 0, not 42|ProducerEpoch: 0, not -1|ProducerID: "new", not -1)`, Why: "kfake takes an ID without an epoch, and an epoch without an ID"},
	{Asked: `^InitProducerID `, Field: `ProducerEpoch: 0, not -1`, Why: "kfake leaves fields of errors at 0"},
	{Asked: `^OffsetForLeaderEpoch .*"LeaderEpoch":-1`, Field: `Topics.Partitions.EndOffset: 0, not -1`, Why: "kfake takes the undefined epoch for one before the first"},
	{Asked: `^Produce v9 .*"d"`, Field: `Topics.Partitions.(BaseOffset: \d+, not -1|ErrorCode: 0, not 87)`, Why: "kfake takes a batch of no records"},
	{Asked: `^Produce `, Field: `Topics.Partitions.(LogAppendTime: -1, not "some"|LogStartOffset: -1, not 0)`, Why: "kfake leaves these out for duplicates and errors"},
}

var groupsKnown = []pair.Difference{
	{Asked: `^(Heartbeat|SyncGroup|LeaveGroup) .*"Group":"none"`, Field: `ErrorCode: 69, not 25`, Why: "kfake tells an unknown group from an unknown member"},
	{Asked: `^DescribeGroups `, Field: `Groups.AuthorizedOperations: 328, not (3400|-2147483648)`, Why: "kfake knows fewer operations on groups, and tells them of a group that there is not"},
	{Asked: `^DescribeGroups `, Field: `Groups.Members.ClientHost: "127.0.0.1:\d+", not "/127.0.0.1"`, Why: "kfake tells the port"},
	{Asked: `^OffsetCommit .*"plain\d+","Generation":5,"MemberID":"x"`, Field: `Topics.Partitions.ErrorCode: 22, not 25`, Why: "kfake checks the generation before the member"},
	{Asked: `^OffsetDelete `, Field: `Topics.Partitions.ErrorCode: 0, not 3`, Why: "kfake does not look whether there is such a partition"},
	{Asked: `^OffsetFetch `, Field: `(Groups.)?Topics.Partitions.Metadata: null, not ""`, Why: "kfake has no metadata where Kafka has empty metadata"},
	{Asked: `^OffsetFetch v10 `, Field: `Groups.Topics.Partitions.ErrorCode: 0, not 100`, Why: "kfake does not tell of a topic ID that there is not"},
	{Asked: `^JoinGroup .*"MemberID":"x"`, Field: `MemberID: "", not "x"`, Why: "kfake does not repeat the member's ID"},
}
