package store_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/store"
)

// modelPartition is what a partition must hold, and the one who uses it: one operation after the other.
type modelPartition struct {
	h    *history
	n    int
	id   kafka.TopicPartition
	lazy bool
	rng  *rand.Rand
	sp   *store.Partition

	exists   bool // was created, as far as the user knows
	absent   int  // starts in a row that did not know it
	promised bool // and that is durable
	batches  []modelBatch
	start    kafka.Offset // as SetLogStart returned it
	startMax kafka.Offset // as far as retention may have come
	end      kafka.Offset
	epochs   []modelEpoch
	epoch    kafka.LeaderEpoch // the newest there ever was
	senders  []modelProducer

	pending modelPending // what has not returned, when the process ended
	refused bool         // the last operation was refused for lack of space

	mu    sync.Mutex
	acked kafka.Offset // below, everything was reported durable
	deaf  *atomic.Bool // the process ended: what it reports counts no more
}

type modelBatch struct {
	base, end kafka.Offset
	epoch     kafka.LeaderEpoch
	bytes     []byte
	producer  int // in senders, -1 for none
	sequence  int32
}

type modelEpoch struct {
	log.EpochOffset
	promised bool // durable, whatever becomes of the batches in it
}

type modelProducer struct {
	id    kafka.ProducerID
	epoch kafka.ProducerEpoch
	next  int32
}

type modelPending struct {
	kind   string
	offset kafka.Offset
	epoch  kafka.LeaderEpoch
	batch  *modelBatch
}

func newModelPartition(h *history, n int) *modelPartition {
	m := &modelPartition{h: h, n: n, id: kafka.TopicPartition{Topic: kafka.TopicID{1, byte(n)}, Partition: int32(n)}, epoch: kafka.NoLeaderEpoch}
	m.lazy = h.rng.IntN(6) == 0
	for i := range 2 {
		m.senders = append(m.senders, modelProducer{id: kafka.ProducerID(1000 + i)})
	}
	return m
}

func (m *modelPartition) topic() config.Topic {
	c := m.h.config.Topic
	if m.lazy {
		c.Sync = config.SyncInterval
	}
	if m.n == 1 {
		c.RetentionBytes = 40 << 10
	}
	return c
}

// act does some operations.
func (m *modelPartition) act(s *store.Store, steps int) {
	for range steps {
		if m.h.ended() || m.h.t.Failed() {
			return
		}
		if !m.exists {
			m.step(s, m.create)
			continue
		}
		r := m.rng.IntN(100)
		switch {
		case r < 70 || m.h.full:
			m.step(s, m.append)
		case r < 76:
			m.step(s, m.replicate)
		case r < 83:
			m.step(s, m.startEpoch)
		case r < 88:
			m.step(s, m.truncate)
		case r < 93:
			m.step(s, m.setLogStart)
		case r < 94:
			m.step(s, m.reset)
		case r < 95:
			m.step(s, m.remove)
		default:
			m.h.note("%d: pause", m.n)
			time.Sleep(time.Duration(m.rng.IntN(30)) * time.Millisecond)
			m.sp.SetHighWatermark(m.sp.DurableEnd())
			m.startMax = m.sp.DurableEnd()
		}
	}
}

// step does one operation. One that fails because the process ended stays pending.
func (m *modelPartition) step(s *store.Store, op func(*store.Store) error) {
	m.refused = false
	err := op(s)
	switch {
	case err == nil:
		m.pending = modelPending{}
	case m.h.ended():
		m.h.note("%d: %s did not end: %v", m.n, m.pending.kind, err)
	case m.h.full && errors.Is(err, kafka.ErrKafkaStorageError):
		m.refused = true
		m.pending = modelPending{}
		if end := m.sp.LogEnd(); end != m.end {
			m.h.t.Errorf("%d: a refused append moved the log's end from %d to %d: %v", m.n, m.end, end, err)
		}
		time.Sleep(50 * time.Millisecond)
	default:
		// The store may be about to say so.
		time.Sleep(time.Millisecond)
		if !m.h.ended() {
			m.h.t.Errorf("%d: %s: %v", m.n, m.pending.kind, err)
		}
	}
}

func (m *modelPartition) create(s *store.Store) error {
	m.pending.kind = "create"
	sp, err := s.CreatePartition(m.id, m.topic())
	if err != nil {
		return err
	}
	m.h.note("%d: created", m.n)
	m.exists, m.promised, m.absent = true, false, 0
	m.batches, m.start, m.startMax, m.end, m.epochs = nil, 0, 0, 0, nil
	for i := range m.senders {
		m.senders[i].epoch, m.senders[i].next = 0, 0
	}
	m.attach(sp)
	return nil
}

