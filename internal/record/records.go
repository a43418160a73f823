package record

import (
	"iter"

	"chronik/internal/kafka"
)

// Record is one record of a batch. Its byte slices are the batch's own memory, or memory made for a compressed batch;
// nobody else writes to them. A null key or value is nil, an empty one is not.
type Record struct {
	Offset     kafka.Offset
	Timestamp  int64 // milliseconds since 1970
	Sequence   int32 // NoSequence without an idempotent producer
	Key, Value []byte
	Headers    []Header
}

// Header is a record's header. Value may be nil.
type Header struct {
	Key   string
	Value []byte
}

// Records goes over the records of a batch, decompressing it whole (at most limit bytes, 0 is DefaultMaxUncompressed).
// It ends after an error: INVALID_RECORD, MESSAGE_TOO_LARGE or UNSUPPORTED_COMPRESSION_TYPE. It does not check the CRC.
func (c *Codecs) Records(b Batch, limit int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		data := b.Records()
		if codec := b.Codec(); codec != None {
			if limit <= 0 {
				limit = DefaultMaxUncompressed
			}
			var err error
			if data, err = c.Decompress(nil, codec, data, limit); err != nil {
				yield(Record{}, err)
				return
			}
		}
		for i := range b.Count() {
			r, rest, err := parseRecord(b, data, i)
			if !yield(r, err) || err != nil {
				return
			}
			data = rest
		}
		if len(data) > 0 {
			yield(Record{}, kafka.ErrInvalidRecord.With("%d bytes follow the last of the batch's %d records", len(data), b.Count()))
		}
	}
}

// parseRecord reads the record at the start of data.
func parseRecord(b Batch, data []byte, i int32) (Record, []byte, error) {
	size, p := varint32(data, 0)
	if p < 0 {
		return Record{}, nil, errEnd(i)
	}
	if size < 0 || int(size) > len(data)-p {
		return Record{}, nil, errSize(i, size, len(data)-p)
	}
	f := fields{b: data[p : p+int(size)], p: 1}
	delta := f.varint()
	offsetDelta := f.varint32()
	r := Record{
		Offset:    b.BaseOffset() + kafka.Offset(offsetDelta),
		Timestamp: b.BaseTimestamp() + delta,
		Sequence:  NoSequence,
		Key:       f.bytes(),
		Value:     f.bytes(),
	}
	if b.TimestampType() == LogAppendTime {
		r.Timestamp = b.MaxTimestamp()
	}
	if b.BaseSequence() >= 0 {
		r.Sequence = AddSequence(b.BaseSequence(), offsetDelta)
	}
	n := f.varint32()
	if n < 0 || int(n) > len(f.b)-f.p {
		f.p = -1
	}
	if n > 0 && f.p >= 0 {
		r.Headers = make([]Header, 0, min(n, 16))
		for range n {
			key := f.bytes()
			if key == nil {
				f.p = -1
			}
			r.Headers = append(r.Headers, Header{Key: string(key), Value: f.bytes()})
			if f.p < 0 {
				break
			}
		}
	}
	if f.p != len(f.b) {
		return Record{}, nil, errRecord(i)
	}
	return r, data[p+int(size):], nil
}

// fields reads a record's fields one after the other; p is -1 once something did not fit.
type fields struct {
	b []byte
	p int
}

func (f *fields) varint() int64 {
	if f.p < 0 {
		return 0
	}
	var v int64
	v, f.p = varint(f.b, f.p)
	return v
}

func (f *fields) varint32() int32 {
	if f.p < 0 {
		return 0
	}
	var v int32
	v, f.p = varint32(f.b, f.p)
	return v
}

// bytes reads a length and so many bytes; nil for a negative length.
func (f *fields) bytes() []byte {
	n := f.varint32()
	if f.p < 0 || n < 0 {
		return nil
	}
	if int(n) > len(f.b)-f.p {
		f.p = -1
		return nil
	}
	v := f.b[f.p : f.p+int(n) : f.p+int(n)]
	f.p += int(n)
	return v
}
