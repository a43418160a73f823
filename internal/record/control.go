package record

import (
	"encoding/binary"

	"chronik/internal/kafka"
)

// ControlType is the type in a control record's key.
type ControlType int16

// The control records that end a transaction (KIP-98). Others exist and are passed over.
const (
	ControlAbort  ControlType = 0
	ControlCommit ControlType = 1
)

// EndTransaction is the marker that ends a producer's transaction in a partition.
type EndTransaction struct {
	Type             ControlType
	CoordinatorEpoch int32
}

// AppendEndTransaction appends a control batch with the marker, as a transaction coordinator writes it.
func AppendEndTransaction(dst []byte, id kafka.ProducerID, epoch kafka.ProducerEpoch, m EndTransaction, millis int64) []byte {
	b := NewBuilder()
	b.ProducerID, b.ProducerEpoch = id, epoch
	b.Transactional, b.Control = true, true
	var key [4]byte
	binary.BigEndian.PutUint16(key[2:], uint16(m.Type))
	var value [6]byte
	binary.BigEndian.PutUint32(value[2:], uint32(m.CoordinatorEpoch))
	b.Add(millis, key[:], value[:])
	dst, _ = b.AppendTo(dst, nil)
	return dst
}

// ReadEndTransaction reads the marker of a control batch. ok is false for a control batch that ends no transaction: an
// empty one, or one of another type. INVALID_RECORD if it cannot be read.
func (c *Codecs) ReadEndTransaction(b Batch) (m EndTransaction, millis int64, ok bool, err error) {
	for r, err := range c.Records(b, 1<<16) {
		if err != nil {
			return m, 0, false, err
		}
		if len(r.Key) < 4 {
			return m, 0, false, kafka.ErrInvalidRecord.With("the key of a control record has %d bytes, needs 4", len(r.Key))
		}
		if v := int16(binary.BigEndian.Uint16(r.Key)); v < 0 {
			return m, 0, false, kafka.ErrInvalidRecord.With("the key of a control record has version %d", v)
		}
		m.Type = ControlType(binary.BigEndian.Uint16(r.Key[2:]))
		if m.Type != ControlAbort && m.Type != ControlCommit {
			return m, 0, false, nil
		}
		if len(r.Value) < 6 {
			return m, 0, false, kafka.ErrInvalidRecord.With("the value of an end-transaction marker has %d bytes, needs 6", len(r.Value))
		}
		if v := int16(binary.BigEndian.Uint16(r.Value)); v < 0 {
			return m, 0, false, kafka.ErrInvalidRecord.With("the value of an end-transaction marker has version %d", v)
		}
		m.CoordinatorEpoch = int32(binary.BigEndian.Uint32(r.Value[2:]))
		return m, r.Timestamp, true, nil
	}
	return m, 0, false, nil
}
