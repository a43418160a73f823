package coordinator

import (
	"fmt"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// recordBytes is about what a record takes in a batch.
func recordBytes(r Record) int { return r.Size() + 24 }

// encodeBatches appends the records of operations to dst as few batches: one, unless it would be larger than batchBytes. An
// operation that is larger than that by itself has a batch of its own, so that all of it survives a failover or nothing, and only
// one that is larger than batchMax is split.
func encodeBatches(dst []byte, b *record.Builder, ops [][]Record, millis int64, batchBytes, batchMax int) ([]byte, error) {
	b.Reset()
	var err error
	cut := func() {
		if b.Count() > 0 && err == nil {
			dst, err = b.AppendTo(dst, nil)
			b.Reset()
		}
	}
	for _, records := range ops {
		size := 0
		for _, r := range records {
			size += recordBytes(r)
		}
		if b.Size()+size > batchBytes {
			cut()
		}
		for _, r := range records {
			if b.Size()+recordBytes(r) > max(batchBytes, batchMax) {
				cut()
			}
			b.Add(millis, r.Key, r.Value)
		}
	}
	cut()
	return dst, err
}

// replayBatches gives every record of whole batches that is at or over the offset from, and returns the offset behind
// the last batch.
func replayBatches(codecs *record.Codecs, buf []byte, from kafka.Offset, replay func(Replayed) error) (kafka.Offset, error) {
	next := from
	for {
		b, rest, err := record.Next(buf)
		if err != nil {
			return next, err
		}
		if b == nil {
			return next, nil
		}
		if !b.VerifyCRC() {
			return next, kafka.ErrCorruptMessage.With("the batch at offset %d does not match its CRC", b.BaseOffset())
		}
		for r, err := range codecs.Records(b, 0) {
			if err != nil {
				return next, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
			}
			if r.Offset < from {
				continue
			}
			rec := Replayed{
				Record: Record{r.Key, r.Value}, Offset: r.Offset, ProducerID: b.ProducerID(), ProducerEpoch: b.ProducerEpoch(),
				Transactional: b.Transactional(), Control: b.Control(),
			}
			if err := replay(rec); err != nil {
				return next, fmt.Errorf("record at offset %d: %w", r.Offset, err)
			}
		}
		next, buf = b.NextOffset(), rest
	}
}