// attach listens to a partition of the present process.
func (m *modelPartition) attach(sp *store.Partition) {
	m.freeze()
	m.sp = sp
	deaf := new(atomic.Bool)
	m.mu.Lock()
	m.deaf, m.acked = deaf, sp.DurableEnd()
	m.mu.Unlock()
	sp.OnDurable(func(end kafka.Offset) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !deaf.Load() && !m.lazy {
			m.acked = max(m.acked, end)
		}
	})
}

// freeze ends what the present process has promised.
func (m *modelPartition) freeze() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.deaf != nil {
		m.deaf.Store(true)
	}
}

// waited notes that an operation returned which is durable, and all before it.
func (m *modelPartition) waited() {
	m.promised = true
	m.mu.Lock()
	m.acked = max(m.acked, m.end)
	m.mu.Unlock()
}

// lead makes sure that there is an epoch to append in.
func (m *modelPartition) lead() error {
	if len(m.epochs) > 0 && m.epochs[len(m.epochs)-1].Epoch == m.epoch {
		return nil
	}
	return m.startEpoch(nil)
}

func (m *modelPartition) startEpoch(*store.Store) error {
	m.epoch++
	m.pending = modelPending{kind: "start epoch", epoch: m.epoch, offset: m.end}
	if err := m.sp.StartEpoch(context.Background(), m.epoch); err != nil {
		return err
	}
	m.h.note("%d: epoch %d from %d", m.n, m.epoch, m.end)
	m.assign(m.epoch, m.end, true)
	m.waited()
	return nil
}

// assign notes an epoch; history makes of the notes what Kafka does: an epoch without records gives way to the next.
func (m *modelPartition) assign(epoch kafka.LeaderEpoch, offset kafka.Offset, promised bool) {
	m.epochs = append(m.epochs, modelEpoch{log.EpochOffset{Epoch: epoch, Offset: offset}, promised})
}

func (m *modelPartition) history() []modelEpoch {
	var list []modelEpoch
	for _, e := range m.epochs {
		for n := len(list); n > 0 && list[n-1].Offset >= e.Offset; n-- {
			list = list[:n-1]
		}
		list = append(list, e)
	}
	return list
}

// build makes a batch, perhaps one of an idempotent producer, and sometimes large.
func (m *modelPartition) build() (b record.Batch, producer int, sequence int32) {
	rb := record.NewBuilder()
	producer, sequence = m.rng.IntN(4)-2, -1
	if producer >= 0 {
		p := &m.senders[producer]
		rb.ProducerID, rb.ProducerEpoch, rb.BaseSequence = p.id, p.epoch, p.next
		sequence = p.next
	}
	size := m.rng.IntN(300)
	if m.rng.IntN(5) == 0 {
		size = m.rng.IntN(12 << 10)
	}
	for i := range 1 + m.rng.IntN(3) {
		value := make([]byte, size/(i+1))
		for j := range value {
			value[j] = byte(m.rng.Uint32())
		}
		rb.Add(time.Now().UnixMilli(), []byte{byte(i)}, value)
	}
	return rb.Build(), producer, sequence
}

func (m *modelPartition) append(*store.Store) error {
	if err := m.lead(); err != nil {
		return err
	}
	b, producer, sequence := m.build()
	want := record.Batch(bytes.Clone(b))
	want.SetBaseOffset(m.end)
	want.SetLeaderEpoch(m.epoch)
	batch := modelBatch{base: m.end, end: want.NextOffset(), epoch: m.epoch, bytes: want, producer: producer, sequence: sequence}
	m.pending = modelPending{kind: "append", batch: &batch}
	r, err := m.sp.Append(b, m.epoch, record.FromClient)
	if err != nil {
		return err
	}
	clear(b) // it was copied or referenced
	if r.BaseOffset != batch.base || r.EndOffset() != batch.end || r.Duplicate {
		m.h.t.Errorf("%d: append at %d..%d got %+v", m.n, batch.base, batch.end, r)
	}
	m.appended(batch)
	return nil
}

func (m *modelPartition) appended(b modelBatch) {
	m.batches = append(m.batches, b)
	m.end = b.end
	if b.producer >= 0 {
		m.senders[b.producer].next = b.sequence + int32(b.end-b.base)
	}
}

// replicate appends as a follower does, perhaps in a newer epoch.
func (m *modelPartition) replicate(*store.Store) error {
	if m.epoch < 0 || m.rng.IntN(3) == 0 || len(m.epochs) == 0 || m.epochs[len(m.epochs)-1].Epoch != m.epoch {
		m.epoch++
	}
	b, producer, sequence := m.build()
	b.SetBaseOffset(m.end)
	b.SetLeaderEpoch(m.epoch)
	batch := modelBatch{base: m.end, end: b.NextOffset(), epoch: m.epoch, bytes: bytes.Clone(b), producer: producer, sequence: sequence}
	m.pending = modelPending{kind: "replicate", batch: &batch}
	r, err := m.sp.AppendReplicated(b, false)
	if err != nil {
		return err
	}
	clear(b)
	if r.BaseOffset != batch.base || r.EndOffset() != batch.end {
		m.h.t.Errorf("%d: replicated append at %d..%d got %+v", m.n, batch.base, batch.end, r)
	}
	if n := len(m.epochs); n == 0 || m.epochs[n-1].Epoch != m.epoch {
		m.assign(m.epoch, batch.base, false)
	}
	m.appended(batch)
	return nil
}

