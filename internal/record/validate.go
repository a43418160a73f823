package record

import (
	"fmt"
	"math"

	"chronik/internal/kafka"
)

// DefaultMaxUncompressed bounds what the records of one compressed batch may decompress to, in bytes.
const DefaultMaxUncompressed = 256 << 20

// KeepCodec as Limits.Codec keeps what the producer sent (compression.type=producer).
const KeepCodec Codec = 0xff

// Limits is what a partition accepts. Times are milliseconds.
type Limits struct {
	Origin          Origin
	MaxBatchBytes   int   // max.message.bytes: of the batch as stored
	MaxUncompressed int64 // bytes; 0 is DefaultMaxUncompressed
	Compacted       bool  // cleanup.policy has compact: every record needs a key
	Codec           Codec // compression.type; KeepCodec for "producer"
	TimestampType   TimestampType
	BeforeMax       int64 // message.timestamp.before.max.ms
	AfterMax        int64 // message.timestamp.after.max.ms
	Now             int64 // wall clock, since 1970
	ProduceVersion  int16 // of the request: zstd needs 7; 0 skips the check
}

// Valid is a batch that may be appended.
type Valid struct {
	Batch         Batch // the input, patched in place; new memory if it had to be recompressed
	Records       int32
	MaxTimestamp  int64
	LogAppendTime int64 // Limits.Now where the topic stamps it, else NoTimestamp
	Recompressed  bool
}

// RecordError names one refused record (KIP-467).
type RecordError struct {
	Index   int32 // within the batch
	Message string
}

// ValidationError refuses a batch for its records. It matches its kafka.Error.
type ValidationError struct {
	Err     *kafka.Error
	Records []RecordError // the first maxRecordErrors of them
}

func (e *ValidationError) Error() string { return e.Err.Error() }
func (e *ValidationError) Unwrap() error { return e.Err }

// maxRecordErrors bounds the errors listed for one batch, so that a small request cannot ask for a large answer.
const maxRecordErrors = 128

// Validate checks the records field of a produced partition: exactly one whole batch, its CRC, header, codec, size, and
// every record in it, and stores the largest timestamp or the append time in the header. It may patch buf in place. What
// is wrong, and with which code, follows Kafka's ProduceRequest, UnifiedLog and LogValidator; stricter than they are: the
// records' offset deltas must count up from 0, and a compressed record's length must fit its content.
//
// Errors: CORRUPT_MESSAGE, INVALID_RECORD, INVALID_TIMESTAMP, MESSAGE_TOO_LARGE, UNSUPPORTED_COMPRESSION_TYPE.
func (c *Codecs) Validate(buf []byte, l *Limits) (Valid, error) {
	b, err := only(buf, l)
	if err != nil {
		return Valid{}, err
	}
	if err := checkHeader(b, l); err != nil {
		return Valid{}, err
	}
	codec := b.Codec()
	w := walker{count: b.Count(), base: b.BaseTimestamp(), needKeys: l.Compacted, low: math.MinInt64, high: math.MaxInt64}
	if b.TimestampType() == LogAppendTime && (l.TimestampType == LogAppendTime || b.MaxTimestamp() == NoTimestamp) {
		w.fixed, w.base, w.refuseAll = true, b.MaxTimestamp(), true
	} // else it is stored as CreateTime, and the records' own timestamps are those that count
	if l.TimestampType == CreateTime {
		w.low, w.high = saturatingSub(l.Now, l.BeforeMax), saturatingAdd(l.Now, l.AfterMax)
	}
	if codec == None {
		err = w.walk(b.Records())
	} else {
		err = c.walkCompressed(&w, codec, b.Records(), l.maxUncompressed())
	}
	if err == nil {
		err = w.verdict()
	}
	if err != nil {
		return Valid{}, err
	}
	v := Valid{Batch: b, Records: b.Count(), MaxTimestamp: w.max, LogAppendTime: NoTimestamp}
	if l.TimestampType == LogAppendTime {
		v.MaxTimestamp, v.LogAppendTime = l.Now, l.Now
	}
	if target := l.Codec; target != KeepCodec && target != codec && !(b.Control() && codec == None) {
		if err := c.recompress(&v, target, l); err != nil {
			return Valid{}, err
		}
	}
	v.Batch.SetMaxTimestamp(l.TimestampType, v.MaxTimestamp)
	return v, nil
}

func (l *Limits) maxUncompressed() int64 {
	if l.MaxUncompressed > 0 {
		return l.MaxUncompressed
	}
	return DefaultMaxUncompressed
}

