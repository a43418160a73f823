package log

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// placed is a batch at an offset, as another replica has it.
func placed(base kafka.Offset, epoch kafka.LeaderEpoch, b record.Batch) record.Batch {
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(epoch)
	return b
}

// emptied is what compaction leaves of a batch whose records are gone, and that it keeps.
func emptied(b record.Batch) record.Batch {
	b = slices.Clone(b[:record.HeaderSize])
	binary.BigEndian.PutUint32(b[8:], record.HeaderSize-record.LogOverhead)
	binary.BigEndian.PutUint32(b[57:], 0)
	binary.BigEndian.PutUint32(b[17:], b.ComputeCRC())
	return b
}

func mustStretch(t testing.TB, l *Log, s Stretch) Placement {
	t.Helper()
	p, err := l.AppendStretch(&s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A log with gaps before, between and behind its batches, over several segments, some of them without a batch: a read at
// any offset finds the next batch that ends behind it, or that nothing is left; and says where to go on, upwards.
func TestReadsInGaps(t *testing.T) {
	fs := vfs.NewMem(0)
	o := options(fs, Config{SegmentBytes: 600, IndexIntervalBytes: 100})
	l := openFresh(t, o)
	var batches []record.Batch
	next := kafka.Offset(0)
	for i, by := range []kafka.Offset{3, 0, 7, 100, 0, 1, 40, 2, 0, 9, 25} {
		b := placed(next+by, 1, plain(1+i%3, 50, int64(1000+i)))
		batches = append(batches, b)
		mustStretch(t, l, Stretch{From: next, Next: b.NextOffset(), Batches: b})
		next = b.NextOffset()
		if i%4 == 3 { // a segment in which nothing is left
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
			mustStretch(t, l, Stretch{From: next, Next: next + 5})
			next += 5
		}
	}
	mustStretch(t, l, Stretch{From: next, Next: next + 30})
	end := next + 30
	check := func(l *Log) {
		t.Helper()
		if l.LogEnd() != end {
			t.Fatalf("the log ends at %d, not %d", l.LogEnd(), end)
		}
		for from := range end {
			var want record.Batch
			for _, b := range batches {
				if b.NextOffset() > from {
					want = b
					break
				}
			}
			for _, limit := range []kafka.Offset{end, from + 1, from + 20, next} {
				got, on, err := l.ReadStretch(nil, from, 1, limit, true)
				visible := want != nil && want.NextOffset() <= min(limit, end)
				switch {
				case err != nil:
					t.Fatal(err)
				case limit <= from:
				case visible && (string(got) != string(want) || on != want.NextOffset()):
					t.Fatalf("at %d below %d: %d bytes, on at %d; want the batch at %d", from, limit, len(got), on, want.BaseOffset())
				case !visible && len(got) > 0:
					t.Fatalf("at %d below %d: %d bytes, there should be none", from, limit, len(got))
				case !visible && (want == nil || want.BaseOffset() >= limit) && on != min(limit, end):
					t.Fatalf("at %d below %d nothing is left, and it goes on at %d", from, limit, on)
				}
			}
		}
		verifyClean(t, l)
	}
	check(l)
	c, err := l.Sync()
	if err != nil || c.EndOffset != end {
		t.Fatal(c, err)
	}
	_ = l.Close()
	o.Checkpoint = &c
	l = openFresh(t, o)
	check(l)
	// Cut at every offset: the end is exactly there, or at the batch that holds it.
	for to := end; to >= 0; to-- {
		want := to
		for _, b := range batches {
			if b.BaseOffset() < to && to < b.NextOffset() {
				want = b.BaseOffset()
			}
		}
		want = min(want, l.LogEnd())
		if got, err := l.TruncateTo(to); err != nil || got != want || l.LogEnd() != want {
			t.Fatalf("cut to %d: the log ends at %d: %v", to, got, err)
		}
		if to%7 == 0 {
			if c, err = l.Sync(); err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			o.Checkpoint = &c
			if l = openFresh(t, o); l.LogEnd() != want {
				t.Fatalf("opened again after a cut to %d it ends at %d", want, l.LogEnd())
			}
		}
	}
}

// What compaction left of a batch has a timestamp and no record: searches by time pass it over.
func TestTimestampsInGaps(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{IndexIntervalBytes: 1}))
	first := placed(5, 0, plain(2, 10, 1000))
	hollow := placed(10, 0, emptied(plain(3, 10, 5000)))
	last := placed(20, 0, plain(2, 10, 2000))
	all := slices.Concat(first, hollow, last)
	mustStretch(t, l, Stretch{From: 0, Next: 22, Batches: all})
	for millis, want := range map[int64]kafka.Offset{0: 5, 1001: 6, 1002: 20, 2001: 21, 2002: -1, 5000: -1} {
		got, ok, err := l.OffsetForTimestamp(millis, l.LogEnd())
		if err != nil || ok != (want >= 0) || ok && got.Offset != want {
			t.Errorf("the first at or after %d: %+v %v %v, want offset %d", millis, got, ok, err, want)
		}
	}
	if got, ok, err := l.MaxTimestamp(); err != nil || !ok || got.Offset != 21 || got.Timestamp != 2001 {
		t.Errorf("the largest timestamp: %+v %v %v", got, ok, err)
	}
}

