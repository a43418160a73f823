package log

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// kv is a record; without a value it is a tombstone.
type kv struct{ key, value string }

// keyed is a batch of records at one time.
func keyed(millis int64, records ...kv) []byte {
	return keyedBy(record.NewBuilder(), millis, records...)
}

func keyedBy(b *record.Builder, millis int64, records ...kv) []byte {
	for _, r := range records {
		var value []byte
		if r.value != "" {
			value = []byte(r.value)
		}
		b.Add(millis, []byte(r.key), value)
	}
	out, err := b.AppendTo(nil, new(record.Codecs))
	if err != nil {
		panic(err)
	}
	return out
}

// found is a record that a reader sees.
type found struct {
	offset kafka.Offset
	value  string
}

// readRecords reads all records as a consumer with read_committed does, by offset; tombstones have an empty value.
func readRecords(t fataler, l *Log, visit func(offset kafka.Offset, key string, value []byte, b record.Batch)) {
	t.Helper()
	expect := l.LogStart()
	end := l.LogEnd()
	gone := map[kafka.ProducerID]bool{}
	aborted, err := l.AbortedTransactions(expect, end)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(aborted, func(a, b AbortedTransaction) int { return int(a.FirstOffset - b.FirstOffset) })
	var codecs record.Codecs
	for rest := readAll(t, l, expect, 3000); len(rest) > 0; {
		b, more, err := record.Next(rest)
		if err != nil || !b.VerifyCRC() || b.BaseOffset() < expect && expect != l.LogStart() || b.LastOffsetDelta() < 0 {
			t.Fatalf("batch at %d behind %d: %v", b.BaseOffset(), expect, err)
		}
		expect, rest = b.NextOffset(), more
		for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
			gone[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		if b.Control() {
			m, err := l.readMarker(b)
			if err != nil {
				t.Fatal(err)
			}
			if m != nil && m.Type == record.ControlAbort {
				delete(gone, b.ProducerID())
			}
			continue
		}
		if b.Transactional() && gone[b.ProducerID()] {
			continue
		}
		for r, err := range codecs.Records(b, 0) {
			if err != nil || r.Offset < b.BaseOffset() || r.Offset > b.LastOffset() {
				t.Fatalf("record at %d: %v", r.Offset, err)
			}
			visit(r.Offset, string(r.Key), r.Value, b)
		}
	}
}

// fold is what the records come to: the last value of each key that has one.
func fold(t fataler, l *Log) map[string]found {
	t.Helper()
	m := map[string]found{}
	readRecords(t, l, func(offset kafka.Offset, key string, value []byte, _ record.Batch) {
		if value == nil {
			delete(m, key)
		} else {
			m[key] = found{offset, string(value)}
		}
	})
	return m
}

// everything is every record by its offset.
func everything(t fataler, l *Log) map[kafka.Offset]kv {
	t.Helper()
	m := map[kafka.Offset]kv{}
	readRecords(t, l, func(offset kafka.Offset, key string, value []byte, _ record.Batch) {
		m[offset] = kv{key, string(value)}
	})
	return m
}

// cleanAll are options that compact all that is sealed.
func cleanAll(l *Log, now int64) *CleanOptions { return cleanUpTo(l, now, l.LogEnd()) }

func cleanUpTo(l *Log, now int64, hw kafka.Offset) *CleanOptions {
	l.OnHighWatermark(hw)
	durable, err := l.Sync()
	if err != nil {
		panic(err)
	}
	return &CleanOptions{
		CleanLimits:     CleanLimits{Committed: hw, Durable: durable, Now: now, MaxLag: math.MaxInt64},
		DeleteRetention: 1000, MapBytes: 1 << 20, MapLoad: 0.9, IOBytes: 8 << 10,
	}
}

func mustClean(t testing.TB, l *Log, o *CleanOptions) CleanResult {
	t.Helper()
	r, err := l.Clean(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// noneLeftOver checks that the directory holds what belongs to the log and nothing else.
func noneLeftOver(t fataler, fs vfs.FS, dir string) {
	t.Helper()
	names, err := fs.ReadDir(dir)
	if err != nil && !vfsNotExist(err) {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == swapName || strings.HasSuffix(name, cleanedSuffix) || strings.HasSuffix(name, tempSuffix) {
			t.Fatalf("%s is left over: %v", name, names)
		}
	}
}

// TestClean: of each key the last record stays, where it was and at its offset; the segments become few; it is the same after
// the log was opened again, and it is compacted from where the last cleaning ended.
func TestClean(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.Zstd, record.Gzip} {
		t.Run(codec.String(), func(t *testing.T) {
			fs := vfs.NewMem(0)
			o := options(fs, Config{SegmentBytes: 2000, IndexIntervalBytes: 300})
			l := openFresh(t, o)
			fill := func(n int) {
				for i := range n {
					b := record.NewBuilder()
					b.Codec = codec
					mustAppend(t, l, keyedBy(b, int64(1000+i), kv{fmt.Sprint("k", i%7), fmt.Sprint("v", i)}, kv{"same", strings.Repeat("x", i%40)}), 1)
				}
			}
			fill(200)
			before, all, segments, size := fold(t, l), everything(t, l), l.Segments(), l.Size()
			r := mustClean(t, l, cleanAll(l, 5000))
			if !maps.Equal(fold(t, l), before) {
				t.Fatalf("the last values are others:\n%v\n%v", fold(t, l), before)
			}
			for offset, r := range everything(t, l) {
				if all[offset] != r {
					t.Fatalf("offset %d has become %v", offset, r)
				}
			}
			if l.Segments() > segments/4 || l.Size() >= size/4 || r.To <= r.From || r.RecordsAfter >= r.RecordsBefore || r.Partial || r.SegmentsAfter >= r.SegmentsBefore {
				t.Errorf("%d segments with %d bytes before, %d with %d after: %+v", segments, size, l.Segments(), l.Size(), r)
			}
			if again := mustClean(t, l, cleanAll(l, 5000)); again.To != again.From || again.BytesRead != 0 {
				t.Errorf("nothing is dirty, and it read: %+v", again)
			}
			verifyClean(t, l)
			noneLeftOver(t, fs, o.Dir)
			c := l.Synced()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			o.Checkpoint = &c
			end, dirty := l.LogEnd(), l.FirstDirty()
			l = openFresh(t, o)
			if l.LogEnd() != end || l.FirstDirty() != dirty || !maps.Equal(fold(t, l), before) {
				t.Errorf("opened again: end %d, was %d; first dirty %d, was %d", l.LogEnd(), end, l.FirstDirty(), dirty)
			}
			verifyClean(t, l)
			fill(100)
			before = fold(t, l)
			if r := mustClean(t, l, cleanAll(l, 6000)); r.From != dirty || !maps.Equal(fold(t, l), before) {
				t.Errorf("the second cleaning: %+v", r)
			}
			verifyClean(t, l)
		})
	}
}

// TestCleanKeepsIdentity: a batch keeps base and last offset, epoch, producer and sequence, whatever it loses.
func TestCleanKeepsIdentity(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 600, IndexIntervalBytes: 1}))
	before := map[kafka.Offset]record.Batch{}
	for i := range 40 {
		b := record.NewBuilder()
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = kafka.ProducerID(i%3), 4, int32(i/3*3)
		batch := keyedBy(b, 100, kv{"a", "1"}, kv{fmt.Sprint(i), "2"}, kv{"b", "3"})
		mustAppend(t, l, batch, kafka.LeaderEpoch(i/10))
		before[record.Batch(batch).BaseOffset()] = batch
	}
	mustClean(t, l, cleanAll(l, 5000))
	n := 0
	for rest := readAll(t, l, 0, 1<<20); len(rest) > 0; n++ {
		b, more, _ := record.Next(rest)
		rest = more
		w := before[b.BaseOffset()]
		if w == nil || b.LastOffset() != w.LastOffset() || b.LeaderEpoch() != w.LeaderEpoch() || b.ProducerID() != w.ProducerID() ||
			b.ProducerEpoch() != w.ProducerEpoch() || b.BaseSequence() != w.BaseSequence() || b.LastSequence() != w.LastSequence() || b.Count() > w.Count() {
			t.Errorf("batch at %d: %x, was %x", b.BaseOffset(), []byte(b[:record.HeaderSize]), []byte(w))
		}
		if b.LastOffset() < l.FirstDirty()-1 && b.Count() != 1 {
			t.Errorf("%d records at %d", b.Count(), b.BaseOffset())
		}
	}
	if n != 40 {
		t.Errorf("%d batches", n)
	}
}

