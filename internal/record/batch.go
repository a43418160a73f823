package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"chronik/internal/kafka"
)

// Sizes and limits of the format, in bytes.
const (
	// LogOverhead is the part of a batch that its length field does not count: base offset and length.
	LogOverhead = 12
	// HeaderSize is the smallest batch: a header and no records.
	HeaderSize = 61
)

// Where the fields of a batch header are.
const (
	offBaseOffset      = 0
	offLength          = 8
	offLeaderEpoch     = 12
	offMagic           = 16
	offCRC             = 17
	offAttributes      = 21
	offLastOffsetDelta = 23
	offBaseTimestamp   = 27
	offMaxTimestamp    = 35
	offProducerID      = 43
	offProducerEpoch   = 51
	offBaseSequence    = 53
	offCount           = 57
)

const (
	attrCompression   = 0x07
	attrTimestampType = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// Sentinels of the format.
const (
	NoTimestamp     int64               = -1
	NoSequence      int32               = -1
	NoProducerEpoch kafka.ProducerEpoch = -1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// TimestampType tells whose clock a batch's timestamps come from (message.timestamp.type).
type TimestampType uint8

const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// Batch is one batch in somebody's buffer, at least its header ([HeaderSize] bytes); the accessors read it in place.
type Batch []byte

func (b Batch) BaseOffset() kafka.Offset {
	return kafka.Offset(binary.BigEndian.Uint64(b[offBaseOffset:]))
}

// Size is the whole batch's size in bytes, as its length field claims.
func (b Batch) Size() int { return LogOverhead + int(int32(binary.BigEndian.Uint32(b[offLength:]))) }

func (b Batch) LeaderEpoch() kafka.LeaderEpoch {
	return kafka.LeaderEpoch(binary.BigEndian.Uint32(b[offLeaderEpoch:]))
}
func (b Batch) Magic() int8            { return int8(b[offMagic]) }
func (b Batch) CRC() uint32            { return binary.BigEndian.Uint32(b[offCRC:]) }
func (b Batch) Attributes() int16      { return int16(binary.BigEndian.Uint16(b[offAttributes:])) }
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[offLastOffsetDelta:])) }

// LastOffset is the offset of the batch's last record (inclusive); it stays after compaction removed that record.
func (b Batch) LastOffset() kafka.Offset { return b.BaseOffset() + kafka.Offset(b.LastOffsetDelta()) }

// NextOffset is the offset behind the batch.
func (b Batch) NextOffset() kafka.Offset { return b.LastOffset() + 1 }

// BaseTimestamp and MaxTimestamp are milliseconds since 1970.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[offBaseTimestamp:])) }
func (b Batch) MaxTimestamp() int64  { return int64(binary.BigEndian.Uint64(b[offMaxTimestamp:])) }

func (b Batch) ProducerID() kafka.ProducerID {
	return kafka.ProducerID(binary.BigEndian.Uint64(b[offProducerID:]))
}

func (b Batch) ProducerEpoch() kafka.ProducerEpoch {
	return kafka.ProducerEpoch(binary.BigEndian.Uint16(b[offProducerEpoch:]))
}
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[offBaseSequence:])) }

// LastSequence wraps from 2^31-1 to 0, as producers' sequences do; NoSequence where the batch has none.
func (b Batch) LastSequence() int32 {
	if b.BaseSequence() == NoSequence {
		return NoSequence
	}
	return AddSequence(b.BaseSequence(), b.LastOffsetDelta())
}

// Count is the number of records, as the header claims.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[offCount:])) }

func (b Batch) Codec() Codec { return Codec(b[offAttributes+1] & attrCompression) }

func (b Batch) TimestampType() TimestampType {
	if b[offAttributes+1]&attrTimestampType != 0 {
		return LogAppendTime
	}
	return CreateTime
}
func (b Batch) Transactional() bool { return b[offAttributes+1]&attrTransactional != 0 }
func (b Batch) Control() bool       { return b[offAttributes+1]&attrControl != 0 }
func (b Batch) HasProducerID() bool { return b.ProducerID() != kafka.NoProducerID }

