package data

import "chronik/test/oracle/pair"

// Known is where chronik differs from Apache Kafka on purpose; docs/compatibility.md is made of it.
var Known = []pair.Difference{
	{Asked: `^Produce .*"Records":null`, Field: `: "no answer: nothing in .*`,
		Why: "**Produce** with null records is answered with INVALID_RECORD; Apache Kafka never answers it."},
	{Asked: `^Produce `, Field: `Topics.Partitions.(ErrorCode: -1, not (76|87)|LogStartOffset: -1, not 0)`,
		Why: "**Produce** of a batch with an unknown codec is UNSUPPORTED_COMPRESSION_TYPE, and of one that does not decompress INVALID_RECORD; Apache Kafka has UNKNOWN_SERVER_ERROR for both."},
	{Asked: `^Fetch .*"MaxBytes":-1`, Field: `Topics.Partitions.(ErrorCode: -1, not 0|HighWatermark: -1, not \d+|LastStableOffset: -1, not \d+|LogStartOffset: -1, not \d+|RecordBatches: .*)`,
		Why: "**Fetch** with a negative maximum size is taken for 0, so that it gives one batch; Apache Kafka answers UNKNOWN_SERVER_ERROR."},
	{Asked: `^Fetch .*"PartitionMaxBytes":-5`, Field: `Topics.Partitions.(ErrorCode: -1, not 0|HighWatermark: -1, not \d+|LastStableOffset: -1, not \d+|LogStartOffset: -1, not \d+)`,
		Why: "**Fetch** with a negative maximum size is taken for 0, so that it gives one batch; Apache Kafka answers UNKNOWN_SERVER_ERROR."},
	{Asked: `^Fetch .*"PartitionMaxBytes":700`, Field: `Topics.Partitions.RecordBatches: \[.*"and \d+ bytes"\], not .*`,
		Why: "**Fetch** answers whole batches only; Apache Kafka cuts the last one at the maximum size, and clients throw the piece away."},
	{Asked: `^Fetch v\d+ .*"ReplicaID":5`, Field: `: "no answer: the connection was closed", not .*|Brokers: null, not .*`,
		Why: "**Fetch** as a replica that the partition does not have is NOT_LEADER_OR_FOLLOWER with the leader's address; Apache Kafka closes the connection at some versions and leaves the address out at others."},
}
