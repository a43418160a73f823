package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// builder of a plain batch of n records of size bytes.
func plain(n, size int, millis int64) []byte {
	b := record.NewBuilder()
	for i := range n {
		b.Add(millis+int64(i), []byte(fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, size))
	}
	return b.Build()
}

func options(fs vfs.FS, c Config) Options {
	return Options{FS: fs, Dir: "data/partitions/p-0", Name: "orders-0", Config: c}
}

// openFresh opens a log that is not recovering.
func openFresh(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.FinishRecovery(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustAppend(t testing.TB, l *Log, batch []byte, epoch kafka.LeaderEpoch) Placement {
	t.Helper()
	p, err := l.Append(batch, epoch, record.FromClient)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readAll reads [from, end) in steps and checks that the batches follow one another.
func readAll(t fataler, l *Log, from kafka.Offset, maxBytes int) []byte {
	t.Helper()
	var all []byte
	for from < l.LogEnd() {
		s, err := l.Read(from, maxBytes, l.LogEnd(), true)
		if err != nil {
			t.Fatal(err)
		}
		if s.Length == 0 && s.Next == l.LogEnd() {
			return all // compaction left nothing there
		}
		if s.Length == 0 || s.First >= s.Next || s.Next <= from {
			t.Fatalf("read at %d: %+v", from, s)
		}
		buf := make([]byte, s.Length)
		if _, err := s.File.ReadAt(buf, s.Position); err != nil {
			t.Fatal(err)
		}
		s.Release()
		copied, err := l.ReadCopy([]byte("x"), from, maxBytes, l.LogEnd(), true)
		if err != nil || !bytes.Equal(copied[1:], buf) {
			t.Fatalf("ReadCopy at %d differs: %v", from, err)
		}
		if b := record.Batch(buf); len(buf) > maxBytes && b.Size() != len(buf) {
			t.Fatalf("read at %d: %d bytes, asked for %d", from, len(buf), maxBytes)
		}
		all = append(all, buf...)
		from = s.Next
	}
	return all
}

func verifyClean(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Verify(context.Background(), func(c *Corruption) { t.Errorf("verify: %v", c) }); err != nil {
		t.Error(err)
	}
}

func TestAppendReadReopen(t *testing.T) {
	for _, interval := range []int64{1, 300, 4096} {
		fs := vfs.NewMem(0)
		o := options(fs, Config{SegmentBytes: 20000, IndexIntervalBytes: interval})
		l := openFresh(t, o)
		if l.LogEnd() != 0 || l.LogStart() != 0 {
			t.Fatal("not empty")
		}
		var want []byte
		for i := range 300 {
			batch := plain(1+i%7, i%400, 1000+int64(i))
			p := mustAppend(t, l, batch, 3)
			if p.BaseOffset != record.Batch(batch).BaseOffset() || p.EndOffset != l.LogEnd() || p.CRC != checksum(batch) || p.Length != int64(len(batch)) {
				t.Fatalf("%+v", p)
			}
			want = append(want, batch...)
		}
		if l.Segments() < 5 || l.Size() != int64(len(want)) {
			t.Errorf("%d segments, %d bytes", l.Segments(), l.Size())
		}
		check := func(l *Log) {
			t.Helper()
			for _, step := range []int{1, 500, 5000, 1 << 20} {
				if got := readAll(t, l, 0, step); !bytes.Equal(got, want) {
					t.Fatalf("step %d: %d bytes, want %d", step, len(got), len(want))
				}
			}
			for from := range l.LogEnd() { // every offset, mid-batch too
				s, err := l.Read(from, 1, l.LogEnd(), true)
				if err != nil || s.First > from || s.Next <= from {
					t.Fatalf("offset %d: %+v %v", from, s, err)
				}
				s.Release()
			}
			if _, err := l.Read(l.LogEnd()+1, 1, 1<<40, true); !errors.Is(err, kafka.ErrOffsetOutOfRange) {
				t.Error(err)
			}
			if s, err := l.Read(l.LogEnd(), 1, 1<<40, true); err != nil || s.Length != 0 {
				t.Error(s, err)
			}
			verifyClean(t, l)
		}
		check(l)
		c, err := l.Sync()
		if err != nil || l.Unsynced() != 0 || c.EndOffset != l.LogEnd() {
			t.Fatal(c, err)
		}
		check(l)
		if err := l.Snapshot(); err != nil {
			t.Fatal(err)
		}
		epochs := l.Epochs()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		o.Checkpoint, o.Unclean = &c, true
		l2 := openFresh(t, o)
		if l2.LogEnd() != c.EndOffset || fmt.Sprint(l2.Epochs()) != fmt.Sprint(epochs) {
			t.Fatalf("end %d, epochs %v", l2.LogEnd(), l2.Epochs())
		}
		check(l2)
		_ = l2.Close()
		o.Checkpoint = nil
		l3 := openFresh(t, o)
		check(l3)
		mustAppend(t, l3, plain(1, 1, 1), 4)
	}
}

func TestLimits(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 5000}))
	for range 10 {
		mustAppend(t, l, plain(10, 50, 1), 0)
	}
	size := len(plain(10, 50, 1))
	s, err := l.Read(15, 1<<20, 40, true)
	if err != nil || s.First != 10 || s.Next != 40 || s.Length != int64(3*size) {
		t.Fatal(s, err)
	}
	s.Release()
	if s, err = l.Read(15, size-1, 40, false); err != nil || s.Length != 0 {
		t.Fatal(s, err)
	}
	if s, err = l.Read(15, size+1, 40, false); err != nil || s.Length != int64(size) {
		t.Fatal(s, err)
	}
	s.Release()
	if _, err := l.Append(plain(100, 100, 1), 0, record.FromClient); !errors.Is(err, kafka.ErrRecordListTooLarge) {
		t.Error(err)
	}
	if _, err := l.Append(plain(1, 1, 1)[:50], 0, record.FromClient); !errors.Is(err, kafka.ErrCorruptMessage) {
		t.Error(err)
	}
}

