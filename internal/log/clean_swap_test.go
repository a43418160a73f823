package log

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// deletedAt is where small deletes a key for good.
const deletedAt = 26

// small is a log of some small segments that is worth compacting.
func small(t testing.TB, fs vfs.FS) (*Log, Options) {
	t.Helper()
	durableDirs(t, fs)
	o := options(fs, Config{SegmentBytes: 400, IndexIntervalBytes: 1})
	l := openFresh(t, o)
	for i := range deletedAt {
		mustAppend(t, l, keyed(100, kv{fmt.Sprint("k", i%5), fmt.Sprint("v", i)}), 0)
	}
	mustAppend(t, l, keyed(100, kv{"k1", ""}), 0)
	more(t, l)
	return l, o
}

// durableDirs makes the directories above a log's, as the store does.
func durableDirs(t fataler, fs vfs.FS) {
	t.Helper()
	if err := fs.MkdirAll("data/partitions"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"data", "."} {
		if err := fs.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// more makes what there is worth compacting again.
func more(t testing.TB, l *Log) {
	t.Helper()
	for i := range 12 {
		mustAppend(t, l, keyed(100, kv{"other", fmt.Sprint(i)}), 0)
	}
}

// TestReplacedSegmentIsNotOpenedAgain: the path of a segment that was replaced leads to another file, which who still has the
// old segment must not take for it, neither to read nor, worst of all, to make its index anew; and nothing keeps what was
// replaced on the disk.
func TestReplacedSegmentIsNotOpenedAgain(t *testing.T) {
	fs := vfs.NewMem(0)
	l, _ := small(t, fs)
	if err := openIndexes(l); err != nil {
		t.Fatal(err)
	}
	old := l.mu.segments[0]
	held, err := old.data.acquire() // of one index that is rebuilt just now
	if err != nil {
		t.Fatal(err)
	}
	mustClean(t, l, cleanAll(l, 5000))
	now := l.mu.segments[0]
	if now == old || now.base != old.base {
		t.Fatal("the first segment was not replaced")
	}
	index, err := l.readWhole(now.indexFile.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.rebuildIndex(old, &Corruption{File: old.indexFile.path}); !errors.Is(err, ErrClosed) {
		t.Errorf("the index of a segment that was replaced is made again: %v", err)
	}
	if b, _ := l.readWhole(now.indexFile.path); !bytes.Equal(b, index) {
		t.Error("the index of the new segment was overwritten with that of the old one")
	}
	if b := make([]byte, 10); true {
		if _, err := held.ReadAt(b, 0); err != nil {
			t.Error(err)
		}
	}
	old.data.release()
	if _, err := old.data.acquire(); !errors.Is(err, ErrClosed) {
		t.Errorf("a segment that was replaced is opened: %v", err)
	}
	if old.data.file != nil || old.indexFile.file != nil {
		t.Error("the files of a segment that was replaced are still open, and take room on the disk")
	}
	verifyClean(t, l)
}

// openIndexes has the index of every segment loaded and opened.
func openIndexes(l *Log) error {
	_, _, err := l.MaxTimestamp()
	for _, s := range l.mu.segments {
		if _, aerr := s.indexFile.acquire(); aerr == nil {
			s.indexFile.release()
		}
	}
	return err
}

// TestSwapIsOverBeforeItsSegmentGoes: a swap that was done is not found again by a start after a power loss that comes when
// the segment which it made has been deleted.
func TestSwapIsOverBeforeItsSegmentGoes(t *testing.T) {
	fs := vfs.NewMem(0)
	l, o := small(t, fs)
	options := cleanAll(l, 5000)
	end, start := l.LogEnd(), l.LogStart()
	options.Pace = func(int64) error {
		if l.Swaps() == 0 || start > 0 {
			return nil
		}
		start = l.mu.segments[1].base // retention comes in the middle of the compaction
		if err := l.SetLogStart(start); err != nil {
			return err
		}
		if _, err := l.DropBelowLogStart(); err != nil {
			return err
		}
		c := l.Synced()
		o.Checkpoint, o.Unclean = &c, true
		for seed := range uint64(40) {
			o.FS = fs.Clone().PowerLoss(rand.New(rand.NewPCG(seed, 1)))
			l := openFresh(t, o)
			if l.LogStart() != start || l.LogEnd() != end {
				t.Errorf("seed %d: offsets %d to %d, want %d to %d", seed, l.LogStart(), l.LogEnd(), start, end)
			}
		}
		return nil
	}
	if _, err := l.Clean(options); err != nil || start == 0 {
		t.Errorf("offset %d: %v", start, err)
	}
}

// compactAndDie compacts a log of which tombstones go, and dies at an operation on a file. wanted is what the log comes to;
// from is where it opens.
func compactAndDie(t *testing.T, at int64, rng *rand.Rand) (fs *vfs.Mem, o Options, wanted map[string]found, died bool) {
	t.Helper()
	fs = vfs.NewMem(0)
	l, o := small(t, fs)
	mustClean(t, l, cleanAll(l, 5000))
	more(t, l)
	wanted = fold(t, l)
	options := cleanAll(l, 9000)
	o.Checkpoint, o.Unclean = &options.Durable, true
	fs.KillAfter(at, rng)
	_, err := l.Clean(options)
	select {
	case <-fs.Died():
		died = true
	default:
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = l.Close()
	return fs, o, wanted, died
}

// checkCompacted opens what a crash left, and checks that it is one of the two states.
func checkCompacted(t *testing.T, o Options, wanted map[string]found, what string) {
	t.Helper()
	l, err := Open(o)
	if err == nil {
		err = l.FinishRecovery()
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() { _ = l.Close() }()
	if got := fold(t, l); !maps.Equal(got, wanted) {
		t.Errorf("%s: %v, want %v", what, got, wanted)
	}
	if _, there := everything(t, l)[deletedAt]; !there && l.DeletesRemovedBelow() <= deletedAt {
		t.Errorf("%s: the deletion at offset %d is gone, and said to be there from offset %d on", what, deletedAt, l.DeletesRemovedBelow())
	}
	verifyClean(t, l)
	noneLeftOver(t, o.FS, o.Dir)
}

// TestCleanDies: the process dies at each operation on a file of a compaction, with the page cache or without; a start that
// comes next dies as well, at each of its own, and then the power goes.
func TestCleanDies(t *testing.T) {
	for at := int64(1); ; at++ {
		died := false
		for seed := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, uint64(at)))
			fs, o, wanted, dies := compactAndDie(t, at, rng)
			died = died || dies
			if seed%2 == 0 {
				o.FS = fs.PowerLoss(rng)
				checkCompacted(t, o, wanted, fmt.Sprintf("the power goes at operation %d, seed %d", at, seed))
				continue
			}
			fs = fs.Kill()
			o.FS = fs.Clone()
			checkCompacted(t, o, wanted, fmt.Sprintf("killed at operation %d, seed %d", at, seed))
			for again := int64(1); ; again++ {
				fs := fs.Clone()
				o.FS = fs
				fs.KillAfter(again, rng)
				l, err := Open(o)
				if err == nil {
					err = l.FinishRecovery()
					_ = l.Close()
				}
				o.FS = fs.PowerLoss(rng)
				checkCompacted(t, o, wanted, fmt.Sprintf("killed at operation %d, seed %d; then at operation %d of the next start, and the power goes", at, seed, again))
				if err == nil {
					break
				}
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		if !died {
			if at < 12 {
				t.Errorf("a compaction takes %d operations", at-1)
			}
			break
		}
	}
}

// withHorizon is a batch as a leader has it that compacted it already.
func withHorizon(t testing.TB, batch []byte, horizon int64) record.Batch {
	t.Helper()
	f := record.Filter{Codecs: new(record.Codecs)}
	out, _, err := f.Apply(nil, batch, &record.Keep{Horizon: horizon})
	if _, has := record.Batch(out).DeleteHorizon(); err != nil || !has {
		t.Fatal("no horizon", err)
	}
	return out
}

// TestCleanKeepsDeletionsItCannotPlace: a follower has the values that it got before its leader was compacted, and a deletion
// with a horizon that has passed from afterwards. While the memory for keys does not reach up to the deletion it stays, as
// does what it deletes.
func TestCleanKeepsDeletionsItCannotPlace(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 100_000, IndexIntervalBytes: 1}))
	add := func(batch record.Batch) {
		t.Helper()
		batch.SetBaseOffset(l.LogEnd())
		batch.SetLeaderEpoch(0)
		if _, err := l.AppendAt(batch); err != nil {
			t.Fatal(err)
		}
	}
	add(keyed(100, kv{"gone", "v"}))
	for i := range 50 {
		add(keyed(100, kv{fmt.Sprint("k", i), "v"}))
	}
	at := l.LogEnd()
	add(withHorizon(t, keyed(100, kv{"gone", ""}), 10))
	add(keyed(100, kv{"stays", "v"}))
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	add(keyed(100, kv{"active", "v"}))
	want := fold(t, l)
	for pass := range 20 {
		o := cleanAll(l, 5000)
		o.MapBytes = 10 * offsetMapEntryBytes
		r := mustClean(t, l, o)
		if got := fold(t, l); !maps.Equal(got, want) {
			t.Fatalf("after pass %d, to offset %d, the log comes to %v, want %v", pass, r.To, got, want)
		}
		if _, there := everything(t, l)[at]; !there && r.To <= at {
			t.Fatalf("compacted to offset %d, and the deletion at %d is gone", r.To, at)
		}
		if r.To == r.From {
			return
		}
	}
	t.Error("it never ends")
}

// TestCleanedBeforeAReset: what a log was compacted up to before a reset says nothing of what comes after, nor does the file
// that a crash left behind, however often the log is opened.
func TestCleanedBeforeAReset(t *testing.T) {
	fs := vfs.NewMem(0)
	l, o := small(t, fs)
	mustClean(t, l, cleanAll(l, 5000))
	if l.FirstDirty() < 15 {
		t.Fatal(l.FirstDirty())
	}
	generation := l.Generation()
	_ = l.Close() // the process is killed once the reset is logged
	c := Checkpoint{Segment: 5, EndOffset: 5, LogStart: 5, Generation: generation + 1}
	o.FS, o.Checkpoint, o.Unclean = fs.Kill(), &c, true
	for range 2 {
		l = openFresh(t, o)
		if l.FirstDirty() != 5 {
			t.Errorf("it counts as compacted up to offset %d", l.FirstDirty())
		}
		more(t, l)
		c, err := l.Sync()
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		o.Checkpoint, o.Unclean = &c, false
	}
}

// TestSwapOfAnEarlierLog: a partition was deleted in the middle of a swap, which a crash cut short, and made again under the
// same ID. What a power loss brings back of the earlier one's directory is not gone on with.
func TestSwapOfAnEarlierLog(t *testing.T) {
	for _, whole := range []bool{false, true} {
		fs := vfs.NewMem(0)
		l, o := small(t, fs)
		p := swapPlan{base: 0, end: 10, size: l.mu.segments[0].size, generation: l.Generation(), others: []kafka.Offset{l.mu.segments[1].base}}
		if !whole {
			p.size++
		}
		if err := l.writeWhole(l.swapPath(), p.encode()); err != nil {
			t.Fatal(err)
		}
		generation := l.Generation()
		_ = l.Close()
		o.Checkpoint, o.Unclean = &Checkpoint{Generation: generation + 100}, true
		o.FS = fs.Kill()
		l, err := Open(o)
		if err == nil {
			err = l.FinishRecovery()
		}
		if err != nil {
			t.Fatal(err)
		}
		noneLeftOver(t, o.FS, o.Dir)
		more(t, l)
		c, err := l.Sync()
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		o.Checkpoint = &c
		if l := openFresh(t, o); len(everything(t, l)) != 12 {
			t.Errorf("%d records", len(everything(t, l)))
		}
	}
}
