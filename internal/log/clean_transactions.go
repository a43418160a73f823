package log

import (
	"cmp"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// cleanedTransactions follows the transactions of a log that is gone through from its start, in order to know which batches
// were aborted, and which markers have nothing left that they say anything of: Kafka's CleanedTransactionMetadata.
type cleanedTransactions struct {
	toCome    []AbortedTransaction // by first offset
	aborted   map[kafka.ProducerID]*abortedSeen
	committed map[kafka.ProducerID]struct{}
}

type abortedSeen struct {
	AbortedTransaction
	batches bool // one of it was seen
}

func newCleanedTransactions(aborted []AbortedTransaction) cleanedTransactions {
	t := cleanedTransactions{toCome: slices.Clone(aborted), aborted: map[kafka.ProducerID]*abortedSeen{}, committed: map[kafka.ProducerID]struct{}{}}
	slices.SortStableFunc(t.toCome, func(a, b AbortedTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	return t
}

// upTo takes up the aborted transactions that begin at or below an offset.
func (t *cleanedTransactions) upTo(offset kafka.Offset) {
	for len(t.toCome) > 0 && t.toCome[0].FirstOffset <= offset {
		a := t.toCome[0]
		t.toCome = t.toCome[1:]
		if t.aborted[a.ProducerID] == nil {
			t.aborted[a.ProducerID] = &abortedSeen{AbortedTransaction: a}
		}
	}
}

// batch takes up a batch of records, and tells whether they were aborted.
func (t *cleanedTransactions) batch(b record.Batch) (aborted bool) {
	t.upTo(b.LastOffset())
	if !b.Transactional() {
		return false
	}
	if a := t.aborted[b.ProducerID()]; a != nil {
		a.batches = true
		return true
	}
	t.committed[b.ProducerID()] = struct{}{}
	return false
}

// marker takes up a control batch. done tells that nothing is left of the transaction that it ends; kept is the aborted
// transaction to be listed with it if something is.
func (t *cleanedTransactions) marker(b record.Batch, m *marker) (done bool, kept *AbortedTransaction) {
	t.upTo(b.LastOffset())
	if b.Count() == 0 {
		return true, nil
	}
	id := b.ProducerID()
	switch {
	case m == nil: // it ends no transaction
		return false, nil
	case m.Type == record.ControlAbort:
		a := t.aborted[id]
		delete(t.aborted, id)
		if a != nil && a.batches {
			return false, &a.AbortedTransaction
		}
		return true, nil
	default:
		_, seen := t.committed[id]
		delete(t.committed, id)
		return !seen, nil
	}
}