// Records is what follows the header: the records, compressed or not.
func (b Batch) Records() []byte { return b[HeaderSize:b.Size()] }

// ComputeCRC is the CRC32C over everything from the attributes on.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[offAttributes:b.Size()], castagnoli) }

// VerifyCRC tells whether the stored CRC fits the content. It covers neither base offset nor leader epoch.
func (b Batch) VerifyCRC() bool { return b.CRC() == b.ComputeCRC() }

// SetBaseOffset and SetLeaderEpoch patch fields outside the CRC.
func (b Batch) SetBaseOffset(o kafka.Offset) {
	binary.BigEndian.PutUint64(b[offBaseOffset:], uint64(o))
}
func (b Batch) SetLeaderEpoch(e kafka.LeaderEpoch) {
	binary.BigEndian.PutUint32(b[offLeaderEpoch:], uint32(e))
}

// SetMaxTimestamp stores the timestamp type and the batch's largest timestamp, and renews the CRC if either changed.
// With LogAppendTime the value is every record's timestamp.
func (b Batch) SetMaxTimestamp(t TimestampType, millis int64) {
	if b.TimestampType() == t && b.MaxTimestamp() == millis {
		return
	}
	b[offAttributes+1] &^= attrTimestampType
	if t == LogAppendTime {
		b[offAttributes+1] |= attrTimestampType
	}
	binary.BigEndian.PutUint64(b[offMaxTimestamp:], uint64(millis))
	b.renewCRC()
}

func (b Batch) renewCRC() { binary.BigEndian.PutUint32(b[offCRC:], b.ComputeCRC()) }

// AddSequence and SubSequence move in the circle of sequence numbers [0, 2^31-1].
func AddSequence(s, n int32) int32 {
	if s > math.MaxInt32-n {
		return n - (math.MaxInt32 - s) - 1
	}
	return s + n
}

func SubSequence(s, n int32) int32 {
	if s < n {
		return math.MaxInt32 - (n - s) + 1
	}
	return s - n
}

// ErrPartial is returned by Next where the buffer ends inside a batch.
var ErrPartial = fmt.Errorf("the buffer ends inside a record batch")

// Next splits the first batch from buf, having checked no more than that its length and magic make sense. At the end of
// buf it returns nil, nil, nil; ErrPartial where the buffer ends inside a batch; CORRUPT_MESSAGE where there is none.
func Next(buf []byte) (b Batch, rest []byte, err error) {
	if len(buf) == 0 {
		return nil, nil, nil
	}
	if len(buf) < LogOverhead {
		return nil, buf, ErrPartial
	}
	size := int64(LogOverhead) + int64(int32(binary.BigEndian.Uint32(buf[offLength:])))
	if size < HeaderSize {
		if len(buf) > offMagic && int8(buf[offMagic]) >= 0 && buf[offMagic] < 2 && size >= 26 {
			return nil, buf, errOldMagic(int8(buf[offMagic]))
		}
		return nil, buf, kafka.ErrCorruptMessage.With("a record batch claims %d bytes, fewer than its header's %d", size, HeaderSize)
	}
	if len(buf) > offMagic && buf[offMagic] != 2 {
		if m := int8(buf[offMagic]); m == 0 || m == 1 {
			return nil, buf, errOldMagic(m)
		}
		return nil, buf, kafka.ErrCorruptMessage.With("a record batch has magic %d; only 2 is known", int8(buf[offMagic]))
	}
	if size > int64(len(buf)) {
		return nil, buf, ErrPartial
	}
	return Batch(buf[:size:size]), buf[size:], nil
}

func errOldMagic(m int8) error {
	return kafka.ErrInvalidRecord.With("a message set has magic %d; only record batches of magic 2 are accepted (KIP-896), upgrade the client", m)
}

// setLength stores the slice's length in the header.
func (b Batch) setLength() {
	binary.BigEndian.PutUint32(b[offLength:], uint32(len(b)-LogOverhead))
}
