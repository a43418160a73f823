package log

import (
	"math"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// check tells whether a leader may take a batch from a producer in state p; p already reflects the batches before it in
// the same append. The rules and their errors are those of Kafka's ProducerAppendInfo.
func (p *producer) check(l *Log, b record.Batch, m *marker, origin record.Origin) error {
	if b.Control() && m == nil {
		return nil // ends no transaction
	}
	if b.ProducerEpoch() < p.epoch {
		return kafka.ErrInvalidProducerEpoch.With("producer %d has epoch %d in %s; a newer one with epoch %d has taken over", b.ProducerID(), b.ProducerEpoch(), l.o.Name, p.epoch)
	}
	if m != nil {
		if p.coordinatorEpoch > m.CoordinatorEpoch {
			return kafka.ErrTransactionCoordinatorFenced.With("a marker for producer %d in %s comes from coordinator epoch %d; a newer one is %d", b.ProducerID(), l.o.Name, m.CoordinatorEpoch, p.coordinatorEpoch)
		}
		return nil
	}
	if origin == record.FromClient {
		if err := p.checkSequence(l, b); err != nil {
			return err
		}
	}
	if p.txnFirst != kafka.NoOffset && !b.Transactional() {
		return kafka.ErrInvalidTxnState.With("producer %d has an open transaction in %s and wrote outside of it", b.ProducerID(), l.o.Name)
	}
	return nil
}

func (p *producer) checkSequence(l *Log, b record.Batch) error {
	first := b.BaseSequence()
	if b.ProducerEpoch() != p.epoch {
		// A new epoch begins at 0; a producer of which nothing is known (expired, deleted, new) may begin anywhere.
		if first != 0 && p.epoch != record.NoProducerEpoch {
			return kafka.ErrOutOfOrderSequenceNumber.With("producer %d begins epoch %d in %s with sequence number %d, not 0 (its last epoch is %d)", b.ProducerID(), b.ProducerEpoch(), l.o.Name, first, p.epoch)
		}
		return nil
	}
	last := p.lastSequence()
	if p.epoch == record.NoProducerEpoch || first == last+1 && last != math.MaxInt32 || first == 0 && last == math.MaxInt32 {
		return nil
	}
	return kafka.ErrOutOfOrderSequenceNumber.With("producer %d sent sequence number %d in %s; the last one there is %d", b.ProducerID(), first, l.o.Name, last)
}

// staged is a producer's state as it will be once the append is written.
type staged struct {
	id kafka.ProducerID
	p  producer
}

// stage checks a leader's batches against the producers' states and leaves the states to come in l.w.staged. A batch that
// repeats one of the last five is returned.
func (l *Log) stage(batches []record.Batch, markers []*marker, origin record.Origin) (duplicate *producedBatch, err error) {
	l.w.staged = l.w.staged[:0]
	for i, b := range batches {
		if !b.HasProducerID() {
			continue
		}
		id := b.ProducerID()
		at := -1
		for j := range l.w.staged {
			if l.w.staged[j].id == id {
				at = j
			}
		}
		if at < 0 {
			l.mu.Lock()
			p := l.mu.producers.get(id)
			l.mu.Unlock()
			l.w.staged = append(l.w.staged, staged{id, p})
			at = len(l.w.staged) - 1
		}
		p := &l.w.staged[at].p
		if origin == record.FromClient {
			if d := p.duplicate(b); d != nil {
				copied := *d
				return &copied, nil
			}
		}
		if err := p.check(l, b, markers[i], origin); err != nil {
			return nil, err
		}
		// Only what the checks of the next batch look at; the transactions follow when the append is written.
		p.setEpoch(b.ProducerEpoch())
		switch m := markers[i]; {
		case m != nil:
			p.txnFirst, p.coordinatorEpoch = kafka.NoOffset, m.CoordinatorEpoch
		case !b.Control():
			p.add(producedBatch{lastSequence: b.LastSequence(), offsetDelta: b.LastOffsetDelta()})
			if b.Transactional() && p.txnFirst == kafka.NoOffset {
				p.txnFirst = b.BaseOffset()
			}
		}
	}
	return nil, nil
}
