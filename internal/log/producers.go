package log

import (
	"slices"
	"sort"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// duplicateWindow is how many batches of a producer are remembered to recognize a repeated one.
const duplicateWindow = 5

// producedBatch is what is remembered of a batch.
type producedBatch struct {
	lastSequence int32
	offsetDelta  int32 // of its last record
	lastOffset   kafka.Offset
	timestamp    int64 // its largest
}

func (b *producedBatch) firstSequence() int32 {
	return record.SubSequence(b.lastSequence, b.offsetDelta)
}

func (b *producedBatch) firstOffset() kafka.Offset {
	return b.lastOffset - kafka.Offset(b.offsetDelta)
}

// producer is the state of one producer ID in the partition: Kafka's ProducerStateEntry.
type producer struct {
	epoch            kafka.ProducerEpoch
	coordinatorEpoch int32
	count            int8 // batches remembered
	batches          [duplicateWindow]producedBatch
	lastTimestamp    int64        // of its last batch or marker, milliseconds of record time
	lastAppend       int64        // wall clock, milliseconds: what expiry counts from
	txnFirst         kafka.Offset // of its open transaction, NoOffset without one
}

func newProducer() producer {
	return producer{epoch: record.NoProducerEpoch, coordinatorEpoch: -1, lastTimestamp: record.NoTimestamp, txnFirst: kafka.NoOffset}
}

func (p *producer) lastSequence() int32 {
	if p.count == 0 {
		return record.NoSequence
	}
	return p.batches[p.count-1].lastSequence
}

// setEpoch forgets the batches of another epoch.
func (p *producer) setEpoch(e kafka.ProducerEpoch) {
	if p.epoch != e {
		p.epoch, p.count = e, 0
	}
}

func (p *producer) add(b producedBatch) {
	if p.count == duplicateWindow {
		copy(p.batches[:], p.batches[1:])
		p.count--
	}
	p.batches[p.count] = b
	p.count++
	p.lastTimestamp = b.timestamp
}

// duplicate finds the remembered batch with exactly the sequence numbers of b.
func (p *producer) duplicate(b record.Batch) *producedBatch {
	if b.ProducerEpoch() != p.epoch {
		return nil
	}
	first, last := b.BaseSequence(), b.LastSequence()
	for i := range p.batches[:p.count] {
		if d := &p.batches[i]; d.lastSequence == last && d.firstSequence() == first {
			return d
		}
	}
	return nil
}

// transaction is an open one, or one whose marker is not yet below the high watermark.
type transaction struct {
	id    kafka.ProducerID
	first kafka.Offset
	last  kafka.Offset // of the marker; NoOffset while open
}

// producers is the producer state of a partition up to offset end: Kafka's ProducerStateManager. Guarded by Log.mu.
type producers struct {
	byID         map[kafka.ProducerID]*producer
	ongoing      []transaction // by first
	unreplicated []transaction // by first
	end          kafka.Offset
	epochs       *epochHistory // where a scan of the segments notes the leader epochs too; else nil
}

func insertTransaction(list []transaction, t transaction) []transaction {
	i := sort.Search(len(list), func(i int) bool { return list[i].first > t.first })
	return slices.Insert(list, i, t)
}

// get returns a copy of a producer's state, that of a new one if it is not known.
func (s *producers) get(id kafka.ProducerID) producer {
	if p := s.byID[id]; p != nil {
		return *p
	}
	return newProducer()
}

// put stores a producer's state.
func (s *producers) put(id kafka.ProducerID, p *producer) {
	if s.byID == nil {
		s.byID = map[kafka.ProducerID]*producer{}
	}
	if have := s.byID[id]; have != nil {
		*have = *p
		return
	}
	q := *p
	s.byID[id] = &q
}

// begin notes an open transaction.
func (s *producers) begin(id kafka.ProducerID, first kafka.Offset) {
	s.ongoing = insertTransaction(s.ongoing, transaction{id: id, first: first, last: kafka.NoOffset})
}

// complete ends a producer's open transaction with a marker at offset, and returns the last stable offset just after it,
// were everything replicated.
func (s *producers) complete(id kafka.ProducerID, first, marker kafka.Offset) (lastStable kafka.Offset) {
	lastStable = marker + 1
	for _, t := range s.ongoing {
		if t.id != id {
			lastStable = t.first
			break
		}
	}
	i := slices.IndexFunc(s.ongoing, func(t transaction) bool { return t.first == first })
	if i < 0 {
		panic("log: the transaction that a marker ends was not begun")
	}
	t := s.ongoing[i]
	t.last = marker
	s.ongoing = slices.Delete(s.ongoing, i, i+1)
	s.unreplicated = insertTransaction(s.unreplicated, t)
	return lastStable
}

// replicatedTo forgets the completed transactions whose markers lie below offset.
func (s *producers) replicatedTo(offset kafka.Offset) {
	if len(s.unreplicated) > 0 {
		s.unreplicated = slices.DeleteFunc(s.unreplicated, func(t transaction) bool { return t.last < offset })
	}
}

// firstUnstable is the first offset of a transaction that is open or not yet replicated; NoOffset without one.
func (s *producers) firstUnstable() kafka.Offset {
	first := kafka.NoOffset
	if len(s.ongoing) > 0 {
		first = s.ongoing[0].first
	}
	if len(s.unreplicated) > 0 && (first == kafka.NoOffset || s.unreplicated[0].first < first) {
		first = s.unreplicated[0].first
	}
	return first
}

// expire forgets producers without an open transaction whose last append is at least age milliseconds old.
func (s *producers) expire(nowMillis, ageMillis int64) int {
	n := 0
	for id, p := range s.byID {
		if p.txnFirst == kafka.NoOffset && nowMillis-p.lastAppend >= ageMillis {
			delete(s.byID, id)
			n++
		}
	}
	return n
}

// apply takes in a batch that is in the log: what a follower, replay and a rebuild do. Nothing is refused; a batch of an
// older epoch is taken as the leader took it.
func (s *producers) apply(b record.Batch, m *marker, nowMillis int64) (aborted *AbortedTransaction) {
	defer func() { s.end = b.NextOffset() }()
	id := b.ProducerID()
	if !b.HasProducerID() || b.Control() && m == nil && b.Count() > 0 {
		return nil
	}
	p := s.get(id)
	p.lastAppend = nowMillis
	if b.Control() && m == nil { // all that compaction left of a marker: the epoch still fences
		p.setEpoch(b.ProducerEpoch())
	} else {
		aborted = s.step(&p, b, m)
	}
	s.put(id, &p)
	return aborted
}

// step advances p by a batch, and the transactions with it.
func (s *producers) step(p *producer, b record.Batch, m *marker) (aborted *AbortedTransaction) {
	p.setEpoch(b.ProducerEpoch())
	if m != nil {
		if first := p.txnFirst; first != kafka.NoOffset {
			stable := s.complete(b.ProducerID(), first, b.BaseOffset())
			if m.Type == record.ControlAbort {
				aborted = &AbortedTransaction{ProducerID: b.ProducerID(), FirstOffset: first, LastOffset: b.BaseOffset(), LastStable: stable}
			}
		}
		p.txnFirst, p.coordinatorEpoch, p.lastTimestamp = kafka.NoOffset, m.CoordinatorEpoch, m.millis
		return aborted
	}
	p.add(producedBatch{lastSequence: b.LastSequence(), offsetDelta: b.LastOffsetDelta(), lastOffset: b.LastOffset(), timestamp: b.MaxTimestamp()})
	if b.Transactional() && p.txnFirst == kafka.NoOffset {
		p.txnFirst = b.BaseOffset()
		s.begin(b.ProducerID(), b.BaseOffset())
	}
	return nil
}

// marker is the end of a transaction, as a control batch tells it.
type marker struct {
	record.EndTransaction
	millis int64
}

// readMarker reads a control batch; nil for any other batch, and for a control batch that ends no transaction.
func (l *Log) readMarker(b record.Batch) (*marker, error) {
	if !b.Control() || !b.HasProducerID() {
		return nil, nil
	}
	m, millis, ok, err := l.codecs.ReadEndTransaction(b)
	if err != nil || !ok {
		return nil, err
	}
	return &marker{m, millis}, nil
}
