package wire

import (
	"math"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Words of the table. The type parameter of an array is what kmsg makes of one element.
var (
	boolean  = fixed(1)
	i8       = fixed(1)
	i16      = fixed(2)
	i32      = fixed(4)
	i64      = fixed(8)
	uuid     = fixed(16)
	str      = field{kind: stringField, til: math.MaxInt16}
	strPtr   = field{kind: stringField, size: stringSize, til: math.MaxInt16} // kmsg keeps a *string, null in other versions
	nullStr  = field{kind: nullableField, size: stringSize, til: math.MaxInt16}
	blob     = field{kind: bytesField, til: math.MaxInt16}
	nullBlob = field{kind: nullableBytesField, til: math.MaxInt16}
)

func structs[T any](fields ...field) field { return composite[T](structsField, fields) }
func values[T any](f field) field          { return composite[T](valuesField, []field{f}) }
func optional[T any](fields ...field) field {
	return composite[T](optionalField, fields)
}

func composite[T any](kind fieldKind, fields []field) field {
	var t T
	return field{kind: kind, size: int64(unsafe.Sizeof(t)), fields: fields, til: math.MaxInt16}
}

// inline is a structure that is neither in an array nor optional.
func inline(fields ...field) field {
	return field{kind: inlineField, fields: fields, til: math.MaxInt16}
}

// tagged is a known tagged field.
func tagged(tag uint32, f ...field) field {
	return field{kind: tagField, tag: tag, fields: f, til: math.MaxInt16}
}

const (
	never      = math.MaxInt16
	stringSize = int64(unsafe.Sizeof(""))
)

// schemas is what the guard can walk, one entry per API key: key, name, the versions that kmsg decodes, the first
// flexible version, the fields. A test walks what kmsg encodes for every key and version to the last byte.
//
// The layouts are those of Kafka's message definitions (clients/src/main/resources/common/message).
var schemas = []schema{
	{key: 0, name: "Produce", max: 13, flexible: 9, fields: []field{
		nullStr.from(3), i16, i32,
		structs[kmsg.ProduceRequestTopic](str.to(12), uuid.from(13),
			structs[kmsg.ProduceRequestTopicPartition](i32, nullBlob)),
	}},
	{key: 1, name: "Fetch", max: 18, flexible: 12, fields: []field{
		i32.to(14), i32, i32, i32.from(3), i8.from(4), i32.from(7), i32.from(7),
		structs[kmsg.FetchRequestTopic](str.to(12), uuid.from(13),
			structs[kmsg.FetchRequestTopicPartition](i32, i32.from(9), i64, i32.from(12), i64.from(5), i32,
				tagged(0, uuid), tagged(1, i64))),
		structs[kmsg.FetchRequestForgottenTopic](str.to(12), uuid.from(13), values[int32](i32)).from(7),
		str.from(11),
		tagged(0, nullStr), tagged(1, inline(i32, i64)),
	}},
	{key: 2, name: "ListOffsets", max: 11, flexible: 6, fields: []field{
		i32, i8.from(2),
		structs[kmsg.ListOffsetsRequestTopic](str,
			structs[kmsg.ListOffsetsRequestTopicPartition](i32, i32.from(4), i64, i32.to(0))),
		i32.from(10),
	}},
	{key: 3, name: "Metadata", max: 13, flexible: 9, fields: []field{
		structs[kmsg.MetadataRequestTopic](uuid.from(10), strPtr.to(9), nullStr.from(10)),
		boolean.from(4), boolean.from(8).to(10), boolean.from(8),
	}},
	{key: 8, name: "OffsetCommit", max: 10, flexible: 8, fields: []field{
		str, i32.from(1), str.from(1), nullStr.from(7), i64.from(2).to(4),
		structs[kmsg.OffsetCommitRequestTopic](str.to(9), uuid.from(10),
			structs[kmsg.OffsetCommitRequestTopicPartition](i32, i64, i64.from(1).to(1), i32.from(6), nullStr)),
	}},
	{key: 9, name: "OffsetFetch", max: 10, flexible: 6, fields: []field{
		str.to(7),
		structs[kmsg.OffsetFetchRequestTopic](str, values[int32](i32)).to(7),
		structs[kmsg.OffsetFetchRequestGroup](str, nullStr.from(9), i32.from(9),
			structs[kmsg.OffsetFetchRequestGroupTopic](str.to(9), uuid.from(10), values[int32](i32))).from(8),
		boolean.from(7),
	}},
	{key: 10, name: "FindCoordinator", max: 6, flexible: 3, fields: []field{
		str.to(3), i8.from(1), values[string](str).from(4),
	}},
	{key: 11, name: "JoinGroup", max: 9, flexible: 6, fields: []field{
		str, i32, i32.from(1), str, nullStr.from(5), str,
		structs[kmsg.JoinGroupRequestProtocol](str, blob),
		nullStr.from(8),
	}},
	{key: 12, name: "Heartbeat", max: 4, flexible: 4, fields: []field{str, i32, str, nullStr.from(3)}},
	{key: 13, name: "LeaveGroup", max: 5, flexible: 4, fields: []field{
		str, str.to(2),
		structs[kmsg.LeaveGroupRequestMember](str, nullStr, nullStr.from(5)).from(3),
	}},
	{key: 14, name: "SyncGroup", max: 5, flexible: 4, fields: []field{
		str, i32, str, nullStr.from(3), nullStr.from(5), nullStr.from(5),
		structs[kmsg.SyncGroupRequestGroupAssignment](str, blob),
	}},
	{key: 15, name: "DescribeGroups", max: 6, flexible: 5, fields: []field{values[string](str), boolean.from(3)}},
	{key: 16, name: "ListGroups", max: 5, flexible: 3, fields: []field{
		values[string](str).from(4), values[string](str).from(5),
	}},
	{key: 18, name: "ApiVersions", max: 5, flexible: 3, fields: []field{
		str.from(3), str.from(3), nullStr.from(5), i32.from(5),
	}},
	{key: 19, name: "CreateTopics", max: 7, flexible: 5, fields: []field{
		structs[kmsg.CreateTopicsRequestTopic](str, i32, i16,
			structs[kmsg.CreateTopicsRequestTopicReplicaAssignment](i32, values[int32](i32)),
			structs[kmsg.CreateTopicsRequestTopicConfig](str, nullStr)),
		i32, boolean.from(1),
	}},
	{key: 20, name: "DeleteTopics", max: 6, flexible: 4, fields: []field{
		values[string](str).to(5),
		structs[kmsg.DeleteTopicsRequestTopic](nullStr, uuid).from(6),
		i32,
	}},
	{key: 21, name: "DeleteRecords", max: 2, flexible: 2, fields: []field{
		structs[kmsg.DeleteRecordsRequestTopic](str,
			structs[kmsg.DeleteRecordsRequestTopicPartition](i32, i64)),
		i32,
	}},
	{key: 22, name: "InitProducerId", max: 5, flexible: 2, fields: []field{
		nullStr, i32, i64.from(3), i16.from(3),
	}},
	{key: 23, name: "OffsetForLeaderEpoch", max: 4, flexible: 4, fields: []field{
		i32.from(3),
		structs[kmsg.OffsetForLeaderEpochRequestTopic](str,
			structs[kmsg.OffsetForLeaderEpochRequestTopicPartition](i32, i32.from(2), i32)),
	}},
	{key: 32, name: "DescribeConfigs", max: 4, flexible: 4, fields: []field{
		structs[kmsg.DescribeConfigsRequestResource](i8, str, values[string](str)),
		boolean.from(1), boolean.from(3),
	}},
	{key: 33, name: "AlterConfigs", max: 2, flexible: 2, fields: []field{
		structs[kmsg.AlterConfigsRequestResource](i8, str,
			structs[kmsg.AlterConfigsRequestResourceConfig](str, nullStr)),
		boolean,
	}},
	{key: 35, name: "DescribeLogDirs", max: 5, flexible: 2, fields: []field{
		structs[kmsg.DescribeLogDirsRequestTopic](str, values[int32](i32)),
	}},
	{key: 37, name: "CreatePartitions", max: 3, flexible: 2, fields: []field{
		structs[kmsg.CreatePartitionsRequestTopic](str, i32,
			structs[kmsg.CreatePartitionsRequestTopicAssignment](values[int32](i32))),
		i32, boolean,
	}},
	{key: 42, name: "DeleteGroups", max: 3, flexible: 2, fields: []field{values[string](str)}},
	{key: 43, name: "ElectLeaders", max: 2, flexible: 2, fields: []field{
		i8.from(1), structs[kmsg.ElectLeadersRequestTopic](str, values[int32](i32)), i32,
	}},
	{key: 44, name: "IncrementalAlterConfigs", max: 1, flexible: 1, fields: []field{
		structs[kmsg.IncrementalAlterConfigsRequestResource](i8, str,
			structs[kmsg.IncrementalAlterConfigsRequestResourceConfig](str, i8, nullStr)),
		boolean,
	}},
	{key: 47, name: "OffsetDelete", max: 0, flexible: never, fields: []field{
		str, structs[kmsg.OffsetDeleteRequestTopic](str, structs[kmsg.OffsetDeleteRequestTopicPartition](i32)),
	}},
	{key: 60, name: "DescribeCluster", max: 2, fields: []field{boolean, i8.from(1), boolean.from(2)}},
	{key: 68, name: "ConsumerGroupHeartbeat", max: 1, fields: []field{
		str, str, i32, nullStr, nullStr, i32, values[string](str), nullStr.from(1), nullStr,
		structs[kmsg.ConsumerGroupHeartbeatRequestTopic](uuid, values[int32](i32)),
	}},
	{key: 69, name: "ConsumerGroupDescribe", max: 1, fields: []field{values[string](str), boolean}},
	{key: 74, name: "ListConfigResources", max: 1, fields: []field{values[int8](i8).from(1)}},
	{key: 75, name: "DescribeTopicPartitions", max: 0, fields: []field{
		structs[kmsg.DescribeTopicPartitionsRequestTopic](str),
		i32,
		optional[kmsg.DescribeTopicPartitionsRequestCursor](str, i32),
	}},
}
