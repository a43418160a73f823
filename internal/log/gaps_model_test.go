package log

import (
	"bytes"

	"pgregory.net/rapid"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// gap is how many offsets compaction took, sometimes more than an index can tell of.
func gap(rt *rapid.T) kafka.Offset {
	if rapid.IntRange(0, 40).Draw(rt, "a huge gap") == 0 {
		return kafka.Offset(maxSegmentOffsets) + kafka.Offset(rapid.IntRange(-3, 10).Draw(rt, "beyond"))
	}
	return kafka.Offset(rapid.SampledFrom([]int{0, 0, 1, 2, 7, 100}).Draw(rt, "gap"))
}

// appendStretch appends what a leader has left: batches with gaps before and between them, or nothing, and leader epochs of
// which the first records, or all, are gone.
func (m *machine) appendStretch(rt *rapid.T) {
	s := Stretch{From: m.end}
	epoch, next := m.epoch(), m.end
	var batches [][]byte
	var assigned []EpochOffset
	epochAt := func(from, to kafka.Offset) { // to is where the next batch begins
		if to < from || rapid.IntRange(0, 2).Draw(rt, "a new epoch") > 0 {
			return
		}
		epoch += kafka.LeaderEpoch(rapid.IntRange(1, 3).Draw(rt, "by"))
		e := EpochOffset{epoch, kafka.Offset(rapid.Int64Range(int64(from), int64(to)).Draw(rt, "begins at"))}
		s.Epochs, assigned = append(s.Epochs, e), append(assigned, e)
	}
	for i := range rapid.IntRange(0, 3).Draw(rt, "batches") {
		m.stamp += int64(rapid.IntRange(0, 10).Draw(rt, "ms"))
		b := record.Batch(plain(rapid.IntRange(1, 3).Draw(rt, "records"), rapid.IntRange(0, 60).Draw(rt, "size"), m.stamp))
		by := gap(rt)
		if i > 0 { // those of one frame come from one segment
			by = min(by, 100)
		}
		epochAt(next, next+by)
		b.SetBaseOffset(next + by)
		b.SetLeaderEpoch(epoch)
		next = b.NextOffset()
		assigned = append(assigned, EpochOffset{epoch, b.BaseOffset()})
		batches = append(batches, b)
		s.Batches = append(s.Batches, b...)
	}
	if len(batches) == 0 {
		next += 1 + gap(rt)
		epochAt(s.From, next-1)
	}
	s.Next = next
	p, err := m.l.AppendStretch(&s)
	m.check(err)
	if p.EndOffset != s.Next || p.Length != int64(len(s.Batches)) {
		rt.Fatalf("stretch %d to %d: %+v", s.From, s.Next, p)
	}
	op := walOp{kind: "stretch", gap: s, at: p}
	op.gap.Batches = bytes.Clone(s.Batches)
	if len(batches) > 0 && rapid.Bool().Draw(rt, "by reference") {
		m.check(p.Segment.Sync())
		op.kind, op.gap.Batches = "stretch reference", nil
	}
	m.wal = append(m.wal, op)
	for _, e := range assigned {
		m.epochs.assign(e)
	}
	for _, b := range batches {
		m.batches = append(m.batches, bytes.Clone(b))
	}
	m.end = s.Next
}
