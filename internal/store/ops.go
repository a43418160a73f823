package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// opKind is the kind of a WAL operation; docs/format/wal.md lists their fields.
type opKind uint8

const (
	opAppend   opKind = 1 // batches, in the record or by reference
	opTruncate opKind = 2 // cut to offset, giving generation; base is the synced state up to there
	opEpoch    opKind = 3
	opLogStart opKind = 4 // base is the synced state with the new log start
	opReset    opKind = 5 // empty at offset, with generation
	opCreate   opKind = 6
	opDelete   opKind = 7
	opStretch  opKind = 8 // an append that compaction left gaps in, perhaps without batches
)

var opNames = map[opKind]string{
	opAppend: "append", opTruncate: "truncate", opEpoch: "start-epoch", opLogStart: "set-log-start", opReset: "reset",
	opCreate: "create", opDelete: "delete", opStretch: "append-stretch",
}

// operation is one WAL record of the store.
type operation struct {
	kind       opKind
	id         kafka.TopicPartition
	generation uint64 // of the log when it was appended to or an epoch began; the new one of truncate and reset

	// Append: where the bytes are, and what they are.
	segment  kafka.Offset
	position int64
	length   uint32
	crc      uint32
	first    kafka.Offset // of a stretch, where it begins: its first batch may lie above
	end      kafka.Offset
	epochs   []log.EpochOffset // of a stretch: those that begin in it
	deletes  kafka.Offset      // of a stretch

	epoch  kafka.LeaderEpoch
	offset kafka.Offset   // of epoch, truncate, reset
	base   log.Checkpoint // of truncate and log start

	beginning log.Beginning // of a reset that has one; its offset is offset
}

const (
	opHeadSize   = 1 + 16 + 4
	opAppendSize = opHeadSize + 8 + 8 + 8 + 4 + 4 + 8 + 8
	opSizeMax    = opAppendSize + 64
)

// encode appends the operation to b, without the batches.
func (o *operation) encode(b []byte) []byte {
	b = append(b, byte(o.kind))
	b = append(b, o.id.Topic[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(o.id.Partition))
	switch o.kind {
	case opAppend, opStretch:
		b = binary.LittleEndian.AppendUint64(b, o.generation)
		b = binary.LittleEndian.AppendUint64(b, uint64(o.segment))
		b = binary.LittleEndian.AppendUint64(b, uint64(o.position))
		b = binary.LittleEndian.AppendUint32(b, o.length)
		b = binary.LittleEndian.AppendUint32(b, o.crc)
		b = binary.LittleEndian.AppendUint64(b, uint64(o.first))
		b = binary.LittleEndian.AppendUint64(b, uint64(o.end))
		if o.kind == opStretch {
			b = binary.LittleEndian.AppendUint64(b, uint64(o.deletes))
			b = appendEpochs(b, o.epochs)
		}
	case opTruncate:
		b = binary.LittleEndian.AppendUint64(b, o.generation)
		b = binary.LittleEndian.AppendUint64(b, uint64(o.offset))
		b = appendState(b, o.base)
	case opEpoch:
		b = binary.LittleEndian.AppendUint64(b, o.generation)
		b = binary.LittleEndian.AppendUint32(b, uint32(o.epoch))
		b = binary.LittleEndian.AppendUint64(b, uint64(o.offset))
	case opLogStart:
		b = appendState(b, o.base)
	case opReset:
		b = binary.LittleEndian.AppendUint64(b, o.generation)
		b = binary.LittleEndian.AppendUint64(b, uint64(o.offset))
		b = appendBeginning(b, &o.beginning)
	}
	return b
}

// appendBeginning adds nothing for a reset without one, as they were written before there were any.
func appendBeginning(b []byte, g *log.Beginning) []byte {
	if len(g.Epochs) == 0 && len(g.Producers) == 0 {
		return b
	}
	return append(appendEpochs(b, g.Epochs), g.Producers...)
}

func appendEpochs(b []byte, epochs []log.EpochOffset) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(epochs)))
	for _, e := range epochs {
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Epoch))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Offset))
	}
	return b
}

func (d *decoder) epochs() (epochs []log.EpochOffset) {
	n := d.u32()
	if int64(n) > int64(len(d.b)/12) {
		d.bad = true
		return nil
	}
	for range n {
		epochs = append(epochs, log.EpochOffset{Epoch: kafka.LeaderEpoch(d.u32()), Offset: kafka.Offset(d.u64())})
	}
	return epochs
}