// A base offset that changed on the disk looks like a gap, and the batch's own CRC does not cover it.
func TestChangedBaseOffsetIsNoGap(t *testing.T) {
	fs := vfs.NewMem(0)
	l := openFresh(t, options(fs, Config{IndexIntervalBytes: 100}))
	var at []Placement
	for i := range 10 {
		at = append(at, mustAppend(t, l, plain(1, 30, int64(i)), 0))
	}
	if _, err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckStretch(0, 10); err != nil {
		t.Fatal(err)
	}
	file, err := fs.OpenReadWrite(at[9].Segment.Name())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte{1}, at[9].Position+5); err != nil { // offset 9 becomes 65545
		t.Fatal(err)
	}
	_ = file.Close()
	if err := l.CheckStretch(8, 10); !errors.Is(err, kafka.ErrCorruptMessage) {
		t.Errorf("the changed offset was not noticed: %v", err)
	}
	if err := l.CheckStretch(0, 4); err != nil {
		t.Errorf("what is sound below it: %v", err)
	}
}

// A stretch is taken only where the log ends, and only if it does not contradict itself.
func TestStretchesThatAreRefused(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{}))
	mustStretch(t, l, Stretch{From: 0, Next: 10, Epochs: []EpochOffset{{2, 0}}})
	b := placed(14, 2, plain(1, 10, 1))
	for what, s := range map[string]Stretch{
		"from below the end":        {From: 9, Next: 15, Batches: b},
		"from above the end":        {From: 11, Next: 15, Batches: b},
		"from its first batch":      {From: 14, Next: 15, Batches: b},
		"an older epoch":            {From: 10, Next: 15, Batches: placed(14, 1, plain(1, 10, 1))},
		"an older epoch, empty":     {From: 10, Next: 15, Epochs: []EpochOffset{{1, 12}}},
		"nothing":                   {From: 10, Next: 10},
		"an end above its batches":  {From: 10, Next: 16, Batches: b},
		"an epoch behind its end":   {From: 10, Next: 15, Epochs: []EpochOffset{{3, 15}}},
		"an epoch behind its batch": {From: 10, Next: 15, Epochs: []EpochOffset{{3, 12}}, Batches: b},
		"epochs out of order":       {From: 10, Next: 15, Epochs: []EpochOffset{{4, 12}, {3, 13}}},
	} {
		if _, err := l.AppendStretch(&s); !errors.Is(err, ErrNotAtEnd) && !errors.Is(err, kafka.ErrCorruptMessage) || l.LogEnd() != 10 || l.Size() != 0 {
			t.Errorf("%s: the log ends at %d: %v", what, l.LogEnd(), err)
		}
	}
	mustStretch(t, l, Stretch{From: 10, Next: 15, Epochs: []EpochOffset{{3, 12}}, Deletes: 12, Batches: placed(14, 3, plain(1, 10, 1))})
	if got := l.Epochs(); !slices.Equal(got, []EpochOffset{{2, 0}, {3, 12}}) || l.DeletesRemovedBelow() != 12 {
		t.Errorf("epochs %v, deletions %d", got, l.DeletesRemovedBelow())
	}
}

// TestSegmentLeftEmptyByACut: a cut leaves a segment without batches, behind a gap; what is skipped then is more than its index
// could tell of, so that another segment takes its place. A recovery from the cut does without it.
func TestSegmentLeftEmptyByACut(t *testing.T) {
	for _, before := range []int{6, 0} {
		segmentLeftEmpty(t, before)
	}
}

// segmentLeftEmpty has a segment with some records before that one, or none.
func segmentLeftEmpty(t *testing.T, before int) {
	fs := vfs.NewMem(0)
	durableDirs(t, fs)
	o := options(fs, Config{SegmentBytes: 100_000, IndexIntervalBytes: 1})
	l := openFresh(t, o)
	if before == 0 {
		if _, err := l.AppendStretch(&Stretch{From: 0, Next: 6}); err != nil {
			t.Fatal(err)
		}
	} else {
		mustAppend(t, l, plain(before, 10, 1), 0)
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	behind := record.Batch(plain(1, 10, 1))
	behind.SetBaseOffset(9)
	behind.SetLeaderEpoch(0)
	if _, err := l.AppendStretch(&Stretch{From: 6, Next: 10, Batches: behind}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	base, err := l.StateAt(7)
	if err != nil {
		t.Fatal(err)
	}
	if end, err := l.TruncateTo(7); err != nil || end != 7 {
		t.Fatal(end, err)
	}
	s, s2 := Stretch{From: 7, Next: 9}, Stretch{From: 9, Next: 9 + maxSegmentOffsets}
	p, err := l.AppendStretch(&s)
	if err != nil {
		t.Fatal(err)
	}
	p2, err := l.AppendStretch(&s2)
	if err != nil {
		t.Fatal(err)
	}
	batch := plain(2, 10, 1)
	q := mustAppend(t, l, batch, 0)
	_ = l.Close()
	o.FS, o.Checkpoint, o.Unclean = fs.Kill(), &base, true
	if l, err = Open(o); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := l.TruncateTo(7); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ReplayStretch(&s, p.Base, p.Position); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ReplayStretch(&s2, p2.Base, p2.Position); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Replay(batch, q.Base, q.Position); err != nil {
		t.Fatal(err)
	}
	if err := l.FinishRecovery(); err != nil {
		t.Fatal(err)
	}
	if l.LogEnd() != q.EndOffset || len(everything(t, l)) != before+2 {
		t.Errorf("it ends at offset %d with %d records", l.LogEnd(), len(everything(t, l)))
	}
	verifyClean(t, l)
}
