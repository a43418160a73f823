package record

import "chronik/internal/kafka"

// walker checks the records of one batch. It is filled by Validate, and used once.
type walker struct {
	count     int32
	base      int64 // the records' timestamps are deltas to this
	fixed     bool  // or all of them are base (the batch says LogAppendTime)
	needKeys  bool
	low, high int64 // bounds of a timestamp, inclusive
	refuseAll bool  // the producer may not say LogAppendTime

	max     int64 // largest timestamp
	errs    []RecordError
	wrong   int  // records refused, listed or not
	badTime bool // one of them for its timestamp
}

// walk goes over uncompressed records without copying or allocating. It is the hot path of Produce: lengths and deltas of one
// or two bytes, which most are, are read without a call.
func (w *walker) walk(data []byte) error {
	w.max = NoTimestamp
	p := 0
	for i := int32(0); i < w.count; i++ {
		var size, n int32
		if p+2 <= len(data) && data[p+1] < 0x80 && data[p] >= 0x80 {
			u := uint32(data[p]&0x7f) | uint32(data[p+1])<<7
			size = int32(u>>1) ^ -int32(u&1)
			p += 2
		} else if size, p = varint32(data, p); p < 0 {
			return errEnd(i)
		}
		if size < 0 || int64(size) > int64(len(data)-p) {
			return errSize(i, size, len(data)-p)
		}
		r := data[p : p+int(size)]
		p += int(size)

		var delta int64
		q := 2 // behind the record's attributes, which are unused, and a delta of one byte
		if len(r) > 1 && r[1] < 0x80 {
			delta = int64(r[1]>>1) ^ -int64(r[1]&1)
		} else if delta, q = varint(r, 1); q < 0 {
			return errRecord(i)
		}
		if u := uint32(i) << 1; u < 0x80 && q < len(r) && r[q] == byte(u) {
			q++
		} else if u >= 0x80 && u < 0x4000 && q+2 <= len(r) && r[q] == byte(u|0x80) && r[q+1] == byte(u>>7) {
			q += 2
		} else if d, behind := varint32(r, q); behind < 0 || d != i {
			return errRecordOffset(i)
		} else {
			q = behind
		}
		nullKey := q < len(r) && r[q] == 1 // -1
		if nullKey {
			q++
		} else {
			var keySize int32
			keySize, q = varint32(r, q)
			if q < 0 || int64(keySize) > int64(len(r)-q) {
				return errRecord(i)
			}
			q += int(max(keySize, 0))
			nullKey = keySize < 0
		}
		if q+2 <= len(r) && r[q+1] < 0x80 && r[q] >= 0x80 {
			u := uint32(r[q]&0x7f) | uint32(r[q+1])<<7
			n = int32(u>>1) ^ -int32(u&1)
			q += 2
		} else if n, q = varint32(r, q); q < 0 {
			return errRecord(i)
		}
		if int64(n) > int64(len(r)-q) {
			return errRecord(i)
		}
		q += int(max(n, 0))
		// Most records have no headers: a single 0 ends them.
		if (q != len(r)-1 || r[q] != 0) && headers(r, q) != len(r) {
			return errRecord(i)
		}
		w.take(i, delta, nullKey)
	}
	if p != len(data) {
		return kafka.ErrInvalidRecord.With("%d bytes follow the last of the record batch's %d records", len(data)-p, w.count)
	}
	return nil
}

// take judges a record by its timestamp and key.
func (w *walker) take(i int32, delta int64, nullKey bool) {
	ts := w.base
	if !w.fixed {
		ts += delta
	}
	w.max = max(w.max, ts)
	if ts < w.low || ts > w.high || nullKey && w.needKeys || w.refuseAll {
		w.refuse(i, ts, nullKey)
	}
}

// headers walks over a record's headers and returns the position behind them, -1 if they are broken.
func headers(r []byte, q int) int {
	n, q := varint32(r, q)
	if q < 0 || n < 0 || int64(n) > int64(len(r)-q) {
		return -1
	}
	for range n {
		var size int32
		if size, q = varint32(r, q); q < 0 || size < 0 || int64(size) > int64(len(r)-q) {
			return -1
		}
		q += int(size)
		if size, q = varint32(r, q); q < 0 || int64(size) > int64(len(r)-q) {
			return -1
		}
		if size > 0 {
			q += int(size)
		}
	}
	return q
}

// refuse notes what is wrong with a record, in Kafka's order: its key, then its timestamp.
func (w *walker) refuse(i int32, ts int64, nullKey bool) {
	var msg string
	switch {
	case nullKey && w.needKeys:
		msg = "a compacted topic takes no record without a key"
	case !w.refuseAll && ts == NoTimestamp:
		return // no timestamp: not checked
	case !w.refuseAll:
		msg = kafka.ErrInvalidTimestamp.With("timestamp %d is outside of [%d, %d] (message.timestamp.before.max.ms and message.timestamp.after.max.ms)", ts, w.low, w.high).Msg
		w.badTime = true
	default:
		msg = "a producer must not set the timestamp type LogAppendTime"
		w.badTime = true
	}
	w.wrong++
	if len(w.errs) < maxRecordErrors {
		w.errs = append(w.errs, RecordError{Index: i, Message: msg})
	}
}

// verdict is the error for the records refused, nil if there are none.
func (w *walker) verdict() error {
	if w.wrong == 0 {
		return nil
	}
	e := &ValidationError{Err: kafka.ErrInvalidRecord, Records: w.errs}
	if w.badTime {
		e.Err = kafka.ErrInvalidTimestamp
	}
	e.Err = e.Err.With("%d of the batch's %d records are refused; the first, number %d: %s", w.wrong, w.count, w.errs[0].Index, w.errs[0].Message)
	return e
}

func errEnd(i int32) error {
	return kafka.ErrInvalidRecord.With("the record batch ends before record %d", i)
}

func errSize(i, size int32, left int) error {
	return kafka.ErrInvalidRecord.With("record %d claims %d bytes, %d are left", i, size, left)
}

func errRecord(i int32) error {
	return kafka.ErrInvalidRecord.With("record %d is malformed: its fields do not fit its length", i)
}

func errRecordOffset(i int32) error {
	return kafka.ErrInvalidRecord.With("record %d does not have offset delta %d: the deltas of a batch count up from 0", i, i)
}
