package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/store"
)

func (m *modelPartition) errorf(format string, args ...any) {
	m.h.t.Errorf("partition %d: %s", m.n, fmt.Sprintf(format, args...))
}

// compare looks at what a new process found of the partition and adopts what was left open. false if the process ended
// meanwhile, or a difference was found.
func (m *modelPartition) compare(s *store.Store) bool {
	sp := s.Partition(m.id)
	pending := m.pending
	switch {
	case sp == nil && m.exists && m.promised && pending.kind != "delete":
		m.errorf("it is gone")
		return false
	case sp == nil:
		if _, err := m.h.disk.Stat("/var/lib/chronik/partitions/" + m.id.String()); err == nil && m.absent > 0 {
			m.errorf("it is gone, but its directory is not")
			return false
		}
		m.absent++ // the start may have had no checkpoint yet to judge by; the next one has
		m.gone()
		m.pending = modelPending{}
		return true
	case !m.exists && pending.kind != "create":
		m.errorf("it was deleted, and is back with %d..%d", sp.LogStart(), sp.LogEnd())
		return false
	}
	m.exists, m.absent = true, 0
	if _, err := s.CreatePartition(m.id, m.topic()); err != nil {
		return m.trouble(err)
	}
	if !m.adoptEnd(sp) || !m.adoptStart(sp, pending) || !m.compareContent(sp) || !m.compareEpochs(sp, pending) {
		return false
	}
	m.pending = modelPending{}
	m.promised = true // the recovery made a checkpoint
	m.resend()
	m.attach(sp)
	m.epoch = max(m.epoch, sp.Epoch().Epoch)
	return m.compareProducers(sp)
}

// trouble is an error of the comparison itself, which only the end of the process excuses.
func (m *modelPartition) trouble(err error) bool {
	if !m.h.ended() && !m.h.ailing {
		m.errorf("%v", err)
	}
	return false
}

// adoptEnd compares the log's end with what was promised, and cuts the model to it.
func (m *modelPartition) adoptEnd(sp *store.Partition) bool {
	end, pending := sp.LogEnd(), m.pending
	if sp.DurableEnd() != end {
		m.errorf("after the start, %d is durable and the log ends at %d", sp.DurableEnd(), end)
		return false
	}
	if b := pending.batch; b != nil && b.base == m.end && end == b.end {
		if n := len(m.epochs); n == 0 || m.epochs[n-1].Epoch != b.epoch {
			m.assign(b.epoch, b.base, false)
		}
		m.appended(*b)
	}
	if pending.kind == "reset" && end == pending.offset && sp.LogStart() == end {
		m.wiped(end)
		return true
	}
	acked := m.acked
	if pending.kind == "truncate" {
		at := m.end
		for n := len(m.batches); n > 0 && m.batches[n-1].end > pending.offset; n-- {
			at = m.batches[n-1].base
		}
		if end == at {
			acked = min(acked, end)
		}
	}
	if end < acked {
		m.errorf("offsets up to %d were durable, the log ends at %d", acked, end)
		return false
	}
	boundary := end == m.end || slices.ContainsFunc(m.batches, func(b modelBatch) bool { return b.base == end })
	if !boundary {
		m.errorf("the log ends at %d, where no batch begins; it was written up to %d", end, m.end)
		return false
	}
	for n := len(m.batches); n > 0 && m.batches[n-1].end > end; n-- {
		m.batches = m.batches[:n-1]
	}
	m.end = end
	return true
}

func (m *modelPartition) adoptStart(sp *store.Partition, pending modelPending) bool {
	start := sp.LogStart()
	most := m.start
	if m.n == 1 {
		most = max(most, m.startMax)
	}
	if pending.kind == "set log start" {
		most = max(most, pending.offset)
	}
	if start < m.start || start > most {
		m.errorf("the log starts at %d instead of %d to %d", start, m.start, most)
		return false
	}
	m.start = start
	m.startMax = max(start, min(m.startMax, m.end))
	return true
}