// CheckForm is the part of Validate that concerns the shape of a Produce request alone: exactly one whole batch, in a
// codec that the request's version knows.
func CheckForm(buf []byte, produceVersion int16) error {
	_, err := only(buf, &Limits{ProduceVersion: produceVersion})
	return err
}

// only splits the one batch that a partition of a Produce request may carry. An incomplete batch behind it is ignored, as
// Kafka does.
func only(buf []byte, l *Limits) (Batch, error) {
	b, rest, err := Next(buf)
	if err == ErrPartial || b == nil && err == nil {
		return nil, kafka.ErrInvalidRecord.With("there is no whole record batch in %d bytes of records", len(buf))
	}
	if err != nil {
		return nil, err
	}
	if l.ProduceVersion > 0 && l.ProduceVersion < 7 && b.Codec() == Zstd {
		return nil, kafka.ErrUnsupportedCompressionType.With("zstd needs Produce version 7, the request has %d; use a newer client or another compression", l.ProduceVersion)
	}
	second, _, err := Next(rest)
	if err != nil && err != ErrPartial {
		return nil, err
	}
	if second != nil {
		return nil, kafka.ErrInvalidRecord.With("a Produce request carries exactly one record batch per partition; this one has more")
	}
	return b, nil
}

func checkHeader(b Batch, l *Limits) error {
	if l.Origin == FromClient && b.BaseOffset() != 0 {
		return kafka.ErrInvalidRecord.With("the base offset of a produced batch must be 0, not %d", b.BaseOffset())
	}
	if len(b) > l.MaxBatchBytes {
		return kafka.ErrMessageTooLarge.With("the record batch has %d bytes, the topic's max.message.bytes is %d", len(b), l.MaxBatchBytes)
	}
	if !b.VerifyCRC() {
		return kafka.ErrCorruptMessage.With("the record batch's CRC is %08x, its content's %08x", b.CRC(), b.ComputeCRC())
	}
	if !b.Codec().Known() {
		return kafka.ErrUnsupportedCompressionType.With("compression number %d is not known", b.Codec())
	}
	if l.Origin != FromClient {
		return nil
	}
	switch count, span := b.Count(), int64(b.LastOffsetDelta())+1; {
	case span <= 0:
		return kafka.ErrInvalidRecord.With("the record batch has a last offset delta of %d", b.LastOffsetDelta())
	case count <= 0:
		return kafka.ErrInvalidRecord.With("the record batch claims %d records", count)
	case int64(count) != span:
		return kafka.ErrInvalidRecord.With("the record batch claims %d records but a last offset delta of %d", count, b.LastOffsetDelta())
	case b.Control():
		return kafka.ErrInvalidRecord.With("clients may not write control records")
	case b.HasProducerID() && b.BaseSequence() < 0:
		return kafka.ErrInvalidRecord.With("the record batch of producer %d has sequence number %d", b.ProducerID(), b.BaseSequence())
	}
	return nil
}

// recompress rebuilds the batch in another codec; the records' bytes stay the same.
func (c *Codecs) recompress(v *Valid, target Codec, l *Limits) error {
	limit := l.maxUncompressed()
	if target == None {
		limit = min(limit, int64(l.MaxBatchBytes))
	}
	raw, err := v.Batch.Records(), error(nil)
	if codec := v.Batch.Codec(); codec != None {
		if raw, err = c.Decompress(nil, codec, raw, limit); err != nil {
			return err
		}
	}
	out := make([]byte, HeaderSize, HeaderSize+len(raw)/2+64)
	copy(out, v.Batch)
	if out, err = c.Compress(out, target, raw); err != nil {
		return fmt.Errorf("compress records with %s: %w", target, err)
	}
	if len(out) > l.MaxBatchBytes {
		return kafka.ErrMessageTooLarge.With("the record batch has %d bytes once compressed with %s, the topic's max.message.bytes is %d", len(out), target, l.MaxBatchBytes)
	}
	b := Batch(out)
	b.setLength()
	b[offAttributes+1] = b[offAttributes+1]&^attrCompression | byte(target)
	b.renewCRC()
	v.Batch, v.Recompressed = b, true
	return nil
}

func saturatingSub(a, b int64) int64 {
	if d := a - b; (d > a) == (b < 0) || b == 0 {
		return d
	}
	if b > 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}

func saturatingAdd(a, b int64) int64 {
	if s := a + b; (s > a) == (b > 0) || b == 0 {
		return s
	}
	if b > 0 {
		return math.MaxInt64
	}
	return math.MinInt64
}
