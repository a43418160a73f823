package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, fs vfs.FS, change func(*Options)) *Log {
	t.Helper()
	o := Options{FS: fs, Dir: "wal", FileSize: 64 << 10, Fatal: func(err error) {}}
	if change != nil {
		change(&o)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func replay(t testing.TB, l *Log, from LSN) []string {
	t.Helper()
	var got []string
	next := LSN(0)
	err := l.Replay(from, func(r Record) error {
		if next != 0 && r.LSN != next {
			t.Errorf("replay: record %d after %d", r.LSN, next-1)
		}
		next = r.LSN + 1
		got = append(got, string(r.Data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAppendReopenReplay(t *testing.T) {
	fs := vfs.NewMem(0)
	l := open(t, fs, nil)
	for i := range 100 {
		lsn, err := l.Append(context.Background(), fmt.Appendf(nil, "record %d", i))
		if err != nil || lsn != LSN(i+1) {
			t.Fatalf("append %d: LSN %d, %v", i, lsn, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // each start goes on in a fresh file
		l = open(t, fs, nil)
		n := int(l.Next()) - 1
		got := replay(t, l, 0)
		if len(got) != n || got[0] != "record 0" || got[99] != "record 99" {
			t.Fatalf("replay: %d records, want %d", len(got), n)
		}
		if part := replay(t, l, 51); len(part) != n-50 || part[0] != "record 50" {
			t.Fatalf("replay from 51: %d records, first %q", len(part), part[0])
		}
		if _, err := l.Append(context.Background(), []byte("more")); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecyclesReleasedFiles(t *testing.T) {
	fs := vfs.NewMem(0)
	l := open(t, fs, func(o *Options) { o.FileSize = 16 << 10; o.FilesMax = 3 })
	record := make([]byte, 1000)
	for i := range 500 {
		binary.LittleEndian.PutUint64(record, uint64(i))
		lsn, err := l.Append(context.Background(), record)
		if err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			l.Release(lsn)
		}
	}
	if n := l.Stats().Files; n < 30 {
		t.Errorf("%d files were started, expected a new one every 12 records", n)
	}
	names, _ := fs.ReadDir("wal")
	if len(names) > 3+spareFilesMax+1 {
		t.Errorf("%d files are left: %v", len(names), names)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, fs, func(o *Options) { o.FileSize = 16 << 10; o.From = 491 })
	if got := replay(t, l, 491); len(got) != 10 || binary.LittleEndian.Uint64([]byte(got[9])) != 499 {
		t.Fatalf("replay: %d records", len(got))
	}
	l.Close()
}

func TestFullLogWaitsForRelease(t *testing.T) {
	var full atomic.Int32
	l := open(t, vfs.NewMem(0), func(o *Options) { o.FileSize = 16 << 10; o.FilesMax = 2; o.OnFull = func() { full.Add(1) } })
	defer l.Close()
	record := make([]byte, 3000)
	for range 8 {
		if _, err := l.Append(context.Background(), record); err != nil {
			t.Fatal(err)
		}
	}
	lsn, err := l.Submit(&Entry{Head: record})
	if err != nil {
		t.Fatal(err)
	}
	for full.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if l.Durable() > lsn {
		t.Fatal("a record became durable in a full log")
	}
	l.Release(lsn)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.WaitDurable(ctx, lsn); err != nil {
		t.Fatal(err)
	}
}

func TestGroupLargerThanFile(t *testing.T) {
	fs := vfs.NewMem(0)
	l := open(t, fs, func(o *Options) { o.FileSize = 16 << 10 })
	big := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{}).Read(big)
	for _, r := range [][]byte{[]byte("a"), big, []byte("b")} {
		if _, err := l.Append(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	l = open(t, fs, nil)
	defer l.Close()
	if got := replay(t, l, 1); len(got) != 3 || got[1] != string(big) || got[2] != "b" {
		t.Fatalf("replay: %d records", len(got))
	}
}

// A crash leaves every durable record, in order, and nothing after the first that is missing.
func TestCrashes(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashHistory(t, seed) })
	}
}

func crashHistory(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewMem(0)
	want := map[LSN]string{} // submitted
	released := LSN(1)
	for range 6 {
		durable := LSN(1)
		l := open(t, fs, func(o *Options) { o.FileSize, o.FilesMax, o.From = 16<<10, 1000, released })
		next := released
		for _, data := range replay(t, l, released) {
			if want[next] != data {
				t.Fatalf("record %d is %.20q, want %.20q", next, data, want[next])
			}
			next++
		}
		if next != l.Next() {
			t.Fatalf("replay ends at %d, the log at %d", next, l.Next())
		}
		if rng.IntN(2) == 0 {
			fs.KillAfter(1+rng.Int64N(80), rand.New(rand.NewPCG(rng.Uint64(), 1)))
		}
		for i := range rng.IntN(60) {
			data := fmt.Sprintf("%d/%d %s", seed, i, make([]byte, rng.IntN(3000)))
			lsn, err := l.Submit(&Entry{Head: []byte(data)})
			if err != nil {
				break
			}
			want[lsn] = data
			switch rng.IntN(6) {
			case 0, 1:
				if l.WaitDurable(context.Background(), lsn) == nil {
					durable = lsn + 1
				}
			case 2:
				released = max(released, LSN(rng.Uint64N(uint64(durable)))+0, 1)
				l.Release(released)
			}
		}
		durable = max(durable, l.Durable())
		switch rng.IntN(3) {
		case 0:
			fs = fs.Kill()
		case 1:
			fs = fs.PowerLoss(rng)
		case 2:
			fs = fs.Kill().PowerLoss(rng)
		}
		l.Close()
		l = open(t, fs, func(o *Options) { o.FileSize, o.FilesMax, o.From = 16<<10, 1000, released })
		if l.Next() < durable {
			t.Fatalf("the log ends at %d, but %d was durable", l.Next(), durable-1)
		}
		for lsn := range want {
			if lsn >= l.Next() {
				delete(want, lsn)
			}
		}
		l.Close()
	}
}

func TestConcurrentSubmit(t *testing.T) {
	l := open(t, vfs.NewMem(0), func(o *Options) { o.GroupBytesMax, o.FilesMax = 8<<10, 100 })
	var wait sync.WaitGroup
	for w := range 16 {
		wait.Go(func() {
			var seen atomic.Int64
			s := &Stream{OnDurable: func(end int64) {
				if end <= seen.Load() {
					t.Errorf("end %d after %d", end, seen.Load())
				}
				seen.Store(end)
			}}
			for i := range 300 {
				if _, err := l.Submit(&Entry{Head: fmt.Append(nil, w, i), Body: make([]byte, 200), Stream: s, End: int64(i + 1), Lazy: w == 0}); err != nil {
					t.Error(err)
				}
			}
			for seen.Load() < 300 {
				time.Sleep(time.Millisecond)
			}
		})
	}
	wait.Wait()
	l.Release(l.Durable())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Submit(&Entry{Head: []byte("x")}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestCleanStart(t *testing.T) {
	fs := vfs.NewMem(0)
	l := open(t, fs, nil)
	for range 10 {
		l.Append(context.Background(), []byte("a"))
	}
	end := l.Next()
	l.Close()
	l = open(t, fs, func(o *Options) { o.Clean = end })
	if !l.Clean() || l.Next() != end || len(replay(t, l, 0)) != 0 {
		t.Fatal("not clean", l.Next())
	}
	if _, err := l.Append(context.Background(), []byte("b")); err != nil {
		t.Fatal(err)
	}
	fs = fs.Kill()
	l.Close()
	l = open(t, fs, func(o *Options) { o.Clean = end })
	defer l.Close()
	if got := replay(t, l, end); l.Clean() || len(got) != 1 || got[0] != "b" {
		t.Fatal("what was written after the clean start is not replayed", l.Clean(), got)
	}
}
