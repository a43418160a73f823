package log

import (
	"errors"
	"math"
	"path"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

func TestEndOffsetForEpoch(t *testing.T) {
	h := epochHistory{{2, 10}, {4, 30}, {5, 50}}
	for _, c := range []struct {
		ask  kafka.LeaderEpoch
		want EpochOffset
	}{
		{-1, EpochOffset{-1, -1}}, {0, EpochOffset{0, 10}}, {1, EpochOffset{1, 10}}, {2, EpochOffset{2, 30}},
		{3, EpochOffset{2, 30}}, {4, EpochOffset{4, 50}}, {5, EpochOffset{5, 99}}, {6, EpochOffset{-1, -1}},
	} {
		if got := h.endOf(c.ask, 0, 99); got != c.want {
			t.Errorf("epoch %d: %v, want %v", c.ask, got, c.want)
		}
	}
	if got := (epochHistory{}).endOf(0, 0, 9); got != (EpochOffset{-1, -1}) {
		t.Error(got)
	}
	for offset, want := range map[kafka.Offset]kafka.LeaderEpoch{9: -1, 10: 2, 29: 2, 30: 4, 50: 5, 70: 5} {
		if got := h.at(offset); got != want {
			t.Errorf("offset %d: epoch %d, want %d", offset, got, want)
		}
	}
}

// produce appends one record of a producer.
func produce(l *Log, id kafka.ProducerID, epoch kafka.ProducerEpoch, sequence int32, txn bool) (Placement, error) {
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = id, epoch, sequence, txn
	b.Add(1, nil, nil)
	return l.Append(b.Build(), 0, record.FromClient)
}

func end(l *Log, id kafka.ProducerID, epoch kafka.ProducerEpoch, kind record.ControlType, coordinator int32) error {
	m := record.EndTransaction{Type: kind, CoordinatorEpoch: coordinator}
	_, err := l.Append(record.AppendEndTransaction(nil, id, epoch, m, 1), 0, record.FromCoordinator)
	return err
}

func TestSequences(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{}))
	for _, c := range []struct {
		epoch kafka.ProducerEpoch
		seq   int32
		want  *kafka.Error
	}{
		{3, math.MaxInt32 - 1, nil}, // an unknown producer may begin anywhere
		{3, math.MaxInt32, nil},
		{3, 0, nil}, // the circle of sequence numbers
		{3, 2, kafka.ErrOutOfOrderSequenceNumber},
		{2, 1, kafka.ErrInvalidProducerEpoch},
		{4, 1, kafka.ErrOutOfOrderSequenceNumber}, // a new epoch begins at 0
		{4, 0, nil},
		{4, 1, nil},
		{3, 0, kafka.ErrInvalidProducerEpoch}, // no duplicate: its epoch is fenced
	} {
		_, err := produce(l, 1, c.epoch, c.seq, false)
		if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("epoch %d sequence %d: %v, want %v", c.epoch, c.seq, err, c.want)
		}
	}
	// The sixth batch back is no duplicate any more.
	for s := range int32(6) {
		if _, err := produce(l, 2, 0, s, false); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := produce(l, 2, 0, 1, false); err != nil || !p.Duplicate || p.EndOffset != p.BaseOffset+1 || p.Segment != nil {
		t.Error(p, err)
	}
	if _, err := produce(l, 2, 0, 0, false); !errors.Is(err, kafka.ErrOutOfOrderSequenceNumber) {
		t.Error(err)
	}
}

func TestLastStable(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{}))
	check := func(want kafka.Offset) {
		t.Helper()
		if got := l.FirstUnstable(); got != want {
			t.Errorf("first unstable offset %d, want %d", got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(id kafka.ProducerID, seq int32, txn bool) {
		t.Helper()
		_, err := produce(l, id, 0, seq, txn)
		must(err)
	}
	check(-1)
	add(9, 0, false) // 0
	check(-1)
	add(1, 0, true) // 1
	add(2, 0, true) // 2
	check(1)
	if _, err := produce(l, 1, 0, 1, false); !errors.Is(err, kafka.ErrInvalidTxnState) {
		t.Error(err)
	}
	must(end(l, 2, 0, record.ControlAbort, 5)) // 3
	l.OnHighWatermark(4)
	check(1)
	must(end(l, 1, 0, record.ControlCommit, 5)) // 4
	check(1)                                    // its marker is not replicated
	l.OnHighWatermark(4)
	check(1)
	l.OnHighWatermark(5)
	check(-1)
	must(end(l, 1, 0, record.ControlAbort, 5)) // a marker without a transaction changes nothing
	check(-1)
	if err := end(l, 1, 0, record.ControlAbort, 4); !errors.Is(err, kafka.ErrTransactionCoordinatorFenced) {
		t.Error(err)
	}
	must(end(l, 1, 1, record.ControlAbort, 6)) // the coordinator fences by epoch
	if _, err := produce(l, 1, 0, 1, true); !errors.Is(err, kafka.ErrInvalidProducerEpoch) {
		t.Error(err)
	}
	list, err := l.AbortedTransactions(0, 100)
	if err != nil || len(list) != 1 || list[0] != (AbortedTransaction{ProducerID: 2, FirstOffset: 2, LastOffset: 3, LastStable: 1}) {
		t.Error(list, err)
	}
	if list, _ := l.AbortedTransactions(0, 2); len(list) != 0 {
		t.Error(list)
	}
	if list, _ := l.AbortedTransactions(4, 100); len(list) != 0 {
		t.Error(list)
	}
}

func TestExpiry(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{ProducerExpiry: time.Hour}))
	for id := range kafka.ProducerID(3) {
		if _, err := produce(l, id, 0, 0, id == 2); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if n := l.ExpireProducers(now.Add(59 * time.Minute)); n != 0 {
		t.Errorf("%d expired early", n)
	}
	if n := l.ExpireProducers(now.Add(61 * time.Minute)); n != 2 || l.Producers() != 1 { // one has an open transaction
		t.Errorf("%d expired, %d left", n, l.Producers())
	}
	if _, err := produce(l, 0, 0, 77, false); err != nil {
		t.Error(err)
	}
}

// TestSnapshotsKept: two, and those behind a truncation go.
func TestSnapshotsKept(t *testing.T) {
	fs := vfs.NewMem(0)
	l := openFresh(t, options(fs, Config{}))
	for s := range int32(5) {
		if _, err := produce(l, 1, 0, s, false); err != nil {
			t.Fatal(err)
		}
		if err := l.Snapshot(); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int) {
		names, _ := fs.ReadDir("data/partitions/p-0")
		for _, name := range names {
			if path.Ext(name) == snapshotSuffix {
				n++
			}
		}
		return n
	}
	if count() != snapshotsKept {
		t.Errorf("%d snapshots", count())
	}
	if _, err := l.TruncateTo(1); err != nil {
		t.Fatal(err)
	}
	if count() != 0 {
		t.Errorf("%d snapshots after the truncation", count())
	}
	if p, err := produce(l, 1, 0, 0, false); err != nil || !p.Duplicate {
		t.Error(p, err)
	}
	if p, err := produce(l, 1, 0, 1, false); err != nil || p.Duplicate {
		t.Error(p, err)
	}
}