func TestRollByTime(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentMillis: 1000}))
	for _, at := range []int64{5000, 5500, 6000, 6001, 100, 7002} {
		mustAppend(t, l, plain(1, 1, at), 0)
	}
	// 6001 is more than 1000 behind 5000; 100 is before, and goes on; 7002 is more than 1000 behind 6001.
	if got := l.Segments(); got != 3 {
		t.Errorf("%d segments", got)
	}
}

func TestRetention(t *testing.T) {
	fs := vfs.NewMem(0)
	l := openFresh(t, options(fs, Config{SegmentBytes: 1000}))
	for i := range 20 {
		mustAppend(t, l, plain(1, 500, int64(i)*1000), 0) // one batch per segment
	}
	size := l.Size() / 20
	now := time.UnixMilli(20_000)
	for _, c := range []struct {
		age   time.Duration
		bytes int64
		limit kafka.Offset
		want  kafka.Offset
	}{
		{-1, -1, 20, 0}, {10 * time.Second, -1, 20, 10}, {10 * time.Second, -1, 5, 5}, {-1, 5 * size, 20, 15},
		{-1, 5*size + 1, 20, 14}, {0, -1, 20, 20}, {-1, 0, 20, 20},
	} {
		got, err := l.RetentionStart(now, c.age, c.bytes, c.limit)
		if err != nil || got != c.want {
			t.Errorf("%+v: %d %v", c, got, err)
		}
	}
	reading, err := l.Read(3, 1000, 20, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetLogStart(7); err != nil {
		t.Fatal(err)
	}
	freed, err := l.DropBelowLogStart()
	if err != nil || freed != 7*size || l.Segments() != 13 {
		t.Errorf("freed %d, %d segments, %v", freed, l.Segments(), err)
	}
	if b := make([]byte, reading.Length); true {
		if _, err := reading.File.ReadAt(b, reading.Position); err != nil || record.Batch(b).BaseOffset() != 3 {
			t.Error("a reader lost its file", err)
		}
	}
	reading.Release()
	if _, err := l.Read(3, 1, 20, true); !errors.Is(err, kafka.ErrOffsetOutOfRange) {
		t.Error(err)
	}
	if err := l.SetLogStart(21); !errors.Is(err, kafka.ErrOffsetOutOfRange) {
		t.Error(err)
	}
	if names, _ := fs.ReadDir("data/partitions/p-0"); len(names) > 13*2 {
		t.Error(names)
	}
	verifyClean(t, l)
}

func TestTimestamps(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 3000, IndexIntervalBytes: 200}))
	if _, ok, err := l.MaxTimestamp(); ok || err != nil {
		t.Error(ok, err)
	}
	var stamps []int64
	for i := range 100 {
		at := int64(i*7%50) * 100
		b := record.NewBuilder()
		for j := range 3 {
			ts := at + int64(j*11%5)
			b.Add(ts, nil, []byte("value"))
			stamps = append(stamps, ts)
		}
		if i%3 == 0 {
			b.Codec = record.LZ4
		}
		batch, err := b.AppendTo(nil, new(record.Codecs))
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, batch, 2)
	}
	if err := l.SetLogStart(20); err != nil {
		t.Fatal(err)
	}
	for ts := int64(0); ts < 5200; ts += 37 {
		want := kafka.NoOffset
		for i := 20; i < len(stamps); i++ {
			if stamps[i] >= ts {
				want = kafka.Offset(i)
				break
			}
		}
		got, ok, err := l.OffsetForTimestamp(ts, l.LogEnd())
		if err != nil || ok != (want != kafka.NoOffset) || ok && (got.Offset != want || got.Timestamp != stamps[want] || got.Epoch != 2) {
			t.Fatalf("timestamp %d: %+v %v %v, want %d", ts, got, ok, err, want)
		}
		if want != kafka.NoOffset {
			if _, ok, _ := l.OffsetForTimestamp(ts, want); ok {
				t.Fatalf("timestamp %d found at its limit", ts)
			}
		}
	}
	best := 0
	for i, ts := range stamps {
		if ts > stamps[best] {
			best = i
		}
	}
	if got, ok, err := l.MaxTimestamp(); err != nil || !ok || got.Offset != kafka.Offset(best) || got.Timestamp != stamps[best] {
		t.Errorf("%+v, want offset %d", got, best)
	}
}