func (d *decoder) beginning(offset kafka.Offset) (g log.Beginning) {
	g.Offset = offset
	if len(d.b) == 0 {
		return g
	}
	if g.Epochs = d.epochs(); d.bad {
		return g
	}
	g.Producers = slices.Clone(d.take(len(d.b)))
	d.bad = d.bad || g.Check() != nil
	return g
}

// stretch is what an append of one holds, with batches unless they are referred to.
func (o *operation) stretch(batches []byte) *log.Stretch {
	return &log.Stretch{From: o.first, Next: o.end, Epochs: o.epochs, Deletes: o.deletes, Batches: batches}
}

// decodeOperation reads a record. batches are those of an append that is not by reference; they point into r.Data.
func decodeOperation(r wal.Record) (o operation, batches []byte, err error) {
	d := decoder{b: r.Data}
	o.kind = opKind(d.u8())
	copy(o.id.Topic[:], d.take(16))
	o.id.Partition = int32(d.u32())
	switch o.kind {
	case opAppend, opStretch:
		o.generation = d.u64()
		o.segment, o.position = kafka.Offset(d.u64()), int64(d.u64())
		o.length, o.crc = d.u32(), d.u32()
		o.first, o.end = kafka.Offset(d.u64()), kafka.Offset(d.u64())
		if o.kind == opStretch {
			o.deletes, o.epochs = kafka.Offset(d.u64()), d.epochs()
		}
		if !r.ByReference {
			batches = d.take(int(o.length))
		}
		// The segment may begin behind a gap at the beginning of a stretch.
		d.bad = d.bad || o.end <= o.first || o.segment < 0 || o.position < 0 || o.first < o.segment && o.kind == opAppend || o.end < o.segment
	case opTruncate:
		o.generation, o.offset = d.u64(), kafka.Offset(d.u64())
		o.base = d.state()
	case opEpoch:
		o.generation = d.u64()
		o.epoch, o.offset = kafka.LeaderEpoch(d.u32()), kafka.Offset(d.u64())
	case opLogStart:
		o.base = d.state()
	case opReset:
		o.generation, o.offset = d.u64(), kafka.Offset(d.u64())
		o.beginning = d.beginning(o.offset)
	case opCreate, opDelete:
	default:
		d.bad = true
	}
	if d.bad || len(d.b) > 0 {
		return operation{}, nil, fmt.Errorf("WAL record %d is not an operation that this program knows (kind %d, %d bytes)", r.LSN, o.kind, len(r.Data))
	}
	return o, batches, nil
}

const stateSize = 5 * 8

func appendState(b []byte, c log.Checkpoint) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Segment))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Position))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.EndOffset))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.LogStart))
	return binary.LittleEndian.AppendUint64(b, c.Generation)
}

// decoder reads fixed fields; bad is set once the bytes do not suffice, or a value is impossible.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if n < 0 || len(d.b) < n {
		d.bad = true
		d.b = nil
		return make([]byte, min(max(n, 0), 64))
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) u8() uint8   { return d.take(1)[0] }
func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

func (d *decoder) state() log.Checkpoint {
	c := log.Checkpoint{
		Segment: kafka.Offset(d.u64()), Position: int64(d.u64()), EndOffset: kafka.Offset(d.u64()),
		LogStart: kafka.Offset(d.u64()), Generation: d.u64(),
	}
	d.bad = d.bad || c.Segment < 0 || c.Position < 0 || c.EndOffset < c.Segment || c.LogStart < 0
	return c
}

// submit gives an operation to the WAL. For an append, p's slot is held, batches are its bytes and segment is where they
// lie; p is nil otherwise.
func (s *Store) submit(op *operation, p *Partition, batches []byte, segment *log.SegmentFile, hold bool) (wal.LSN, error) {
	var e wal.Entry
	if p == nil {
		e.Head = op.encode(make([]byte, 0, opSizeMax))
	} else {
		p.head = op.encode(p.head[:0])
		e = wal.Entry{Head: p.head, Body: batches, Reference: segment, Stream: &p.stream, End: int64(op.end), Lazy: p.lazy.Load(), Held: hold}
	}
	lsn, err := s.wal.Submit(&e)
	if err != nil {
		return 0, kafka.ErrKafkaStorageError.With("write-ahead log: %v", err)
	}
	return lsn, nil
}