// TestCleanProducers: the last batch of a producer stays, if need be without records, so that its next sequence number is
// known when all other state is lost.
func TestCleanProducers(t *testing.T) {
	fs := vfs.NewMem(0)
	o := options(fs, Config{SegmentBytes: 500, IndexIntervalBytes: 1})
	l := openFresh(t, o)
	send := func(id kafka.ProducerID, sequence int32, key string) error {
		b := record.NewBuilder()
		b.ProducerID, b.ProducerEpoch, b.BaseSequence = id, 0, sequence
		_, err := l.Append(keyedBy(b, 100, kv{key, "v"}), 0, record.FromClient)
		return err
	}
	for i := range 3 {
		if err := send(1, int32(i), "k"); err != nil {
			t.Fatal(err)
		}
	}
	for range 60 {
		mustAppend(t, l, keyed(100, kv{"k", "w"}), 0)
	}
	mustClean(t, l, cleanAll(l, 5000))
	empty := 0
	for rest := readAll(t, l, 0, 1<<20); len(rest) > 0; {
		b, more, _ := record.Next(rest)
		rest = more
		if b.HasProducerID() {
			empty++
			if b.Count() != 0 || b.BaseOffset() != 2 || b.BaseSequence() != 2 || b.Size() != record.HeaderSize || b.MaxTimestamp() != 100 {
				t.Errorf("what is left of the producer: %x", []byte(b))
			}
		}
	}
	if empty != 1 {
		t.Errorf("%d batches are left of the producer", empty)
	}
	c := l.Synced()
	_ = l.Close()
	for _, s := range slices.Clone(l.mu.snapshots) {
		if err := fs.Remove(l.snapshotPath(s)); err != nil {
			t.Fatal(err)
		}
	}
	o.Checkpoint = &c
	l = openFresh(t, o)
	if err := send(1, 9, "k"); !errors.Is(err, kafka.ErrOutOfOrderSequenceNumber) {
		t.Errorf("sequence 9 behind 2: %v", err)
	}
	if err := send(1, 3, "k"); err != nil {
		t.Error(err)
	}
}

