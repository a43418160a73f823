package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/store"
)

// memDisk is a log in memory that becomes durable when the test says so, and forgets what was not when its power fails. It
// has one record in each batch. What store.Partition waits for (epochs, truncations, resets) is durable when it returns.
type memDisk struct {
	disk // what the tests do not need panics

	mu       sync.Mutex
	start    kafka.Offset
	batches  []record.Batch // from first on
	first    kafka.Offset   // of batches[0]
	history  []log.EpochOffset
	durable  kafka.Offset
	fence    kafka.LeaderEpoch
	high     kafka.Offset
	heard    func(kafka.Offset)
	refusing error // what appends get
	damage   []log.Damage
	dirty    kafka.Offset // what was compacted lies below
	deletes  kafka.Offset // behind the last deletion that was compacted away
	before   func()       // called by Append before anything else, once
}

func newMemDisk() *memDisk { return &memDisk{fence: kafka.NoLeaderEpoch} }

func (d *memDisk) endLocked() kafka.Offset { return d.first + kafka.Offset(len(d.batches)) }

func (d *memDisk) lastLocked() log.EpochOffset {
	if len(d.history) == 0 {
		return log.EpochOffset{Epoch: kafka.NoLeaderEpoch, Offset: kafka.NoOffset}
	}
	return d.history[len(d.history)-1]
}

func (d *memDisk) assignLocked(epoch kafka.LeaderEpoch, at kafka.Offset) {
	if d.lastLocked().Epoch == epoch {
		return
	}
	for n := len(d.history); n > 0 && d.history[n-1].Offset >= at; n-- {
		d.history = d.history[:n-1]
	}
	d.history = append(d.history, log.EpochOffset{Epoch: epoch, Offset: at})
}

func (d *memDisk) Append(b []byte, epoch kafka.LeaderEpoch, _ Origin) (store.Result, error) {
	if f := d.before; f != nil {
		d.before = nil
		f()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refusing != nil {
		return store.Result{}, d.refusing
	}
	if epoch < max(d.fence, d.lastLocked().Epoch) {
		return store.Result{}, log.ErrNotAtEnd
	}
	batch := record.Batch(slices.Clone(b))
	base := d.endLocked()
	batch.SetBaseOffset(base)
	batch.SetLeaderEpoch(epoch)
	d.assignLocked(epoch, base)
	d.batches = append(d.batches, batch)
	return store.Result{BaseOffset: base, LastOffset: base, LogAppendTime: -1, LogStart: d.start}, nil
}

func (d *memDisk) Commit() {}

func (d *memDisk) AppendReplicated(b []byte, _ bool) (store.Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first := d.endLocked()
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return store.Result{}, err
		}
		if batch.BaseOffset() != d.endLocked() || batch.LeaderEpoch() < d.lastLocked().Epoch {
			return store.Result{}, log.ErrNotAtEnd
		}
		d.assignLocked(batch.LeaderEpoch(), batch.BaseOffset())
		d.batches = append(d.batches, slices.Clone(batch))
		b = rest
	}
	return store.Result{BaseOffset: first, LastOffset: d.endLocked() - 1}, nil
}

func (d *memDisk) StartEpoch(_ context.Context, epoch kafka.LeaderEpoch) error {
	d.mu.Lock()
	if epoch < max(d.fence, d.lastLocked().Epoch) {
		d.mu.Unlock()
		return log.ErrNotAtEnd
	}
	d.fence = epoch
	d.assignLocked(epoch, d.endLocked())
	d.mu.Unlock()
	d.sync() // one group commit after the other
	return nil
}

func (d *memDisk) Follow(epoch kafka.LeaderEpoch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fence = max(d.fence, epoch)
}

func (d *memDisk) Truncate(_ context.Context, to kafka.Offset) error {
	d.sync()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cutLocked(to)
	return nil
}

func (d *memDisk) cutLocked(to kafka.Offset) {
	d.damage = slices.DeleteFunc(d.damage, func(g log.Damage) bool { return g.First >= to })
	to = max(to, d.first)
	d.batches = d.batches[:min(to, d.endLocked())-d.first]
	for n := len(d.history); n > 0 && d.history[n-1].Offset >= d.endLocked(); n-- {
		d.history = d.history[:n-1]
	}
	if d.endLocked() <= d.start {
		d.history = nil
	}
	d.durable, d.deletes = min(d.durable, d.endLocked()), min(d.deletes, d.endLocked())
	d.dirty = min(d.dirty, d.endLocked())
}

func (d *memDisk) ResetTo(_ context.Context, b log.Beginning) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.start, d.first, d.batches, d.history, d.durable = b.Offset, b.Offset, nil, slices.Clone(b.Epochs), b.Offset
	d.dirty, d.deletes = 0, 0
	return nil
}

func (d *memDisk) SetLogStart(_ context.Context, offset kafka.Offset) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if offset > d.high || offset > d.endLocked() {
		return fmt.Errorf("log start %d above the high watermark %d", offset, d.high)
	}
	if offset > d.start {
		d.start = offset
		n := min(offset, d.endLocked()) - d.first
		d.batches, d.first = d.batches[n:], d.first+n
		for len(d.history) > 1 && d.history[1].Offset <= d.start {
			d.history = d.history[1:]
		}
	}
	return nil
}

// sync is a group commit.
func (d *memDisk) sync() {
	d.mu.Lock()
	end := d.endLocked()
	moved := end > d.durable
	d.durable = end
	d.mu.Unlock()
	if moved {
		d.heard(end)
	}
}