// fataler is what testing.TB and rapid.T share.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func testLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// TestCheckpointAfterRoll: a state that is synced to a segment's end does not need that segment any more.
func TestCheckpointAfterRoll(t *testing.T) {
	fs := vfs.NewMem(0)
	o := options(fs, Config{})
	l := openFresh(t, o)
	mustAppend(t, l, plain(3, 10, 1), 0)
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	c, err := l.Sync()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetLogStart(3); err != nil {
		t.Fatal(err)
	}
	c.LogStart = 3 // logged, then the files go
	if _, err := l.DropBelowLogStart(); err != nil || l.Segments() != 1 {
		t.Fatal(err, l.Segments())
	}
	o.FS, o.Checkpoint, o.Unclean = fs.Kill(), &c, true
	l = openFresh(t, o)
	if l.LogStart() != 3 || l.LogEnd() != 3 {
		t.Errorf("[%d, %d)", l.LogStart(), l.LogEnd())
	}
	mustAppend(t, l, plain(1, 10, 1), 0)
	verifyClean(t, l)
}

// A recovery deletes what lies wholly below the log's start, and may die before its checkpoint: the next one does not miss it.
func TestOpenWithoutWhatWasDeleted(t *testing.T) {
	o := options(vfs.NewMem(0), Config{SegmentBytes: 1 << 20, IndexIntervalBytes: 4096})
	for _, start := range []kafka.Offset{5, 4} {
		o.Unclean, o.Checkpoint = true, &Checkpoint{Segment: 0, Position: 100, EndOffset: 5, LogStart: start}
		l, err := Open(o)
		var missing *Corruption
		switch {
		case start == 5 && err != nil:
			t.Fatalf("all of it may be gone: %v", err)
		case start == 4 && !errors.As(err, &missing):
			t.Fatalf("an offset is missing: %v", err)
		}
		if err == nil {
			if l.LogStart() != 5 || l.LogEnd() != 5 {
				t.Errorf("the log goes from %d to %d", l.LogStart(), l.LogEnd())
			}
			_ = l.Close()
		}
	}
}
