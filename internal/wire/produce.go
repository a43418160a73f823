package wire

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AppendProduceResponse appends what r.AppendTo does: by hand where every partition was taken, since that is the answer
// whose cost counts.
func AppendProduceResponse(dst []byte, r *kmsg.ProduceResponse) []byte {
	version := r.Version
	if version < 3 || version > 13 || len(r.Brokers) > 0 || r.UnknownTags.Len() > 0 {
		return r.AppendTo(dst)
	}
	start, flexible := len(dst), version >= 9
	dst = appendArrayLen(dst, flexible, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		switch {
		case version >= 13:
			dst = append(dst, t.TopicID[:]...)
		case flexible:
			dst = binary.AppendUvarint(dst, uint64(len(t.Topic)+1))
			dst = append(dst, t.Topic...)
		default:
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(t.Topic)))
			dst = append(dst, t.Topic...)
		}
		dst = appendArrayLen(dst, flexible, len(t.Partitions))
		for j := range t.Partitions {
			p := &t.Partitions[j]
			if !plainProduced(p) {
				return r.AppendTo(dst[:start])
			}
			dst = appendProduced(dst, version, p)
		}
		if flexible {
			dst = append(dst, 0) // no tags
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.ThrottleMillis))
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}

// plainProduced tells whether a partition's answer is nothing but numbers.
func plainProduced(p *kmsg.ProduceResponseTopicPartition) bool {
	l := &p.CurrentLeader
	return len(p.ErrorRecords) == 0 && p.ErrorMessage == nil && p.UnknownTags.Len() == 0 &&
		l.LeaderID == -1 && l.LeaderEpoch == -1 && l.UnknownTags.Len() == 0
}

func appendProduced(dst []byte, version int16, p *kmsg.ProduceResponseTopicPartition) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Partition))
	dst = binary.BigEndian.AppendUint16(dst, uint16(p.ErrorCode))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.BaseOffset))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.LogAppendTime))
	if version >= 5 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(p.LogStartOffset))
	}
	switch {
	case version >= 9:
		dst = append(dst, 1, 0, 0) // no errors of records, no message, no tags
	case version == 8:
		dst = append(dst, 0, 0, 0, 0, 0xff, 0xff)
	}
	return dst
}

func appendArrayLen(dst []byte, flexible bool, n int) []byte {
	if flexible {
		return binary.AppendUvarint(dst, uint64(n+1))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n))
}