func (m *modelPartition) compareContent(sp *store.Partition) bool {
	from := m.start
	for _, want := range m.batches {
		if want.end <= m.start {
			continue
		}
		got, err := sp.ReadCopy(nil, from, 1, m.end, true)
		if err != nil {
			return m.trouble(fmt.Errorf("read from %d of %d..%d: %w", from, m.start, m.end, err))
		}
		if !bytes.Equal(got, want.bytes) {
			what := "nothing"
			if b, _, err := record.Next(got); err == nil && b != nil {
				what = fmt.Sprintf("%d..%d in epoch %d, %d bytes", b.BaseOffset(), b.NextOffset(), b.LeaderEpoch(), len(got))
			}
			m.errorf("offset %d holds %s instead of %d..%d in epoch %d, %d bytes", from, what, want.base, want.end, want.epoch, len(want.bytes))
			return false
		}
		from = want.end
	}
	if from != m.end && m.start != m.end {
		m.errorf("the model ends at %d, not %d", from, m.end)
	}
	return true
}

// compareEpochs demands every epoch that began durably, and no other.
func (m *modelPartition) compareEpochs(sp *store.Partition, pending modelPending) bool {
	last := sp.Epoch()
	if pending.kind == "start epoch" && last.Epoch == pending.epoch {
		if last.Offset != m.end {
			m.errorf("epoch %d was to begin at %d, not at %d", last.Epoch, m.end, last.Offset)
			return false
		}
		m.assign(last.Epoch, last.Offset, true)
	}
	// An epoch that only an append brought may have gone with it.
	m.epochs = slices.DeleteFunc(m.epochs, func(e modelEpoch) bool {
		return e.Offset > m.end || e.Offset == m.end && !e.promised && e.Epoch != last.Epoch
	})
	m.epochs = m.history()
	n := len(m.epochs)
	for pending.kind == "truncate" && n > 0 && max(m.epochs[n-1].Offset, m.start) >= m.end && last.Epoch < m.epochs[n-1].Epoch {
		n-- // the cut took it
	}
	m.epochs = m.epochs[:n]
	if n == 0 {
		return true
	}
	if want := m.epochs[n-1]; last.Epoch != want.Epoch || last.Offset != want.Offset {
		m.errorf("the last epoch is %v instead of %v (log %d..%d)", last, want.EpochOffset, m.start, m.end)
		return false
	}
	for _, b := range m.batches {
		if b.base < m.start {
			continue
		}
		if e := sp.EpochForOffset(b.base); e != b.epoch {
			m.errorf("offset %d is of epoch %d, not %d", b.base, e, b.epoch)
			return false
		}
	}
	for i := range m.epochs {
		m.epochs[i].promised = true
		e := m.epochs[i]
		end := m.end
		if i+1 < n {
			end = m.epochs[i+1].Offset
		}
		if end <= m.start {
			continue
		}
		if got := sp.EndOffsetForEpoch(e.Epoch); got.Epoch != e.Epoch || got.Offset != end {
			m.errorf("epoch %d ends at %v, not at %d", e.Epoch, got, end)
			return false
		}
	}
	return true
}

// compareProducers sends again the last batch of every producer, and one behind a gap.
func (m *modelPartition) compareProducers(sp *store.Partition) bool {
	epoch := sp.Epoch().Epoch
	for i := range m.senders {
		kept := slices.DeleteFunc(slices.Clone(m.batches), func(b modelBatch) bool {
			return b.producer != i || b.base < max(m.start, m.startMax) || record.Batch(b.bytes).ProducerEpoch() != m.senders[i].epoch
		})
		for back := 1; back <= min(5, len(kept)); back++ {
			b := kept[len(kept)-back]
			r, err := sp.Append(bytes.Clone(b.bytes), epoch, record.FromClient)
			if err != nil {
				return m.trouble(fmt.Errorf("batch %d..%d sent again: %w", b.base, b.end, err))
			}
			if !r.Duplicate || r.BaseOffset != b.base || r.EndOffset() != b.end {
				m.errorf("batch %d..%d of producer %d, sent again, got %+v", b.base, b.end, i, r)
				return false
			}
		}
		if len(kept) == 0 {
			continue
		}
		gap := record.NewBuilder()
		gap.ProducerID, gap.ProducerEpoch, gap.BaseSequence = m.senders[i].id, m.senders[i].epoch, m.senders[i].next+1000
		gap.Add(1, nil, nil)
		if r, err := sp.Append(gap.Build(), epoch, record.FromClient); !errors.Is(err, kafka.ErrOutOfOrderSequenceNumber) {
			if err == nil {
				m.errorf("producer %d left a gap, and got %+v", i, r)
				return false
			}
			return m.trouble(err)
		}
	}
	return true
}
