package record

import (
	"encoding/binary"

	"chronik/internal/kafka"
)

// Entry is a record as compaction looks at it. Key points into memory that lasts for the call only.
type Entry struct {
	Offset kafka.Offset
	Key    []byte // nil: none
	Null   bool   // the value is null: a tombstone
}

// DeleteHorizon is the time from which on the batch's tombstones, or the marker that it is, may go (KIP-534), in
// milliseconds; false if none was set yet. It stands in the place of the base timestamp.
func (b Batch) DeleteHorizon() (int64, bool) {
	if b[offAttributes+1]&attrDeleteHorizon == 0 {
		return NoTimestamp, false
	}
	return b.BaseTimestamp(), true
}

// Filter takes records out of batches, as compaction does. What identifies a batch stays: base and last offset, leader epoch,
// producer, sequence numbers, codec. The zero value is ready; it keeps memory between batches, for one goroutine.
type Filter struct {
	Codecs *Codecs

	plain, kept, moved []byte
}

// Keep is what Apply does with one batch.
type Keep struct {
	// Record tells whether a record stays; nil keeps all.
	Record func(*Entry) bool
	// Empty keeps the batch without records where none stays.
	Empty bool
	// Horizon is given to a batch that has none, where a tombstone stays in it or Marker is set; NoTimestamp for none.
	Horizon int64
	Marker  bool
}

// Applied is what became of a batch.
type Applied struct {
	Records  int // that stay
	Dropped  int
	Verbatim bool // nothing has changed
}

// Each goes over the records of a batch, decompressing it whole, until visit returns false. Errors as of Codecs.Records.
func (f *Filter) Each(b Batch, visit func(*Entry) bool) error {
	data, err := f.records(b)
	if err != nil {
		return err
	}
	var e Entry
	for i := range b.Count() {
		rest, _, err := e.parse(b, data, i)
		if err != nil {
			return err
		}
		if !visit(&e) {
			return nil
		}
		data = rest
	}
	return nil
}

// Apply appends a batch to dst in the form that it has without the records that go; nothing if none stays and it may go
// itself. The batch's CRC is taken to fit. Errors as of Codecs.Records.
func (f *Filter) Apply(dst []byte, b Batch, k *Keep) ([]byte, Applied, error) {
	data, err := f.records(b)
	if err != nil {
		return dst, Applied{}, err
	}
	var e Entry
	var a Applied
	f.kept = f.kept[:0]
	all, tombstones, largest := data, false, NoTimestamp
	for i := range b.Count() {
		rest, delta, err := e.parse(b, data, i)
		if err != nil {
			return dst, a, err
		}
		if k.Record == nil || k.Record(&e) {
			if a.Dropped > 0 {
				f.kept = append(f.kept, data[:len(data)-len(rest)]...)
			}
			a.Records++
			tombstones = tombstones || e.Null
			largest = max(largest, b.BaseTimestamp()+delta)
		} else {
			if a.Dropped == 0 {
				f.kept = append(f.kept, all[:len(all)-len(data)]...)
			}
			a.Dropped++
		}
		data = rest
	}
	if len(data) > 0 {
		return dst, a, kafka.ErrInvalidRecord.With("%d bytes follow the last of the batch's %d records", len(data), b.Count())
	}
	_, has := b.DeleteHorizon()
	set := !has && k.Horizon != NoTimestamp && a.Records > 0 && (tombstones || k.Marker)
	switch {
	case a.Records == 0 && !k.Empty:
		return dst, a, nil
	case a.Dropped == 0 && !set:
		a.Verbatim = true
		return append(dst, b...), a, nil
	case a.Records == 0:
		return AppendEmpty(dst, b), a, nil
	}
	if a.Dropped > 0 {
		all = f.kept
	}
	if set && b.TimestampType() == CreateTime {
		if all, err = f.rebase(b, all, a.Records, k.Horizon); err != nil {
			return dst, a, err
		}
	}
	horizon := NoTimestamp
	if set {
		horizon = k.Horizon
	}
	dst, err = f.rebuild(dst, b, all, a.Records, horizon, largest)
	return dst, a, err
}