// powerLoss leaves what was synced.
func (d *memDisk) powerLoss() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.batches = d.batches[:d.durable-d.first]
	for n := len(d.history); n > 0 && d.history[n-1].Offset > d.endLocked(); n-- {
		d.history = d.history[:n-1]
	}
	d.fence, d.high = kafka.NoLeaderEpoch, d.start
}

func (d *memDisk) ReadStretch(dst []byte, from kafka.Offset, maxBytes int, limit kafka.Offset, _ bool) ([]byte, kafka.Offset, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if from < d.start || from > d.endLocked() {
		return dst, from, kafka.ErrOffsetOutOfRange
	}
	i := from - d.first
	for n := 0; i < min(limit, d.endLocked())-d.first && (n == 0 || n < maxBytes); i++ {
		dst, n = append(dst, d.batches[i]...), n+len(d.batches[i])
	}
	return dst, d.first + i, nil
}

// compact removes records below an offset: those of which remove says so. Deletions among them are told.
func (d *memDisk) compact(below kafka.Offset, remove func(record.Batch) (gone, deletion bool)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, b := range d.batches[:max(0, min(below, d.endLocked())-d.first)] {
		if b == nil {
			continue
		}
		if gone, deletion := remove(b); gone {
			d.batches[i] = nil
			if deletion {
				d.deletes = max(d.deletes, b.NextOffset())
			}
		}
	}
	d.dirty = max(d.dirty, below)
}

func (d *memDisk) FirstDirty() (kafka.Offset, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(d.dirty, d.start), nil
}

func (d *memDisk) CheckStretch(_, _ kafka.Offset) error { return nil }
func (d *memDisk) Swaps() uint64                        { return 0 }

func (d *memDisk) DeletesRemovedBelow() (kafka.Offset, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.deletes, nil
}

func (d *memDisk) EpochsIn(from, to kafka.Offset) (found []log.EpochOffset, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.history {
		if e.Offset >= from && e.Offset < to {
			found = append(found, e)
		}
	}
	return found, nil
}

func (d *memDisk) AppendStretch(s *log.Stretch) (store.Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.From != d.endLocked() {
		return store.Result{}, log.ErrNotAtEnd
	}
	epochs, epoch := s.Epochs, d.lastLocked().Epoch
	told := func(to kafka.Offset) {
		for len(epochs) > 0 && epochs[0].Offset <= to {
			d.assignLocked(epochs[0].Epoch, epochs[0].Offset)
			epochs = epochs[1:]
		}
	}
	if len(epochs) > 0 && epochs[0].Epoch < epoch {
		return store.Result{}, log.ErrNotAtEnd
	}
	for rest := s.Batches; len(rest) > 0; {
		batch, more, err := record.Next(rest)
		if err != nil {
			return store.Result{}, err
		}
		if batch.LeaderEpoch() < epoch {
			return store.Result{}, log.ErrNotAtEnd
		}
		for d.endLocked() < batch.BaseOffset() {
			d.batches = append(d.batches, nil)
		}
		told(batch.BaseOffset())
		d.assignLocked(batch.LeaderEpoch(), batch.BaseOffset())
		d.batches, rest = append(d.batches, slices.Clone(batch)), more
	}
	for d.endLocked() < s.Next {
		d.batches = append(d.batches, nil)
	}
	told(s.Next)
	d.deletes = max(d.deletes, min(s.Deletes, s.Next))
	return store.Result{BaseOffset: s.From, LastOffset: s.Next - 1}, nil
}

func (d *memDisk) EndOffsetForEpoch(epoch kafka.LeaderEpoch) log.EpochOffset {
	d.mu.Lock()
	defer d.mu.Unlock()
	return log.EndOfEpoch(d.history, epoch, d.start, d.endLocked())
}

func (d *memDisk) EpochForOffset(offset kafka.Offset) kafka.LeaderEpoch {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range slices.Backward(d.history) {
		if e.Offset <= offset {
			return e.Epoch
		}
	}
	return kafka.NoLeaderEpoch
}

func (d *memDisk) LastRecordEpoch() kafka.LeaderEpoch {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range slices.Backward(d.history) {
		if e.Offset < d.endLocked() && d.start < d.endLocked() {
			return e.Epoch
		}
	}
	return kafka.NoLeaderEpoch
}

func (d *memDisk) Beginning() (log.Beginning, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := log.Beginning{Offset: d.start}
	for _, e := range d.history {
		if e.Offset <= d.start {
			b.Epochs = append(b.Epochs, e)
		}
	}
	return b, nil
}

func (d *memDisk) OnDurable(f func(kafka.Offset))   { d.heard = f }
func (d *memDisk) SetHighWatermark(hw kafka.Offset) { d.mu.Lock(); d.high = hw; d.mu.Unlock() }
func (d *memDisk) FirstUnstable() kafka.Offset      { return kafka.NoOffset }
func (d *memDisk) LogStart() kafka.Offset           { d.mu.Lock(); defer d.mu.Unlock(); return d.start }
func (d *memDisk) LogEnd() kafka.Offset             { d.mu.Lock(); defer d.mu.Unlock(); return d.endLocked() }
func (d *memDisk) DurableEnd() kafka.Offset         { d.mu.Lock(); defer d.mu.Unlock(); return d.durable }

// at is the record at an offset; nil if there is none.
func (d *memDisk) at(offset kafka.Offset) record.Batch {
	d.mu.Lock()
	defer d.mu.Unlock()
	if offset < d.first || offset >= d.endLocked() {
		return nil
	}
	return d.batches[offset-d.first]
}

func (d *memDisk) OnDamaged(func())      {}
func (d *memDisk) Damaged() []log.Damage { return d.damage }