// TestCleanTombstones: a tombstone stays until delete.retention.ms have passed since the cleaning that left nothing older of
// its key, with the same timestamp; afterwards the next cleaning drops it, and the log tells up to where deletions are gone.
func TestCleanTombstones(t *testing.T) {
	for _, codec := range []record.Codec{record.None, record.LZ4} {
		l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 700, IndexIntervalBytes: 100}))
		more := func() {
			for i := range 30 {
				mustAppend(t, l, keyed(200, kv{"other", fmt.Sprint(i)}), 0)
			}
		}
		mustAppend(t, l, keyed(100, kv{"gone", "v"}), 0)
		more()
		b := record.NewBuilder()
		b.Codec = codec
		at := mustAppend(t, l, keyedBy(b, 123, kv{"stays", "v"}, kv{"gone", ""}), 0).BaseOffset + 1
		more()
		tombstone := func() (horizon int64, ok bool) {
			readRecords(t, l, func(offset kafka.Offset, key string, value []byte, b record.Batch) {
				if key == "gone" && (value != nil || offset != at) {
					t.Errorf("offset %d still has the deleted key: %q", offset, value)
				}
				if offset == at {
					horizon, _ = b.DeleteHorizon()
					ok = true
					for r := range l.codecs.Records(b, 0) {
						if r.Timestamp != 123 {
							t.Errorf("%s has timestamp %d", r.Key, r.Timestamp)
						}
					}
				}
			})
			return horizon, ok
		}
		mustClean(t, l, cleanAll(l, 5000))
		if h, ok := tombstone(); !ok || h != 6000 {
			t.Errorf("after the first cleaning: %v, horizon %d", ok, h)
		}
		more()
		mustClean(t, l, cleanAll(l, 5999))
		if h, ok := tombstone(); !ok || h != 6000 || l.DeletesRemovedBelow() != 0 {
			t.Errorf("before its horizon: %v, horizon %d", ok, h)
		}
		more()
		mustClean(t, l, cleanAll(l, 6000))
		if _, ok := tombstone(); ok || l.DeletesRemovedBelow() != at+1 {
			t.Errorf("at its horizon: %v, deletions are gone below %d", ok, l.DeletesRemovedBelow())
		}
		if f := fold(t, l); f["stays"].value != "v" || len(f) != 2 {
			t.Error(f)
		}
	}
}