func (m *modelPartition) truncate(*store.Store) error {
	low := m.start
	if m.n == 1 {
		low = max(low, m.startMax) // retention may have been there
	}
	if m.end <= low {
		return nil
	}
	to := low + kafka.Offset(m.rng.Int64N(int64(m.end-low)))
	if m.rng.IntN(2) == 0 {
		to = max(to, m.end-5)
	}
	for _, b := range m.batches {
		if b.base < low && b.end > to {
			return nil // the log starts in the middle of a batch, which cannot go
		}
	}
	m.pending = modelPending{kind: "truncate", offset: to}
	if m.startMax > to {
		m.sp.SetHighWatermark(to)
	}
	if err := m.sp.Truncate(context.Background(), to); err != nil {
		return err
	}
	m.cut(to)
	m.h.note("%d: truncated to %d: %d", m.n, to, m.end)
	m.waited()
	m.mu.Lock()
	m.acked = min(m.acked, m.end)
	m.mu.Unlock()
	if end := m.sp.LogEnd(); end != m.end {
		m.h.t.Errorf("%d: truncated to %d, the log ends at %d instead of %d", m.n, to, end, m.end)
	}
	return nil
}

// cut drops whole batches that reach beyond an offset.
func (m *modelPartition) cut(to kafka.Offset) {
	for n := len(m.batches); n > 0 && m.batches[n-1].end > to; n-- {
		m.end = m.batches[n-1].base
		m.batches = m.batches[:n-1]
	}
	// The first epoch begins no earlier than the log.
	start := max(m.start, m.sp.LogStart())
	for n := len(m.epochs); n > 0 && max(m.epochs[n-1].Offset, start) >= m.end; n-- {
		m.epochs = m.epochs[:n-1]
	}
	m.startMax = min(m.startMax, m.end)
	m.resend()
}

// resend lets the producers go on behind what is left of them.
func (m *modelPartition) resend() {
	for i := range m.senders {
		p := &m.senders[i]
		p.next = -1
		for _, b := range m.batches {
			if b.producer == i && b.base >= max(m.start, m.startMax) && record.Batch(b.bytes).ProducerEpoch() == p.epoch {
				p.next = b.sequence + int32(b.end-b.base)
			}
		}
		if p.next < 0 {
			p.epoch++
			p.next = 0
		}
	}
}

func (m *modelPartition) setLogStart(*store.Store) error {
	m.mu.Lock()
	acked := m.acked
	m.mu.Unlock()
	if m.lazy || acked <= m.start {
		return nil
	}
	to := m.start + kafka.Offset(m.rng.Int64N(int64(acked-m.start)+1))
	if m.rng.IntN(4) == 0 {
		to = acked
	}
	m.startMax = max(m.startMax, acked)
	m.sp.SetHighWatermark(m.startMax)
	m.pending = modelPending{kind: "set log start", offset: to}
	if err := m.sp.SetLogStart(context.Background(), to); err != nil {
		return err
	}
	m.start = max(m.start, to)
	m.h.note("%d: log start %d", m.n, m.start)
	m.promised = true
	return nil
}

func (m *modelPartition) reset(*store.Store) error {
	to := m.end + kafka.Offset(m.rng.IntN(20))
	m.pending = modelPending{kind: "reset", offset: to}
	if err := m.sp.Reset(context.Background(), to); err != nil {
		return err
	}
	m.h.note("%d: reset to %d", m.n, to)
	m.wiped(to)
	m.waited()
	return nil
}

func (m *modelPartition) wiped(to kafka.Offset) {
	m.batches, m.epochs, m.start, m.startMax, m.end = nil, nil, to, to, to
	m.resend()
}

func (m *modelPartition) remove(s *store.Store) error {
	m.pending = modelPending{kind: "delete"}
	if err := s.DeletePartition(context.Background(), m.id); err != nil {
		return err
	}
	m.h.note("%d: deleted", m.n)
	m.gone()
	return nil
}

func (m *modelPartition) gone() {
	m.freeze()
	m.exists, m.promised, m.batches, m.epochs = false, false, nil, nil
	m.end, m.start, m.startMax, m.acked = 0, 0, 0, 0
	m.epoch = kafka.NoLeaderEpoch
}

// closed notes a clean shutdown: everything is durable.
func (m *modelPartition) closed() {
	m.freeze()
	m.mu.Lock()
	m.acked = m.end
	m.mu.Unlock()
	m.promised = m.exists
}