func (f *Filter) records(b Batch) ([]byte, error) {
	if b.Codec() == None {
		return b.Records(), nil
	}
	if b.Count() == 0 {
		return nil, nil
	}
	var err error
	f.plain, err = f.Codecs.Decompress(f.plain[:0], b.Codec(), b.Records(), DefaultMaxUncompressed)
	return f.plain, err
}

// parse reads the record at the start of data, and returns what is behind it and the delta of its timestamp.
func (e *Entry) parse(b Batch, data []byte, i int32) (rest []byte, delta int64, err error) {
	size, p := varint32(data, 0)
	if p < 0 {
		return nil, 0, errEnd(i)
	}
	if size < 0 || int(size) > len(data)-p {
		return nil, 0, errSize(i, size, len(data)-p)
	}
	f := fields{b: data[p : p+int(size)], p: 1}
	delta = f.varint()
	e.Offset = b.BaseOffset() + kafka.Offset(f.varint32())
	e.Key = f.bytes()
	value := f.varint32()
	e.Null = value < 0
	if f.p < 0 || int(max(value, 0)) > len(f.b)-f.p {
		return nil, 0, errRecord(i)
	}
	return data[p+int(size):], delta, nil
}

// rebase writes records again with timestamps relative to another base.
func (f *Filter) rebase(b Batch, records []byte, n int, base int64) ([]byte, error) {
	f.moved = f.moved[:0]
	shift := b.BaseTimestamp() - base
	for i := range int32(n) {
		size, p := varint32(records, 0)
		if p < 0 || size < 1 || int(size) > len(records)-p {
			return nil, errRecord(i)
		}
		body := records[p : p+int(size)]
		delta, q := varint(body, 1)
		if q < 0 {
			return nil, errRecord(i)
		}
		delta += shift
		f.moved = appendVarint(f.moved, int64(1+varintSize(delta)+len(body)-q))
		f.moved = append(f.moved, body[0])
		f.moved = appendVarint(f.moved, delta)
		f.moved = append(f.moved, body[q:]...)
		records = records[p+int(size):]
	}
	return f.moved, nil
}

// rebuild appends a batch with b's identity and other records.
func (f *Filter) rebuild(dst []byte, b Batch, records []byte, n int, horizon, largest int64) ([]byte, error) {
	start := len(dst)
	dst = append(dst, b[:HeaderSize]...)
	if b.Codec() == None {
		dst = append(dst, records...)
	} else {
		var err error
		if dst, err = f.Codecs.Compress(dst, b.Codec(), records); err != nil {
			return dst[:start], err
		}
	}
	h := Batch(dst[start:])
	h.setLength()
	binary.BigEndian.PutUint32(h[offCount:], uint32(n))
	if b.TimestampType() == CreateTime {
		binary.BigEndian.PutUint64(h[offMaxTimestamp:], uint64(largest))
	}
	if horizon != NoTimestamp {
		h[offAttributes+1] |= attrDeleteHorizon
		binary.BigEndian.PutUint64(h[offBaseTimestamp:], uint64(horizon))
	}
	h.renewCRC()
	return dst, nil
}

// AppendEmpty appends what is left of a batch whose records are all gone: who wrote it, and up to which offset and
// sequence number.
func AppendEmpty(dst []byte, b Batch) []byte {
	start := len(dst)
	dst = append(dst, b[:HeaderSize]...)
	h := Batch(dst[start:])
	h.setLength()
	h[offAttributes+1] &^= attrCompression | attrDeleteHorizon
	var none = NoTimestamp
	binary.BigEndian.PutUint64(h[offBaseTimestamp:], uint64(none))
	binary.BigEndian.PutUint32(h[offCount:], 0)
	h.renewCRC()
	return dst
}