// TestCleanPasses: where the memory for keys does not suffice a cleaning ends where it is full, and the next one goes on.
func TestCleanPasses(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 3000, IndexIntervalBytes: 300}))
	for round := range 3 {
		for i := range 300 {
			mustAppend(t, l, keyed(100, kv{fmt.Sprint("k", i), fmt.Sprint(round)}, kv{fmt.Sprint("l", i), fmt.Sprint(round)}), 0)
		}
	}
	before := fold(t, l)
	o := cleanAll(l, 5000)
	o.MapBytes = 100 * offsetMapEntryBytes
	passes := 0
	for at := kafka.Offset(0); ; passes++ {
		r := mustClean(t, l, o)
		if !maps.Equal(fold(t, l), before) {
			t.Fatalf("pass %d changed the values", passes)
		}
		if r.From != at || r.Keys > 90 {
			t.Fatalf("pass %d: %+v", passes, r)
		}
		if r.To == r.From {
			break
		}
		at = r.To
	}
	if passes < 15 {
		t.Errorf("%d passes", passes)
	}
	// Below the last two segments each key is there once.
	seen := map[string]int{}
	readRecords(t, l, func(offset kafka.Offset, key string, _ []byte, _ record.Batch) {
		if offset < l.FirstDirty() {
			seen[key]++
		}
	})
	for key, n := range seen {
		if n > 1 {
			t.Errorf("%s is there %d times", key, n)
		}
	}
	verifyClean(t, l)
}

// TestCleanReaders: who holds a stretch of a segment that is replaced reads what it was.
func TestCleanReaders(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 1000, IndexIntervalBytes: 100}))
	for i := range 100 {
		mustAppend(t, l, keyed(100, kv{"k", fmt.Sprint(i)}), 0)
	}
	var slices []Slice
	var want [][]byte
	for from := kafka.Offset(0); from < 90; from += 5 {
		s, err := l.Read(from, 300, l.LogEnd(), true)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, s.Length)
		if _, err := s.File.ReadAt(b, s.Position); err != nil {
			t.Fatal(err)
		}
		slices, want = append(slices, s), append(want, b)
	}
	if r := mustClean(t, l, cleanAll(l, 5000)); r.SegmentsAfter != 1 {
		t.Errorf("%+v", r)
	}
	for i, s := range slices {
		b := make([]byte, s.Length)
		if _, err := s.File.ReadAt(b, s.Position); err != nil || !bytes.Equal(b, want[i]) {
			t.Errorf("slice %d: %v", i, err)
		}
		s.Release()
	}
	if s, err := l.Read(0, 1000, l.LogEnd(), true); err != nil || s.First < 80 {
		t.Errorf("a new read finds %+v, %v", s, err)
	} else {
		s.Release()
	}
}

// TestOffsetMap: it knows the last offset of every key, takes at least two thirds of what its memory could hold, and says so
// when it is full; a full one still knows and still takes the keys that it has.
func TestOffsetMap(t *testing.T) {
	for _, entries := range []int{2, 100, 5000, 40_000, 100_000} {
		m := newOffsetMap(int64(entries)*offsetMapEntryBytes, 0.9, 1<<40)
		n, largest := 0, 0
		for m.put(fmt.Append(nil, "key ", n), kafka.Offset(n)) {
			n++
			largest = max(largest, len(m.slots))
		}
		if n < entries*6/10-1 || n > entries || largest > entries {
			t.Errorf("%d entries: %d keys in %d slots", entries, n, largest)
		}
		for i := range n {
			if got := m.get(fmt.Append(nil, "key ", i)); got != kafka.Offset(i) {
				t.Fatalf("%d entries: key %d is at %d", entries, i, got)
			}
			if !m.put(fmt.Append(nil, "key ", i), kafka.Offset(1000+i)) || m.get(fmt.Append(nil, "key ", i)) != kafka.Offset(1000+i) {
				t.Fatalf("%d entries: key %d is not taken again", entries, i)
			}
		}
		if m.get([]byte("another")) != kafka.NoOffset {
			t.Error("a key that is not there is found")
		}
	}
	if m := newOffsetMap(1<<30, 0.9, 10); m.most > 20 {
		t.Errorf("%d slots for 10 keys", m.most)
	}
}
