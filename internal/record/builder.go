package record

import (
	"encoding/binary"
	"fmt"

	"chronik/internal/kafka"
)

// Builder makes one batch of our own: a coordinator's records, a control batch, a test's. Set the exported fields before
// the first Add. The zero value needs Reset, which sets what "none" is.
type Builder struct {
	BaseOffset    kafka.Offset
	LeaderEpoch   kafka.LeaderEpoch
	Codec         Codec
	TimestampType TimestampType
	ProducerID    kafka.ProducerID
	ProducerEpoch kafka.ProducerEpoch
	BaseSequence  int32
	Transactional bool
	Control       bool

	records []byte
	count   int32
	base    int64
	max     int64
}

// NewBuilder returns an empty builder for a batch without a producer.
func NewBuilder() *Builder {
	b := new(Builder)
	b.Reset()
	return b
}

// Reset empties the builder, keeping its memory.
func (b *Builder) Reset() {
	*b = Builder{LeaderEpoch: kafka.NoLeaderEpoch, ProducerID: kafka.NoProducerID, ProducerEpoch: NoProducerEpoch,
		BaseSequence: NoSequence, records: b.records[:0], max: NoTimestamp}
}

// Add appends a record, copying what it is given. nil is a null key or value.
func (b *Builder) Add(timestamp int64, key, value []byte, headers ...Header) {
	if b.count == 0 {
		b.base = timestamp
	}
	b.max = max(b.max, timestamp)
	delta := timestamp - b.base
	size := 1 + varintSize(delta) + varintSize(int64(b.count)) + bytesSize(key) + bytesSize(value) + varintSize(int64(len(headers)))
	for i := range headers {
		size += varintSize(int64(len(headers[i].Key))) + len(headers[i].Key) + bytesSize(headers[i].Value)
	}
	r := appendVarint(b.records, int64(size))
	r = append(r, 0)
	r = appendVarint(r, delta)
	r = appendVarint(r, int64(b.count))
	r = appendBytes(r, key)
	r = appendBytes(r, value)
	r = appendVarint(r, int64(len(headers)))
	for i := range headers {
		r = appendVarint(r, int64(len(headers[i].Key)))
		r = append(r, headers[i].Key...)
		r = appendBytes(r, headers[i].Value)
	}
	b.records = r
	b.count++
}

// Count is the number of records added.
func (b *Builder) Count() int { return int(b.count) }

// Size is what the batch would take uncompressed, in bytes.
func (b *Builder) Size() int { return HeaderSize + len(b.records) }

// AppendTo appends the batch to dst. codecs may be nil unless Codec is set.
func (b *Builder) AppendTo(dst []byte, codecs *Codecs) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	var err error
	if b.Codec == None {
		dst = append(dst, b.records...)
	} else if dst, err = codecs.Compress(dst, b.Codec, b.records); err != nil {
		return dst[:start], fmt.Errorf("compress %d records with %s: %w", b.count, b.Codec, err)
	}
	h := Batch(dst[start:])
	attributes := byte(b.Codec)
	if b.TimestampType == LogAppendTime {
		attributes |= attrTimestampType
	}
	if b.Transactional {
		attributes |= attrTransactional
	}
	if b.Control {
		attributes |= attrControl
	}
	h.SetBaseOffset(b.BaseOffset)
	h.setLength()
	h.SetLeaderEpoch(b.LeaderEpoch)
	h[offMagic] = 2
	h[offAttributes+1] = attributes
	be := binary.BigEndian
	be.PutUint32(h[offLastOffsetDelta:], uint32(b.count-1))
	be.PutUint64(h[offBaseTimestamp:], uint64(b.base))
	be.PutUint64(h[offMaxTimestamp:], uint64(b.max))
	be.PutUint64(h[offProducerID:], uint64(b.ProducerID))
	be.PutUint16(h[offProducerEpoch:], uint16(b.ProducerEpoch))
	be.PutUint32(h[offBaseSequence:], uint32(b.BaseSequence))
	be.PutUint32(h[offCount:], uint32(b.count))
	h.renewCRC()
	return dst, nil
}

// Build is AppendTo into new memory, for a builder without a codec.
func (b *Builder) Build() []byte {
	if b.Codec != None {
		panic("record: Build of a compressed batch; use AppendTo")
	}
	out, _ := b.AppendTo(make([]byte, 0, b.Size()), nil)
	return out
}

func bytesSize(p []byte) int {
	if p == nil {
		return 1
	}
	return varintSize(int64(len(p))) + len(p)
}

func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return appendVarint(dst, -1)
	}
	return append(appendVarint(dst, int64(len(p))), p...)
}
