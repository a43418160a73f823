package coordinator

import (
	"time"

	"chronik/internal/kafka"
)

// Machine is a state machine that the log replicates. All methods are called by its shard's goroutine only.
type Machine interface {
	// Replay folds one record of the log into the state; an error says that the record cannot be understood. The machine
	// keeps nothing of rec.
	Replay(rec Replayed) error
	// Loaded is called once everything in the log was replayed and before the first operation.
	Loaded(tx *Tx)
	// Unloaded fails, with err, every promise that the machine holds. The machine is not used again.
	Unloaded(err error)
}

// Record is a key and a value, in the machine's own formats. A nil value is a tombstone.
type Record struct {
	Key   []byte
	Value []byte
}

// Size is that of key and value, in bytes.
func (r Record) Size() int { return len(r.Key) + len(r.Value) }

// Replayed is a record as the log has it.
type Replayed struct {
	Record
	Offset        kafka.Offset
	ProducerID    kafka.ProducerID // NoProducerID unless the batch is a producer's
	ProducerEpoch kafka.ProducerEpoch
	Transactional bool
	Control       bool // Key and Value are those of a transaction marker
}

// Tx is what one operation does: it takes the records and answers of the operation and sets timers. It is valid only
// during the operation.
type Tx struct {
	// Now is the time of the operation, the same for all that it does.
	Now     time.Time
	records []Record
	answers []settler
	timers  *Timers
}

// NewTx makes a Tx that stands alone, for tests of machines; see [Tx.Take].
func NewTx(now time.Time, timers *Timers) *Tx { return &Tx{Now: now, timers: timers} }

// Millis is Now in milliseconds since 1970, as records hold it.
func (tx *Tx) Millis() int64 { return tx.Now.UnixMilli() }

// Append writes a record; the operation changes the state itself. All records of an operation are in one batch, unless
// they are more than a batch may hold: then they are in several, in their order, and a failover may leave only the first ones. Append
// keeps the slices.
func (tx *Tx) Append(rec Record) { tx.records = append(tx.records, rec) }

// Appended is the number of records so far.
func (tx *Tx) Appended() int { return len(tx.records) }

// After calls op in an operation of its own once d has passed, in place of what the key was set to before.
func (tx *Tx) After(key TimerKey, d time.Duration, op func(*Tx)) {
	tx.timers.set(key, tx.Now.Add(d), op)
}

// Scheduled tells whether the key is set.
func (tx *Tx) Scheduled(key TimerKey) bool { return tx.timers.has(key) }

// Cancel forgets what the key was set to.
func (tx *Tx) Cancel(key TimerKey) { tx.timers.cancel(key) }

// Take returns the records so far and delivers the answers, as a shard does once the records are committed. For tests.
func (tx *Tx) Take() []Record {
	recs := tx.records
	for _, a := range tx.answers {
		a.settle()
	}
	tx.records, tx.answers = nil, nil
	return recs
}
